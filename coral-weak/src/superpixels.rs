use std::collections::HashMap;

use coral_core::{Error, Result, Size};
use ndarray::{Array2, ArrayView3};

/// A partition of an image into regions, numbered 0, 1, 2, … without gaps.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::Superpixels;
/// let regions = Superpixels::from_labels(array![[8, 8, 3], [8, 3, 3]])?;
/// assert_eq!(regions.labels(), array![[0, 0, 1], [0, 1, 1]]);
/// assert_eq!(regions.count(), 2);
/// assert_eq!(regions.sizes(), [3, 3]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superpixels {
    labels: Array2<u32>,
    count: u32,
}

/// Two superpixels that touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Adjacency {
    /// The superpixel with the smaller number.
    pub first: u32,
    /// The superpixel with the larger number.
    pub second: u32,
    /// The length of their common boundary: pairs of horizontal or vertical neighbour pixels.
    pub length: u32,
}

impl Superpixels {
    /// Regions of equal labels, H×W; renumbered in the order in which they first occur, row by row.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a map without pixels or with more than `u32::MAX`.
    pub fn from_labels(mut labels: Array2<u32>) -> Result<Self> {
        if labels.is_empty() || u32::try_from(labels.len()).is_err() {
            let reason = format!("expected 1 to {} pixels, got {}", u32::MAX, labels.len());
            return Err(Error::input("labels", reason));
        }
        let mut numbers = HashMap::new();
        // Neighbours are mostly equal: remember the last one before asking the table.
        let mut last = None;
        for label in &mut labels {
            let number = match last {
                Some((old, number)) if old == *label => number,
                _ => {
                    let next = numbers.len() as u32;
                    *numbers.entry(*label).or_insert(next)
                }
            };
            last = Some((*label, number));
            *label = number;
        }
        Ok(Self { count: numbers.len() as u32, labels })
    }

    /// Labels that are known to be 0..`count`, all of them used.
    pub(crate) fn from_consecutive(labels: Array2<u32>, count: u32) -> Self {
        Self { labels, count }
    }

    /// The superpixel of every pixel, H×W, values 0..`count`.
    pub fn labels(&self) -> &Array2<u32> {
        &self.labels
    }

    /// How many superpixels there are, at least 1.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The size of the image.
    pub fn size(&self) -> Size {
        Size::of_map(&self.labels)
    }

    /// The number of pixels of every superpixel.
    pub fn sizes(&self) -> Vec<u32> {
        let mut sizes = vec![0; self.count as usize];
        self.labels.iter().for_each(|&label| sizes[label as usize] += 1);
        sizes
    }

    /// The mean position `[x, y]` of every superpixel, in pixels.
    pub fn centroids(&self) -> Vec<[f32; 2]> {
        let mut sums = vec![(0.0f64, 0.0f64, 0.0f64); self.count as usize];
        for ((y, x), &label) in self.labels.indexed_iter() {
            let sum = &mut sums[label as usize];
            *sum = (sum.0 + x as f64, sum.1 + y as f64, sum.2 + 1.0);
        }
        sums.into_iter().map(|(x, y, n)| [(x / n) as f32, (y / n) as f32]).collect()
    }

    /// The mean of every superpixel over each of C planes: C×H×W to count×C.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the planes are not as large as the labels.
    ///
    /// # Examples
    /// ```
    /// use coral_core::ndarray::array;
    /// use coral_weak::Superpixels;
    /// let regions = Superpixels::from_labels(array![[0, 0, 1]])?;
    /// let values = array![[[1.0, 3.0, 7.0]], [[0.0, 1.0, 0.0]]];
    /// assert_eq!(regions.means(values.view())?, array![[2.0, 0.5], [7.0, 0.0]]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn means(&self, values: ArrayView3<'_, f32>) -> Result<Array2<f32>> {
        let (channels, height, width) = values.dim();
        self.size().expect("values", Size { width: width as u32, height: height as u32 })?;
        let sizes = self.sizes();
        let mut means = Array2::zeros((self.count as usize, channels));
        for (plane, mut column) in values.outer_iter().zip(means.columns_mut()) {
            let mut sums = vec![0.0f64; sizes.len()];
            for (&value, &label) in plane.iter().zip(&self.labels) {
                sums[label as usize] += f64::from(value);
            }
            for ((mean, sum), &size) in column.iter_mut().zip(sums).zip(&sizes) {
                *mean = (sum / f64::from(size)) as f32;
            }
        }
        Ok(means)
    }

    /// Every pair of superpixels that touch horizontally or vertically, ascending.
    ///
    /// # Examples
    /// ```
    /// use coral_core::ndarray::array;
    /// use coral_weak::{Adjacency, Superpixels};
    /// let regions = Superpixels::from_labels(array![[0, 0, 1], [2, 2, 1]])?;
    /// let pairs: Vec<_> = regions.adjacency().iter().map(|p| (p.first, p.second, p.length)).collect();
    /// assert_eq!(pairs, [(0, 1, 1), (0, 2, 2), (1, 2, 1)]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn adjacency(&self) -> Vec<Adjacency> {
        touching_pairs(&self.labels, |_, _| true)
    }
}

/// The touching pairs of labels that `wanted` accepts, ascending.
pub(crate) fn touching_pairs(labels: &Array2<u32>, wanted: impl Fn(u32, u32) -> bool) -> Vec<Adjacency> {
    let mut keys = Vec::new();
    let mut touch = |a: u32, b: u32| {
        if a != b && wanted(a, b) {
            keys.push(u64::from(a.min(b)) << 32 | u64::from(a.max(b)));
        }
    };
    let mut above: Option<ndarray::ArrayView1<'_, u32>> = None;
    for row in labels.rows() {
        row.iter().zip(row.iter().skip(1)).for_each(|(&a, &b)| touch(a, b));
        if let Some(above) = above {
            row.iter().zip(above).for_each(|(&a, &b)| touch(a, b));
        }
        above = Some(row);
    }
    keys.sort_unstable();
    let pair =
        |run: &[u64]| Adjacency { first: (run[0] >> 32) as u32, second: run[0] as u32, length: run.len() as u32 };
    keys.chunk_by(|a, b| a == b).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, array};

    #[test]
    fn empty_maps_and_wrong_shapes_are_refused() {
        let error = Superpixels::from_labels(Array2::zeros((0, 4))).unwrap_err().to_string();
        assert!(error.contains("expected 1 to 4294967295 pixels, got 0"), "{error}");
        let regions = Superpixels::from_labels(array![[1, 2]]).unwrap();
        let error = regions.means(Array3::zeros((1, 2, 1)).view()).unwrap_err().to_string();
        assert_eq!(error, "values: expected shape 2x1, got 1x2");
    }

    #[test]
    fn any_labels_become_consecutive() {
        let regions = Superpixels::from_labels(array![[u32::MAX, 7], [7, 0], [u32::MAX, 0]]).unwrap();
        assert_eq!(regions.labels(), array![[0, 1], [1, 2], [0, 2]]);
        assert_eq!(regions.centroids(), [[0.0, 1.0], [0.5, 0.5], [1.0, 1.5]]);
        assert_eq!(regions.adjacency().iter().map(|p| p.length).sum::<u32>(), 6);
    }

    #[test]
    fn means_of_large_planes_stay_exact() {
        let labels = Array2::from_shape_fn((300, 400), |(y, _)| (y / 150) as u32);
        let values = Array3::from_elem((1, 300, 400), 0.1f32);
        let means = Superpixels::from_labels(labels).unwrap().means(values.view()).unwrap();
        assert_eq!(means, array![[0.1], [0.1]]);
    }
}
