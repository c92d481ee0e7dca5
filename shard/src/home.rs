//! Homes: client id or topic → slot → the shard that owns it.
//!
//! The hash and the number of slots are fixed for ever, because durable records carry slots. Which shard a slot belongs to
//! follows from the number of shards.

use crate::ids::ShardId;
use crate::limits::SLOT_COUNT;

/// The slot of a client id. 64-bit FNV-1a, finished with a multiply-xor so that short names spread too.
#[must_use]
pub fn slot_of_client(client_id: &str) -> u16 {
    slot(client_id.as_bytes(), CLIENT_BASIS)
}

/// The home shard of a client id.
#[must_use]
pub fn shard_of_client(client_id: &str, shard_count: u16) -> ShardId {
    shard_of_slot(slot_of_client(client_id), shard_count)
}

/// The slot of a topic. Another basis than for client ids, so that a client and a topic of one name part.
#[must_use]
pub fn slot_of_topic(topic: &str) -> u16 {
    slot(topic.as_bytes(), TOPIC_BASIS)
}

/// The home shard of a topic: of its retained message, and of an exclusive subscription to it.
///
/// # Panics
/// If there is no shard.
#[must_use]
pub fn shard_of_topic(topic: &str, shard_count: u16) -> ShardId {
    shard_of_slot(slot_of_topic(topic), shard_count)
}

/// The home shard of what has only a hash, such as a shared group. Not stored anywhere.
///
/// # Panics
/// If there is no shard.
#[must_use]
pub fn shard_of_hash(hash: u64, shard_count: u16) -> ShardId {
    let slot = hash % u64::from(SLOT_COUNT);
    shard_of_slot(u16::try_from(slot).expect("below SLOT_COUNT, which is a u16"), shard_count)
}

/// The shard that a slot belongs to: slots are dealt in runs of equal length, one slot more or less.
///
/// # Panics
/// If there is no shard.
#[must_use]
pub fn shard_of_slot(slot: u16, shard_count: u16) -> ShardId {
    assert!(shard_count > 0, "a process has at least one shard");
    let shard = u32::from(slot) * u32::from(shard_count) / u32::from(SLOT_COUNT);
    ShardId(u16::try_from(shard).expect("slot < SLOT_COUNT, so the shard is below shard_count"))
}

fn slot(bytes: &[u8], basis: u64) -> u16 {
    let hash = bytes.iter().fold(basis, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
    let slot = crate::random::mix(hash) % u64::from(SLOT_COUNT);
    u16::try_from(slot).expect("below SLOT_COUNT, which is a u16")
}

const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;
const CLIENT_BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const TOPIC_BASIS: u64 = 0x9AE1_6A3B_2F90_404F;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_stable() {
        // Durable records carry slots: these numbers never change.
        let names = ["", "a", "client-1", "device/0001", "a-client-id-of-more-than-sixteen-bytes"];
        assert_eq!(names.map(slot_of_client), [2_203, 248, 3_250, 2_932, 430]);
        assert_eq!(shard_of_slot(0, 3), ShardId(0));
        assert_eq!(shard_of_slot(SLOT_COUNT - 1, 3), ShardId(2));
        assert_eq!(shard_of_client("anything", 1), ShardId(0));
    }

    #[test]
    fn clients_spread_evenly() {
        let mut counts = [0_u32; 8];
        for n in 0..8_000 {
            counts[usize::from(shard_of_client(&format!("device-{n}"), 8).0)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
