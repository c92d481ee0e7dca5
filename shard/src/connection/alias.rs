//! Topic aliases: numbers that stand for topics on one connection, in each direction (§MQTT5 3.3.2.3.4).

use hashbrown::HashTable;

use crate::topics::HashKey;

/// Aliases that the client has set. No heap until the first; bounded by Topic Alias Maximum in number and by
/// [`ALIAS_BYTES_MAX`] in bytes, because a client could otherwise park 65,535 topics of 64 KiB on one connection.
#[derive(Debug, Default)]
pub struct AliasesIn {
    /// A table rather than a row, since a client may begin with alias 65,535.
    topics: HashTable<(u16, Box<str>)>,
    bytes: usize,
}

/// Why a topic alias was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasError {
    /// 0, or above the maximum that CONNACK announced: 0x94 `[MQTT5-3.3.2-8]` `[MQTT5-3.3.2-9]`.
    OutOfRange,
    /// An alias without a topic that was never set: 0x82, a protocol error.
    Unknown,
    /// The topics of all aliases are longer than [`ALIAS_BYTES_MAX`]: 0x97.
    TooLarge,
}

impl AliasesIn {
    /// No aliases; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { topics: HashTable::new(), bytes: 0 }
    }

    /// The topic of a PUBLISH that carries an alias: `topic` itself, which the alias now stands for, or, if it is empty,
    /// what the alias stood for. `maximum` is the Topic Alias Maximum announced to the client.
    ///
    /// # Errors
    /// When the alias is out of range, unknown, or the topics take too many bytes.
    pub fn resolve<'a>(
        &'a mut self,
        alias: u16,
        topic: &'a str,
        maximum: u16,
    ) -> Result<&'a str, AliasError> {
        if alias == 0 || alias > maximum {
            return Err(AliasError::OutOfRange);
        }
        if topic.is_empty() {
            let known = self.topics.find(spread(alias), |(other, _)| *other == alias);
            return known.map(|(_, topic)| &**topic).ok_or(AliasError::Unknown);
        }
        self.set(alias, topic)?;
        Ok(topic)
    }

    /// Whether no alias was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    fn set(&mut self, alias: u16, topic: &str) -> Result<(), AliasError> {
        let bytes_left = ALIAS_BYTES_MAX - self.bytes;
        let Some((_, known)) = self.topics.find_mut(spread(alias), |(other, _)| *other == alias) else {
            let bytes = topic.len() + ENTRY_BYTES;
            if bytes > bytes_left {
                return Err(AliasError::TooLarge);
            }
            self.bytes += bytes;
            self.topics.insert_unique(spread(alias), (alias, topic.into()), |(other, _)| spread(*other));
            return Ok(());
        };
        if **known == *topic {
            return Ok(());
        }
        if topic.len() > bytes_left + known.len() {
            return Err(AliasError::TooLarge);
        }
        self.bytes = self.bytes - known.len() + topic.len();
        *known = topic.into();
        Ok(())
    }
}

fn spread(alias: u16) -> u64 {
    u64::from(alias).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Aliases that the broker has set towards a client. No heap until the first.
///
/// A topic gets an alias the second time it is sent: most topics of a fan-in are seen once, and an alias costs more than it
/// saves then. When all aliases are in use, the one not used for longest goes to the new topic, found by a clock hand.
#[derive(Debug)]
pub struct AliasesOut {
    key: HashKey,
    /// By alias - 1.
    entries: Vec<Assigned>,
    by_hash: HashTable<u16>,
    /// Hashes of topics seen once, overwritten in turn.
    seen: [u32; SEEN_COUNT],
    hand: usize,
}

#[derive(Debug)]
struct Assigned {
    topic: Box<str>,
    hash: u64,
    was_used: bool,
}

/// How a topic goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutTopic {
    /// With its name, without alias.
    Named,
    /// With its name and this alias, which stands for it from now on.
    Introduced(u16),
    /// With this alias and an empty name.
    Aliased(u16),
}

impl AliasesOut {
    /// No aliases; hashes are keyed with `key`. Allocates nothing.
    #[must_use]
    pub const fn new(key: HashKey) -> Self {
        Self { key, entries: Vec::new(), by_hash: HashTable::new(), seen: [0; SEEN_COUNT], hand: 0 }
    }

    /// How `topic` goes out to a client whose Topic Alias Maximum (capped by configuration) is `maximum`.
    /// [MQTT5-3.1.2-26] [MQTT5-3.1.2-27]: never an alias above it, none at all if it is 0.
    ///
    /// The packet must be sent: the client learns the alias from it. Amortised O(1).
    pub fn assign(&mut self, topic: &str, maximum: u16) -> OutTopic {
        if maximum == 0 || topic.len() < TOPIC_BYTES_MIN {
            return OutTopic::Named;
        }
        let hash = self.key.hash(topic.as_bytes());
        let entries = &mut self.entries;
        if let Some(&at) = self.by_hash.find(hash, |at| *entries[usize::from(*at)].topic == *topic) {
            entries[usize::from(at)].was_used = true;
            return OutTopic::Aliased(at + 1);
        }
        if !self.is_second_time(hash) || topic.len() > TOPIC_BYTES_MAX {
            return OutTopic::Named;
        }
        let at = self.place(usize::from(maximum).min(OUT_COUNT_MAX));
        let assigned = Assigned { topic: topic.into(), hash, was_used: true };
        match self.entries.get_mut(usize::from(at)) {
            Some(entry) => {
                let old = std::mem::replace(entry, assigned);
                if let Ok(entry) = self.by_hash.find_entry(old.hash, |other| *other == at) {
                    entry.remove();
                }
            }
            None => self.entries.push(assigned),
        }
        let entries = &self.entries;
        self.by_hash.insert_unique(hash, at, |at| entries[usize::from(*at)].hash);
        OutTopic::Introduced(at + 1)
    }

