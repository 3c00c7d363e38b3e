//! Work over threads. Callers cut work by its size into pieces that do not depend on how many threads there are; here
//! pieces are handed out, to the pool of rayon that the caller runs in (the global one, unless a context has its own).

use rayon_core::ThreadPool;

/// Calls `f` with every item, on several threads if there are several items.
pub(crate) fn each<T: Send>(pool: Option<&ThreadPool>, items: &mut [T], f: &(impl Fn(&mut T) + Sync)) {
    match (items, pool) {
        ([], _) => {}
        ([one], _) => f(one),
        (items, Some(pool)) if pool.current_num_threads() == 1 => items.iter_mut().for_each(f),
        (items, Some(pool)) => pool.install(|| halves(items, f)),
        (items, None) => halves(items, f),
    }
}

fn halves<T: Send>(items: &mut [T], f: &(impl Fn(&mut T) + Sync)) {
    if let [one] = items {
        return f(one);
    }
    let (left, right) = items.split_at_mut(items.len() / 2);
    rayon_core::join(|| halves(left, f), || halves(right, f));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_visited_once() {
        for threads in [1, 2, 3] {
            let pool = rayon_core::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for n in [0, 1, 2, 7, 1000] {
                let mut items = vec![0; n];
                each(Some(&pool), &mut items, &|i| *i += 1);
                assert_eq!(items, vec![1; n]);
            }
        }
    }
}
