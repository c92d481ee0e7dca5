//! Lanes: how shards speak to each other. One bounded queue per ordered pair, filled once per tick.
//!
//! What a shard says to another during a tick leaves as one batch and rings that shard's doorbell at most once. A lane that is
//! full keeps the batch here, in order, and tries again next tick: nothing is lost. How much may wait is bounded by the
//! core's credits.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::inbox::Doorbell;
use crate::action::Arrival;
use crate::ids::ShardId;
use crate::mesh::MeshMessage;

/// What a lane carries.
#[derive(Debug)]
pub(super) enum Freight {
    /// Something one core says to another.
    Message(MeshMessage),
    /// What belongs to a socket that was put into the receiver's ring under this ticket.
    Arrival { ticket: u32, arrival: Box<Arrival> },
    /// The socket of this ticket could not be put there: the connection is closed.
    Gone { ticket: u32 },
}

type Batch = Vec<Freight>;

/// One shard's ends of all its lanes, its own to itself among them.
#[derive(Debug)]
pub(super) struct Lanes {
    shard: ShardId,
    out: Vec<LaneOut>,
    incoming: Vec<Receiver<Batch>>,
    /// Lanes with something to send, each once.
    loaded: Vec<u16>,
}

#[derive(Debug)]
struct LaneOut {
    queue: Sender<Batch>,
    doorbell: Arc<Doorbell>,
    waiting: Batch,
}

/// What a flush of the lanes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LaneFlush {
    pub(super) wakes: u64,
    pub(super) full: u64,
}

impl Lanes {
    /// Says something to a shard at the end of the tick.
    pub(super) fn say(&mut self, to: ShardId, freight: Freight) {
        let lane = &mut self.out[usize::from(to.0)];
        if lane.waiting.is_empty() {
            self.loaded.push(to.0);
        }
        lane.waiting.push(freight);
    }

    /// Whether something waits to be sent.
    pub(super) fn is_loaded(&self) -> bool {
        !self.loaded.is_empty()
    }

    /// Sends what was said: one batch and at most one wake per lane. A lane that is full keeps its batch. What is said to a
    /// shard that has ended is dropped: it ends only after all its connections.
    pub(super) fn flush(&mut self) -> LaneFlush {
        let mut done = LaneFlush::default();
        let Self { shard, out, loaded, .. } = self;
        loaded.retain(|&to| {
            let lane = &mut out[usize::from(to)];
            match lane.queue.try_send(std::mem::take(&mut lane.waiting)) {
                Ok(()) => {
                    lane.doorbell.mark_lane(*shard);
                    done.wakes += u64::from(lane.doorbell.ring());
                    false
                }
                Err(TrySendError::Full(batch)) => {
                    lane.waiting = batch;
                    done.full += 1;
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
        done
    }

    /// The next batch from a shard, if there is one.
    pub(super) fn next_from(&self, from: usize) -> Option<Batch> {
        self.incoming.get(from)?.try_recv().ok()
    }

    /// Shards of the process.
    pub(super) fn shard_count(&self) -> usize {
        self.out.len()
    }

    /// The doorbell of a shard.
    pub(super) fn doorbell(&self, shard: ShardId) -> &Doorbell {
        &self.out[usize::from(shard.0)].doorbell
    }
}

/// Makes the lanes between all pairs of shards; the ends of each shard are at its place.
pub(super) fn lanes(doorbells: &[Arc<Doorbell>]) -> Vec<Lanes> {
    let mut all: Vec<Lanes> = (0_u16..)
        .zip(doorbells)
        .map(|(shard, _)| Lanes {
            shard: ShardId(shard),
            out: Vec::new(),
            incoming: Vec::new(),
            loaded: Vec::new(),
        })
        .collect();
    for from in 0..all.len() {
        for to in 0..all.len() {
            let (queue, end) = bounded(LANE_BATCHES);
            let doorbell = Arc::clone(&doorbells[to]);
            all[from].out.push(LaneOut { queue, doorbell, waiting: Batch::new() });
            all[to].incoming.push(end);
        }
    }
    all
}

/// Batches that may wait in one lane: a shard that is this many ticks behind is overloaded, and the batches of those who
/// speak to it grow instead.
const LANE_BATCHES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::config::Park;
    use crate::runtime::inbox::inbox;

    fn pair() -> (Lanes, Lanes, Arc<Doorbell>) {
        let doorbells: Vec<_> = (0..2).map(|n| inbox(ShardId(n), Park::Ring).unwrap().1.doorbell).collect();
        let mut both = lanes(&doorbells).into_iter();
        (both.next().unwrap(), both.next().unwrap(), Arc::clone(&doorbells[1]))
    }

    fn counts(batch: Batch) -> Vec<u32> {
        batch
            .into_iter()
            .map(|freight| {
                let Freight::Message(MeshMessage::Credit { count }) = freight else { panic!("{freight:?}") };
                count
            })
            .collect()
    }

    fn credit(count: u32) -> Freight {
        Freight::Message(MeshMessage::Credit { count })
    }

    #[test]
    fn what_is_said_in_a_tick_is_one_batch_and_one_wake() {
        let (mut a, b, doorbell) = pair();
        doorbell.fall_asleep();
        for count in 0..3 {
            a.say(ShardId(1), credit(count));
        }
        assert_eq!(a.flush(), LaneFlush { wakes: 1, full: 0 });
        assert_eq!(doorbell.take_lanes(0), 1);
        assert_eq!(counts(b.next_from(0).unwrap()), [0, 1, 2]);
        assert!(b.next_from(0).is_none());
        a.say(ShardId(1), credit(3));
        assert_eq!(a.flush().wakes, 0, "the receiver is awake: no system call");
    }

    #[test]
    fn a_full_lane_keeps_the_batch_in_order() {
        let (mut a, b, _) = pair();
        let ticks = u32::try_from(LANE_BATCHES).unwrap() + 3;
        let mut full = 0;
        for count in 0..ticks {
            a.say(ShardId(1), credit(count));
            full += a.flush().full;
        }
        assert_eq!(full, 3);
        assert!(a.is_loaded());
        let mut got = Vec::new();
        while got.len() < ticks as usize {
            while let Some(batch) = b.next_from(0) {
                got.extend(counts(batch));
            }
            a.flush();
        }
        assert_eq!(got, (0..ticks).collect::<Vec<_>>());
        assert!(!a.is_loaded());
    }

    #[test]
    fn what_is_said_to_an_ended_shard_is_dropped() {
        let (mut a, b, _) = pair();
        drop(b);
        a.say(ShardId(1), credit(1));
        a.flush();
        assert!(!a.is_loaded());
    }
}
