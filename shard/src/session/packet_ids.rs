//! Packet Identifiers that the broker gives to the messages it sends (§MQTT5 2.2.1).

use dunlin_wire::types::PacketId;

/// Gives out Packet Identifiers in a circle, passing over those in use. One per session; 2 B, no heap.
#[derive(Clone, Copy, Debug)]
pub struct PacketIds {
    next: PacketId,
}

impl PacketIds {
    /// Begins at 1.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: PacketId::FIRST }
    }

    /// Begins after `last`, the identifier given out last.
    #[must_use]
    pub const fn after(last: PacketId) -> Self {
        Self { next: last.next() }
    }

    /// An identifier that is not in use, `None` if all 65,535 are.
    ///
    /// [MQTT5-2.2.1-4] [MQTT311-2.3.1-4]: each new message gets an identifier that is not in use. Going round in a circle
    /// rather than taking the smallest keeps a late acknowledgement of an old message from hitting a new one.
    ///
    /// Cost: one question per identifier passed over.
    pub fn allocate(&mut self, mut is_in_use: impl FnMut(PacketId) -> bool) -> Option<PacketId> {
        for _ in 0..u16::MAX {
            let id = self.next;
            self.next = id.next();
            if !is_in_use(id) {
                return Some(id);
            }
        }
        None
    }
}

impl Default for PacketIds {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn never_zero_never_twice_while_in_use() {
        // [MQTT5-2.2.1-3] [MQTT5-2.2.1-4] [MQTT311-2.3.1-1] [MQTT311-2.3.1-4]
        let mut ids = PacketIds::new();
        let mut in_use = BTreeSet::new();
        for _ in 0..u16::MAX {
            let id = ids.allocate(|id| in_use.contains(&id)).unwrap();
            assert!(id.get() > 0 && in_use.insert(id));
        }
        assert_eq!(ids.allocate(|id| in_use.contains(&id)), None);
        let free = PacketId::new(777).unwrap();
        in_use.remove(&free);
        assert_eq!(ids.allocate(|id| in_use.contains(&id)), Some(free));
    }
}
