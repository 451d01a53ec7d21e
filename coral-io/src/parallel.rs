//! The one place that knows whether there are threads.

/// `f` of every item, in the items' order; in parallel with feature `rayon`.
#[cfg(feature = "rayon")]
pub(crate) fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    use rayon::prelude::*;
    // One photograph at a time: large ones are few, and no thread should hold a row of them.
    items.par_iter().with_max_len(1).map(f).collect()
}

/// `f` of every item, in the items' order; in parallel with feature `rayon`.
#[cfg(not(feature = "rayon"))]
pub(crate) fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    items.iter().map(f).collect()
}
