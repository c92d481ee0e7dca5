//! What becomes due, and when: the deadlines of a shard.

use std::collections::BTreeMap;

use crate::ids::{ConnId, SessionId};
use crate::time::Mono;

/// What is due. The receiver looks at its own state before it acts: a deadline may come when nothing is due any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A CONNECT, or the end of an authentication.
    Connect(ConnId),
    /// A packet of a silent client.
    KeepAlive(ConnId),
    /// The Will or the end of a session without a connection.
    Session(SessionId),
    /// What the messages of a session wait for: releases, resends.
    Traffic(SessionId),
    /// The next step of stopping.
    Stop,
}

/// Names one armed deadline, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadlineKey {
    at: Mono,
    sequence: u64,
}

/// All armed deadlines of one shard, in order.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    queue: BTreeMap<(Mono, u64), Due>,
    sequence: u64,
}

impl Deadlines {
    /// Arms a deadline. O(log n).
    pub(crate) fn arm(&mut self, at: Mono, due: Due) -> DeadlineKey {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), due);
        DeadlineKey { at, sequence: self.sequence }
    }

    /// Takes a deadline back; nothing happens if it has come.
    pub(crate) fn cancel(&mut self, key: DeadlineKey) {
        self.queue.remove(&(key.at, key.sequence));
    }

    /// The next deadline that has come by `now`.
    pub(crate) fn poll(&mut self, now: Mono) -> Option<Due> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// When the next one comes.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }
}
