//! What is known of a log's segments: how much of each is still needed, and where each message stands.
//!
//! 16 B for each stored message that somebody waits for. Names of messages count up, so a segment's new messages are a list that is
//! sorted as it grows; messages that cleaning moved are in a second one.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::MOVED_PENDING_COUNT;
use crate::log::recovery::ReadSegment;
use crate::record::MessageId;

/// All segments of a log, oldest first. One per store.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    segments: VecDeque<Segment>,
    /// The highest message name that is in any list of new ones.
    fresh_max: u64,
    /// Files without any record that holds.
    unread: Vec<u64>,
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Its number.
    pub number: u64,
    /// Length of its file.
    pub disk_bytes: u64,
    /// Where its frames end.
    pub used_bytes: u64,
    /// Bytes of records that may still hold, messages aside.
    state_bytes: u64,
    published_bytes: u64,
    published_count: u64,
    live_count: u64,
    /// New messages in it have at least this name.
    fresh_from: u64,
    fresh: Vec<Entry>,
    moved: Vec<Entry>,
    /// Moved lately and not yet merged into `moved`: place and holders by name.
    moved_pending: BTreeMap<u64, (u32, u32)>,
}

/// Where a message stands, in units of eight bytes, and how many sessions of this shard need it, as far as was counted. The count
/// decides when to clean, never what is kept.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u64,
    /// [`ELSEWHERE`] once the message was said again.
    at: u32,
    holders: u32,
}

/// No frame begins there: a segment's header does.
const ELSEWHERE: u32 = 0;

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Number of the segment.
    pub segment: u64,
    /// Where its frame begins.
    pub offset: u64,
}

const _: () = assert!(size_of::<Entry>() == 16, "the memory of a stored message");

impl Catalog {
    /// Adds a segment at the end.
    pub(crate) fn begin(&mut self, number: u64, disk_bytes: u64) {
        assert!(self.segments.back().is_none_or(|last| last.number < number), "segments count up");
        self.segments.push_back(Segment {
            number,
            disk_bytes,
            used_bytes: 0,
            state_bytes: 0,
            published_bytes: 0,
            published_count: 0,
            live_count: 0,
            fresh_from: self.fresh_max.saturating_add(1),
            fresh: Vec::new(),
            moved: Vec::new(),
            moved_pending: BTreeMap::new(),
        });
    }

    /// Sets the lengths of files and of what stands in them, as recovery found them. Files without records are noted.
    pub(crate) fn note_files(&mut self, files: &[ReadSegment]) {
        for file in files {
            match self.segments.iter_mut().find(|segment| segment.number == file.number) {
                Some(segment) => {
                    (segment.disk_bytes, segment.used_bytes) = (file.disk_bytes, file.used_bytes)
                }
                None => self.unread.push(file.number),
            }
        }
    }

