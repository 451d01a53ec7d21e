use coral_core::{Error, FeatureMap, Result};
use ndarray::{Array2, Array3};

use crate::{
    Superpixels,
    feature_rows::{FeatureRows, check_features},
    parallel,
};

/// Replaces every feature by the mean over its segment, which takes the variation within an
/// object out of its features before they are compared.
///
/// The result has one cell per pixel of `segments`, D×H×W; features on a coarser grid
/// are interpolated bilinearly. Use [`segment_features`] where S×D values will do.
///
/// # Errors
/// [`Error::ShapeMismatch`] unless the segments are as large as the image or as the feature grid;
/// [`Error::InvalidInput`] for features that are not finite.
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, Size, ndarray::array};
/// use coral_weak::{Superpixels, rectify};
/// let features = FeatureMap { data: array![[[1.0, 3.0, 8.0]]], image_size: Size { width: 3, height: 1 } };
/// let segments = Superpixels::from_labels(array![[0, 0, 1]])?;
/// assert_eq!(rectify(&features, &segments)?.data, array![[[2.0, 2.0, 8.0]]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// The training-free form of feature rectification in *CoralSRT* (ICCV 2025).
pub fn rectify(features: &FeatureMap, segments: &Superpixels) -> Result<FeatureMap> {
    let means = segment_features(features, segments)?;
    let size = segments.size();
    let mut data = Array3::zeros((features.dim(), size.height as usize, size.width as usize));
    let planes: Vec<_> = data.outer_iter_mut().zip(means.columns()).collect();
    parallel::map(planes, |(mut plane, means)| {
        plane.zip_mut_with(segments.labels(), |value, &segment| *value = means[segment as usize]);
    });
    Ok(FeatureMap { data, image_size: features.image_size })
}

/// The mean feature of each of S segments, S×D; features on a coarser grid than the segments are
/// interpolated bilinearly.
///
/// # Errors
/// As [`rectify`].
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, Size, ndarray::array};
/// use coral_weak::{Superpixels, segment_features};
/// let features = FeatureMap { data: array![[[1.0, 3.0, 8.0]]], image_size: Size { width: 3, height: 1 } };
/// let segments = Superpixels::from_labels(array![[0, 0, 1]])?;
/// assert_eq!(segment_features(&features, &segments)?, array![[2.0], [8.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn segment_features(features: &FeatureMap, segments: &Superpixels) -> Result<Array2<f32>> {
    check_features(features)?;
    let size = segments.size();
    if size != features.image_size && size != features.grid_size() {
        let expected = format!("{} (the image) or {} (the features)", features.image_size, features.grid_size());
        return Err(Error::shape("segments", expected, size.to_string()));
    }
    let rows = FeatureRows::new(features.data.view(), size);
    let areas = segments.sizes();
    let columns = parallel::map((0..features.dim()).collect(), |channel| {
        let mut row = vec![0.0f32; size.width as usize];
        let mut sums = vec![0.0f64; areas.len()];
        for (y, labels) in segments.labels().rows().into_iter().enumerate() {
            rows.read_plane_row(channel, y, &mut row);
            labels.iter().zip(&row).for_each(|(&label, &value)| sums[label as usize] += f64::from(value));
        }
        sums
    });
    Ok(Array2::from_shape_fn((areas.len(), columns.len()), |(segment, channel)| {
        (columns[channel][segment] / f64::from(areas[segment])) as f32
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::{SeededRng, Size};
    use ndarray::{Axis, array};

    #[test]
    fn other_sizes_are_refused() {
        let features = FeatureMap { data: Array3::zeros((2, 2, 3)), image_size: Size { width: 6, height: 4 } };
        let segments = Superpixels::from_labels(Array2::zeros((4, 5))).unwrap();
        let error = rectify(&features, &segments).unwrap_err().to_string();
        assert_eq!(error, "segments: expected shape 6x4 (the image) or 3x2 (the features), got 5x4");
    }

    #[test]
    fn means_are_those_of_the_definition_and_stay_when_repeated() {
        let mut rng = SeededRng::new(3);
        let image_size = Size { width: 31, height: 17 };
        let data = Array3::from_shape_simple_fn((3, 17, 31), || rng.normal() as f32);
        let labels = Array2::from_shape_simple_fn((17, 31), || rng.below(9) as u32);
        let features = FeatureMap { data, image_size };
        let segments = Superpixels::from_labels(labels).unwrap();
        let rectified = rectify(&features, &segments).unwrap();
        let means = segments.means(features.data.view()).unwrap();
        for ((channel, y, x), value) in rectified.data.indexed_iter() {
            assert!((value - means[[segments.labels()[[y, x]] as usize, channel]]).abs() < 1e-5);
        }
        let again = rectify(&rectified, &segments).unwrap();
        assert!((&again.data - &rectified.data).iter().all(|difference| difference.abs() < 1e-5));
    }

    #[test]
    fn coarse_features_reach_the_pixels() {
        let features = FeatureMap { data: array![[[0.0, 8.0]]], image_size: Size { width: 4, height: 1 } };
        let pixels = Superpixels::from_labels(array![[0, 1, 1, 2]]).unwrap();
        assert_eq!(rectify(&features, &pixels).unwrap().data, array![[[0.0, 4.0, 4.0, 8.0]]]);
        let cells = Superpixels::from_labels(array![[0, 0]]).unwrap();
        assert_eq!(rectify(&features, &cells).unwrap().data.index_axis(Axis(0), 0), array![[4.0, 4.0]]);
    }
}
