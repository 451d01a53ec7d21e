use coral_core::{ClassId, Error, LabelMap, Result, UNLABELED};
use ndarray::{ArrayView3, Axis};
use serde::{Deserialize, Serialize};

/// What becomes of a cell where some classes have no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingClasses {
    /// The classes that have one compete.
    #[default]
    Ignore,
    /// No class: a cell holds data only where all classes do.
    NoData,
    /// The first class without a value wins, as in the published program, whose maximum is NaN.
    Win,
}

/// The class of the largest value in each cell of a C×H×W raster, H×W; the first of equals.
///
/// Cells where no class has a value are [`UNLABELED`].
///
/// # Errors
/// [`Error::InvalidInput`] for no class or more than 255.
///
/// # Examples
/// ```
/// use coral_core::{UNLABELED, ndarray::array};
/// use coral_weak::{MissingClasses, coarse_classes};
/// let values = array![[[0.1, f64::NAN, f64::NAN]], [[0.4, 0.2, f64::NAN]]];
/// assert_eq!(coarse_classes(values.view(), MissingClasses::Ignore)?, array![[1, 1, UNLABELED]]);
/// assert_eq!(coarse_classes(values.view(), MissingClasses::NoData)?, array![[1, UNLABELED, UNLABELED]]);
/// assert_eq!(coarse_classes(values.view(), MissingClasses::Win)?, array![[1, 0, UNLABELED]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Contini et al., *The point is the mask* (2025), coarse class raster; golden case `coarse_map`, exact.
pub fn coarse_classes(values: ArrayView3<'_, f64>, missing: MissingClasses) -> Result<LabelMap> {
    let classes = values.dim().0;
    if !(1..=usize::from(UNLABELED)).contains(&classes) {
        return Err(Error::input("values", format!("expected 1 to 255 classes, got {classes}")));
    }
    Ok(values.map_axis(Axis(0), |cell| {
        let first_missing = cell.iter().position(|value| value.is_nan());
        if cell.iter().all(|value| value.is_nan()) || (first_missing.is_some() && missing == MissingClasses::NoData) {
            return UNLABELED;
        }
        if let (Some(class), MissingClasses::Win) = (first_missing, missing) {
            return class as ClassId;
        }
        let known = cell.iter().enumerate().filter(|(_, value)| !value.is_nan());
        let best = known
            .fold((0, f64::NEG_INFINITY), |best, (class, &value)| if value > best.1 { (class, value) } else { best });
        best.0 as ClassId
    }))
}
