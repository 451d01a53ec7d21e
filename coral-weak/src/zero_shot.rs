use coral_core::image::RgbImage;
use coral_core::{ClassId, Error, ImageEncoder, PseudoLabel, PseudoLabeler, Result, TextEncoder};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::PromptGroups;
use crate::softmax::softmax;

/// Which group of prompts a patch belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupRule {
    /// That of the most probable prompt.
    #[default]
    BestPrompt,
    /// The one whose prompts together are most probable. Favours groups of many prompts.
    SummedProbability,
}

/// Settings of [`prompt_group_labels`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ZeroShotConfig {
    /// What cosines are multiplied by before the softmax, above 0.
    pub scale: f32,
    /// Which group decides.
    pub rule: GroupRule,
    /// Patches with less confidence get no label, 0..=1.
    pub threshold: f32,
}

impl Default for ZeroShotConfig {
    /// SeaCLIP: the most probable prompt decides for every patch. 100 is the scale that CLIP learned.
    fn default() -> Self {
        Self { scale: 100.0, rule: GroupRule::BestPrompt, threshold: 0.0 }
    }
}

impl ZeroShotConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(Error::parameter("scale", format!("expected a number above 0, got {}", self.scale)));
        }
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(Error::parameter("threshold", format!("expected a number in 0..=1, got {}", self.threshold)));
        }
        Ok(())
    }
}

/// The group of prompts that each of N patches belongs to, from N×P cosines of patches and prompts.
///
/// A softmax over all prompts gives their probabilities, and [`GroupRule`] the group. The confidence is the sum over
/// the prompts of that group; where the best prompt decides, it can be below one half even with two groups. `None`
/// where it is below the threshold.
///
/// # Errors
/// [`Error::ShapeMismatch`] unless there is one column per prompt, [`Error::InvalidInput`] for NaN or infinity; those
/// of [`ZeroShotConfig::validate`].
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::{GroupRule, PromptGroups, ZeroShotConfig, prompt_group_labels};
/// let groups = PromptGroups::parse("[background]\nsand\n[seagrass]\ngrass\nleaves")?;
/// let similarities = array![[0.275, 0.27, 0.27]];
/// let label = |rule| prompt_group_labels(similarities.view(), &groups, &ZeroShotConfig { rule, ..Default::default() });
/// assert_eq!(label(GroupRule::BestPrompt)?[0].map(|label| label.class), Some(0));
/// let summed = label(GroupRule::SummedProbability)?[0].unwrap();
/// assert_eq!((summed.class, (1000.0 * summed.confidence).round()), (1, 548.0));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024.
pub fn prompt_group_labels(
    similarities: ArrayView2<'_, f32>,
    groups: &PromptGroups,
    config: &ZeroShotConfig,
) -> Result<Vec<Option<PseudoLabel>>> {
    config.validate()?;
    let group_of = groups.group_of_prompts();
    if similarities.ncols() != group_of.len() {
        let expected = format!("{} prompts", group_of.len());
        return Err(Error::shape("similarities", expected, similarities.ncols().to_string()));
    }
    if let Some(((patch, prompt), value)) = similarities.indexed_iter().find(|(_, value)| !value.is_finite()) {
        let reason = format!("expected numbers, got {value} for patch {patch} and prompt {prompt}");
        return Err(Error::input("similarities", reason));
    }
    let label = |similarities: ndarray::ArrayView1<'_, f32>| {
        // Scaled as differences, which cannot overflow to infinity above.
        let best = similarities.fold(f32::NEG_INFINITY, |best, &cosine| best.max(cosine));
        let mut probabilities = similarities.mapv(|cosine| config.scale * (cosine - best));
        softmax(&mut probabilities);
        let mut summed = vec![0.0f32; groups.len()];
        group_of.iter().zip(&probabilities).for_each(|(&group, p)| summed[usize::from(group)] += p);
        let class = match config.rule {
            GroupRule::BestPrompt => group_of[first_highest(&mut probabilities.iter().copied())],
            GroupRule::SummedProbability => first_highest(&mut summed.iter().copied()) as ClassId,
        };
        let confidence = summed[usize::from(class)].min(1.0);
        (confidence >= config.threshold).then_some(PseudoLabel { class, confidence })
    };
    Ok(similarities.outer_iter().map(label).collect())
}

/// The position of the highest value; of equals the first.
pub(crate) fn first_highest(values: &mut dyn Iterator<Item = f32>) -> usize {
    let higher = |best: (usize, f32), (at, value)| if value > best.1 { (at, value) } else { best };
    values.enumerate().fold((0, f32::NEG_INFINITY), higher).0
}

