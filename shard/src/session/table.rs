//! The sessions of a shard, found by client id or by index.

use hashbrown::HashTable;

use super::Session;
use crate::ids::SessionId;
use crate::slab::{Slab, SlabKey};

/// All sessions of one shard.
///
/// The lookup by client id stores 4 B per session (and the table's slack) and no second copy of the id.
#[derive(Debug)]
pub(crate) struct Sessions {
    slab: Slab<Session>,
    by_client_id: HashTable<u32>,
    seed: u64,
}

impl Sessions {
    /// No session. `seed` makes the places in the lookup unpredictable for clients.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { slab: Slab::new(), by_client_id: HashTable::new(), seed }
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.slab.len()
    }

    /// The session of a client id. `[MQTT5-3.1.3-2]` `[MQTT311-3.1.3-2]`
    pub(crate) fn find(&self, client_id: &str) -> Option<SessionId> {
        let has_id =
            |index: &u32| self.slab.at(*index).is_some_and(|session| &*session.client_id == client_id);
        let index = *self.by_client_id.find(hash(self.seed, client_id), has_id)?;
        self.id_at(index)
    }

    /// Adds a session whose client id is not in the table.
    pub(crate) fn insert(&mut self, session: Session) -> SessionId {
        let hash_of_id = hash(self.seed, &session.client_id);
        let key = self.slab.insert(session);
        let (slab, seed) = (&self.slab, self.seed);
        self.by_client_id.insert_unique(hash_of_id, key.index, |other| {
            slab.at(*other).map_or(0, |session| hash(seed, &session.client_id))
        });
        id(key)
    }

    /// The session, if it is still this use of its index.
    #[inline]
    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.slab.get(key(id))
    }

    /// The session for changing, if it is still this use of its index.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.slab.get_mut(key(id))
    }

    /// The session at an index that is known to be in use.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<&Session> {
        self.slab.at(index)
    }

    /// The session at an index that is known to be in use, for changing.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut Session> {
        self.slab.at_mut(index)
    }

    /// The full name of the session at an index.
    pub(crate) fn id_at(&self, index: u32) -> Option<SessionId> {
        self.slab.key_at(index).map(id)
    }

    /// Takes a session out.
    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Session> {
        let hash_of_id = hash(self.seed, &self.get(id)?.client_id);
        if let Ok(found) = self.by_client_id.find_entry(hash_of_id, |index| *index == id.index) {
            found.remove();
        }
        self.shrink_lookup();
        self.slab.remove(key(id))
    }

    /// Gives memory of the lookup back when most of it is empty.
    fn shrink_lookup(&mut self) {
        if self.by_client_id.capacity() > LOOKUP_COUNT_MIN
            && self.by_client_id.len() < self.by_client_id.capacity() / 8
        {
            let (slab, seed) = (&self.slab, self.seed);
            self.by_client_id.shrink_to(self.by_client_id.len() * 2, |other| {
                slab.at(*other).map_or(0, |session| hash(seed, &session.client_id))
            });
        }
    }

    /// All indices in use are below this.
    pub(crate) fn index_end(&self) -> u32 {
        self.slab.index_end()
    }
}

const fn id(key: SlabKey) -> SessionId {
    SessionId { index: key.index, generation: key.generation }
}

const fn key(id: SessionId) -> SlabKey {
    SlabKey { index: id.index, generation: id.generation }
}

/// Below this many places the lookup is not worth shrinking.
const LOOKUP_COUNT_MIN: usize = 1_024;

/// Hash of a client id, eight bytes at a time.
fn hash(seed: u64, client_id: &str) -> u64 {
    let mut state = seed ^ client_id.len() as u64;
    for chunk in client_id.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = crate::random::mix(state ^ u64::from_le_bytes(word)).wrapping_add(seed);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_found_by_client_id_until_they_are_removed() {
        // [MQTT5-3.1.3-2] [MQTT311-3.1.3-2]
        let mut sessions = Sessions::new(7);
        let ids: Vec<_> = (0..500).map(|n| sessions.insert(Session::new(&format!("client-{n}")))).collect();
        assert_eq!(sessions.find("client-77"), Some(ids[77]));
        assert_eq!(sessions.find("client-500"), None);
        assert!(sessions.remove(ids[77]).is_some());
        assert_eq!(sessions.find("client-77"), None);
        assert!(sessions.get(ids[77]).is_none());
        let again = sessions.insert(Session::new("client-77"));
        assert_eq!(again.index, ids[77].index);
        assert_ne!(again.generation, ids[77].generation);
        assert!(sessions.get(ids[77]).is_none());
        assert_eq!(sessions.len(), 500);
        assert_eq!((0..sessions.index_end()).filter_map(|index| sessions.id_at(index)).count(), 500);
    }
}
