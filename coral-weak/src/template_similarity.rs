use coral_core::image::RgbImage;
use coral_core::{
    ClassId, Dataset, Error, ImageEncoder, LabeledPhotograph, PatchClassifier, PatchGrid, Progress, PseudoLabel,
    PseudoLabeler, Result, Size,
};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::coarse_inference::{BATCH, cut_in_batches};
use crate::photographs::{check_class, named};
use crate::softmax::softmax;
use crate::zero_shot::{encode, first_highest};
use crate::{TemplateBundler, Templates};

/// Settings of [`TemplateSimilarity`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemplateSimilarityConfig {
    /// Patches whose cosine with the nearest template is below this get no label, −1..=1.
    pub threshold: f32,
    /// Patches that are this much or less nearer to their template than to the next get no label, 0..=2; 0 labels
    /// all but ties.
    pub margin: f32,
    /// What cosines are multiplied by to become logits, above 0.
    pub scale: f32,
}

impl Default for TemplateSimilarityConfig {
    /// Labels every patch that is not as near to one template as to another; the scale is that of CLIP.
    fn default() -> Self {
        Self { threshold: -1.0, margin: 0.0, scale: 100.0 }
    }
}

impl TemplateSimilarityConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let check = |name, value: f32, inside: bool, expected| {
            if inside { Ok(()) } else { Err(Error::parameter(name, format!("expected {expected}, got {value}"))) }
        };
        check("threshold", self.threshold, (-1.0..=1.0).contains(&self.threshold), "a cosine in -1..=1")?;
        check("margin", self.margin, (0.0..=2.0).contains(&self.margin), "a number in 0..=2")?;
        check("scale", self.scale, self.scale > 0.0 && self.scale.is_finite(), "a number above 0")
    }
}

/// Labels patches by the class whose photographs they look like: the nearest of the [`Templates`] of the classes in
/// an encoder's space. As a [`PseudoLabeler`] it abstains from patches in doubt; as a [`PatchClassifier`] it is the
/// baseline without training: the softmax of scaled cosines, 0 for classes without template.
///
/// # Examples
/// ```
/// use coral_core::{ImageEncoder, PseudoLabeler, Result, image::{Rgb, RgbImage}, ndarray::Array2};
/// use coral_weak::{TemplateSimilarity, TemplateSimilarityConfig, Templates};
/// struct Color;
/// impl ImageEncoder for Color {
///     fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
///         Ok(Array2::from_shape_fn((images.len(), 3), |(i, d)| f32::from(images[i].get_pixel(0, 0)[d]) / 255.0))
///     }
/// }
/// let templates = Templates::new(vec![Some(vec![1.0, 0.0, 0.0]), Some(vec![0.0, 0.0, 1.0])])?;
/// let config = TemplateSimilarityConfig { threshold: 0.9, ..Default::default() };
/// let labeler = TemplateSimilarity::new(Color, templates, config)?;
/// let patches = [[255, 0, 0], [0, 9, 255], [0, 255, 0]].map(|color| RgbImage::from_pixel(2, 2, Rgb(color)));
/// let classes: Vec<_> = labeler.label(&patches)?.iter().map(|label| label.map(|label| label.class)).collect();
/// assert_eq!(classes, [Some(0), Some(1), None]);
/// assert_eq!(labeler.outlier_scores(&patches)?[2], 1.0);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TemplateSimilarity<E> {
    encoder: E,
    templates: Templates,
    config: TemplateSimilarityConfig,
}

impl<E: ImageEncoder> TemplateSimilarity<E> {
    /// A labeller by templates in the space of `encoder`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn new(encoder: E, templates: Templates, config: TemplateSimilarityConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { encoder, templates, config })
    }

    /// The templates.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// How little each patch looks like anything the templates were made from: 1 − the highest cosine, 0..=2.
    ///
    /// # Errors
    /// Those of the encoder; [`Error::ShapeMismatch`] or [`Error::InvalidInput`] when its embeddings do not fit the
    /// templates.
    pub fn outlier_scores(&self, patches: &[RgbImage]) -> Result<Vec<f32>> {
        let score = |row: ndarray::ArrayView1<'_, f32>| 1.0 - row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        Ok(self.similarities(patches)?.outer_iter().map(score).collect())
    }

    /// N×C cosines.
    fn similarities(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        if patches.is_empty() {
            return Ok(Array2::zeros((0, self.templates.num_classes())));
        }
        self.templates.cosine_similarities(encode(&self.encoder, patches)?.view())
    }
}

