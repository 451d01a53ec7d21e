use coral_core::image::RgbImage;
use coral_core::{FeatureExtractor, LabelMap, PointLabel, PointPropagator, PromptableSegmenter, Result, Size};

use super::accept::Judge;
use super::fill::fill_rest;
use super::{Embedded, MaskCurationConfig, PromptPropagatorConfig, curate_masks, merge_masks};
use crate::DefaultPropagator;
use crate::points::CanonicalPoints;

/// From points to a dense map with a promptable segmenter: every point asks for a mask, masks take their point's
/// class, the best one wins where they overlap, and another propagator fills the rest.
///
/// Any [`PromptableSegmenter`] will do. With a network it is, in short (`Predictor` and the checkpoint loader are
/// those of coral-models, which this crate does not depend on):
///
/// ```text
/// let model = Predictor::…;                               // SAM or CoralSCOP weights
/// let propagator = PromptPropagator::new(model, PromptPropagatorConfig::default())?;
/// let labels = propagator.propagate(&image, &points)?;    // one embedding, one prompt per point
/// ```
///
/// Masks are only believed as far as the points confirm them, see [`PromptPropagatorConfig`]; with a segmenter that
/// is of no use for an image the result is nearly that of the fill. The fill is [`DefaultPropagator`] unless
/// [`with_fill`](Self::with_fill) names another; [`with_curation`](Self::with_curation) compares masks with the
/// features of the points. To see or change the masks, call [`point_masks`](crate::point_masks), [`curate_masks`] and
/// [`merge_masks`] yourself. With one class among the points nothing is asked.
///
/// # Examples
/// ```
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_core::ndarray::Array2;
/// use coral_core::{PointLabel, PointPropagator, Prompt, PromptableSegmenter, Result, ScoredMask, Size};
/// use coral_weak::{NearestPropagator, PromptPropagator, PromptPropagatorConfig};
///
/// /// Takes all pixels of the clicked colour for the object.
/// struct SameColor;
///
/// impl PromptableSegmenter for SameColor {
///     type Embedding = RgbImage;
///
///     fn embed(&self, image: &RgbImage) -> Result<RgbImage> {
///         Ok(image.clone())
///     }
///
///     fn predict(&self, image: &RgbImage, prompt: &Prompt) -> Result<Vec<ScoredMask>> {
///         let wanted = image.get_pixel(prompt.points[0].x as u32, prompt.points[0].y as u32);
///         let mask = Array2::from_shape_fn(Size::of(image).shape(), |(y, x)| image.get_pixel(x as u32, y as u32) == wanted);
///         let mask_logits = Array2::zeros((0, 0));
///         Ok(vec![ScoredMask { mask, predicted_iou: 0.9, class: None, mask_logits, features: Vec::new() }])
///     }
/// }
///
/// // A coral on sand, far from the middle between the points.
/// let image = RgbImage::from_fn(40, 20, |x, _| if x < 28 { Rgb([200, 190, 160]) } else { Rgb([120, 60, 90]) });
/// let points = [PointLabel { x: 2, y: 10, class: 0 }, PointLabel { x: 30, y: 10, class: 4 }];
/// let config = PromptPropagatorConfig { max_area: 0.8, ..Default::default() };
/// let propagator = PromptPropagator::new(SameColor, config)?.with_fill(NearestPropagator);
/// let labels = propagator.propagate(&image, &points)?;
/// assert_eq!((labels[[10, 27]], labels[[10, 28]]), (0, 4));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// The sparse-to-dense use of CoralSCOP (Zheng et al., CVPR 2024), where every labelled point prompts a mask. How
/// masks are accepted, merged and filled up is ours.
pub struct PromptPropagator<S, P = DefaultPropagator> {
    segmenter: S,
    fill: P,
    config: PromptPropagatorConfig,
    curation: Option<(Box<dyn FeatureExtractor>, MaskCurationConfig)>,
}

impl<S: std::fmt::Debug, P: std::fmt::Debug> std::fmt::Debug for PromptPropagator<S, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PromptPropagator")
            .field("segmenter", &self.segmenter)
            .field("fill", &self.fill)
            .field("config", &self.config)
            .field("curation", &self.curation.as_ref().map(|(_, config)| config))
            .finish_non_exhaustive()
    }
}

impl<S> PromptPropagator<S> {
    /// A propagator on the masks of `segmenter`, with [`DefaultPropagator`] for the rest.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) naming the field out of range.
    pub fn new(segmenter: S, config: PromptPropagatorConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { segmenter, fill: DefaultPropagator::default(), config, curation: None })
    }
}

impl<S, P> PromptPropagator<S, P> {
    /// The segmenter, for example to [`embed`](PromptableSegmenter::embed) an image for
    /// [`propagate_embedded`](Self::propagate_embedded).
    pub fn segmenter(&self) -> &S {
        &self.segmenter
    }

    /// The same with another propagator for the pixels without a mask, such as
    /// [`KnnPropagator`](crate::KnnPropagator) on the features of a network.
    pub fn with_fill<Q: PointPropagator>(self, fill: Q) -> PromptPropagator<S, Q> {
        PromptPropagator { segmenter: self.segmenter, fill, config: self.config, curation: self.curation }
    }

    /// The same with masks that [`curate_masks`] checks against the features of `extractor`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) naming the field out of range.
    pub fn with_curation(self, extractor: Box<dyn FeatureExtractor>, config: MaskCurationConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { curation: Some((extractor, config)), ..self })
    }
}

impl<S: PromptableSegmenter, P: PointPropagator> PromptPropagator<S, P> {
    /// [`propagate`](PointPropagator::propagate) for an image that the segmenter has embedded already: for a user
    /// who adds one point after the other and looks at the result in between.
    ///
    /// # Errors
    /// Those of [`point_masks`](crate::point_masks), of the fill and of the curation.
    pub fn propagate_embedded(
        &self,
        embedding: &S::Embedding,
        image: &RgbImage,
        points: &[PointLabel],
    ) -> Result<LabelMap> {
        let size = Size::of(image);
        let canonical = CanonicalPoints::new(points, size)?;
        if let Some(labels) = canonical.uniform(size) {
            return Ok(labels);
        }
        let judge = Judge { canonical: &canonical, config: &self.config, size };
        let mut masks = Embedded { segmenter: &self.segmenter, embedding }.masks(&judge)?;
        if let Some((extractor, config)) = &self.curation {
            let features = extractor.extract(image)?;
            size.expect("features of an image", features.image_size)?;
            masks = curate_masks(masks, &features, &canonical.points, config)?;
        }
        let mut labels = merge_masks(size, &masks)?;
        fill_rest(&mut labels, &canonical, self.config.fill_points, |points| self.fill.propagate(image, points))?;
        Ok(labels)
    }
}

impl<S: PromptableSegmenter, P: PointPropagator> PointPropagator for PromptPropagator<S, P> {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        let size = Size::of(image);
        // Before the embedding, which takes longest.
        match CanonicalPoints::new(points, size)?.uniform(size) {
            Some(labels) => Ok(labels),
            None => self.propagate_embedded(&self.segmenter.embed(image)?, image, points),
        }
    }
}
