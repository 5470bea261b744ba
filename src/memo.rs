//! A few answers, remembered for as long as an isolate lives: for pure functions that are asked the same thing call after
//! call. Plain data only, never a moment, a draw or a handle of the platform.

/// At most so many answers; a new one takes the place of the oldest. Look-up is a walk: with a few dozen entries that is
/// cheaper than a hash of the key.
#[derive(Debug)]
pub struct Memo<K, V> {
    entries: Vec<(K, V)>,
    limit: usize,
    oldest: usize,
}

impl<K, V> Memo<K, V> {
    /// An empty one for `limit` answers.
    pub const fn new(limit: usize) -> Memo<K, V> {
        Memo { entries: Vec::new(), limit, oldest: 0 }
    }

    /// The answer whose key is this.
    pub fn get(&self, key: &K) -> Option<&V>
    where
        K: PartialEq,
    {
        self.find(|have| have == key)
    }

    /// The answer whose key is like this.
    pub fn find(&self, is: impl Fn(&K) -> bool) -> Option<&V> {
        self.entries.iter().find(|(key, _)| is(key)).map(|(_, value)| value)
    }

    /// Remembers one more.
    pub fn put(&mut self, key: K, value: V) {
        if self.entries.len() < self.limit {
            return self.entries.push((key, value));
        }
        if let Some(entry) = self.entries.get_mut(self.oldest) {
            *entry = (key, value);
            self.oldest = (self.oldest + 1) % self.limit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_answer_is_forgotten_first() {
        let mut memo = Memo::new(2);
        for n in 0..5 {
            memo.put(n, n * 10);
        }
        assert_eq!([2, 3, 4].map(|n| memo.get(&n).copied()), [None, Some(30), Some(40)]);
    }
}
