use coral_core::{Error, Result, SeededRng};

/// The numbers 0..`len` in a random order, another one for every epoch.
///
/// # Examples
/// ```
/// use coral_models::epoch_order;
/// let first = epoch_order(5, 7, 0);
/// assert_eq!(first, epoch_order(5, 7, 0));
/// assert_ne!(first, epoch_order(5, 7, 1));
/// ```
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    SeededRng::stream(seed, epoch).shuffle(&mut order);
    order
}

/// `count` numbers of 0..`weights.len()`, each drawn with a probability in proportion to its weight, with repetition: with
/// one over its class's frequency as the weight of each sample, all classes come equally often.
///
/// # Errors
/// [`Error::InvalidParameter`] when a weight is negative or not finite, or all are 0.
///
/// # Examples
/// ```
/// use coral_models::weighted_order;
/// let order = weighted_order(&[1.0, 0.0, 3.0], 1000, 7)?;
/// let of = |index| order.iter().filter(|&&i| i == index).count();
/// assert_eq!(of(1), 0);
/// assert!((700..800).contains(&of(2)));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn weighted_order(weights: &[f64], count: usize, seed: u64) -> Result<Vec<usize>> {
    if let Some(bad) = weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
        return Err(Error::parameter("weights", format!("expected finite weights of at least 0, got {bad}")));
    }
    let mut total = 0.0;
    let ends: Vec<f64> = weights
        .iter()
        .map(|weight| {
            total += weight;
            total
        })
        .collect();
    let Some(last) = weights.iter().rposition(|&weight| weight > 0.0).filter(|_| total.is_finite()) else {
        return Err(Error::parameter("weights", format!("expected a positive and finite sum, got {total}")));
    };
    let mut random = SeededRng::new(seed);
    let mut draw = || {
        let at = random.uniform() * total;
        ends.partition_point(|&end| end <= at).min(last)
    };
    Ok((0..count).map(|_| draw()).collect())
}

/// The numbers 0..`len` in a random order, cut into batches; a last, smaller batch is dropped on demand (batch
/// normalisation cannot do with few samples).
///
/// # Errors
/// [`Error::InvalidParameter`] when `batch` is 0, or larger than `len` so that dropping would leave no batch.
///
/// # Examples
/// ```
/// use coral_models::batch_indices;
/// let sizes = |drop_last| -> coral_core::Result<Vec<usize>> {
///     Ok(batch_indices(7, 3, 1, drop_last)?.iter().map(Vec::len).collect())
/// };
/// assert_eq!(sizes(false)?, [3, 3, 1]);
/// assert_eq!(sizes(true)?, [3, 3]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn batch_indices(len: usize, batch: usize, seed: u64, drop_last: bool) -> Result<Vec<Vec<usize>>> {
    if batch == 0 {
        return Err(Error::parameter("batch", "expected at least 1 sample"));
    }
    if drop_last && len > 0 && batch > len {
        let reason = format!("expected at most the {len} samples, else nothing is left after dropping, got {batch}");
        return Err(Error::parameter("batch", reason));
    }
    let order = epoch_order(len, seed, 0);
    Ok(order.chunks(batch).filter(|chunk| !drop_last || chunk.len() == batch).map(<[_]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_visits_everything_once() {
        let mut all: Vec<usize> = batch_indices(23, 5, 9, false).unwrap().concat();
        assert_ne!(all, (0..23).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..23).collect::<Vec<_>>());
        assert!(batch_indices(0, 4, 1, true).unwrap().is_empty());
        assert!(batch_indices(4, 0, 1, false).is_err() && batch_indices(4, 5, 1, true).is_err());
        assert_eq!(batch_indices(4, 5, 1, false).unwrap().len(), 1);
    }

    #[test]
    fn weights_that_cannot_be_drawn_from_are_errors() {
        for weights in [&[][..], &[0.0, 0.0], &[1.0, -1.0], &[f64::NAN], &[f64::MAX, f64::MAX]] {
            assert!(weighted_order(weights, 3, 1).is_err(), "{weights:?}");
        }
        assert!(weighted_order(&[0.0, 2.0, 0.0], 50, 1).unwrap().iter().all(|&i| i == 1));
    }
}
