//! The store of filter records: a subscriber (or where a list of them is) and the filter's text, side by side.
//!
//! Records of one size class share chunks of 16 KiB; a record costs its 12 B head and its text, rounded up to 8 B, and one
//! cache line or two to read. A chunk whose last record leaves is given back to the allocator.

use super::subscriber::Subscriber;
use crate::slab::Slab;

/// Names a record: stable while it lives, reused afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(pub u32);

/// Records in chunks by size class.
#[derive(Debug, Default)]
pub(crate) struct Records {
    chunks: Vec<Chunk>,
    /// Chunk numbers whose memory has been given back.
    free_chunks: Vec<u32>,
    /// By size class: chunks with room.
    open: Vec<Vec<u32>>,
    /// Texts too long for a chunk; the record holds their index.
    long_texts: Slab<Box<str>>,
    len: usize,
}

#[derive(Debug)]
struct Chunk {
    bytes: Box<[u8]>,
    /// Record size in units of 8 B.
    class: u16,
    used: u16,
    free_head: u16,
    /// Records from here on were never used.
    fresh: u16,
    open_at: u32,
}

/// What a record says about its subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// None yet.
    Nobody,
    /// One, kept in the record.
    One(Subscriber),
    /// A list elsewhere.
    List(u32),
}

impl Records {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of heap, as asked from the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        let open: usize = self.open.iter().map(|list| list.capacity() * 4).sum();
        let texts: usize = self.long_texts.iter().map(|(_, text)| text.len()).sum();
        chunks
            + open
            + texts
            + self.long_texts.heap_bytes()
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.free_chunks.capacity() * 4
            + self.open.capacity() * size_of::<Vec<u32>>()
    }

    /// Makes a record for `text` with no subscriber.
    pub(crate) fn insert(&mut self, text: &str) -> FilterId {
        let is_long = text.len() > SHORT_TEXT_BYTES_MAX;
        let text_bytes = if is_long { 4 } else { text.len() };
        let class = (HEAD_BYTES + text_bytes).div_ceil(CLASS_BYTES);
        let chunk_at = self.open_chunk(class);
        let chunk = &mut self.chunks[chunk_at as usize];
        let slot = chunk.take_free();
        if chunk.is_full() {
            self.close(chunk_at);
        }
        let id = FilterId(chunk_at << SLOT_BITS | u32::from(slot));
        let long = if is_long { self.long_texts.insert(text.into()).index } else { 0 };
        let record = self.bytes_mut(id);
        if is_long {
            record[HEAD_BYTES..HEAD_BYTES + 4].copy_from_slice(&long.to_le_bytes());
            record[LENGTH_AT..HEAD_BYTES].copy_from_slice(&LONG_TEXT.to_le_bytes());
        } else {
            record[HEAD_BYTES..HEAD_BYTES + text.len()].copy_from_slice(text.as_bytes());
            let length = u16::try_from(text.len()).expect("at most SHORT_TEXT_BYTES_MAX");
            record[LENGTH_AT..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
        }
        record[KIND_AT] = KIND_NOBODY;
        self.len += 1;
        id
    }

    /// Ends a record.
    pub(crate) fn remove(&mut self, id: FilterId) {
        if let Text::Long(index) = self.text_at(id) {
            self.long_texts.remove_at(index);
        }
        let (chunk_at, slot) = place(id);
        let chunk = &mut self.chunks[chunk_at as usize];
        let was_full = chunk.is_full();
        let next = chunk.free_head;
        chunk.free_head = slot;
        chunk.used -= 1;
        self.bytes_mut(id)[..2].copy_from_slice(&next.to_le_bytes());
        self.bytes_mut(id)[KIND_AT] = KIND_FREE;
        self.len -= 1;
        if was_full {
            self.open_again(chunk_at);
        }
        if self.chunks[chunk_at as usize].used == 0 {
            self.close(chunk_at);
            self.chunks[chunk_at as usize].bytes = Box::default();
            self.free_chunks.push(chunk_at);
        }
    }

    /// Whether there is such a record.
    pub(crate) fn contains(&self, id: FilterId) -> bool {
        let (chunk_at, slot) = place(id);
        self.chunks.get(chunk_at as usize).is_some_and(|chunk| {
            slot < chunk.fresh && !chunk.bytes.is_empty() && self.bytes(id)[KIND_AT] != KIND_FREE
        })
    }

    /// The filter's text, empty if there is no such record.
    pub(crate) fn text(&self, id: FilterId) -> &str {
        if !self.contains(id) {
            return "";
        }
        std::str::from_utf8(self.text_bytes(id)).expect("copied from a &str in Self::insert")
    }

    /// The bytes of a live record's text.
    #[inline]
    pub(crate) fn text_bytes(&self, id: FilterId) -> &[u8] {
        match self.text_at(id) {
            Text::Short(text) => text,
            Text::Long(index) => self.long_texts.at(index).map_or(&[], |text| text.as_bytes()),
        }
    }

    /// Who subscribes.
    #[inline]
    pub(crate) fn holder(&self, id: FilterId) -> Holder {
        let record = self.bytes(id);
        match record[KIND_AT] {
            KIND_ONE => Holder::One(Subscriber::from_parts(u32_at(record, 0), u32_at(record, 4), record[8])),
            KIND_LIST => Holder::List(u32_at(record, 0)),
            _ => Holder::Nobody,
        }
    }

    /// Notes who subscribes.
    pub(crate) fn set_holder(&mut self, id: FilterId, holder: Holder) {
        let record = self.bytes_mut(id);
        match holder {
            Holder::Nobody => record[KIND_AT] = KIND_NOBODY,
            Holder::One(subscriber) => {
                let (target, subscription_id, options) = subscriber.into_parts();
                record[..4].copy_from_slice(&target.to_le_bytes());
                record[4..8].copy_from_slice(&subscription_id.to_le_bytes());
                record[8] = options;
                record[KIND_AT] = KIND_ONE;
            }
            Holder::List(list) => {
                record[..4].copy_from_slice(&list.to_le_bytes());
                record[KIND_AT] = KIND_LIST;
            }
        }
    }

    /// All records, in an order that only depends on what was done before.
    pub(crate) fn ids(&self) -> impl Iterator<Item = FilterId> {
        self.chunks.iter().zip(0_u32..).flat_map(move |(chunk, chunk_at)| {
            let count = if chunk.bytes.is_empty() { 0 } else { chunk.fresh };
            (0..count)
                .map(move |slot| FilterId(chunk_at << SLOT_BITS | u32::from(slot)))
                .filter(|id| self.bytes(*id)[KIND_AT] != KIND_FREE)
        })
    }

    #[inline]
    fn text_at(&self, id: FilterId) -> Text<'_> {
        let record = self.bytes(id);
        let length = u16::from_le_bytes([record[LENGTH_AT], record[LENGTH_AT + 1]]);
        if length == LONG_TEXT {
            return Text::Long(u32_at(record, HEAD_BYTES));
        }
        Text::Short(&record[HEAD_BYTES..HEAD_BYTES + usize::from(length)])
    }

    #[inline]
    fn bytes(&self, id: FilterId) -> &[u8] {
        let (chunk_at, slot) = place(id);
        let chunk = &self.chunks[chunk_at as usize];
        let size = usize::from(chunk.class) * CLASS_BYTES;
        &chunk.bytes[usize::from(slot) * size..][..size]
    }

    #[inline]
    fn bytes_mut(&mut self, id: FilterId) -> &mut [u8] {
        let (chunk_at, slot) = place(id);
        let chunk = &mut self.chunks[chunk_at as usize];
        let size = usize::from(chunk.class) * CLASS_BYTES;
        &mut chunk.bytes[usize::from(slot) * size..][..size]
    }

    fn open_chunk(&mut self, class: usize) -> u32 {
        if self.open.len() <= class {
            self.open.resize_with(class + 1, Vec::new);
        }
        if let Some(&chunk_at) = self.open[class].last() {
            return chunk_at;
        }
        let chunk = Chunk {
            bytes: vec![0; CHUNK_BYTES].into_boxed_slice(),
            class: u16::try_from(class).expect("SHORT_TEXT_BYTES_MAX bounds the class"),
            used: 0,
            free_head: NO_SLOT,
            fresh: 0,
            open_at: NOWHERE,
        };
        let chunk_at = match self.free_chunks.pop() {
            Some(chunk_at) => {
                self.chunks[chunk_at as usize] = chunk;
                chunk_at
            }
            None => {
                self.chunks.push(chunk);
                u32::try_from(self.chunks.len() - 1).expect("2^22 chunks are 64 GiB")
            }
        };
        assert!(chunk_at < 1 << (32 - SLOT_BITS), "64 GiB of filters in one shard");
        self.open_again(chunk_at);
        chunk_at
    }

    fn open_again(&mut self, chunk_at: u32) {
        let list = &mut self.open[usize::from(self.chunks[chunk_at as usize].class)];
        self.chunks[chunk_at as usize].open_at = u32::try_from(list.len()).expect("at most all chunks");
        list.push(chunk_at);
    }

    fn close(&mut self, chunk_at: u32) {
        let chunk = &mut self.chunks[chunk_at as usize];
        let at = std::mem::replace(&mut chunk.open_at, NOWHERE);
        let list = &mut self.open[usize::from(chunk.class)];
        list.swap_remove(at as usize);
        if let Some(&moved) = list.get(at as usize) {
            self.chunks[moved as usize].open_at = at;
        }
    }
}

