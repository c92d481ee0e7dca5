//! One ordered path from this shard to another: how much is under way, and who must pause until it is less.
//!
//! The channel itself belongs to the edge and never refuses. What bounds it is credit: the receiver reports how many
//! weighed messages ([`super::MeshMessage::is_weighed`]) it has handled. Above [`HIGH`] the publishers that feed the lane
//! are read no more; what they had sent already still passes; above [`HARD`] QoS 0 is dropped and counted. QoS 1 and 2 are
//! never dropped here.

use crate::ids::ConnId;

/// Both directions between this shard and one other. One per other shard, on its core; 48 B and the paused connections.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Weighed messages sent and not yet credited.
    under_way: u32,
    /// Weighed messages received and not yet credited back.
    handled: u32,
    /// Publishers that are paused until the lane drains, in the order in which they paused.
    paused: Vec<ConnId>,
}

impl Lane {
    /// Notes a weighed message that was sent.
    pub(crate) fn sent(&mut self) {
        self.under_way = self.under_way.saturating_add(1);
    }

    /// Whether publishers that feed the lane must pause.
    pub(crate) const fn is_high(&self) -> bool {
        self.under_way >= HIGH
    }

    /// Whether QoS 0 is dropped.
    pub(crate) const fn is_hard(&self) -> bool {
        self.under_way >= HARD
    }

    /// Remembers a publisher that was paused because of this lane.
    pub(crate) fn pause(&mut self, conn: ConnId) {
        self.paused.push(conn);
    }

    /// Takes a credit. Returns the connections that may be read again, in the order in which they were paused.
    pub(crate) fn credited(&mut self, count: u32) -> Vec<ConnId> {
        self.under_way = self.under_way.saturating_sub(count);
        if self.under_way <= LOW { std::mem::take(&mut self.paused) } else { Vec::new() }
    }

    /// Notes a weighed message that was received; returns the credit to send back, if it is time.
    pub(crate) fn received(&mut self) -> Option<u32> {
        self.handled += 1;
        (self.handled >= CREDIT_BATCH).then(|| std::mem::take(&mut self.handled))
    }
}

/// A credit is sent for this many messages: one small message per batch costs below 1 % of the lane.
const CREDIT_BATCH: u32 = 128;
/// Paused publishers go on at or below this many messages under way: enough to keep the receiver busy meanwhile.
const LOW: u32 = 1_024;
/// Publishers pause at this many: about one tick of a busy shard.
const HIGH: u32 = 4_096;
/// QoS 0 is dropped at this many: what paused publishers had in their socket buffers still fits below.
const HARD: u32 = 65_536;

const _: () =
    assert!(CREDIT_BATCH <= LOW, "a lane at its low mark must not wait for a credit that never comes");
const _: () = assert!(LOW < HIGH && HIGH < HARD, "the marks are apart, so that reads do not flap");

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId { slot: 1, generation: 0 };

    #[test]
    fn a_full_lane_pauses_and_drained_one_resumes() {
        let mut lane = Lane::default();
        for _ in 0..HIGH - 1 {
            lane.sent();
        }
        assert!(!lane.is_high());
        lane.sent();
        assert!(lane.is_high() && !lane.is_hard());
        lane.pause(CONN);
        assert_eq!(lane.credited(HIGH - LOW - 1), Vec::new());
        assert_eq!(lane.credited(1), vec![CONN]);
        assert_eq!(lane.credited(LOW), Vec::new(), "resumed once");
        assert_eq!(lane.under_way, 0);
    }

    #[test]
    fn credits_come_in_batches_and_add_up() {
        let mut lane = Lane::default();
        let credits: u32 = (0..CREDIT_BATCH * 3 + 5).filter_map(|_| lane.received()).sum();
        assert_eq!(credits, CREDIT_BATCH * 3);
    }

    #[test]
    fn qos_0_is_dropped_only_far_above_the_pause() {
        let mut lane = Lane::default();
        for _ in 0..HARD {
            assert!(!lane.is_hard());
            lane.sent();
        }
        assert!(lane.is_hard());
    }
}
