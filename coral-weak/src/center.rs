use coral_core::{CellLabeler, ClassId, Error, FeatureMap, LabelMap, Result};
use serde::{Deserialize, Serialize};

use crate::TemplateBundler;
use crate::feature_rows::check_features;

/// What the features of many photographs have in common.
///
/// Features of networks whose last operation is ReLU all point into one corner, where cosines tell little; with
/// the mean of all taken off, they point apart.
///
/// Serialised as the list of its values.
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, Size, ndarray::array};
/// use coral_weak::FeatureCenter;
/// let image_size = Size { width: 20, height: 10 };
/// let map = FeatureMap { data: array![[[4.0, 0.6]], [[0.0, 0.8]]], image_size };
/// let center = FeatureCenter::of([&map])?;
/// let centered = center.apply(&map)?;
/// assert!((centered.data[[0, 0, 0]] - 0.2).abs() < 1e-6); // 1 - (1 + 0.6) / 2
/// assert!((centered.data[[1, 0, 1]] - 0.4).abs() < 1e-6); // 0.8 - (0 + 0.8) / 2
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f32>", into = "Vec<f32>")]
pub struct FeatureCenter {
    values: Vec<f32>,
}

impl FeatureCenter {
    /// A centre of D values.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is no value, or one is NaN or infinite.
    pub fn new(values: Vec<f32>) -> Result<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return Err(Error::input("center", "is empty or holds NaN or infinity"));
        }
        Ok(Self { values })
    }

    /// The mean of the L2-normalised features of all cells of D×h×w maps. [`TemplateBundler::center`] gives that of
    /// maps that need not be in memory together.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is no map, or one has no cell or holds NaN or infinity;
    /// [`Error::ShapeMismatch`] when they differ in length.
    pub fn of<'a>(maps: impl IntoIterator<Item = &'a FeatureMap>) -> Result<Self> {
        let mut maps = maps.into_iter().peekable();
        let dim = maps.peek().map_or(1, |map| map.dim().max(1));
        let mut bundler = TemplateBundler::new(1, dim)?;
        maps.try_for_each(|map| bundler.add(map, 0))?;
        bundler.center()
    }

    /// The D values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The L2-normalised features of every cell less the centre, D×h×w as they came.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for features of another length; [`Error::InvalidInput`] for NaN, infinity, or a map
    /// without cells.
    pub fn apply(&self, map: &FeatureMap) -> Result<FeatureMap> {
        check_features(map)?;
        let (dim, height, width) = map.data.dim();
        if dim != self.values.len() {
            return Err(Error::shape("features", format!("{} values per cell", self.values.len()), dim.to_string()));
        }
        let mut data = map.data.clone();
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let inverse = inverse_length(map, (y, x));
            for (d, center) in self.values.iter().enumerate() {
                data[[d, y, x]] = (f64::from(map.data[[d, y, x]]) * inverse) as f32 - center;
            }
        }
        Ok(FeatureMap { data, image_size: map.image_size })
    }
}

impl TryFrom<Vec<f32>> for FeatureCenter {
    type Error = Error;

    fn try_from(values: Vec<f32>) -> Result<Self> {
        Self::new(values)
    }
}

impl From<FeatureCenter> for Vec<f32> {
    fn from(center: FeatureCenter) -> Self {
        center.values
    }
}

/// One over the length of a cell's features; 0 for features of zeros.
fn inverse_length(map: &FeatureMap, (y, x): (usize, usize)) -> f64 {
    let square: f64 = (0..map.dim()).map(|d| f64::from(map.data[[d, y, x]]).powi(2)).sum();
    if square > 0.0 { square.sqrt().recip() } else { 0.0 }
}

/// Labels cells by their centred features: an h×w label map for D×h×w features, as `labeler` gives it for what
/// [`FeatureCenter::apply`] leaves of them.
#[derive(Debug, Clone)]
pub struct Centered<L> {
    /// What is taken off.
    pub center: FeatureCenter,
    /// Gets what remains.
    pub labeler: L,
}

impl<L: CellLabeler> CellLabeler for Centered<L> {
    fn label_cells(&self, features: &FeatureMap, class: ClassId) -> Result<LabelMap> {
        self.labeler.label_cells(&self.center.apply(features)?, class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::Size;
    use ndarray::{Array3, array};

    fn map(data: Array3<f32>) -> FeatureMap {
        FeatureMap { data, image_size: Size { width: 20, height: 10 } }
    }

    #[test]
    fn the_mean_of_centred_features_is_zero() {
        let maps = [map(array![[[3.0, 1.0, 0.0]], [[4.0, 1.0, 2.0]]]), map(array![[[5.0]], [[0.0]]])];
        let center = FeatureCenter::of(&maps).unwrap();
        let centered: Vec<_> = maps.iter().map(|map| center.apply(map).unwrap()).collect();
        for d in 0..2 {
            let sum: f32 = centered.iter().map(|map| map.data.index_axis(ndarray::Axis(0), d).sum()).sum();
            assert!(sum.abs() < 1e-5, "{sum}");
        }
    }

    #[test]
    fn misfits_are_named() {
        let (two, three) = (map(Array3::ones((2, 1, 1))), map(Array3::ones((3, 1, 1))));
        assert!(FeatureCenter::of([]).unwrap_err().to_string().contains("at least one map"));
        let text = FeatureCenter::of([&two, &three]).unwrap_err().to_string();
        assert_eq!(text, "features: expected shape 2 values per vector, got 3");
        let text = FeatureCenter::of([&two]).unwrap().apply(&three).unwrap_err().to_string();
        assert_eq!(text, "features: expected shape 2 values per cell, got 3");
        assert!(FeatureCenter::of([&map(array![[[f32::NAN]]])]).is_err());
        assert!(FeatureCenter::of([&map(Array3::ones((0, 1, 1)))]).is_err());
    }

    #[test]
    fn saved_centres_are_checked() {
        let center = FeatureCenter::new(vec![0.5, -1.0]).unwrap();
        let text = serde_json::to_string(&center).unwrap();
        assert_eq!(text, "[0.5,-1.0]");
        assert_eq!(serde_json::from_str::<FeatureCenter>(&text).unwrap(), center);
        assert!(FeatureCenter::new(vec![f32::NAN]).is_err());
        for broken in ["[]", "[1e39]", "[null]"] {
            assert!(serde_json::from_str::<FeatureCenter>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_bundlers_centre_is_that_of_all_cells() {
        let maps = [map(array![[[3.0, 1.0, 0.0]], [[4.0, 1.0, 2.0]]]), map(array![[[5.0]], [[0.0]]])];
        let mut bundler = TemplateBundler::new(3, 2).unwrap();
        bundler.add(&maps[0], 2).unwrap();
        bundler.add(&maps[1], 0).unwrap();
        let root = 0.5f32.sqrt();
        let expected = [(0.6 + root + 0.0 + 1.0) / 4.0, (0.8 + root + 1.0 + 0.0) / 4.0];
        let center = bundler.center().unwrap();
        assert!(center.values().iter().zip(expected).all(|(ours, expected)| (ours - expected).abs() < 1e-6));
        assert_eq!(center, FeatureCenter::of(&maps).unwrap());
    }
}
