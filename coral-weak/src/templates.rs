use coral_core::{ClassId, Error, FeatureMap, Result, UNLABELED};
use ndarray::{Array2, Array3, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::FeatureCenter;
use crate::feature_rows::check_features;

/// One feature vector per class: what a patch of that class looks like on average. Classes without photographs have
/// none.
///
/// Serialised as a list with one vector, or null, per class.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::Templates;
/// let templates = Templates::new(vec![Some(vec![1.0, 0.0]), None, Some(vec![0.0, 2.0])])?;
/// assert_eq!((templates.num_classes(), templates.dim(), templates.get(1)), (3, 2, None));
/// let similarities = templates.cosine_similarities(array![[0.0, 5.0]].view())?;
/// assert_eq!(similarities, array![[0.0, f32::NEG_INFINITY, 1.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Option<Vec<f32>>>", into = "Vec<Option<Vec<f32>>>")]
pub struct Templates {
    vectors: Vec<Option<Vec<f32>>>,
    dim: usize,
}

impl Templates {
    /// Templates of the classes 0, 1, …; of any length, as only their direction counts.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there are more than 255 classes, no class has a template, one is empty or holds
    /// NaN or infinity; [`Error::ShapeMismatch`] when they differ in length.
    pub fn new(vectors: Vec<Option<Vec<f32>>>) -> Result<Self> {
        if vectors.len() > usize::from(UNLABELED) {
            let reason = format!("{} classes; expected at most {UNLABELED}", vectors.len());
            return Err(Error::input("templates", reason));
        }
        let Some(dim) = vectors.iter().flatten().map(Vec::len).next() else {
            return Err(Error::input("templates", "no class has one"));
        };
        for (class, vector) in vectors.iter().enumerate() {
            let Some(vector) = vector else { continue };
            if vector.len() != dim || dim == 0 {
                let expected = format!("{} values", dim.max(1));
                return Err(Error::shape(format!("template of class {class}"), expected, vector.len().to_string()));
            }
            if !vector.iter().all(|value| value.is_finite()) {
                return Err(Error::input("templates", format!("that of class {class} holds NaN or infinity")));
            }
        }
        Ok(Self { vectors, dim })
    }

    /// How many classes there are, C, with or without template.
    pub fn num_classes(&self) -> usize {
        self.vectors.len()
    }

    /// Values per template, D.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The D values of a class; `None` when it has no template or does not exist.
    pub fn get(&self, class: ClassId) -> Option<&[f32]> {
        self.vectors.get(usize::from(class))?.as_deref()
    }

    /// The cosine of the angle between each of N feature vectors (N×D) and each template: N×C, −1..=1.
    ///
    /// `-inf` for classes without template, 0 where a vector is zero.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when D differs, [`Error::InvalidInput`] for NaN or infinity.
    pub fn cosine_similarities(&self, features: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        if features.ncols() != self.dim {
            let actual = format!("{} values per feature vector", features.ncols());
            return Err(Error::shape("features", format!("{} values, as the templates", self.dim), actual));
        }
        let norms: Vec<_> = self.vectors.iter().map(|vector| vector.as_deref().map(norm)).collect();
        let mut similarities = Array2::from_elem((features.nrows(), self.num_classes()), f32::NEG_INFINITY);
        let features = features.as_standard_layout();
        for (index, (feature, mut similarities)) in features.outer_iter().zip(similarities.outer_iter_mut()).enumerate()
        {
            let feature = feature.to_slice().unwrap_or_default();
            let length = norm(feature);
            if !length.is_finite() {
                return Err(Error::input("features", format!("vector {index} holds NaN or infinity")));
            }
            for ((similarity, vector), norm) in similarities.iter_mut().zip(&self.vectors).zip(&norms) {
                if let (Some(vector), Some(norm)) = (vector, norm) {
                    let both = length * norm;
                    let cosine = if both > 0.0 { dot(feature, vector) / both } else { 0.0 };
                    *similarity = cosine.clamp(-1.0, 1.0) as f32;
                }
            }
        }
        Ok(similarities)
    }

    /// The cosines of every cell of a D×h×w map: C×h×w, by the rules of [`Templates::cosine_similarities`].
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when D differs; [`Error::InvalidInput`] for NaN, infinity, or a map without cells.
    pub fn map_similarities(&self, features: &FeatureMap) -> Result<Array3<f32>> {
        let (_, height, width) = features.data.dim();
        let similarities = self.cosine_similarities(cell_features(features)?.view())?;
        Ok(Array3::from_shape_fn((self.num_classes(), height, width), |(class, y, x)| {
            similarities[[y * width + x, class]]
        }))
    }
}

impl TryFrom<Vec<Option<Vec<f32>>>> for Templates {
    type Error = Error;

    fn try_from(vectors: Vec<Option<Vec<f32>>>) -> Result<Self> {
        Self::new(vectors)
    }
}

impl From<Templates> for Vec<Option<Vec<f32>>> {
    fn from(templates: Templates) -> Self {
        templates.vectors
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn norm(vector: &[f32]) -> f64 {
    dot(vector, vector).sqrt()
}

/// The feature vectors of all cells, row by row: (h·w)×D.
pub(crate) fn cell_features(features: &FeatureMap) -> Result<Array2<f32>> {
    check_features(features)?;
    let (dim, height, width) = features.data.dim();
    Ok(Array2::from_shape_fn((height * width, dim), |(cell, d)| features.data[[d, cell / width, cell % width]]))
}

/// Collects the [`Templates`] of classes from photographs with one label each ("bundling"): the mean of the
/// L2-normalised feature vectors of all cells of all photographs of a class.
///
/// Holds C×D sums: memory does not grow with the photographs. Parts of a set can be bundled apart and merged.
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, Size, ndarray::array};
/// use coral_weak::TemplateBundler;
/// let mut bundler = TemplateBundler::new(2, 2)?;
/// let data = array![[[3.0, 0.0]], [[0.0, 0.5]]];
/// bundler.add(&FeatureMap { data, image_size: Size { width: 8, height: 4 } }, 1)?;
/// assert_eq!(bundler.finish()?.get(1), Some(&[0.5, 0.5][..]));
/// assert_eq!(bundler.photographs(), [0, 1]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024. Equal to its program to
/// 1e-6.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateBundler {
    /// C×D.
    sums: Array2<f64>,
    vectors: Vec<u64>,
    photographs: Vec<u64>,
}

impl TemplateBundler {
    /// A bundler for `num_classes` classes and features of `dim` values.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when one of them is 0 or there are more than 255 classes.
    pub fn new(num_classes: usize, dim: usize) -> Result<Self> {
        if !(1..=usize::from(UNLABELED)).contains(&num_classes) {
            let reason = format!("expected 1 to {UNLABELED} classes, got {num_classes}");
            return Err(Error::parameter("num_classes", reason));
        }
        if dim == 0 {
            return Err(Error::parameter("dim", "expected at least one value per feature vector, got 0"));
        }
        let sums = Array2::zeros((num_classes, dim));
        Ok(Self { sums, vectors: vec![0; num_classes], photographs: vec![0; num_classes] })
    }

    /// Adds every cell of a photograph of `class`. On an error nothing was added.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] for a class past the last, [`Error::ShapeMismatch`] for features of another length,
    /// [`Error::InvalidInput`] for NaN, infinity, or a map without cells.
    pub fn add(&mut self, features: &FeatureMap, class: ClassId) -> Result<()> {
        self.add_vectors(cell_features(features)?.view(), class)
    }

    /// Adds the N×D feature vectors of the patches of one photograph of `class`. On an error nothing was added.
    ///
    /// # Errors
    /// As [`TemplateBundler::add`].
    pub fn add_vectors(&mut self, features: ArrayView2<'_, f32>, class: ClassId) -> Result<()> {
        let (classes, dim) = self.sums.dim();
        let index = usize::from(class);
        if index >= classes {
            return Err(Error::UnknownClass { class: class.to_string(), expected: format!("0 to {}", classes - 1) });
        }
        if features.ncols() != dim {
            return Err(Error::shape("features", format!("{dim} values per vector"), features.ncols().to_string()));
        }
        if features.nrows() == 0 {
            return Err(Error::input("features", "expected at least one vector, got none"));
        }
        let mut sum = vec![0.0f64; dim];
        for (row, feature) in features.outer_iter().enumerate() {
            let length = feature.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            if !length.is_finite() {
                return Err(Error::input("features", format!("vector {row} holds NaN or infinity")));
            }
            if length > 0.0 {
                sum.iter_mut().zip(feature).for_each(|(sum, &value)| *sum += f64::from(value) / length);
            }
        }
        self.sums.row_mut(index).iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
        self.vectors[index] += features.nrows() as u64;
        self.photographs[index] += 1;
        Ok(())
    }

    /// Adds everything that `other` has seen.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `other` has another number of classes or values.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let shape = |bundler: &Self| format!("{}x{} (classes, values)", bundler.sums.nrows(), bundler.sums.ncols());
        if self.sums.dim() != other.sums.dim() {
            return Err(Error::shape("bundler", shape(self), shape(other)));
        }
        self.sums += &other.sums;
        self.vectors.iter_mut().zip(&other.vectors).for_each(|(total, count)| *total += count);
        self.photographs.iter_mut().zip(&other.photographs).for_each(|(total, count)| *total += count);
        Ok(())
    }

    /// How many photographs of each class were added.
    pub fn photographs(&self) -> &[u64] {
        &self.photographs
    }

    /// The means.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when nothing was added.
    pub fn finish(&self) -> Result<Templates> {
        Templates::new(self.means())
    }

    /// The mean of the L2-normalised feature vectors of all cells of all photographs, whatever their class.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when nothing was added.
    pub fn center(&self) -> Result<FeatureCenter> {
        let all = mean(self.sums.sum_axis(Axis(0)).view(), self.vectors.iter().sum());
        FeatureCenter::new(all.ok_or_else(|| Error::input("features", "expected at least one map, got none"))?)
    }

    /// The mean of each class that has vectors.
    pub(crate) fn means(&self) -> Vec<Option<Vec<f32>>> {
        self.sums.outer_iter().zip(&self.vectors).map(|(sum, &count)| mean(sum, count)).collect()
    }
}