    /// Files that recovery has found no records in.
    pub(crate) fn take_unread(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.unread)
    }

    /// The segments, oldest first.
    pub(crate) fn segments(&self) -> &VecDeque<Segment> {
        &self.segments
    }

    /// The newest segment.
    pub(crate) fn last_mut(&mut self) -> Option<&mut Segment> {
        self.segments.back_mut()
    }

    /// Takes the oldest segment out.
    pub(crate) fn take_oldest(&mut self) -> Option<Segment> {
        self.segments.pop_front()
    }

    /// A record that is no message and may still hold was appended.
    pub(crate) fn add_state(&mut self, bytes: u64) {
        if let Some(segment) = self.segments.back_mut() {
            segment.state_bytes += bytes;
        }
    }

    /// A message was appended to the newest segment. If it stood elsewhere before, it does no more.
    pub(crate) fn add_published(&mut self, id: MessageId, offset: u64, bytes: u64, holders: u32) {
        let is_fresh = id.0 > self.fresh_max;
        if !is_fresh {
            self.forget(id);
        }
        self.fresh_max = self.fresh_max.max(id.0);
        let Some(segment) = self.segments.back_mut() else { return };
        let at = u32::try_from(offset / 8).expect("a segment is shorter than 32 GiB: records end at 1 GiB");
        segment.published_bytes += bytes;
        segment.published_count += 1;
        segment.live_count += u64::from(holders > 0);
        if is_fresh {
            segment.fresh.push(Entry { id: id.0, at, holders });
        } else {
            segment.moved_pending.insert(id.0, (at, holders));
            segment.merge_if_many();
        }
    }

    /// One session more needs a message. Tells whether its place is known.
    pub(crate) fn hold(&mut self, id: MessageId) -> bool {
        self.change(id, |entry| entry.holders = entry.holders.saturating_add(1))
    }

    /// One session less needs a message.
    pub(crate) fn release(&mut self, id: MessageId) {
        self.change(id, |entry| entry.holders = entry.holders.saturating_sub(1));
    }

    /// Where a message stands.
    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        if let Some(segment) = self.fresh_segment(id)
            && let Some(entry) = segment.fresh_entry(id)
            && entry.at != ELSEWHERE
        {
            return Some(segment.place(entry.at));
        }
        self.segments.iter().rev().find_map(|segment| {
            let entry = segment.moved_entry(id)?;
            (entry.at != ELSEWHERE).then(|| segment.place(entry.at))
        })
    }

    /// Drops what nobody needs from the lists, after a replay has counted the holders.
    pub(crate) fn prune(&mut self) {
        for segment in &mut self.segments {
            segment.fresh.retain(|entry| entry.holders > 0);
            segment.fresh.shrink_to_fit();
            segment.merge();
            segment.moved.retain(|entry| entry.holders > 0);
            segment.moved.shrink_to_fit();
        }
    }

    /// Bytes of records that may still be needed.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::live_bytes).sum()
    }

    /// Bytes that frames take.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.used_bytes).sum()
    }

    /// Bytes of all segment files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.disk_bytes).sum()
    }

    /// Messages that are needed.
    pub(crate) fn message_count(&self) -> u64 {
        self.segments.iter().map(|segment| segment.live_count).sum()
    }

    fn forget(&mut self, id: MessageId) {
        self.change(id, |entry| {
            entry.at = ELSEWHERE;
            entry.holders = 0;
        });
    }

    /// Changes a message's entry where it stands. Tells whether it stands anywhere. Cost: two searches for a message that was never
    /// moved, however long the log is.
    fn change(&mut self, id: MessageId, change: impl Fn(&mut Entry)) -> bool {
        let index = self.fresh_index(id);
        if let Some(segment) = index.and_then(|index| self.segments.get_mut(index))
            && segment.change_fresh(id, &change)
        {
            return true;
        }
        self.segments.iter_mut().rev().any(|segment| segment.change_moved(id, &change))
    }

    fn fresh_index(&self, id: MessageId) -> Option<usize> {
        self.segments.partition_point(|segment| segment.fresh_from <= id.0).checked_sub(1)
    }

    fn fresh_segment(&self, id: MessageId) -> Option<&Segment> {
        self.segments.get(self.fresh_index(id)?)
    }
}

impl Segment {
    /// Bytes in it that may still be needed; messages by their mean length.
    pub(crate) fn live_bytes(&self) -> u64 {
        if self.published_count == 0 {
            return self.state_bytes;
        }
        self.state_bytes + self.published_bytes / self.published_count * self.live_count
    }

    fn place(&self, at: u32) -> Place {
        Place { segment: self.number, offset: u64::from(at) * 8 }
    }

    fn fresh_entry(&self, id: MessageId) -> Option<&Entry> {
        self.fresh.get(find(&self.fresh, id.0)?)
    }

    fn moved_entry(&self, id: MessageId) -> Option<Entry> {
        if let Some((at, holders)) = self.moved_pending.get(&id.0) {
            return Some(Entry { id: id.0, at: *at, holders: *holders });
        }
        self.moved.get(find(&self.moved, id.0)?).copied()
    }

    fn change_fresh(&mut self, id: MessageId, change: &impl Fn(&mut Entry)) -> bool {
        let Some(index) = find(&self.fresh, id.0) else { return false };
        let before = self.fresh[index];
        if before.at == ELSEWHERE {
            return false;
        }
        change(&mut self.fresh[index]);
        self.count_live(before.holders, self.fresh[index].holders);
        true
    }

    fn change_moved(&mut self, id: MessageId, change: &impl Fn(&mut Entry)) -> bool {
        let Some(before) = self.moved_entry(id) else { return false };
        if before.at == ELSEWHERE {
            return false;
        }
        let mut after = before;
        change(&mut after);
        if let Some((at, holders)) = self.moved_pending.get_mut(&id.0) {
            (*at, *holders) = (after.at, after.holders);
        } else if let Some(index) = find(&self.moved, id.0) {
            self.moved[index] = after;
        }
        self.count_live(before.holders, after.holders);
        true
    }

    fn count_live(&mut self, before: u32, after: u32) {
        self.live_count += u64::from(before == 0 && after > 0);
        self.live_count -= u64::from(before > 0 && after == 0);
    }