/// Labels patches by the sentences that describe them best ([`prompt_group_labels`]); the class of a label is the
/// group's position.
///
/// # Examples
/// ```
/// use coral_core::{ImageEncoder, PseudoLabeler, Result, image::{Rgb, RgbImage}, ndarray::{Array2, array}};
/// use coral_weak::{PromptGroups, ZeroShotConfig, ZeroShotLabeler};
/// struct Brightness;
/// impl ImageEncoder for Brightness {
///     fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
///         let bright = |image: &RgbImage| f32::from(image.get_pixel(0, 0)[0] > 128);
///         Ok(Array2::from_shape_fn((images.len(), 2), |(i, d)| (d as f32 - bright(&images[i])).abs()))
///     }
/// }
/// let groups = PromptGroups::parse("[background]\nbright sand\n[seagrass]\ndark leaves")?;
/// let prompts = array![[1.0, 0.0], [0.0, 1.0]];
/// let labeler = ZeroShotLabeler::from_embeddings(Brightness, prompts, groups, ZeroShotConfig::default())?;
/// let labels = labeler.label(&[RgbImage::new(4, 4), RgbImage::from_pixel(4, 4, Rgb([200; 3]))])?;
/// assert_eq!(labels.iter().map(|label| label.map(|l| l.class)).collect::<Vec<_>>(), [Some(1), Some(0)]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ZeroShotLabeler<I> {
    images: I,
    /// P×D.
    prompts: Array2<f32>,
    groups: PromptGroups,
    config: ZeroShotConfig,
}

impl<I> ZeroShotLabeler<I> {
    /// A labeller by the prompts of `groups`, which are embedded once, here.
    ///
    /// # Errors
    /// Those of [`ZeroShotLabeler::from_embeddings`] and of the text encoder.
    pub fn new(images: I, texts: &dyn TextEncoder, groups: PromptGroups, config: ZeroShotConfig) -> Result<Self> {
        let prompts = texts.encode_texts(&groups.prompts())?;
        Self::from_embeddings(images, prompts, groups, config)
    }

    /// A labeller by P×D embeddings of the prompts of `groups`, of which only the directions count.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field; [`Error::ShapeMismatch`] unless there is a row per prompt,
    /// [`Error::InvalidInput`] when they hold NaN or infinity, or no value.
    pub fn from_embeddings(
        images: I,
        prompts: Array2<f32>,
        groups: PromptGroups,
        config: ZeroShotConfig,
    ) -> Result<Self> {
        config.validate()?;
        let expected = groups.prompts().len();
        if prompts.nrows() != expected {
            let actual = prompts.nrows().to_string();
            return Err(Error::shape("text embeddings", format!("{expected} rows, one per prompt"), actual));
        }
        if prompts.is_empty() || prompts.iter().any(|value| !value.is_finite()) {
            return Err(Error::input("text embeddings", "are empty or hold NaN or infinity"));
        }
        Ok(Self { images, prompts: unit_rows(prompts), groups, config })
    }

    /// The prompts.
    pub fn groups(&self) -> &PromptGroups {
        &self.groups
    }
}

impl<I: ImageEncoder> PseudoLabeler for ZeroShotLabeler<I> {
    fn label(&self, patches: &[RgbImage]) -> Result<Vec<Option<PseudoLabel>>> {
        if patches.is_empty() {
            return Ok(Vec::new());
        }
        let embeddings = unit_rows(encode(&self.images, patches)?);
        if embeddings.ncols() != self.prompts.ncols() {
            let expected = format!("{} values, as those of the texts", self.prompts.ncols());
            return Err(Error::shape("image embeddings", expected, embeddings.ncols().to_string()));
        }
        prompt_group_labels(embeddings.dot(&self.prompts.t()).view(), &self.groups, &self.config)
    }
}

/// Rows of length 1, so that their products are cosines; rows of zeros stay.
fn unit_rows(mut rows: Array2<f32>) -> Array2<f32> {
    for mut row in rows.outer_iter_mut() {
        let length = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.mapv_inplace(|value| (f64::from(value) / length) as f32);
        }
    }
    rows
}

