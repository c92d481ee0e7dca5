//! The inbox: how plain threads speak to a shard, and how it answers.
//!
//! A bounded queue per shard and a doorbell: an eventfd that the shard's first ring watches. A sender rings only when the
//! shard sleeps, so that a burst costs one system call.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::arrivals::ArrivalsRoom;
use super::config::Park;
use super::metrics::EdgeMetrics;
use super::sys;
use crate::control::{Answered, Control};
use crate::hooks::HookOutcome;
use crate::ids::{ShardId, Token};
use crate::limits::SHARD_COUNT_MAX;

/// The way into one shard for every other thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    shard: ShardId,
    letters: Sender<Letter>,
    doorbell: Arc<Doorbell>,
}

impl ShardHandle {
    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Hands a wish of the control plane to the shard, in order.
    ///
    /// # Errors
    /// When the inbox is full ([`INBOX_LETTERS`] wait) or the shard has ended.
    pub fn send(&self, control: Control) -> Result<(), InboxError> {
        self.post(Letter::Control(control))
    }

    /// Brings the late answer of a hook.
    ///
    /// # Errors
    /// When the inbox is full or the shard has ended. A hook keeps the answer and tries again: the packet waits for it.
    pub fn hook_done(&self, token: Token, outcome: HookOutcome) -> Result<(), InboxError> {
        self.post(Letter::HookDone { token, outcome })
    }

    /// Asks for the counters of the edge; they come once through the receiver, which disconnects if the shard ends first.
    ///
    /// # Errors
    /// When the inbox is full or the shard has ended.
    pub fn edge_metrics(&self) -> Result<Receiver<EdgeMetrics>, InboxError> {
        let (answer, answered) = bounded(1);
        self.post(Letter::Metrics(answer))?;
        Ok(answered)
    }

    fn post(&self, letter: Letter) -> Result<(), InboxError> {
        self.letters.try_send(letter).map_err(|refused| match refused {
            TrySendError::Full(_) => InboxError::Full { shard: self.shard },
            TrySendError::Disconnected(_) => InboxError::Ended { shard: self.shard },
        })?;
        self.doorbell.ring();
        Ok(())
    }
}

/// Why a shard did not take a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InboxError {
    /// Too many wait; try again later.
    #[error("the inbox of shard {} is full: {INBOX_LETTERS} letters wait", shard.0)]
    Full {
        /// Which shard.
        shard: ShardId,
    },
    /// The shard has stopped.
    #[error("shard {} has ended", shard.0)]
    Ended {
        /// Which shard.
        shard: ShardId,
    },
}

/// An answer of a shard to the control plane.
#[derive(Debug)]
pub struct ShardAnswer {
    /// Who answers.
    pub shard: ShardId,
    /// The question.
    pub token: Token,
    /// The answer.
    pub answer: Box<Answered>,
}

/// Letters that may wait in one inbox: a second of administration at 1,000 wishes a second.
pub const INBOX_LETTERS: usize = 1_024;

/// What the inbox carries.
#[derive(Debug)]
pub(super) enum Letter {
    Control(Control),
    HookDone { token: Token, outcome: HookOutcome },
    Metrics(Sender<EdgeMetrics>),
}

/// The shard's end of its inbox.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) letters: Receiver<Letter>,
    pub(super) doorbell: Arc<Doorbell>,
}

/// Makes the two ends of a shard's inbox.
pub(super) fn inbox(shard: ShardId, park: Park) -> std::io::Result<(ShardHandle, Inbox)> {
    let (sender, letters) = bounded(INBOX_LETTERS);
    let doorbell = Arc::new(Doorbell::new(park)?);
    let handle = ShardHandle { shard, letters: sender, doorbell: Arc::clone(&doorbell) };
    Ok((handle, Inbox { letters, doorbell }))
}

