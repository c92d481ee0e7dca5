//! The connections of a shard, by the slot that the edge gave them.

use super::Connection;
use crate::ids::ConnId;

/// All connections of one shard. Found by slot in O(1); chunks never move, so growing copies nothing, and an empty chunk
/// is given back unless it is the only spare one.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    chunks: Vec<Chunk>,
    count: usize,
    /// Chunks without a connection that still have their memory.
    spare_count: usize,
}

#[derive(Debug, Default)]
struct Chunk {
    /// Empty, or [`CHUNK_ENTRIES`] long.
    entries: Box<[Option<Connection>]>,
    used: usize,
}

impl Connections {
    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Puts a connection into its slot. Gives it back if the slot is taken, which the edge's contract excludes.
    pub(crate) fn insert(&mut self, conn: ConnId, connection: Connection) -> Result<(), Connection> {
        let (chunk_at, entry_at) = place(conn.slot);
        if self.chunks.len() <= chunk_at {
            self.chunks.resize_with(chunk_at + 1, Chunk::default);
        }
        let chunk = &mut self.chunks[chunk_at];
        if chunk.entries.is_empty() {
            chunk.entries = (0..CHUNK_ENTRIES).map(|_| None).collect();
            self.spare_count += 1;
        }
        let entry = &mut chunk.entries[entry_at];
        if entry.is_some() {
            return Err(connection);
        }
        *entry = Some(connection);
        if chunk.used == 0 {
            self.spare_count -= 1;
        }
        chunk.used += 1;
        self.count += 1;
        Ok(())
    }

    /// The connection, if it still is this use of its slot.
    #[inline]
    pub(crate) fn get(&self, conn: ConnId) -> Option<&Connection> {
        let (chunk_at, entry_at) = place(conn.slot);
        let connection = self.chunks.get(chunk_at)?.entries.get(entry_at)?.as_ref()?;
        (connection.generation == conn.generation).then_some(connection)
    }

    /// The connection for changing, if it still is this use of its slot.
    #[inline]
    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let (chunk_at, entry_at) = place(conn.slot);
        let connection = self.chunks.get_mut(chunk_at)?.entries.get_mut(entry_at)?.as_mut()?;
        (connection.generation == conn.generation).then_some(connection)
    }

    /// The full name of the connection in a slot.
    pub(crate) fn id_at(&self, slot: u32) -> Option<ConnId> {
        let (chunk_at, entry_at) = place(slot);
        let connection = self.chunks.get(chunk_at)?.entries.get(entry_at)?.as_ref()?;
        Some(ConnId { slot, generation: connection.generation })
    }

    /// Takes the connection out, if it still is this use of its slot.
    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        self.get(conn)?;
        let (chunk_at, entry_at) = place(conn.slot);
        let chunk = &mut self.chunks[chunk_at];
        let connection = chunk.entries[entry_at].take();
        chunk.used -= 1;
        self.count -= 1;
        if chunk.used == 0 {
            if self.spare_count > 0 {
                chunk.entries = Box::default();
            } else {
                self.spare_count += 1;
            }
        }
        connection
    }

    /// Names of connections from `slot` on, in the order of their slots.
    pub(crate) fn ids_from(&self, slot: u32) -> impl Iterator<Item = ConnId> + '_ {
        let (first_chunk, _) = place(slot);
        self.chunks.iter().enumerate().skip(first_chunk).flat_map(move |(chunk_at, chunk)| {
            chunk.entries.iter().enumerate().filter_map(move |(entry_at, entry)| {
                let connection = entry.as_ref()?;
                let found = u32::try_from(chunk_at * CHUNK_ENTRIES + entry_at).ok()?;
                (found >= slot).then_some(ConnId { slot: found, generation: connection.generation })
            })
        })
    }
}

/// Chunk and entry of a slot.
const fn place(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK_ENTRIES, slot as usize % CHUNK_ENTRIES)
}

/// Connections per chunk: about 20 KB, small beside the kernel's cost of as many sockets.
const CHUNK_ENTRIES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::greeting;

    fn conn(slot: u32, generation: u32) -> ConnId {
        ConnId { slot, generation }
    }

    #[test]
    fn a_late_name_finds_nothing() {
        let mut table = Connections::default();
        table.insert(conn(3, 1), greeting(1)).unwrap();
        assert!(table.get(conn(3, 1)).is_some());
        assert!(table.get(conn(3, 0)).is_none());
        assert!(table.insert(conn(3, 2), greeting(2)).is_err());
        assert!(table.remove(conn(3, 1)).is_some());
        assert!(table.remove(conn(3, 1)).is_none());
        table.insert(conn(3, 2), greeting(2)).unwrap();
        assert!(table.get_mut(conn(3, 1)).is_none());
    }

    #[test]
    fn empty_chunks_are_given_back_but_one() {
        let mut table = Connections::default();
        for slot in [0, 300, 600] {
            table.insert(conn(slot, 0), greeting(0)).unwrap();
        }
        assert_eq!(table.ids_from(1).map(|id| id.slot).collect::<Vec<_>>(), [300, 600]);
        for slot in [0, 300, 600] {
            table.remove(conn(slot, 0)).unwrap();
        }
        let held = table.chunks.iter().filter(|chunk| !chunk.entries.is_empty()).count();
        assert_eq!((held, table.len(), table.spare_count), (1, 0, 1));
    }
}
