use coral_core::{Error, Result};
use serde::Serialize;

/// How large things are: the usual numbers, in the unit of the sizes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SizeDistribution {
    /// How many were measured.
    pub count: u64,
    /// The smallest.
    pub min: f64,
    /// A quarter is smaller; between two sizes by linear interpolation, as are the next two.
    pub lower_quartile: f64,
    /// Half is smaller.
    pub median: f64,
    /// Three quarters are smaller.
    pub upper_quartile: f64,
    /// The largest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The geometric mean: sizes of colonies are closer to log-normal than to normal.
    pub geometric_mean: f64,
    /// How many fall into each bin, where bins were asked for.
    pub histogram: Option<SizeHistogram>,
}

/// How many sizes fall into each bin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SizeHistogram {
    /// The edges of the bins, ascending.
    pub edges: Vec<f64>,
    /// One count per bin, one fewer than edges. A bin holds its lower edge, the last one its upper edge too.
    pub counts: Vec<u64>,
    /// Sizes below the first edge.
    pub below: u64,
    /// Sizes above the last edge.
    pub above: u64,
}

impl SizeDistribution {
    /// The distribution of positive sizes, with a histogram unless `bin_edges` is empty; `None` of no sizes.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a size that is not positive and finite, [`Error::InvalidParameter`] for edges that
    /// are not finite, ascending and at least two.
    ///
    /// # Examples
    /// ```
    /// use coral_metrics::SizeDistribution;
    /// let sizes = SizeDistribution::new(&[1.0, 4.0, 16.0], &[0.0, 4.0, 10.0])?.unwrap();
    /// assert_eq!([sizes.lower_quartile, sizes.median, sizes.mean], [2.5, 4.0, 7.0]);
    /// assert!((sizes.geometric_mean - 4.0).abs() < 1e-12);
    /// let histogram = sizes.histogram.unwrap();
    /// assert_eq!((histogram.counts, histogram.above), (vec![1, 1], 1));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn new(sizes: &[f64], bin_edges: &[f64]) -> Result<Option<Self>> {
        check_edges(bin_edges)?;
        if let Some(at) = sizes.iter().position(|size| !(size.is_finite() && *size > 0.0)) {
            return Err(Error::input(format!("sizes[{at}]"), format!("expected a positive number, got {}", sizes[at])));
        }
        Ok(Self::of_checked(sizes.to_vec(), bin_edges))
    }

    /// The distribution of sizes known to be positive and edges known to be good.
    pub(crate) fn of_checked(mut sizes: Vec<f64>, bin_edges: &[f64]) -> Option<Self> {
        // Sorted sums do not depend on the order of the colonies.
        sizes.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (sizes.first()?, sizes.last()?);
        let count = sizes.len() as f64;
        Some(Self {
            count: sizes.len() as u64,
            min,
            lower_quartile: quantile(&sizes, 0.25),
            median: quantile(&sizes, 0.5),
            upper_quartile: quantile(&sizes, 0.75),
            max,
            mean: sizes.iter().sum::<f64>() / count,
            geometric_mean: (sizes.iter().map(|size| size.ln()).sum::<f64>() / count).exp(),
            histogram: (!bin_edges.is_empty()).then(|| histogram(&sizes, bin_edges)),
        })
    }
}

/// That there are no edges, or enough of them in order.
pub(crate) fn check_edges(edges: &[f64]) -> Result<()> {
    let ascending = edges.windows(2).all(|pair| pair[0] < pair[1]);
    if edges.len() == 1 || !ascending || edges.iter().any(|edge| !edge.is_finite()) {
        return Err(Error::parameter("bin_edges", format!("expected two or more ascending numbers, got {edges:?}")));
    }
    Ok(())
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (low, rest) = (position.floor() as usize, position.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * rest
}

fn histogram(sorted: &[f64], edges: &[f64]) -> SizeHistogram {
    let smaller = |edge: f64| sorted.partition_point(|&size| size < edge);
    let mut ends: Vec<usize> = edges.iter().map(|&edge| smaller(edge)).collect();
    let below = ends.first().copied().unwrap_or_default() as u64;
    if let (Some(end), Some(&edge)) = (ends.last_mut(), edges.last()) {
        *end = sorted.partition_point(|&size| size <= edge);
    }
    let above = (sorted.len() - ends.last().copied().unwrap_or_default()) as u64;
    let counts = ends.windows(2).map(|pair| (pair[1] - pair[0]) as u64).collect();
    SizeHistogram { edges: edges.to_vec(), counts, below, above }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of numpy 2: percentile with its default interpolation, and histogram.
    #[test]
    fn equal_to_numpy() {
        let sizes = [3.5, 120.0, 7.25, 7.25, 42.0, 1.0, 10.0, 55.5];
        let found = SizeDistribution::new(&sizes, &[1.0, 7.25, 42.0, 55.5]).unwrap().unwrap();
        assert_eq!((found.count, found.min, found.max), (8, 1.0, 120.0));
        assert_eq!([found.lower_quartile, found.median, found.upper_quartile], [6.3125, 8.625, 45.375]);
        assert!((found.mean - 30.8125).abs() < 1e-12);
        assert!((found.geometric_mean - 12.272511483137894).abs() < 1e-12);
        let histogram = found.histogram.unwrap();
        assert_eq!((histogram.counts, histogram.below, histogram.above), (vec![2, 3, 2], 0, 1));
    }

    #[test]
    fn one_size_is_all_quartiles() {
        let found = SizeDistribution::new(&[9.0], &[10.0, 11.0]).unwrap().unwrap();
        assert_eq!([found.min, found.lower_quartile, found.median, found.upper_quartile, found.max], [9.0; 5]);
        assert_eq!(found.histogram.unwrap().below, 1);
        assert_eq!(SizeDistribution::new(&[], &[]).unwrap(), None);
    }

    #[test]
    fn bad_sizes_and_edges_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let text = SizeDistribution::new(&[1.0, bad], &[]).unwrap_err().to_string();
            assert!(text.contains("sizes[1]`: expected a positive number"), "{text}");
        }
        for bad in [&[1.0][..], &[1.0, 1.0], &[2.0, 1.0], &[0.0, f64::NAN], &[0.0, f64::INFINITY]] {
            assert!(SizeDistribution::new(&[1.0], bad).unwrap_err().to_string().contains("ascending"));
        }
    }
}