/// Embeds patches, and checks that there is one embedding per patch.
pub(crate) fn encode(encoder: &dyn ImageEncoder, patches: &[RgbImage]) -> Result<Array2<f32>> {
    let embeddings = encoder.encode_images(patches)?;
    if embeddings.nrows() != patches.len() {
        let expected = format!("{} rows, one per patch", patches.len());
        return Err(Error::shape("image embeddings", expected, embeddings.nrows().to_string()));
    }
    Ok(embeddings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    fn groups() -> PromptGroups {
        PromptGroups::parse("[background]\nsand\nwater\n[seagrass]\ngrass").unwrap()
    }

    /// Gives these embeddings, whatever the input.
    struct Fixed(Array2<f32>);

    impl ImageEncoder for Fixed {
        fn encode_images(&self, _: &[RgbImage]) -> Result<Array2<f32>> {
            Ok(self.0.clone())
        }
    }

    impl TextEncoder for Fixed {
        fn encode_texts(&self, _: &[&str]) -> Result<Array2<f32>> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn unsure_patches_get_no_label() {
        let config = ZeroShotConfig { scale: 1.0, threshold: 0.6, ..Default::default() };
        let labels = prompt_group_labels(array![[0.0, 0.0, 0.5], [0.0, 0.0, 0.0]].view(), &groups(), &config).unwrap();
        assert_eq!(labels[0], None);
        let label = labels[1].unwrap();
        assert!(label.class == 0 && (label.confidence - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn lengths_and_scales_do_not_matter() {
        let prompts = array![[0.0, 3.0], [8.0, 6.0], [-5.0, 0.0]];
        let label = |factor: f32, image: Array2<f32>| {
            let config = ZeroShotConfig { scale: 3.0, ..Default::default() };
            let labeler = ZeroShotLabeler::from_embeddings(Fixed(image), &prompts * factor, groups(), config).unwrap();
            labeler.label(&[RgbImage::new(1, 1)]).unwrap()[0].unwrap()
        };
        // Those of the cosines 0.8, 0.96 and -0.6.
        let e = [0.8f64, 0.96, -0.6].map(|cosine| (3.0 * cosine).exp());
        let expected = (e[0] + e[1]) / e.iter().sum::<f64>();
        for (factor, image) in [(1.0, array![[0.6, 0.8]]), (0.01, array![[60.0, 80.0]])] {
            let PseudoLabel { class, confidence } = label(factor, image);
            assert!(class == 0 && (f64::from(confidence) - expected).abs() < 1e-5, "{confidence} for {expected}");
        }
        let config = ZeroShotConfig { scale: f32::MAX, ..Default::default() };
        let labels = prompt_group_labels(array![[-2.0, 1.0, 2.0]].view(), &groups(), &config).unwrap();
        assert_eq!(labels, [Some(PseudoLabel { class: 1, confidence: 1.0 })]);
    }

    #[test]
    fn wrong_embeddings_are_errors() {
        let config = ZeroShotConfig::default();
        let text = |texts: Array2<f32>, images: Array2<f32>| {
            let labeler = ZeroShotLabeler::new(Fixed(images), &Fixed(texts), groups(), config);
            labeler.and_then(|labeler| labeler.label(&[RgbImage::new(1, 1)])).unwrap_err().to_string()
        };
        assert!(text(Array2::ones((2, 4)), Array2::ones((1, 4))).contains("expected shape 3 rows"));
        assert!(text(Array2::zeros((3, 0)), Array2::zeros((1, 0))).contains("are empty"));
        assert!(text(Array2::from_elem((3, 1), f32::NAN), Array2::ones((1, 1))).contains("hold NaN"));
        assert!(text(Array2::ones((3, 4)), Array2::ones((1, 3))).contains("expected shape 4 values"));
        assert!(text(Array2::ones((3, 4)), Array2::ones((2, 4))).contains("expected shape 1 rows"));
        assert!(text(Array2::ones((3, 4)), array![[1.0, f32::NAN, 0.0, 0.0]]).contains("got NaN for patch 0"));
        let labeler =
            ZeroShotLabeler::from_embeddings(Fixed(Array2::ones((0, 0))), Array2::ones((3, 1)), groups(), config);
        assert_eq!(labeler.unwrap().label(&[]).unwrap(), []);
        assert!(prompt_group_labels(Array2::zeros((1, 2)).view(), &groups(), &config).is_err());
        for (scale, threshold) in [(0.0, 0.0), (f32::INFINITY, 0.0), (1.0, 1.5), (1.0, f32::NAN)] {
            assert!(ZeroShotConfig { scale, threshold, ..config }.validate().is_err());
        }
    }

    proptest! {
        #[test]
        fn rules_are_those_of_the_definition(cosines in prop::collection::vec(-1.0f32..1.0, 6), scale in 0.5f32..50.0) {
            let similarities = Array2::from_shape_vec((2, 3), cosines).unwrap();
            for rule in [GroupRule::BestPrompt, GroupRule::SummedProbability] {
                let config = ZeroShotConfig { scale, rule, threshold: 0.0 };
                let labels = prompt_group_labels(similarities.view(), &groups(), &config).unwrap();
                for (label, row) in labels.iter().zip(similarities.outer_iter()) {
                    let e: Vec<f64> = row.iter().map(|&cosine| f64::from(scale * cosine).exp()).collect();
                    let seagrass = e[2] / e.iter().sum::<f64>();
                    let expected = match rule {
                        GroupRule::BestPrompt => e[2] > e[0].max(e[1]),
                        GroupRule::SummedProbability => seagrass > 0.5,
                    };
                    let label = label.unwrap();
                    prop_assume!((seagrass - 0.5).abs() > 1e-5 && (e[2] / e[0].max(e[1]) - 1.0).abs() > 1e-5);
                    prop_assert_eq!(label.class, u8::from(expected));
                    let confidence = if expected { seagrass } else { 1.0 - seagrass };
                    prop_assert!((f64::from(label.confidence) - confidence).abs() < 1e-4);
                }
            }
        }
    }
}
