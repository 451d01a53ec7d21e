use coral_core::image::RgbImage;
use coral_core::{CoarseMap, Error, PatchClassifier, Rect, Result};
use ndarray::{Array2, ArrayViewMut1, s};
use serde::{Deserialize, Serialize};

use crate::coarse_inference::check_probabilities;
use crate::photographs::of_named;
use crate::softmax::softmax;

/// Over what logits get mean 0 and standard deviation 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standardization {
    /// Over the classes of each patch: its result does not depend on other patches.
    #[default]
    PerPatch,
    /// Over all patches and classes at once, as the evaluation program of the paper does it. What a patch gets
    /// depends on its neighbours.
    WholeBatch,
}

/// Values whose standard deviation is below this share of their size differ by rounding only.
const FLAT: f64 = 1e-6;

/// Brings N×C logits to mean 0 and (unbiased) standard deviation 1, so that networks of different temperament can be
/// averaged. Logits that are all equal become 0: no opinion.
///
/// # Errors
/// [`Error::InvalidInput`] for NaN or infinity.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::{Standardization, standardize_logits};
/// let logits = array![[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]];
/// let standardized = standardize_logits(&logits, Standardization::PerPatch)?;
/// assert_eq!(standardized, array![[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024. Equal to its programs
/// to 1e-5.
pub fn standardize_logits(logits: &Array2<f32>, over: Standardization) -> Result<Array2<f32>> {
    if let Some(((patch, class), value)) = logits.indexed_iter().find(|(_, value)| !value.is_finite()) {
        let reason = format!("expected numbers, got {value} for class {class} of patch {patch}");
        return Err(Error::input("logits", reason));
    }
    let mut logits = logits.as_standard_layout().into_owned();
    match over {
        Standardization::PerPatch => logits.outer_iter_mut().for_each(standardize),
        Standardization::WholeBatch => {
            let values = logits.len();
            if let Ok(all) = logits.view_mut().into_shape_with_order(values) {
                standardize(all);
            }
        }
    }
    Ok(logits)
}

fn standardize(mut values: ArrayViewMut1<'_, f32>) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let largest = values.iter().fold(0.0f64, |largest, &value| largest.max(f64::from(value).abs()));
    let deviation = variance.sqrt();
    // One value alone has no deviation: NaN, which is not above anything.
    let varies = deviation > FLAT * largest;
    values.mapv_inplace(|value| if varies { ((f64::from(value) - mean) / deviation) as f32 } else { 0.0 });
}

/// Probabilities from the N×C logits of several networks: standardised, averaged, softmax.
///
/// # Errors
/// [`Error::InvalidInput`] for no logits, NaN or infinity; [`Error::ShapeMismatch`] when shapes differ.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::{Standardization, ensemble_probabilities};
/// let (cautious, bold) = (array![[0.1, 0.0]], array![[0.0, 9.0]]);
/// let probabilities = ensemble_probabilities(&[cautious, bold], Standardization::PerPatch)?;
/// assert_eq!(probabilities, array![[0.5, 0.5]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024. Equal to its programs
/// to 1e-5.
pub fn ensemble_probabilities(logits: &[Array2<f32>], over: Standardization) -> Result<Array2<f32>> {
    let [first, ..] = logits else {
        return Err(Error::input("logits", "those of at least one network are needed, got none"));
    };
    let shape = |logits: &Array2<f32>| format!("{}x{}", logits.nrows(), logits.ncols());
    let mut sum = Array2::zeros(first.dim());
    for (index, logits) in logits.iter().enumerate() {
        if logits.dim() != first.dim() {
            return Err(Error::shape(format!("logits of network {index}"), shape(first), shape(logits)));
        }
        sum += &standardize_logits(logits, over)?;
    }
    sum /= logits.len() as f32;
    sum.outer_iter_mut().for_each(softmax);
    Ok(sum)
}

/// Logarithms of probabilities, which are logits up to a constant per patch. Probabilities of 0, or below by rounding,
/// count as the smallest normal number, e^−87.
fn log_probabilities(of: &str, probabilities: &Array2<f32>) -> Result<Array2<f32>> {
    // `max` takes the other number for NaN, and infinity would come out finite.
    if let Some(((patch, class), p)) = probabilities.indexed_iter().find(|(_, p)| !p.is_finite()) {
        let reason = format!("expected probabilities, got {p} for class {class} of patch {patch}");
        return Err(Error::input(of, reason));
    }
    Ok(probabilities.mapv(|p| p.max(f32::MIN_POSITIVE).ln()))
}