    /// Whether no alias was set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A free place, or the one of an alias that was not used since the hand passed it last.
    fn place(&mut self, count_max: usize) -> u16 {
        if self.entries.len() < count_max {
            return u16::try_from(self.entries.len()).expect("below OUT_COUNT_MAX");
        }
        loop {
            let at = self.hand % self.entries.len();
            self.hand = at + 1;
            if !std::mem::take(&mut self.entries[at].was_used) {
                return u16::try_from(at).expect("below OUT_COUNT_MAX");
            }
        }
    }

    fn is_second_time(&mut self, hash: u64) -> bool {
        let mark = u32::try_from(hash >> 32).expect("32 bits are left") | 1;
        let at = usize::try_from(hash % SEEN_COUNT as u64).expect("below SEEN_COUNT");
        std::mem::replace(&mut self.seen[at], mark) == mark
    }
}

/// Bytes of topics that one client may park under aliases.
pub const ALIAS_BYTES_MAX: usize = 256 << 10;

/// What an alias takes besides its topic, about.
const ENTRY_BYTES: usize = 48;

/// Aliases that the broker uses towards one client at most: with topics of [`TOPIC_BYTES_MAX`] bytes, 16 KB in all.
const OUT_COUNT_MAX: usize = 64;
/// An alias takes 3 B: a shorter topic is cheaper in full.
const TOPIC_BYTES_MIN: usize = 4;
const TOPIC_BYTES_MAX: usize = 256;
const SEEN_COUNT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_alias_stands_for_the_topic_it_came_with() {
        // [MQTT5-3.3.2-7] [MQTT5-3.3.2-12]
        let mut aliases = AliasesIn::new();
        assert_eq!(aliases.resolve(3, "", 10), Err(AliasError::Unknown));
        assert_eq!(aliases.resolve(3, "a/b", 10), Ok("a/b"));
        assert_eq!(aliases.resolve(3, "", 10), Ok("a/b"));
        assert_eq!(aliases.resolve(3, "c", 10), Ok("c"));
        assert_eq!(aliases.resolve(3, "", 10), Ok("c"));
        assert_eq!(aliases.resolve(2, "", 10), Err(AliasError::Unknown));
    }

    #[test]
    fn aliases_out_of_range_are_refused() {
        // [MQTT5-3.3.2-8] [MQTT5-3.3.2-9]
        let mut aliases = AliasesIn::new();
        assert_eq!(aliases.resolve(0, "a", 10), Err(AliasError::OutOfRange));
        assert_eq!(aliases.resolve(11, "a", 10), Err(AliasError::OutOfRange));
        assert_eq!(aliases.resolve(1, "a", 0), Err(AliasError::OutOfRange));
        assert_eq!(aliases.resolve(10, "a", 10), Ok("a"));
    }

    #[test]
    fn a_client_cannot_park_endless_topics() {
        let mut aliases = AliasesIn::new();
        let topic = "x".repeat(60_000);
        for alias in 1..=4 {
            assert!(aliases.resolve(alias, &topic, 100).is_ok());
        }
        assert_eq!(aliases.resolve(5, &topic, 100), Err(AliasError::TooLarge));
        assert_eq!(aliases.resolve(4, "short", 100), Ok("short"));
        assert!(aliases.resolve(5, &topic, 100).is_ok());
    }

    #[test]
    fn a_topic_gets_its_alias_the_second_time() {
        let mut aliases = AliasesOut::new(HashKey::new(1));
        assert_eq!(aliases.assign("sensor/1", 5), OutTopic::Named);
        assert_eq!(aliases.assign("sensor/1", 5), OutTopic::Introduced(1));
        assert_eq!(aliases.assign("sensor/1", 5), OutTopic::Aliased(1));
        assert_eq!(aliases.assign("abc", 5), OutTopic::Named);
        assert_eq!(aliases.assign("sensor/1", 0), OutTopic::Named, "[MQTT5-3.1.2-27]");
    }

    proptest! {
        #[test]
        fn the_client_always_knows_what_an_alias_stands_for(
            topics in proptest::collection::vec(0_u32..100, 1..600), maximum in 1_u16..80,
        ) {
            // [MQTT5-3.1.2-26]
            let mut aliases = AliasesOut::new(HashKey::new(4));
            let mut client: BTreeMap<u16, String> = BTreeMap::new();
            for n in topics {
                let topic = format!("topic/{n}");
                match aliases.assign(&topic, maximum) {
                    OutTopic::Named => {}
                    OutTopic::Introduced(alias) => {
                        prop_assert!(alias >= 1 && alias <= maximum);
                        client.insert(alias, topic);
                    }
                    OutTopic::Aliased(alias) => prop_assert_eq!(client.get(&alias), Some(&topic)),
                }
            }
        }
    }
}