enum Text<'a> {
    Short(&'a [u8]),
    Long(u32),
}

impl Chunk {
    fn capacity(&self) -> u16 {
        u16::try_from(CHUNK_BYTES / (usize::from(self.class) * CLASS_BYTES)).expect("at most 2^SLOT_BITS")
    }

    fn is_full(&self) -> bool {
        self.free_head == NO_SLOT && self.fresh == self.capacity()
    }

    fn take_free(&mut self) -> u16 {
        self.used += 1;
        if self.free_head == NO_SLOT {
            self.fresh += 1;
            return self.fresh - 1;
        }
        let slot = self.free_head;
        let at = usize::from(slot) * usize::from(self.class) * CLASS_BYTES;
        self.free_head = u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]);
        slot
    }
}

#[inline]
const fn place(id: FilterId) -> (u32, u16) {
    (id.0 >> SLOT_BITS, (id.0 & ((1 << SLOT_BITS) - 1)) as u16)
}

#[inline]
fn u32_at(record: &[u8], at: usize) -> u32 {
    record[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

/// Subscriber (9 B), kind (1 B), length of the text (2 B).
const HEAD_BYTES: usize = 12;
const KIND_AT: usize = 9;
const LENGTH_AT: usize = 10;
const KIND_NOBODY: u8 = 0;
const KIND_ONE: u8 = 1;
const KIND_LIST: u8 = 2;
const KIND_FREE: u8 = 3;
const LONG_TEXT: u16 = u16::MAX;

/// Longer texts get an allocation of their own.
const SHORT_TEXT_BYTES_MAX: usize = 500;
const CLASS_BYTES: usize = 8;
const CHUNK_BYTES: usize = 16 << 10;
/// Slots of a chunk: the smallest record has 16 B.
const SLOT_BITS: u32 = 10;
const NO_SLOT: u16 = u16::MAX;
const NOWHERE: u32 = u32::MAX;

const _: () =
    assert!(CHUNK_BYTES / 16 <= 1 << SLOT_BITS, "each record of the smallest class has a slot number");
const _: () = assert!(HEAD_BYTES + SHORT_TEXT_BYTES_MAX <= 512, "32 records or more in a chunk");
