//! The index's pairs in memory: for tests, the simulator, and a broker that keeps no index on the disk.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{IndexError, Table};

/// A map. What it has is gone with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryTable {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Table for MemoryTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.pairs.get(key).cloned())
    }

    fn write(&mut self, pairs: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), IndexError> {
        for (key, value) in pairs {
            match value {
                Some(value) => self.pairs.insert(key.clone(), value.clone()),
                None => self.pairs.remove(key),
            };
        }
        Ok(())
    }

    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), IndexError> {
        let from = self.pairs.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        for (key, value) in from.take_while(|(key, _)| key.starts_with(prefix)) {
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        Ok(())
    }
}
