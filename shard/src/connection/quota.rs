//! Receive Maximum towards the broker: how many QoS 1 and 2 messages a client may have unacknowledged (§MQTT5 4.9).
//!
//! The other direction, how many the broker may have unacknowledged, is the window of `session/inflight_out.rs`.

/// Messages that the broker still takes from one connection before it acknowledges some. 4 B per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveQuota {
    left: u16,
    maximum: u16,
}

/// More QoS 1 and 2 messages than Receive Maximum were sent without waiting: DISCONNECT with 0x93.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveMaximumExceeded;

impl ReceiveQuota {
    /// A quota of `maximum`, as announced in CONNACK.
    #[must_use]
    pub const fn new(maximum: u16) -> Self {
        Self { left: maximum, maximum }
    }

    /// Takes a QoS 1 or 2 PUBLISH. Not for one that is known already (a QoS 2 duplicate holds its place).
    ///
    /// # Errors
    /// When the client has used its quota up `[MQTT5-3.3.4-7]`.
    pub const fn take(&mut self) -> Result<(), ReceiveMaximumExceeded> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(ReceiveMaximumExceeded),
        }
    }

    /// Gives a place back: PUBACK or PUBCOMP was sent, or PUBREC with an error.
    pub const fn give_back(&mut self) {
        if self.left < self.maximum {
            self.left += 1;
        }
    }

    /// Messages taken and not acknowledged.
    #[must_use]
    pub const fn in_use(&self) -> u16 {
        self.maximum - self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_receive_maximum_is_an_error() {
        // [MQTT5-3.3.4-7] [MQTT5-3.3.4-8]
        let mut quota = ReceiveQuota::new(2);
        assert_eq!(quota.take(), Ok(()));
        assert_eq!(quota.take(), Ok(()));
        assert_eq!(quota.take(), Err(ReceiveMaximumExceeded));
        quota.give_back();
        assert_eq!(quota.in_use(), 1);
        assert_eq!(quota.take(), Ok(()));
        for _ in 0..5 {
            quota.give_back();
        }
        assert_eq!(quota.in_use(), 0, "never above the maximum");
    }
}