/// The templates of classes in an encoder's space: the mean of the L2-normalised embeddings, D values, of the patches of
/// all photographs of each of C = `num_classes` classes. `progress` counts photographs.
///
/// Patches of a photograph that show something else, like background, go into its class's template, too; photographs
/// of background keep the difference.
///
/// # Errors
/// [`Error::InvalidInput`] when there is no photograph, or naming one that has a class of `num_classes` or higher or is
/// too small for the grid; those of the grid, the encoder and of loading a photograph.
pub fn patch_templates(
    encoder: &dyn ImageEncoder,
    photographs: &dyn Dataset<Item = LabeledPhotograph>,
    num_classes: usize,
    grid: &PatchGrid,
    progress: &dyn Progress,
) -> Result<Templates> {
    let mut bundler: Option<TemplateBundler> = None;
    progress.start(photographs.len() as u64, "photographs");
    let added = (0..photographs.len()).try_for_each(|index| {
        let LabeledPhotograph { image, class } = photographs.get(index)?;
        check_class(photographs, index, class, num_classes)?;
        let name = |error| named(photographs, index, error);
        let patches = grid.patches(Size::of(&image)).map_err(name)?;
        cut_in_batches(&image, &patches, BATCH, |_, patches| {
            let embeddings = encode(encoder, patches)?;
            let bundler = match &mut bundler {
                Some(bundler) => bundler,
                none => none.insert(TemplateBundler::new(num_classes, embeddings.ncols())?),
            };
            bundler.add_vectors(embeddings.view(), class)
        })
        .map_err(name)?;
        progress.advance(1);
        Ok(())
    });
    progress.finish();
    added?;
    bundler.ok_or_else(|| Error::input("photographs", "at least one is needed, got none"))?.finish()
}

impl<E: ImageEncoder> PseudoLabeler for TemplateSimilarity<E> {
    /// The confidence is (1 + cosine) / 2 of the nearest template.
    fn label(&self, patches: &[RgbImage]) -> Result<Vec<Option<PseudoLabel>>> {
        let TemplateSimilarityConfig { threshold, margin, .. } = self.config;
        let label = |row: ndarray::ArrayView1<'_, f32>| {
            let best = first_highest(&mut row.iter().copied());
            let others = row.iter().enumerate().filter(|(class, _)| *class != best);
            let next = others.fold(f32::NEG_INFINITY, |next, (_, &cosine)| next.max(cosine));
            let cosine = row[best];
            let sure = cosine >= threshold && cosine - next > margin;
            sure.then_some(PseudoLabel { class: best as ClassId, confidence: (1.0 + cosine) / 2.0 })
        };
        Ok(self.similarities(patches)?.outer_iter().map(label).collect())
    }
}

impl<E: ImageEncoder> PatchClassifier for TemplateSimilarity<E> {
    fn num_classes(&self) -> usize {
        self.templates.num_classes()
    }

    fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        let mut probabilities = self.similarities(patches)? * self.config.scale;
        probabilities.outer_iter_mut().for_each(softmax);
        Ok(probabilities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::NoProgress;
    use coral_core::image::Rgb;
    use ndarray::array;

    /// The first pixel's colour.
    #[derive(Debug)]
    struct Color;

    impl ImageEncoder for Color {
        fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
            Ok(Array2::from_shape_fn((images.len(), 3), |(i, d)| f32::from(images[i].get_pixel(0, 0)[d])))
        }
    }

    fn patch(color: [u8; 3]) -> RgbImage {
        RgbImage::from_pixel(2, 2, Rgb(color))
    }

    /// Left half of one colour, right half of another.
    struct Halves(Vec<([u8; 3], [u8; 3], ClassId)>);

