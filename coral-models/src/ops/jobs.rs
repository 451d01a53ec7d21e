use rayon::iter::MinLen;
use rayon::prelude::*;

/// Multiplications for which a thread of its own pays: waking one takes as long as some ten thousand of them.
const PRODUCT: usize = 4 << 20;
/// The same for values that are read, changed and written.
const VALUES: usize = 64 * 1024;

/// Whether a product of so many multiplications is too small for more than one thread.
pub(super) fn is_small(rows: usize, columns: usize, inner: usize) -> bool {
    rows.saturating_mul(columns).saturating_mul(inner) < PRODUCT
}

/// Shares parts of `each` values between threads, where there are enough of them.
pub(crate) fn parts_of_values<P: IndexedParallelIterator>(parts: P, each: usize) -> MinLen<P> {
    parts.with_min_len(VALUES.div_ceil(2 * each.max(1)))
}

/// Shares parts of `each` multiplications between threads, where there are enough of them.
pub(super) fn parts_of_products<P: IndexedParallelIterator>(parts: P, each: usize) -> MinLen<P> {
    parts.with_min_len(PRODUCT.div_ceil(2 * each.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Mutex;

    /// How many threads take part in `count` parts of `each` values, each of which takes a while.
    fn threads(count: usize, each: usize) -> usize {
        let seen = Mutex::new(HashSet::new());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        pool.install(|| {
            parts_of_values((0..count).into_par_iter(), each).for_each(|_| {
                seen.lock().unwrap().insert(std::thread::current().id());
                std::thread::sleep(std::time::Duration::from_millis(2));
            });
        });
        seen.into_inner().unwrap().len()
    }

    #[test]
    fn little_work_stays_on_its_thread() {
        assert_eq!(threads(7, 8 * 1024), 1);
        assert_eq!(threads(0, 0), 0);
        assert!(threads(64, 64 * 1024) > 1);
        assert!(is_small(64, 64, 64) && !is_small(512, 512, 512) && !is_small(usize::MAX, 2, 2));
    }
}