    fn merge_if_many(&mut self) {
        if self.moved_pending.len() > MOVED_PENDING_COUNT.max(self.moved.len() / 8) {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let pending = std::mem::take(&mut self.moved_pending);
        if pending.is_empty() {
            return;
        }
        self.moved.retain(|entry| !pending.contains_key(&entry.id));
        self.moved.extend(pending.into_iter().map(|(id, (at, holders))| Entry { id, at, holders }));
        // Two sorted runs, one behind the other: a stable sort merges them.
        self.moved.sort_by_key(|entry| entry.id);
    }
}

/// Index of a name in a sorted list. Names are dense as a rule, so the first guess is mostly right.
fn find(entries: &[Entry], id: u64) -> Option<usize> {
    let (first, last) = (entries.first()?.id, entries.last()?.id);
    if id > last {
        return None;
    }
    let guess = usize::try_from(id.checked_sub(first)?).ok()?;
    if entries.get(guess).is_some_and(|entry| entry.id == id) {
        return Some(guess);
    }
    entries.binary_search_by_key(&id, |entry| entry.id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn place(segment: u64, offset: u64) -> Place {
        Place { segment, offset }
    }

    #[test]
    fn a_message_is_where_it_was_said_last() {
        let mut catalog = Catalog::default();
        catalog.begin(1, 1_000);
        catalog.add_published(MessageId(1), 64, 100, 2);
        catalog.add_published(MessageId(2), 168, 100, 1);
        catalog.begin(2, 1_000);
        catalog.add_published(MessageId(3), 64, 100, 1);
        assert_eq!(catalog.place(MessageId(2)), Some(place(1, 168)));
        catalog.add_published(MessageId(2), 200, 100, 1);
        assert_eq!(catalog.place(MessageId(2)), Some(place(2, 200)));
        assert_eq!(catalog.place(MessageId(3)), Some(place(2, 64)));
        assert_eq!((catalog.message_count(), catalog.live_bytes()), (3, 300));
        catalog.release(MessageId(2));
        catalog.release(MessageId(2));
        assert_eq!(catalog.place(MessageId(2)), Some(place(2, 200)), "counting too much loses nothing");
        catalog.release(MessageId(1));
        assert_eq!((catalog.message_count(), catalog.live_bytes()), (2, 200));
        assert_eq!(catalog.place(MessageId(99)), None);
    }

    #[test]
    fn a_replay_counts_holders_and_forgets_the_rest() {
        let mut catalog = Catalog::default();
        catalog.begin(1, 1_000);
        for id in 1..=10 {
            catalog.add_published(MessageId(id), id * 64, 64, 0);
        }
        catalog.begin(2, 1_000);
        catalog.add_published(MessageId(4), 64, 64, 0);
        assert!(catalog.hold(MessageId(4)) && catalog.hold(MessageId(7)) && !catalog.hold(MessageId(11)));
        catalog.prune();
        assert_eq!(catalog.place(MessageId(4)), Some(place(2, 64)));
        assert_eq!(catalog.place(MessageId(7)), Some(place(1, 448)));
        assert_eq!(catalog.place(MessageId(5)), None);
        assert_eq!(catalog.message_count(), 2);
    }

    proptest! {
        #[test]
        fn it_says_what_a_plain_map_says(steps in proptest::collection::vec((0..4_u8, 1..40_u64), 1..400)) {
            let mut catalog = Catalog::default();
            catalog.begin(1, 0);
            let mut plain: HashMap<u64, (Place, u32)> = HashMap::new();
            let (mut segment, mut offset) = (1, 64);
            for (what, id) in steps {
                match what {
                    0 | 1 => {
                        offset += 8;
                        catalog.add_published(MessageId(id), offset, 8, 2);
                        plain.insert(id, (place(segment, offset), 2));
                    }
                    2 => {
                        catalog.release(MessageId(id));
                        plain.entry(id).and_modify(|(_, holders)| *holders = holders.saturating_sub(1));
                    }
                    _ => {
                        segment += 1;
                        offset = 64;
                        catalog.begin(segment, 0);
                    }
                }
            }
            for id in 1..40 {
                let expected = plain.get(&id).map(|(place, _)| *place);
                prop_assert_eq!(catalog.place(MessageId(id)), expected);
            }
            let live = plain.values().filter(|(_, holders)| *holders > 0).count();
            prop_assert_eq!(catalog.message_count(), u64::try_from(live).unwrap());
        }
    }
}
