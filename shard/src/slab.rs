//! A chunked slab: values at small dense indices, with a generation per index that tells two uses apart.
//!
//! Chunks never move, so growing copies nothing, and a chunk whose last value leaves is given back to the allocator.
//! Pure; one instance per table of a shard, on its core.

/// Where a value is: a dense index and the generation of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlabKey {
    /// Dense index, reused after removal.
    pub index: u32,
    /// Differs between two uses of one index.
    pub generation: u32,
}

/// Values of one type, found by index.
///
/// Insert, get and remove are O(1). Cost per entry: `size_of::<T>()` plus 8 B (rounded up to T's alignment), and 48 B
/// per chunk of 256 entries.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with at least one free entry, in no particular but repeatable order.
    open: Vec<u32>,
    /// The chunk that became empty last.
    spare: u32,
    len: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    /// Empty when the chunk's memory has been given back.
    entries: Vec<Entry<T>>,
    used: u32,
    free_head: u32,
    /// Where this chunk stands in `open`, or [`NOWHERE`].
    open_at: u32,
    /// Generation that the entries of a new allocation begin with.
    generation_base: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Free { next: u32 },
    Used(T),
}

impl<T> Slab<T> {
    /// An empty slab; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), open: Vec::new(), spare: NOWHERE, len: 0 }
    }

    /// How many values are in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of heap that the slab holds now, without what its values own.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let entries: usize = self.chunks.iter().map(|chunk| chunk.entries.capacity()).sum();
        entries * size_of::<Entry<T>>()
            + self.chunks.capacity() * size_of::<Chunk<T>>()
            + self.open.capacity() * size_of::<u32>()
    }

    /// Puts a value in and says where.
    ///
    /// # Panics
    /// If more than 2³² values are held, which no shard's memory allows.
    pub fn insert(&mut self, value: T) -> SlabKey {
        let chunk_at = self.open_chunk();
        let chunk = &mut self.chunks[chunk_at as usize];
        let offset = chunk.take_free();
        let index = chunk_at * CHUNK_ENTRIES + offset;
        if chunk.free_head == NOWHERE && chunk.entries.len() == CHUNK_ENTRIES as usize {
            self.close(chunk_at);
        }
        let entry = &mut self.chunks[chunk_at as usize].entries[offset as usize];
        entry.state = State::Used(value);
        self.len += 1;
        SlabKey { index, generation: entry.generation }
    }

    /// The value at `key`, if it is still the same use of that index.
    #[must_use]
    pub fn get(&self, key: SlabKey) -> Option<&T> {
        let entry = self.entry(key.index)?;
        match &entry.state {
            State::Used(value) if entry.generation == key.generation => Some(value),
            State::Used(_) | State::Free { .. } => None,
        }
    }

    /// The value at `key` for changing, if it is still the same use of that index.
    #[must_use]
    pub fn get_mut(&mut self, key: SlabKey) -> Option<&mut T> {
        let entry = self.entry_mut(key.index)?;
        match &mut entry.state {
            State::Used(value) if entry.generation == key.generation => Some(value),
            State::Used(_) | State::Free { .. } => None,
        }
    }

    /// The value at `index` whatever its generation: for callers that know the index to be in use.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&T> {
        match &self.entry(index)?.state {
            State::Used(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    /// The value at `index` for changing, whatever its generation.
    #[must_use]
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match &mut self.entry_mut(index)?.state {
            State::Used(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    /// The full key of the value at `index`.
    #[must_use]
    pub fn key_at(&self, index: u32) -> Option<SlabKey> {
        let entry = self.entry(index)?;
        match entry.state {
            State::Used(_) => Some(SlabKey { index, generation: entry.generation }),
            State::Free { .. } => None,
        }
    }

    /// Takes the value at `key` out, if it is still the same use of that index.
    pub fn remove(&mut self, key: SlabKey) -> Option<T> {
        self.get(key)?;
        let (chunk_at, offset) = (key.index / CHUNK_ENTRIES, key.index % CHUNK_ENTRIES);
        let chunk = &mut self.chunks[chunk_at as usize];
        let entry = &mut chunk.entries[offset as usize];
        let State::Used(value) = std::mem::replace(&mut entry.state, State::Free { next: chunk.free_head })
        else {
            return None;
        };
        entry.generation = entry.generation.wrapping_add(1);
        chunk.free_head = offset;
        chunk.used -= 1;
        self.len -= 1;
        if chunk.open_at == NOWHERE {
            self.open(chunk_at);
        }
        self.release_if_empty(chunk_at);
        Some(value)
    }

    /// Takes the value at `index` out, whatever its generation.
    pub fn remove_at(&mut self, index: u32) -> Option<T> {
        let key = self.key_at(index)?;
        self.remove(key)
    }

    /// All indices in use are below this.
    #[must_use]
    pub fn index_end(&self) -> u32 {
        u32::try_from(self.chunks.len()).map_or(u32::MAX, |count| count.saturating_mul(CHUNK_ENTRIES))
    }

    /// All values with their keys, by index.
    pub fn iter(&self) -> impl Iterator<Item = (SlabKey, &T)> {
        self.chunks.iter().zip(0_u32..).flat_map(|(chunk, chunk_at)| {
            chunk.entries.iter().zip(0_u32..).filter_map(move |(entry, offset)| match &entry.state {
                State::Used(value) => {
                    let index = chunk_at * CHUNK_ENTRIES + offset;
                    Some((SlabKey { index, generation: entry.generation }, value))
                }
                State::Free { .. } => None,
            })
        })
    }

    fn entry(&self, index: u32) -> Option<&Entry<T>> {
        let chunk = self.chunks.get((index / CHUNK_ENTRIES) as usize)?;
        chunk.entries.get((index % CHUNK_ENTRIES) as usize)
    }

    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry<T>> {
        let chunk = self.chunks.get_mut((index / CHUNK_ENTRIES) as usize)?;
        chunk.entries.get_mut((index % CHUNK_ENTRIES) as usize)
    }

    /// The chunk that takes the next value.
    fn open_chunk(&mut self) -> u32 {
        if let Some(&chunk_at) = self.open.last() {
            return chunk_at;
        }
        let chunk_at = u32::try_from(self.chunks.len()).expect("fewer than 2^32 entries fit in memory");
        assert!(chunk_at < u32::MAX / CHUNK_ENTRIES, "slab index space exhausted");
        self.chunks.push(Chunk {
            entries: Vec::new(),
            used: 0,
            free_head: NOWHERE,
            open_at: NOWHERE,
            generation_base: 0,
        });
        self.open(chunk_at);
        chunk_at
    }

    fn open(&mut self, chunk_at: u32) {
        self.chunks[chunk_at as usize].open_at =
            u32::try_from(self.open.len()).expect("as many open chunks as chunks at most");
        self.open.push(chunk_at);
    }

    fn close(&mut self, chunk_at: u32) {
        let at = std::mem::replace(&mut self.chunks[chunk_at as usize].open_at, NOWHERE);
        self.open.swap_remove(at as usize);
        if let Some(&moved) = self.open.get(at as usize) {
            self.chunks[moved as usize].open_at = at;
        }
    }

    /// Gives an empty chunk's memory back, but keeps one: a value that comes and goes must not allocate each time.
    fn release_if_empty(&mut self, chunk_at: u32) {
        if self.chunks[chunk_at as usize].used > 0 {
            return;
        }
        let spare = std::mem::replace(&mut self.spare, chunk_at);
        if spare == chunk_at || spare == NOWHERE {
            return;
        }
        let chunk = &mut self.chunks[spare as usize];
        if chunk.used == 0 {
            let top = chunk.entries.iter().map(|entry| entry.generation).max();
            chunk.generation_base = top.map_or(chunk.generation_base, |top| top.wrapping_add(1));
            chunk.entries = Vec::new();
            chunk.free_head = NOWHERE;
        }
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Chunk<T> {
    /// A free entry of this open chunk, allocated step by step so that a small table stays small.
    fn take_free(&mut self) -> u32 {
        self.used += 1;
        if self.free_head != NOWHERE {
            let offset = self.free_head;
            if let State::Free { next } = self.entries[offset as usize].state {
                self.free_head = next;
            }
            return offset;
        }
        if self.entries.len() == self.entries.capacity() {
            let more = self.entries.len().clamp(4, CHUNK_ENTRIES as usize - self.entries.len());
            self.entries.reserve_exact(more);
        }
        let offset = u32::try_from(self.entries.len()).expect("a chunk has CHUNK_ENTRIES entries at most");
        self.entries.push(Entry { generation: self.generation_base, state: State::Free { next: NOWHERE } });
        offset
    }
}

/// Entries of one chunk: small enough that an empty one is soon found, large enough that its head costs little.
const CHUNK_ENTRIES: u32 = 256;

const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_old_key_does_not_find_the_new_value() {
        let mut slab = Slab::new();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(first.index, second.index);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get(second), Some(&"b"));
        assert_eq!(slab.remove(first), None);
    }

    #[test]
    fn generations_survive_the_return_of_a_chunk() {
        let mut slab = Slab::new();
        let keys: Vec<SlabKey> = (0..16 * CHUNK_ENTRIES).map(|n| slab.insert(n)).collect();
        let full = slab.heap_bytes();
        for key in &keys {
            assert_eq!(slab.remove(*key), Some(key.index));
        }
        assert!(slab.heap_bytes() < full / 8, "{} of {full}", slab.heap_bytes());
        let again: Vec<SlabKey> = (0..16 * CHUNK_ENTRIES).map(|n| slab.insert(n)).collect();
        for key in &keys {
            assert_eq!(slab.get(*key), None);
        }
        assert_eq!(again.len(), slab.len());
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in proptest::collection::vec((any::<bool>(), 0_usize..600), 1..2_000)) {
            let mut slab = Slab::new();
            let mut model: Vec<(SlabKey, usize)> = Vec::new();
            for (n, (insert, pick)) in ops.into_iter().enumerate() {
                if insert || model.is_empty() {
                    let key = slab.insert(n);
                    prop_assert!(model.iter().all(|(other, _)| other.index != key.index));
                    model.push((key, n));
                } else {
                    let (key, value) = model.swap_remove(pick % model.len());
                    prop_assert_eq!(slab.remove(key), Some(value));
                    prop_assert_eq!(slab.get(key), None);
                }
                prop_assert_eq!(slab.len(), model.len());
            }
            for (key, value) in &model {
                prop_assert_eq!(slab.get(*key), Some(value));
                prop_assert_eq!(slab.at(key.index), Some(value));
            }
            prop_assert_eq!(slab.iter().count(), model.len());
        }
    }
}
