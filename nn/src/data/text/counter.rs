//! [`Counter`]: how often things occur; [`ngrams`]: neighbouring tokens.

use std::collections::BTreeMap;

/// How often tokens, or anything else with an order, occur.
///
/// ```
/// use isograd::nn::data::text::{Counter, ngrams};
/// let tokens = ["a", "b", "a", "b", "c"];
/// let pairs: Counter<&[&str]> = Counter::of(ngrams(&tokens, 2));
/// assert_eq!(pairs.most_common(1), [(&&["a", "b"][..], 2)]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter<T: Ord>(BTreeMap<T, usize>);

impl<T: Ord> Counter<T> {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Counter(BTreeMap::new())
    }

    /// How often each of `items` occurs.
    pub fn of(items: impl IntoIterator<Item = T>) -> Self {
        let mut counter = Counter::new();
        counter.extend(items);
        counter
    }

    /// How often `item` occurs.
    pub fn count(&self, item: &T) -> usize {
        self.0.get(item).copied().unwrap_or(0)
    }

    /// How many different items there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many items were counted.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// The `n` most frequent items and how often they occur; those that occur equally often in their own order.
    pub fn most_common(&self, n: usize) -> Vec<(&T, usize)> {
        let mut items: Vec<(&T, usize)> = self.0.iter().map(|(item, &count)| (item, count)).collect();
        items.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        items.truncate(n);
        items
    }
}

impl<T: Ord> Default for Counter<T> {
    fn default() -> Self {
        Counter::new()
    }
}

impl<T: Ord> Extend<T> for Counter<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| *self.0.entry(item).or_default() += 1);
    }
}

/// All runs of `n` neighbouring tokens. There are none for `n` of 0.
pub fn ngrams<T>(tokens: &[T], n: usize) -> impl Iterator<Item = &[T]> {
    let tokens = if n == 0 { &[] } else { tokens };
    tokens.windows(n.max(1))
}
