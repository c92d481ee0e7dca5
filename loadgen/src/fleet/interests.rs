//! Who wants a topic: the subscriptions of all clients of a run, found by topic.
//!
//! This is the oracle's own reading of §4.7 of the standard. It shares nothing with any broker's index, so that a
//! fault there can't hide here. A filter is entered under the number of its levels with their wildcards (its *form*)
//! and a hash of its text; a topic is looked up once per form that exists, and every hit is confirmed by comparing
//! level by level. Filters are not stored: they are rendered again from their template, so a subscription of a client's
//! own costs 20 bytes and its place in the table, 17 to 34 more.

use std::collections::{BTreeMap, HashMap};

use super::cast::MemberId;

/// One subscription of one client, or the same one of all clients of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Which group.
    pub(crate) group: u16,
    /// Which of the group's `subscribe` entries.
    pub(crate) entry: u16,
    /// Which repetition of it.
    pub(crate) n: u32,
    /// Whose it is; `None`: every client of the group has it.
    pub(crate) member: Option<MemberId>,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    forms: Vec<Form>,
    /// From form and hash to the last entry of a chain.
    heads: HashMap<u64, u32>,
    entries: Vec<Entry>,
    /// Filters of shared groups.
    shares: Vec<Share>,
    share_ids: BTreeMap<String, ShareId>,
}

/// A shared subscription: a name and a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The name of the group of clients.
    pub(crate) name: String,
    /// The filter without `$share/name/`.
    pub(crate) filter: String,
    /// Who takes part, in ascending order.
    pub(crate) members: Vec<MemberId>,
}

/// A shared subscription by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShareId(pub(crate) u32);

#[derive(Clone, Copy, Debug)]
struct Entry {
    what: What,
    /// The entry before this one in the chain; [`NONE`] ends it.
    before: u32,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Own { place: Place, n: u32, member: MemberId },
    OfAll { place: Place, n: u32 },
    Shared(ShareId),
}

/// Group and entry of the plan.
#[derive(Clone, Copy, Debug)]
struct Place {
    group: u16,
    entry: u16,
}

/// What a topic found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A subscription that a client holds for itself.
    Direct(Interest),
    /// A shared one.
    Shared(ShareId),
}

/// Where a filter has wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// Levels in front of `#`, or all of them.
    levels: u16,
    /// Bit n: level n is `+`. Levels beyond the 63rd are never hashed and always compared.
    plus: u64,
    /// Whether it ends in `#`.
    open: bool,
}

const NONE: u32 = u32::MAX;

impl Interests {
    /// Makes room for so many subscriptions, so that nothing is copied while they are entered.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.heads.reserve(count);
        self.entries.reserve_exact(count);
    }

    /// Enters a subscription. `filter` may be a shared one, which `member` then joins.
    pub(crate) fn add(&mut self, filter: &str, interest: Interest, members: impl Iterator<Item = MemberId>) {
        let (form, hash) = Form::of_filter(shared_parts(filter).map_or(filter, |(_, inner)| inner));
        if !self.forms.contains(&form) {
            self.forms.push(form);
        }
        if let Some((name, inner)) = shared_parts(filter) {
            let known = self.share_ids.get(filter).copied();
            let id = known.unwrap_or_else(|| {
                let id = ShareId(u32::try_from(self.shares.len()).expect("shares are counted in u32"));
                let (name, inner) = (name.to_owned(), inner.to_owned());
                self.shares.push(Share { name, filter: inner, members: Vec::new() });
                self.share_ids.insert(filter.to_owned(), id);
                self.enter(hash, What::Shared(id));
                id
            });
            let list = &mut self.shares[id.0 as usize].members;
            list.extend(members);
            list.sort_unstable();
            list.dedup();
            return;
        }
        let place = Place { group: interest.group, entry: interest.entry };
        let what = match interest.member {
            Some(member) => What::Own { place, n: interest.n, member },
            None => What::OfAll { place, n: interest.n },
        };
        self.enter(hash, what);
    }

    /// Hands every subscription that matches `topic` to `found`. `filter` renders the filter of an interest.
    pub(crate) fn find(
        &self,
        topic: &str,
        mut filter: impl FnMut(Interest, &mut String),
        mut found: impl FnMut(Found),
    ) {
        let mut text = String::new();
        for form in &self.forms {
            let Some(hash) = form.of_topic(topic) else { continue };
            let mut next = self.heads.get(&hash).copied().unwrap_or(NONE);
            while let Some(entry) = self.entries.get(next as usize) {
                next = entry.before;
                let hit = match entry.what {
                    What::Shared(id) => matches(&self.share(id).filter, topic).then_some(Found::Shared(id)),
                    What::Own { place, n, member } => Some(place.interest(n, Some(member))),
                    What::OfAll { place, n } => Some(place.interest(n, None)),
                };
                match hit {
                    Some(Found::Direct(interest)) => {
                        text.clear();
                        filter(interest, &mut text);
                        if matches(&text, topic) {
                            found(Found::Direct(interest));
                        }
                    }
                    Some(shared @ Found::Shared(_)) => found(shared),
                    None => {}
                }
            }
        }
    }

    /// A shared subscription.
    pub(crate) fn share(&self, id: ShareId) -> &Share {
        &self.shares[id.0 as usize]
    }

    /// All shared subscriptions.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (ShareId, &Share)> {
        (0..).map(ShareId).zip(&self.shares)
    }

    fn enter(&mut self, hash: u64, what: What) {
        let number = u32::try_from(self.entries.len()).expect("subscriptions are counted in u32");
        let before = self.heads.insert(hash, number).unwrap_or(NONE);
        self.entries.push(Entry { what, before });
    }
}

