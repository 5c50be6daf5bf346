//! A map of bounded size that evicts the least recently used entry.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

#[derive(Debug)]
pub struct Lru<K, V> {
    entries: HashMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
    /// Number of uses, which is the clock of `entries` and `by_age`.
    uses: u64,
    capacity: usize,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            by_age: BTreeMap::new(),
            uses: 0,
            capacity,
        }
    }

    /// The value of `key`, inserted if it is missing.
    pub fn get_or(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.use_now(key);
        let entry = self.entries.entry(key).or_insert_with(|| (0, make()));
        entry.0 = self.uses;
        &mut entry.1
    }

    /// Sets the value of `key`, and returns its former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.use_now(key);
        let former = self.entries.insert(key, (self.uses, value));
        former.map(|(_, value)| value)
    }

    /// Makes room for `key`, and makes it the youngest.
    fn use_now(&mut self, key: K) {
        self.uses += 1;
        match self.entries.get(&key) {
            Some((used, _)) => {
                self.by_age.remove(used);
            }
            None if self.entries.len() >= self.capacity => {
                if let Some((_, oldest)) = self.by_age.pop_first() {
                    self.entries.remove(&oldest);
                }
            }
            None => {}
        }
        self.by_age.insert(self.uses, key);
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.by_age.remove(&used);
        Some(value)
    }

    /// Removes the entries that satisfy `wanted`.
    pub fn extract(&mut self, wanted: impl Fn(&K, &V) -> bool) -> Vec<(K, V)> {
        let extracted = self.entries.extract_if(|key, (_, value)| wanted(key, value));
        let extracted: Vec<_> = extracted.map(|(key, (used, value))| (key, used, value)).collect();
        extracted
            .into_iter()
            .map(|(key, used, value)| {
                self.by_age.remove(&used);
                (key, value)
            })
            .collect()
    }

    /// Does not count as a use.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// In no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }

    /// Does not count as a use.
    pub fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes() {
        let mut lru = Lru::new(2);
        *lru.get_or(1, || 10) += 1;
        lru.get_or(2, || 20);
        lru.get_or(1, || 0);
        lru.get_or(3, || 30);
        assert_eq!(lru.peek(&1), Some(&11));
        assert_eq!(lru.peek(&2), None);
        assert_eq!(lru.peek(&3), Some(&30));
        assert_eq!(lru.extract(|key, _| *key == 3), [(3, 30)]);
        assert_eq!((lru.entries.len(), lru.by_age.len()), (1, 1));
        assert_eq!((lru.remove(&3), lru.remove(&1)), (None, Some(11)));
        for key in 0..1000 {
            assert_eq!(lru.insert(key, 7), None);
            assert_eq!(lru.insert(key, 8), Some(7));
            assert_eq!(lru.get_or(key, || 0), &8);
        }
        assert_eq!((lru.entries.len(), lru.by_age.len()), (2, 2));
    }
}