    impl Dataset for Halves {
        type Item = LabeledPhotograph;
        fn len(&self) -> usize {
            self.0.len()
        }
        fn get(&self, index: usize) -> Result<LabeledPhotograph> {
            let (left, right, class) = self.0[index];
            Ok(LabeledPhotograph {
                image: RgbImage::from_fn(8, 4, |x, _| Rgb(if x < 4 { left } else { right })),
                class,
            })
        }
        fn name(&self, index: usize) -> Result<String> {
            Ok(format!("p{index}"))
        }
    }

    const GRID: PatchGrid = PatchGrid::Split { rows: 1, columns: 2 };

    #[test]
    fn templates_are_means_of_patches() {
        let photographs = Halves(vec![([255, 0, 0], [255, 0, 0], 0), ([255, 0, 0], [0, 9, 0], 2)]);
        let templates = patch_templates(&Color, &photographs, 3, &GRID, &NoProgress).unwrap();
        assert_eq!((templates.get(0), templates.get(1)), (Some(&[1.0, 0.0, 0.0][..]), None));
        assert_eq!(templates.get(2), Some(&[0.5, 0.5, 0.0][..]));
        let text = |photographs: &Halves, grid| {
            patch_templates(&Color, photographs, 2, grid, &NoProgress).unwrap_err().to_string()
        };
        assert!(text(&photographs, &GRID).contains("p1 has class 2; expected a class below 2"));
        assert!(text(&Halves(vec![]), &GRID).contains("at least one"));
        assert!(text(&photographs, &PatchGrid::Split { rows: 5, columns: 1 }).contains("too small"));
    }

    #[test]
    fn patches_in_doubt_get_no_label() {
        let templates = Templates::new(vec![Some(vec![1.0, 0.0, 0.0]), None, Some(vec![0.0, 1.0, 0.0])]).unwrap();
        let label = |threshold, margin, color| {
            let config = TemplateSimilarityConfig { threshold, margin, ..Default::default() };
            let labeler = TemplateSimilarity::new(Color, templates.clone(), config).unwrap();
            labeler.label(&[patch(color)]).unwrap()[0].map(|label| (label.class, label.confidence))
        };
        assert_eq!(label(-1.0, 0.0, [0, 7, 0]), Some((2, 1.0)));
        assert_eq!(label(-1.0, 0.0, [7, 7, 0]), None, "a tie");
        assert_eq!(label(-1.0, 0.0, [3, 4, 0]), Some((2, 0.9)));
        assert_eq!(label(0.9, 0.0, [3, 4, 0]), None);
        assert_eq!(label(-1.0, 0.3, [3, 4, 0]), None);
        assert_eq!(label(-1.0, 0.0, [0, 0, 9]), None);
    }

    #[test]
    fn classes_without_template_have_probability_zero() {
        let templates = Templates::new(vec![Some(vec![1.0, 0.0, 0.0]), None, Some(vec![0.0, 1.0, 0.0])]).unwrap();
        let labeler = TemplateSimilarity::new(Color, templates.clone(), TemplateSimilarityConfig::default()).unwrap();
        let probabilities = labeler.classify(&[patch([5, 5, 0]), patch([0, 5, 0])]).unwrap();
        assert!((&probabilities - &array![[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]).iter().all(|error| error.abs() < 1e-7));
        assert_eq!(probabilities.column(1).to_vec(), [0.0, 0.0]);
        assert_eq!(labeler.classify(&[]).unwrap().dim(), (0, 3));
        assert_eq!(labeler.outlier_scores(&[patch([0, 0, 4]), patch([4, 0, 0])]).unwrap(), [1.0, 0.0]);
        let flat = Templates::new(vec![Some(vec![1.0, 0.0])]).unwrap();
        let misfit = TemplateSimilarity::new(Color, flat, TemplateSimilarityConfig::default()).unwrap();
        assert!(misfit.label(&[patch([1, 2, 3])]).unwrap_err().to_string().contains("expected shape 2 values"));
        for (threshold, margin, scale) in [(2.0, 0.0, 1.0), (0.0, f32::NAN, 1.0), (0.0, 0.0, 0.0)] {
            let config = TemplateSimilarityConfig { threshold, margin, scale };
            assert!(TemplateSimilarity::new(Color, templates.clone(), config).is_err());
        }
    }
}