fn mean(sum: ArrayView1<'_, f64>, count: u64) -> Option<Vec<f32>> {
    (count > 0).then(|| sum.iter().map(|sum| (sum / count as f64) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::{SeededRng, Size};
    use ndarray::array;
    use proptest::prelude::*;

    fn map(data: Array3<f32>) -> FeatureMap {
        FeatureMap { data, image_size: Size { width: 20, height: 10 } }
    }

    #[test]
    fn misfits_are_named() {
        let text = |vectors| Templates::new(vectors).unwrap_err().to_string();
        assert!(text(vec![None, None]).contains("no class has one"));
        assert_eq!(text(vec![Some(vec![1.0]), Some(vec![])]), "template of class 1: expected shape 1 values, got 0");
        assert!(text(vec![Some(vec![])]).contains("class 0"));
        assert!(text(vec![None, Some(vec![f32::NAN])]).contains("class 1 holds NaN"));
        assert!(text(vec![Some(vec![1.0]); 256]).contains("256 classes"));
        let templates = Templates::new(vec![Some(vec![1.0, 2.0])]).unwrap();
        assert!(templates.cosine_similarities(Array2::zeros((1, 3)).view()).is_err());
        assert!(templates.cosine_similarities(array![[1.0, f32::NAN]].view()).is_err());
        assert!(templates.map_similarities(&map(Array3::zeros((2, 0, 4)))).is_err());
        assert_eq!(templates.cosine_similarities(array![[0.0, 0.0]].view()).unwrap(), array![[0.0]]);
        assert_eq!(templates.cosine_similarities(Array2::zeros((0, 2)).view()).unwrap().dim(), (0, 1));
    }

    #[test]
    fn a_refused_photograph_adds_nothing() {
        let mut bundler = TemplateBundler::new(2, 2).unwrap();
        bundler.add(&map(array![[[1.0]], [[0.0]]]), 0).unwrap();
        let before = bundler.clone();
        let text = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(text(bundler.add(&map(Array3::ones((2, 1, 1))), 2)), "unknown class `2`: expected 0 to 1");
        assert!(text(bundler.add(&map(Array3::ones((3, 1, 1))), 0)).contains("expected shape 2 values"));
        assert!(text(bundler.add(&map(array![[[1.0, f32::NAN]], [[0.0, 0.0]]]), 0)).contains("NaN"));
        assert!(text(bundler.add_vectors(array![[1.0, 0.0], [f32::INFINITY, 0.0]].view(), 0)).contains("vector 1"));
        assert!(bundler.merge(&TemplateBundler::new(3, 2).unwrap()).is_err());
        assert_eq!(bundler, before);
        assert!(TemplateBundler::new(0, 2).is_err() && TemplateBundler::new(256, 2).is_err());
        let empty = TemplateBundler::new(2, 2).unwrap();
        assert!(TemplateBundler::new(2, 0).is_err() && empty.finish().is_err() && empty.center().is_err());
    }

    #[test]
    fn saved_templates_are_checked() {
        let templates = Templates::new(vec![None, Some(vec![0.5, -1.0])]).unwrap();
        let text = serde_json::to_string(&templates).unwrap();
        assert_eq!(text, "[null,[0.5,-1.0]]");
        assert_eq!(serde_json::from_str::<Templates>(&text).unwrap(), templates);
        for broken in ["[[1.0],[1.0,2.0]]", "[]", "[null]", "[[]]", "[[1e39]]", "[[null]]"] {
            assert!(serde_json::from_str::<Templates>(broken).is_err(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn merging_equals_concatenation_and_the_naive_mean(seed in 0u64..1000, cut in 0usize..6) {
            let mut rng = SeededRng::new(seed);
            let photographs: Vec<_> = (0..6).map(|i| {
                let data = Array3::from_shape_simple_fn((3, 1 + i % 2, 2), || rng.normal() as f32);
                (map(data), (i % 3) as ClassId)
            }).collect();
            let fed = |part: &[(FeatureMap, ClassId)]| {
                let mut bundler = TemplateBundler::new(4, 3).unwrap();
                part.iter().for_each(|(features, class)| bundler.add(features, *class).unwrap());
                bundler
            };
            let mut merged = fed(&photographs[..cut]);
            merged.merge(&fed(&photographs[cut..])).unwrap();
            let (merged, whole) = (merged.finish().unwrap(), fed(&photographs).finish().unwrap());
            prop_assert_eq!(whole.get(3), None);
            for class in 0..3u8 {
                let mut naive = [0.0f32; 3];
                let mut count = 0.0f32;
                for (features, _) in photographs.iter().filter(|(_, label)| *label == class) {
                    for lane in features.data.lanes(ndarray::Axis(0)) {
                        let length = lane.dot(&lane).sqrt();
                        (0..3).for_each(|d| naive[d] += lane[d] / length);
                        count += 1.0;
                    }
                }
                for (d, naive) in naive.into_iter().enumerate() {
                    let (merged, whole) = (merged.get(class).unwrap()[d], whole.get(class).unwrap()[d]);
                    prop_assert!((merged - whole).abs() < 1e-6 && (whole - naive / count).abs() < 1e-5);
                }
            }
        }
    }
}