/// Several classifiers of patches as one ([`ensemble_probabilities`]).
///
/// Members answer with probabilities; their logarithms are their logits up to a constant per patch, which
/// [`Standardization::PerPatch`] removes. [`Standardization::WholeBatch`] does not, so with it the result is not what
/// the logits themselves would give; use [`ensemble_probabilities`] on logits to reproduce the paper's evaluation.
///
/// [`Ensemble`](crate::Ensemble) is its counterpart for classes of pixels, which can only be voted on.
///
/// # Examples
/// ```
/// use coral_core::{PatchClassifier, image::RgbImage, ndarray::array};
/// use coral_weak::{ConstantClassifier, PatchEnsemble, Standardization};
/// let members: Vec<Box<dyn PatchClassifier>> =
///     vec![Box::new(ConstantClassifier::new(0, 2)?), Box::new(ConstantClassifier::new(1, 2)?)];
/// let ensemble = PatchEnsemble::new(members, Standardization::PerPatch)?;
/// assert_eq!(ensemble.classify(&[RgbImage::new(4, 4)])?, array![[0.5, 0.5]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PatchEnsemble<T> {
    members: Vec<T>,
    over: Standardization,
}

impl<T: PatchClassifier> PatchEnsemble<T> {
    /// An ensemble of `members`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there is no member; [`Error::ShapeMismatch`] when they differ in their
    /// classes.
    pub fn new(members: Vec<T>, over: Standardization) -> Result<Self> {
        let [first, others @ ..] = &members[..] else {
            return Err(Error::parameter("members", "at least one is needed, got none"));
        };
        let classes = first.num_classes();
        if let Some(at) = others.iter().position(|other| other.num_classes() != classes) {
            let (expected, actual) = (format!("{classes} classes"), others[at].num_classes().to_string());
            return Err(Error::shape(format!("member {}", at + 1), expected, actual));
        }
        Ok(Self { members, over })
    }

    /// The members.
    pub fn members(&self) -> &[T] {
        &self.members
    }
}

impl<T: PatchClassifier> PatchClassifier for PatchEnsemble<T> {
    fn num_classes(&self) -> usize {
        self.members.first().map_or(0, PatchClassifier::num_classes)
    }

    fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        let logits = |(index, member): (usize, &T)| {
            let probabilities = member.classify(patches)?;
            let name = format!("member {index}");
            check_probabilities(&probabilities, patches.len(), self.num_classes())
                .map_err(|error| of_named(&name, error))?;
            log_probabilities(&name, &probabilities)
        };
        // One after the other: each member is parallel itself.
        ensemble_probabilities(&self.members.iter().enumerate().map(logits).collect::<Result<Vec<_>>>()?, self.over)
    }
}

/// Several coarse maps of a photograph as one, on the patches of the first: each map's probabilities, averaged over
/// what it says about a patch's area ([`resample_map`]), are combined as those of a [`PatchEnsemble`].
///
/// # Errors
/// [`Error::InvalidInput`] without maps, or for NaN or infinity in one; [`Error::ShapeMismatch`] when they differ in
/// classes or in the photograph's size; those of [`resample_map`].
pub fn ensemble_map(maps: &[CoarseMap], over: Standardization) -> Result<CoarseMap> {
    let [first, ..] = maps else {
        return Err(Error::input("maps", "at least one is needed, got none"));
    };
    let (classes, _, columns) = first.probabilities.dim();
    let mut logits = Vec::with_capacity(maps.len());
    for (index, map) in maps.iter().enumerate() {
        first.image_size.expect(&format!("photograph of map {index}"), map.image_size)?;
        if map.probabilities.dim().0 != classes {
            let (expected, actual) = (format!("{classes} classes"), map.probabilities.dim().0.to_string());
            return Err(Error::shape(format!("map {index}"), expected, actual));
        }
        let probabilities =
            if map.patches == first.patches { per_patch(map) } else { resample_map(map, &first.patches)? };
        logits.push(log_probabilities(&format!("map {index}"), &probabilities)?);
    }
    let combined = ensemble_probabilities(&logits, over)?;
    let mut result = first.clone();
    for (patch, row) in combined.outer_iter().enumerate() {
        result.probabilities.slice_mut(s![.., patch / columns, patch % columns]).assign(&row);
    }
    Ok(result)
}

