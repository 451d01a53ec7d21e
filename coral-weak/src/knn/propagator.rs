use coral_core::image::RgbImage;
use coral_core::{FeatureExtractor, LabelMap, PointLabel, PointPropagator, Result, Size, validate_points};
use serde::{Deserialize, Serialize};

use super::{KnnConfig, KnnResult, Similarity, knn, knn_segments};
use crate::{ClassicalFeatures, SlicConfig, slic};

/// Settings of [`KnnPropagator`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnnPropagatorConfig {
    /// How neighbours are found.
    pub knn: KnnConfig,
    /// Replace features by their means over superpixels of these settings; `None` for none. It steadies noisy or
    /// blocky features; [`ClassicalFeatures`] are averaged over windows already and gain little.
    pub rectify: Option<SlicConfig>,
}

impl Default for KnnPropagatorConfig {
    /// For standardised features such as [`ClassicalFeatures`]. One neighbour: with few labels a class often has a
    /// single point, which any larger vote would silence. Position counts about half as much as
    /// the features in squared distance; results hardly change between a quarter and as much.
    fn default() -> Self {
        let knn = KnnConfig { k: 1, similarity: Similarity::Euclidean, position: 0.7, ..Default::default() };
        Self { knn, rectify: None }
    }
}

/// Gives every pixel the class of the labelled pixels whose features are most similar, see [`knn`] and [`knn_segments`].
///
/// # Examples
/// ```
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_core::{PointLabel, PointPropagator};
/// use coral_weak::KnnPropagator;
/// // Blue water above a brown bottom from row 12 on:
/// let image = RgbImage::from_fn(40, 30, |_, y| Rgb(if y < 12 { [20, 90, 160] } else { [150, 110, 60] }));
/// let points = [PointLabel { x: 20, y: 1, class: 0 }, PointLabel { x: 20, y: 28, class: 1 }];
/// let labels = KnnPropagator::default().propagate(&image, &points)?;
/// assert_eq!((labels[[10, 3]], labels[[13, 3]]), (0, 1));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct KnnPropagator<F = ClassicalFeatures> {
    extractor: F,
    config: KnnPropagatorConfig,
}

impl<F> KnnPropagator<F> {
    /// A propagator on the features of `extractor`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) naming the field out of range.
    pub fn new(extractor: F, config: KnnPropagatorConfig) -> Result<Self> {
        config.knn.validate()?;
        config.rectify.as_ref().map_or(Ok(()), SlicConfig::validate)?;
        Ok(Self { extractor, config })
    }
}

impl Default for KnnPropagator {
    fn default() -> Self {
        Self { extractor: ClassicalFeatures::default(), config: KnnPropagatorConfig::default() }
    }
}

impl<F: FeatureExtractor> KnnPropagator<F> {
    /// The labels together with the similarity that each was given by.
    ///
    /// # Errors
    /// Those of [`knn`] and of the extractor.
    pub fn search(&self, image: &RgbImage, points: &[PointLabel]) -> Result<KnnResult> {
        // Before the features, which take longest.
        validate_points(points, Size::of(image))?;
        let features = self.extractor.extract(image)?;
        Size::of(image).expect("features of an image", features.image_size)?;
        match &self.config.rectify {
            Some(config) => knn_segments(&features, &slic(image, config)?, points, &self.config.knn),
            None => knn(&features, points, &self.config.knn),
        }
    }
}

impl<F: FeatureExtractor> PointPropagator for KnnPropagator<F> {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        Ok(self.search(image, points)?.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::testing::check_point_propagator;

    #[test]
    fn keeps_the_contract_with_and_without_rectification() {
        check_point_propagator(&KnnPropagator::default()).unwrap();
        let rectified = KnnPropagatorConfig { rectify: Some(SlicConfig::default()), ..Default::default() };
        check_point_propagator(&KnnPropagator::new(ClassicalFeatures::default(), rectified).unwrap()).unwrap();
        for similarity in [Similarity::Cosine, Similarity::Euclidean] {
            for (k, rectify) in [(1, None), (5, Some(SlicConfig::default()))] {
                let knn = KnnConfig { k, similarity, ..Default::default() };
                let config = KnnPropagatorConfig { knn, rectify };
                check_point_propagator(&KnnPropagator::new(ClassicalFeatures::default(), config).unwrap()).unwrap();
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let text = |config| KnnPropagator::new(ClassicalFeatures::default(), config).unwrap_err().to_string();
        let rectify = Some(SlicConfig { segments: 0, ..Default::default() });
        assert!(text(KnnPropagatorConfig { rectify, ..Default::default() }).contains("`segments`"));
        let knn = KnnConfig { similarity: Similarity::Cosine, ..KnnPropagatorConfig::default().knn };
        assert!(text(KnnPropagatorConfig { knn, ..Default::default() }).contains("`position`"));
    }
}
