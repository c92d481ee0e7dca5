//! Tells the other shards what this one wants, and knows when all of them have heard it.
//!
//! Each change of interest has a version. A shard that applied it answers with the version; whatever it publishes after
//! that reaches this shard. So a SUBACK that waits until every other shard has answered promises what it says: a message
//! published anywhere after the SUBACK arrives. Waiting things leave in order of version; with one shard nothing waits.

use std::collections::VecDeque;

use crate::ids::ShardId;

/// Versions of this shard's interest and what waits for them. One per shard, on its core.
#[derive(Debug)]
pub(crate) struct Announcements<T> {
    shard: ShardId,
    /// The newest version that was sent.
    version: u64,
    /// The newest version that each shard has confirmed, by shard.
    seen: Vec<u64>,
    /// The oldest of `seen`.
    seen_by_all: u64,
    /// What waits, oldest version first.
    waiting: VecDeque<(u64, T)>,
}

impl<T> Announcements<T> {
    /// No interest announced yet.
    pub(crate) fn new(shard: ShardId, shard_count: u16) -> Self {
        let seen = vec![0; usize::from(shard_count)];
        Self { shard, version: 0, seen, seen_by_all: 0, waiting: VecDeque::new() }
    }

    /// Whether there is nobody to tell.
    pub(crate) fn is_alone(&self) -> bool {
        self.seen.len() <= 1
    }

    /// The version for the next change.
    pub(crate) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Whether all other shards have seen everything that was announced so far.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_alone() || self.seen_by_all >= self.version
    }

    /// Keeps `what` until all that was announced so far has been seen by all.
    pub(crate) fn wait(&mut self, what: T) {
        self.waiting.push_back((self.version, what));
    }

    /// Takes a confirmation.
    pub(crate) fn confirm(&mut self, from: ShardId, version: u64) {
        let Some(seen) = self.seen.get_mut(usize::from(from.0)) else { return };
        let was_oldest = *seen == self.seen_by_all;
        *seen = (*seen).max(version);
        if was_oldest {
            self.seen_by_all = self.oldest_seen();
        }
    }

    /// The next thing that waits no longer.
    pub(crate) fn pop_ready(&mut self) -> Option<T> {
        if self.waiting.front()?.0 > self.seen_by_all {
            return None;
        }
        self.waiting.pop_front().map(|(_, what)| what)
    }

    /// The shards to tell, in order.
    pub(crate) fn others(&self) -> impl Iterator<Item = ShardId> + use<T> {
        let (own, count) = (self.shard, self.seen.len());
        (0..u16::try_from(count).unwrap_or(u16::MAX)).map(ShardId).filter(move |shard| *shard != own)
    }

    fn oldest_seen(&self) -> u64 {
        let own = usize::from(self.shard.0);
        let others = self.seen.iter().enumerate().filter(|(shard, _)| *shard != own);
        others.map(|(_, seen)| *seen).min().unwrap_or(self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_leaves_when_the_slowest_shard_has_seen_it() {
        let mut announced = Announcements::new(ShardId(1), 3);
        assert!(announced.is_settled());
        assert_eq!(announced.next_version(), 1);
        announced.wait("first");
        assert_eq!(announced.next_version(), 2);
        announced.wait("second");
        announced.wait("third");
        announced.confirm(ShardId(0), 2);
        assert_eq!(announced.pop_ready(), None, "shard 2 has seen nothing");
        announced.confirm(ShardId(2), 1);
        assert_eq!(announced.pop_ready(), Some("first"));
        assert_eq!(announced.pop_ready(), None);
        announced.confirm(ShardId(2), 2);
        assert_eq!(announced.pop_ready(), Some("second"));
        assert_eq!(announced.pop_ready(), Some("third"));
        assert!(announced.is_settled());
    }

    #[test]
    fn others_are_all_but_this_one() {
        let announced: Announcements<()> = Announcements::new(ShardId(1), 3);
        assert_eq!(announced.others().collect::<Vec<_>>(), vec![ShardId(0), ShardId(2)]);
        assert!(Announcements::<()>::new(ShardId(0), 1).is_alone());
    }

    #[test]
    fn a_confirmation_from_a_shard_that_does_not_exist_changes_nothing() {
        let mut announced: Announcements<()> = Announcements::new(ShardId(0), 2);
        announced.next_version();
        announced.confirm(ShardId(9), 1);
        assert!(!announced.is_settled());
    }
}