/// The probabilities as N×C rows, one per patch.
fn per_patch(map: &CoarseMap) -> Array2<f32> {
    let (classes, _, columns) = map.probabilities.dim();
    let at = |(patch, class)| map.probabilities[[class, patch / columns, patch % columns]];
    Array2::from_shape_fn((map.patches.len(), classes), at)
}

/// What a coarse map says about other patches of its photograph: N×C probabilities, the mean over the map's patches
/// weighted by the area that they share with the new one.
///
/// # Errors
/// [`Error::InvalidInput`] for a patch that shares no pixel with the map's.
///
/// # Examples
/// ```
/// use coral_core::{CoarseMap, Rect, Size, ndarray::{arr3, array}};
/// use coral_weak::resample_map;
/// let column = |x, width| Rect { x, y: 0, width, height: 2 };
/// let probabilities = arr3(&[[[1.0, 0.0]], [[0.0, 1.0]]]);
/// let map = CoarseMap::new(probabilities, vec![column(0, 4), column(4, 4)], Size { width: 8, height: 2 })?;
/// assert_eq!(resample_map(&map, &[column(1, 4)])?, array![[0.75, 0.25]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn resample_map(map: &CoarseMap, patches: &[Rect]) -> Result<Array2<f32>> {
    let given = per_patch(map);
    let mut result = Array2::zeros((patches.len(), given.ncols()));
    for (&patch, mut mean) in patches.iter().zip(result.outer_iter_mut()) {
        let shared = |&other: &Rect| patch.intersection(other).map_or(0, Rect::area) as f64;
        let areas: Vec<f64> = map.patches.iter().map(shared).collect();
        let total: f64 = areas.iter().sum();
        if total == 0.0 {
            return Err(Error::input("patches", format!("{patch:?} shares no pixel with the map")));
        }
        for (area, given) in areas.iter().zip(given.outer_iter()).filter(|(area, _)| **area > 0.0) {
            mean.scaled_add((area / total) as f32, &given);
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::{PatchGrid, Size};
    use ndarray::{Array3, array};
    use proptest::prelude::*;

    /// Softmax of these logits, whatever the patches.
    #[derive(Debug)]
    struct Logits(Array2<f32>);

    impl PatchClassifier for Logits {
        fn num_classes(&self) -> usize {
            self.0.ncols()
        }
        fn classify(&self, _: &[RgbImage]) -> Result<Array2<f32>> {
            let mut probabilities = self.0.clone();
            probabilities.outer_iter_mut().for_each(softmax);
            Ok(probabilities)
        }
    }

    #[test]
    fn flat_and_single_logits_have_no_opinion() {
        for over in [Standardization::PerPatch, Standardization::WholeBatch] {
            assert_eq!(standardize_logits(&array![[1e6, 1e6, 1e6]], over).unwrap(), array![[0.0, 0.0, 0.0]]);
            assert_eq!(standardize_logits(&array![[3.0]], over).unwrap(), array![[0.0]]);
            assert_eq!(standardize_logits(&Array2::zeros((0, 4)), over).unwrap().dim(), (0, 4));
        }
        let uniform = (1.0f32 / 3.0).ln();
        let rounded = array![[uniform, uniform.next_up(), uniform]];
        assert_eq!(standardize_logits(&rounded, Standardization::PerPatch).unwrap(), array![[0.0, 0.0, 0.0]]);
        let opinion = array![[2.0, 1.0, 0.0]];
        let both = ensemble_probabilities(&[rounded, opinion], Standardization::PerPatch).unwrap();
        assert!(both[[0, 0]] > both[[0, 1]] && both[[0, 1]] > both[[0, 2]]);
    }

    #[test]
    fn misfits_are_named() {
        let over = Standardization::PerPatch;
        let text = |logits: &[Array2<f32>]| ensemble_probabilities(logits, over).unwrap_err().to_string();
        assert!(text(&[]).contains("at least one network"));
        assert_eq!(
            text(&[Array2::zeros((2, 3)), Array2::zeros((2, 4))]),
            "logits of network 1: expected shape 2x3, got 2x4"
        );
        assert!(text(&[array![[0.0, f32::NAN]]]).contains("got NaN for class 1 of patch 0"));
        let new = |members| PatchEnsemble::new(members, over).unwrap_err().to_string();
        assert!(new(vec![]).contains("`members`"));
        assert!(new(vec![Logits(array![[0.0]]), Logits(array![[0.0, 1.0]])]).contains("member 1: expected shape 1"));
        let short = PatchEnsemble::new(vec![Logits(array![[0.0, 1.0]])], over).unwrap();
        assert!(short.classify(&[RgbImage::new(1, 1), RgbImage::new(1, 1)]).is_err());
        assert_eq!(short.members().len(), 1);
        let broken = PatchEnsemble::new(vec![Logits(array![[0.0, 1.0]]), Logits(array![[0.0, f32::NAN]])], over);
        let error = broken.unwrap().classify(&[RgbImage::new(1, 1)]).unwrap_err().to_string();
        assert!(error.contains("member 1") && error.contains("got NaN for class 0 of patch 0"), "{error}");
    }

    #[test]
    fn maps_of_other_grids_are_resampled() {
        let size = Size { width: 12, height: 6 };
        let map = |rows, columns, left: f32| {
            let patches = PatchGrid::Split { rows, columns }.patches(size).unwrap();
            let (rows, columns) = (rows as usize, columns as usize);
            let probabilities = Array3::from_shape_fn((2, rows, columns), |(class, _, x)| {
                let p = if 2 * x < columns { left } else { 1.0 - left };
                if class == 0 { p } else { 1.0 - p }
            });
            CoarseMap::new(probabilities, patches, size).unwrap()
        };
        let (coarse, fine, opposed) = (map(1, 2, 0.9), map(3, 4, 0.7), map(2, 4, 0.1));
        let both = ensemble_map(&[coarse.clone(), fine.clone()], Standardization::PerPatch).unwrap();
        assert_eq!((both.classes(), &both.patches), (array![[0, 1]], &coarse.patches));
        let undecided = ensemble_map(&[fine.clone(), opposed], Standardization::PerPatch).unwrap();
        assert!(undecided.probabilities.iter().all(|p| (p - 0.5).abs() < 1e-6));
        assert!(ensemble_map(&[], Standardization::PerPatch).is_err());
        for (broken, grid) in [(f32::NAN, &coarse), (f32::NEG_INFINITY, &fine)] {
            let mut other = grid.clone();
            other.probabilities[[1, 0, 0]] = broken;
            let error = ensemble_map(&[coarse.clone(), other], Standardization::PerPatch).unwrap_err().to_string();
            let expected =
                format!("invalid input `map 1`: expected probabilities, got {broken} for class 1 of patch 0");
            assert_eq!(error, expected);
        }
        let mut other = fine.clone();
        other.image_size.width = 13;
        let error = ensemble_map(&[fine.clone(), other], Standardization::PerPatch).unwrap_err().to_string();
        assert_eq!(error, "photograph of map 1: expected shape 12x6, got 13x6");
        let mut partial = fine.clone();
        partial.patches.iter_mut().for_each(|patch| *patch = Rect { x: 0, width: 1, ..*patch });
        assert!(resample_map(&partial, &coarse.patches[1..]).unwrap_err().to_string().contains("shares no pixel"));
    }

    proptest! {
        #[test]
        fn probabilities_serve_as_well_as_logits(values in prop::collection::vec(-9.0f32..9.0, 16)) {
            let a = Array2::from_shape_vec((2, 4), values[..8].to_vec()).unwrap();
            let b = Array2::from_shape_vec((2, 4), values[8..].to_vec()).unwrap();
            let expected = ensemble_probabilities(&[a.clone(), b.clone()], Standardization::PerPatch).unwrap();
            let ensemble = PatchEnsemble::new(vec![Logits(a), Logits(b)], Standardization::PerPatch).unwrap();
            let ours = ensemble.classify(&[RgbImage::new(1, 1), RgbImage::new(1, 1)]).unwrap();
            for (ours, expected) in ours.iter().zip(&expected) {
                prop_assert!((ours - expected).abs() < 1e-4, "{} for {}", ours, expected);
            }
        }
    }
}