impl Place {
    const fn interest(self, n: u32, member: Option<MemberId>) -> Found {
        Found::Direct(Interest { group: self.group, entry: self.entry, n, member })
    }
}

impl Form {
    /// The form of a filter, and the hash under which it is entered.
    fn of_filter(filter: &str) -> (Self, u64) {
        let mut form = Self { levels: 0, plus: 0, open: false };
        for level in filter.split('/') {
            match level {
                "#" => {
                    form.open = true;
                    break;
                }
                "+" if form.levels < HASHED_LEVELS => form.plus |= 1 << form.levels,
                _ => {}
            }
            form.levels = form.levels.saturating_add(1);
        }
        (form, form.hash(filter.split('/')))
    }

    /// The hash under which a filter of this form that matches `topic` would be entered; `None` if none can.
    fn of_topic(self, topic: &str) -> Option<u64> {
        let count = topic.split('/').count();
        let levels = usize::from(self.levels);
        let fits = if self.open { count >= levels } else { count == levels };
        fits.then(|| self.hash(topic.split('/')))
    }

    fn hash<'level>(self, levels: impl Iterator<Item = &'level str>) -> u64 {
        let mut state = mix(u64::from(self.levels) << 1 | u64::from(self.open), self.plus);
        for (level, number) in levels.zip(0..self.levels.min(HASHED_LEVELS)) {
            state = match self.plus >> number & 1 {
                0 => mix(state, hash_text(level.as_bytes())),
                _ => mix(state, 1),
            };
        }
        state
    }
}

/// Levels that enter the hash.
const HASHED_LEVELS: u16 = 63;

/// Whether a filter without `$share` matches a topic: §4.7.1 and §4.7.2 of the standard, level by level.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Name and filter of a shared subscription.
pub(crate) fn shared_parts(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

/// A hash of some bytes; fast, and good enough for tables whose hits are confirmed.
pub(crate) fn hash_text(bytes: &[u8]) -> u64 {
    let mut state = 0x243F_6A88_85A3_08D3 ^ bytes.len() as u64;
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        state = mix(state, u64::from_le_bytes(chunk.try_into().expect("chunks_exact gives eight bytes")));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state, u64::from_le_bytes(last))
}

const fn mix(state: u64, value: u64) -> u64 {
    let mixed = (state ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn the_examples_of_the_standard() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a/b/c", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/uptime", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("A/b", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn the_table_finds_what_comparing_every_filter_finds() {
        let mut dice = Dice::new(5);
        let words = ["a", "b", "", "+", "$x"];
        let path = |dice: &mut Dice, wild: bool| {
            let count = 1 + dice.below(4);
            let mut levels: Vec<&str> = (0..count)
                .map(|_| words[dice.below(5) as usize])
                .map(|w| if !wild && w == "+" { "a" } else { w })
                .collect();
            if wild && dice.below(3) == 0 {
                levels.push("#");
            }
            levels.join("/")
        };
        let filters: Vec<String> = (0..400).map(|_| path(&mut dice, true)).collect();
        let mut interests = Interests::default();
        for (filter, member) in filters.iter().zip(0..) {
            let interest = Interest { group: 0, entry: 0, n: 0, member: Some(MemberId(member)) };
            interests.add(filter, interest, std::iter::empty());
        }
        for _ in 0..500 {
            let topic = path(&mut dice, false);
            let mut found = Vec::new();
            interests.find(
                &topic,
                |interest, text| text.push_str(&filters[interest.member.unwrap().0 as usize]),
                |hit| match hit {
                    Found::Direct(interest) => found.push(interest.member.unwrap().0),
                    Found::Shared(_) => unreachable!(),
                },
            );
            found.sort_unstable();
            let expected: Vec<u32> =
                (0..400).filter(|index| matches(&filters[*index as usize], &topic)).collect();
            assert_eq!(found, expected, "{topic}");
        }
    }

    #[test]
    fn the_members_of_a_share_are_gathered_under_one_number() {
        let mut interests = Interests::default();
        for member in [3, 1, 3] {
            let interest = Interest { group: 0, entry: 0, n: 0, member: Some(MemberId(member)) };
            interests.add("$share/g/t/+", interest, std::iter::once(MemberId(member)));
        }
        let mut found = Vec::new();
        interests.find("t/1", |_, _| unreachable!(), |hit| found.push(hit));
        assert_eq!(found, [Found::Shared(ShareId(0))]);
        assert_eq!(interests.share(ShareId(0)).members, [MemberId(1), MemberId(3)]);
    }
}