/// What wakes a shard, and what others may know of it without asking. One per shard, shared by all threads.
///
/// Protocol: a sender first puts its value where the shard will look (queue, lane), then calls [`Doorbell::ring`]. The shard
/// calls [`Doorbell::fall_asleep`], looks once more, and only then sleeps. Both sides have a sequentially consistent
/// fence between their write and their read, so one of them sees the other: no wake is lost.
#[derive(Debug)]
pub(super) struct Doorbell {
    asleep: AtomicBool,
    eventfd: OwnedFd,
    /// One bit per shard whose lane to this one has something.
    lanes: [AtomicU64; LANE_WORDS],
    /// Room for connections that come home to this shard.
    pub(super) arrivals: ArrivalsRoom,
}

impl Doorbell {
    /// A doorbell for a shard that sleeps like this: an executor's read of the eventfd must wait, a look at it must not.
    fn new(park: Park) -> std::io::Result<Self> {
        Ok(Self {
            asleep: AtomicBool::new(false),
            eventfd: sys::eventfd(park == Park::Executor)?,
            lanes: [const { AtomicU64::new(0) }; LANE_WORDS],
            arrivals: ArrivalsRoom::default(),
        })
    }

    /// Wakes the shard if it sleeps; tells whether it had to. One system call then, a fence and a load otherwise.
    pub(super) fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let slept = self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed);
        if slept {
            sys::ring_eventfd(&self.eventfd);
        }
        slept
    }

    /// Announces that the shard will sleep unless it finds something now.
    pub(super) fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake: nobody needs to ring.
    pub(super) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Forgets earlier rings, so that a new watch is not told of them. Only where nobody reads the eventfd.
    pub(super) fn hush(&self) {
        sys::drain_eventfd(&self.eventfd);
    }

    /// The eventfd that [`Doorbell::ring`] writes.
    pub(super) fn eventfd(&self) -> &OwnedFd {
        &self.eventfd
    }

    /// Notes that the lane from `shard` has something. Before [`Doorbell::ring`].
    pub(super) fn mark_lane(&self, from: ShardId) {
        let (word, bit) = lane_bit(from);
        self.lanes[word].fetch_or(bit, Ordering::Release);
    }

    /// Takes 64 marks of lanes: bit `n` of word `w` is shard `64 w + n`.
    pub(super) fn take_lanes(&self, word: usize) -> u64 {
        if self.lanes[word].load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.lanes[word].swap(0, Ordering::Acquire)
    }

    /// Whether a lane is marked, among the first `words`.
    pub(super) fn has_lanes(&self, words: usize) -> bool {
        self.lanes.iter().take(words).any(|word| word.load(Ordering::Acquire) != 0)
    }
}

/// Words of the lane marks.
pub(super) const LANE_WORDS: usize = SHARD_COUNT_MAX as usize / 64;

fn lane_bit(shard: ShardId) -> (usize, u64) {
    (usize::from(shard.0 / 64), 1 << (shard.0 % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_woken() {
        let doorbell = Doorbell::new(Park::Ring).unwrap();
        assert!(!doorbell.ring());
        doorbell.fall_asleep();
        assert!(doorbell.ring());
        assert!(!doorbell.ring(), "one ring wakes it; a second finds it awake");
        doorbell.fall_asleep();
        doorbell.wake_up();
        assert!(!doorbell.ring());
    }

    #[test]
    fn marks_of_lanes_are_taken_once() {
        let doorbell = Doorbell::new(Park::Ring).unwrap();
        doorbell.mark_lane(ShardId(3));
        doorbell.mark_lane(ShardId(70));
        assert!(doorbell.has_lanes(1));
        assert_eq!(doorbell.take_lanes(0), 1 << 3);
        assert!(!doorbell.has_lanes(1) && doorbell.has_lanes(2));
        assert_eq!(doorbell.take_lanes(1), 1 << 6);
        assert_eq!(doorbell.take_lanes(0), 0);
    }

    #[test]
    fn a_full_inbox_refuses_and_says_so() {
        let (handle, inbox) = inbox(ShardId(7), Park::Ring).unwrap();
        for _ in 0..INBOX_LETTERS {
            handle.send(Control::Stop).unwrap();
        }
        assert_eq!(handle.send(Control::Stop), Err(InboxError::Full { shard: ShardId(7) }));
        drop(inbox);
        assert_eq!(handle.send(Control::Stop), Err(InboxError::Ended { shard: ShardId(7) }));
    }
}
