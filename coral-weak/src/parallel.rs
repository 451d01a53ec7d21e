//! The one place that knows whether there are threads. What is computed per task never depends on where tasks
//! begin, so results do not depend on the feature `rayon` or the number of cores.

/// Rows that one task works on: enough work to pay for starting a task, small enough
/// that a 512-pixel image still gives every core several.
pub(crate) const BAND_ROWS: usize = 32;

/// Calls `f(index, chunk)` for consecutive chunks of `len` items (the last may be
/// shorter), in parallel with feature `rayon`.
#[cfg(feature = "rayon")]
pub(crate) fn for_each_chunk<T: Send>(data: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Send + Sync) {
    use rayon::prelude::*;
    data.par_chunks_mut(len.max(1)).enumerate().for_each(|(index, chunk)| f(index, chunk));
}

/// Calls `f(index, chunk)` for consecutive chunks of `len` items (the last may be
/// shorter), in parallel with feature `rayon`.
#[cfg(not(feature = "rayon"))]
pub(crate) fn for_each_chunk<T: Send>(data: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Send + Sync) {
    data.chunks_mut(len.max(1)).enumerate().for_each(|(index, chunk)| f(index, chunk));
}

/// `f` of every item, in the items' order; in parallel with feature `rayon`.
#[cfg(feature = "rayon")]
pub(crate) fn map<T: Send, R: Send>(items: Vec<T>, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    use rayon::prelude::*;
    items.into_par_iter().map(f).collect()
}

/// `f` of every item, in the items' order; in parallel with feature `rayon`.
#[cfg(not(feature = "rayon"))]
pub(crate) fn map<T: Send, R: Send>(items: Vec<T>, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    items.into_iter().map(f).collect()
}

/// [`map`], while `here` runs on this thread.
#[cfg(feature = "rayon")]
pub(crate) fn map_beside<T: Send, R: Send, S>(
    items: Vec<T>,
    f: impl Fn(T) -> R + Sync + Send,
    here: impl FnOnce() -> S,
) -> (Vec<R>, S) {
    let mut results = Vec::new();
    let other = rayon::in_place_scope(|scope| {
        scope.spawn(|_| results = map(items, f));
        here()
    });
    (results, other)
}

/// [`map`], then `here`.
#[cfg(not(feature = "rayon"))]
pub(crate) fn map_beside<T: Send, R: Send, S>(
    items: Vec<T>,
    f: impl Fn(T) -> R + Sync + Send,
    here: impl FnOnce() -> S,
) -> (Vec<R>, S) {
    (map(items, f), here())
}
