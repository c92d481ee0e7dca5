//! Subscriptions that are more than a filter in the index: members of shared groups, and exclusive ones.

use std::collections::BTreeMap;

use dunlin_wire::types::{QoS, SubscriptionOptions};

use crate::mesh::GroupKey;
use crate::topics::MemberId;

/// A shared or exclusive subscription of a session of this shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// A membership; the group lives at the home of its key.
    Shared {
        /// Names the group.
        key: GroupKey,
        /// Granted.
        options: SubscriptionOptions,
        /// Subscription Identifier; 0 for none.
        subscription_id: u32,
    },
    /// The topic is this session's; it also stands in the topic index as a plain filter.
    Exclusive {
        /// Granted.
        qos: QoS,
    },
}

impl Special {
    /// The QoS granted.
    pub(crate) const fn qos(&self) -> QoS {
        match self {
            Self::Shared { options, .. } => options.qos,
            Self::Exclusive { qos } => *qos,
        }
    }

    const fn is_shared(&self) -> bool {
        matches!(self, Self::Shared { .. })
    }

    /// Whether it is a membership in this group.
    pub(crate) fn is_member_of(&self, group: Option<GroupKey>) -> bool {
        matches!(self, Self::Shared { key, .. } if Some(*key) == group)
    }
}

/// Special subscriptions of this shard's sessions, by session and by the filter as the client wrote it.
///
/// One per shard, on its core; about 60 B and the text for each. Ordered, so that what a session gives up at its end is
/// given up in a repeatable order.
#[derive(Debug, Default)]
pub(crate) struct Specials {
    by_session: BTreeMap<u32, BTreeMap<Box<str>, Special>>,
    /// Memberships among them.
    shared_count: usize,
}

impl Specials {
    /// How many memberships in shared groups there are in all.
    pub(crate) const fn shared_count(&self) -> usize {
        self.shared_count
    }

    /// How many a session has.
    pub(crate) fn count_of(&self, session: u32) -> usize {
        self.by_session.get(&session).map_or(0, BTreeMap::len)
    }

    /// A session's special subscription.
    pub(crate) fn get(&self, session: u32, written: &str) -> Option<&Special> {
        self.by_session.get(&session)?.get(written)
    }

    /// The filter of the membership of a session in a group, as the client wrote it.
    pub(crate) fn membership(&self, session: u32, wanted: GroupKey) -> Option<&str> {
        let own = self.by_session.get(&session)?;
        own.iter().find(|(_, special)| special.is_member_of(Some(wanted))).map(|(written, _)| &**written)
    }

    /// Adds or replaces; the old one comes out.
    pub(crate) fn insert(&mut self, session: u32, written: &str, special: Special) -> Option<Special> {
        self.shared_count += usize::from(special.is_shared());
        let old = self.by_session.entry(session).or_default().insert(written.into(), special);
        self.shared_count -= usize::from(old.as_ref().is_some_and(Special::is_shared));
        old
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, session: u32, written: &str) -> Option<Special> {
        let own = self.by_session.get_mut(&session)?;
        let gone = own.remove(written)?;
        if own.is_empty() {
            self.by_session.remove(&session);
        }
        self.shared_count -= usize::from(gone.is_shared());
        Some(gone)
    }

    /// Takes all of a session out, in order of their texts.
    pub(crate) fn remove_all(&mut self, session: u32) -> BTreeMap<Box<str>, Special> {
        let gone = self.by_session.remove(&session).unwrap_or_default();
        self.shared_count -= gone.values().filter(|special| special.is_shared()).count();
        gone
    }

    /// All of a session, in order of their texts.
    pub(crate) fn of(&self, session: u32) -> impl Iterator<Item = (&str, &Special)> {
        self.by_session.get(&session).into_iter().flatten().map(|(written, special)| (&**written, special))
    }
}

/// Topics of `$exclusive/` subscriptions whose home is this shard, and whose they are. One per shard, on its core.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    holders: BTreeMap<Box<str>, MemberId>,
}

impl Claims {
    /// Gives `topic` to `asker` if it is free or the asker's already; whether it is the asker's now.
    pub(crate) fn claim(&mut self, topic: &str, asker: MemberId) -> bool {
        match self.holders.get(topic) {
            Some(holder) => *holder == asker,
            None => {
                self.holders.insert(topic.into(), asker);
                true
            }
        }
    }

    /// Frees `topic` if it is `holder`'s.
    pub(crate) fn release(&mut self, topic: &str, holder: MemberId) {
        if self.holders.get(topic) == Some(&holder) {
            self.holders.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SessionId, ShardId};

    const EXCLUSIVE: Special = Special::Exclusive { qos: QoS::AtMostOnce };

    fn member(shard: u16, index: u32) -> MemberId {
        MemberId { shard: ShardId(shard), session: SessionId { index, generation: 0 } }
    }

    #[test]
    fn a_topic_has_one_holder_until_it_lets_go() {
        let mut claims = Claims::default();
        assert!(claims.claim("t", member(0, 1)));
        assert!(claims.claim("t", member(0, 1)), "again");
        assert!(!claims.claim("t", member(1, 1)));
        claims.release("t", member(1, 1));
        assert!(!claims.claim("t", member(1, 1)), "only the holder lets go");
        claims.release("t", member(0, 1));
        assert!(claims.claim("t", member(1, 1)));
    }

    #[test]
    fn specials_are_found_by_text_and_leave_with_their_session() {
        let mut specials = Specials::default();
        assert_eq!(specials.insert(1, "$exclusive/t", EXCLUSIVE), None);
        assert_eq!(specials.insert(1, "$exclusive/t", EXCLUSIVE), Some(EXCLUSIVE));
        specials.insert(1, "$exclusive/a", EXCLUSIVE);
        specials.insert(2, "$exclusive/u", EXCLUSIVE);
        let key = GroupKey(std::num::NonZeroU64::MIN);
        specials.insert(
            2,
            "$share/g/f",
            Special::Shared { key, options: SubscriptionOptions::default(), subscription_id: 0 },
        );
        assert_eq!((specials.shared_count(), specials.count_of(1), specials.count_of(2)), (1, 2, 2));
        assert_eq!(specials.membership(2, key), Some("$share/g/f"));
        let texts: Vec<String> = specials.remove_all(1).into_keys().map(String::from).collect();
        assert_eq!(texts, ["$exclusive/a", "$exclusive/t"]);
        assert_eq!(specials.remove(2, "$exclusive/u"), Some(EXCLUSIVE));
        specials.remove_all(2);
        assert_eq!((specials.shared_count(), specials.by_session.len()), (0, 0));
    }
}
