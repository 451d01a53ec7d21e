use candle_core::Tensor;
use coral_core::image::RgbImage;
use coral_core::ndarray::Array2;
use coral_core::{ClassId, Error, FeatureExtractor, FeatureMap, Prompt, PromptableSegmenter, Result, ScoredMask, Size};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::embedding::Embedding;
use super::mask_decoder::{Decoded, MaskChoice};
use super::model::{PromptBatch, Sam};
use super::preprocess::{MaskUpsampler, resize_and_pad};
use super::prompt_tokens::{Signature, check_prompt};

/// How a [`Predictor`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PredictorConfig {
    /// Three masks (whole, part, subpart) for every prompt, instead of one.
    pub multimask_output: bool,
    /// Logits above it belong to the mask.
    pub mask_threshold: f32,
    /// Prompts that are decoded at once; bounds memory, does not change results.
    pub prompts_per_batch: usize,
}

impl Default for PredictorConfig {
    fn default() -> Self {
        Self { multimask_output: true, mask_threshold: 0.0, prompts_per_batch: 8 }
    }
}

/// A mask as the network gives it, before it is brought to the image's size.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedMask {
    /// Which of the prompts it answers.
    pub prompt: usize,
    /// 4h×4w logits.
    pub low_res_logits: Array2<f32>,
    /// The network's estimate of the mask's IoU with the truth.
    pub predicted_iou: f32,
    /// K class logits; empty without a semantic branch.
    pub class_logits: Vec<f32>,
    /// The semantic feature; empty without a semantic branch.
    pub features: Vec<f32>,
}

impl DecodedMask {
    /// The class of the largest logit, the first of equals.
    pub fn class(&self) -> Option<ClassId> {
        best_class(&self.class_logits)
    }
}

/// The class of the largest logit, the first of equals.
pub(super) fn best_class<'a>(logits: impl IntoIterator<Item = &'a f32>) -> Option<ClassId> {
    let best = logits.into_iter().enumerate().fold(None, |best: Option<(usize, f32)>, (id, &logit)| {
        if best.is_none_or(|(_, largest)| logit > largest) { Some((id, logit)) } else { best }
    });
    best.and_then(|(id, _)| ClassId::try_from(id).ok())
}

/// Photographs and prompts in pixels to masks in pixels, by a network of the Segment Anything family.
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023. Against the published program: embeddings within 2e-4,
/// low-resolution logits within 1e-4, masks equal but for at most 0.1 % of the pixels.
#[derive(Debug, Clone)]
pub struct Predictor {
    sam: Sam,
    config: PredictorConfig,
}

impl Predictor {
    /// Wraps a network, with the default configuration.
    pub fn new(sam: Sam) -> Self {
        Self { sam, config: PredictorConfig::default() }
    }

    /// Replaces the configuration.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for no prompt per batch or a threshold that is no number.
    pub fn with_config(self, config: PredictorConfig) -> Result<Self> {
        if config.prompts_per_batch == 0 {
            return Err(Error::parameter("prompts_per_batch", "expected at least 1, got 0"));
        }
        if !config.mask_threshold.is_finite() {
            return Err(Error::parameter(
                "mask_threshold",
                format!("expected a number, got {}", config.mask_threshold),
            ));
        }
        Ok(Self { config, ..self })
    }

    /// The network.
    pub fn sam(&self) -> &Sam {
        &self.sam
    }

    /// The configuration.
    pub fn config(&self) -> &PredictorConfig {
        &self.config
    }

    /// Resizes, normalises and pads the image and runs the image encoder.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an image without pixels, [`Error::Model`] when the tensor library fails or a feature
    /// is not finite.
    pub fn embed(&self, image: &RgbImage) -> Result<Embedding> {
        let side = self.sam.config().image_size as u32;
        let (pixels, input_size) = resize_and_pad(image, side, self.sam.device())?;
        let features = self.sam.encode(&pixels)?;
        let total = features.abs().and_then(|f| f.sum_all()?.to_scalar::<f32>()).map_err(Error::model)?;
        if !total.is_finite() {
            return Err(Error::model("the image encoder gave features that are not finite"));
        }
        Ok(Embedding::new(features, Size::of(image), input_size, side))
    }

    /// The masks for one prompt, highest predicted IoU first.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a prompt that is empty, lies outside the image or holds a value that is not finite;
    /// [`Error::ShapeMismatch`] for mask logits of another size or an embedding of another network; [`Error::Model`]
    /// when the tensor library fails or an answer is not finite.
    pub fn predict(&self, embedding: &Embedding, prompt: &Prompt) -> Result<Vec<ScoredMask>> {
        Ok(self.predict_batch(embedding, std::slice::from_ref(prompt))?.into_iter().next().unwrap_or_default())
    }

    /// The masks for each of many prompts, in their order.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn predict_batch(&self, embedding: &Embedding, prompts: &[Prompt]) -> Result<Vec<Vec<ScoredMask>>> {
        let upsampler = self.upsampler(embedding)?;
        let mut answers = vec![Vec::new(); prompts.len()];
        self.decode(embedding, prompts, self.config.multimask_output, |batch| {
            let scored: Vec<_> =
                batch.into_par_iter().map(|mask| Ok((mask.prompt, self.score(&upsampler, embedding, mask)?))).collect();
            for result in scored {
                let (prompt, mask) = result?;
                answers[prompt].push(mask);
            }
            Ok(())
        })?;
        for masks in &mut answers {
            masks.sort_by(|a: &ScoredMask, b| b.predicted_iou.total_cmp(&a.predicted_iou));
        }
        Ok(answers)
    }

    /// Runs prompts through the decoder in batches of equal structure and hands over each batch's masks at low
    /// resolution; `multimask_output` chooses three masks a prompt or one.
    ///
    /// # Errors
    /// As [`predict`](Self::predict), and those of `take`.
    pub fn decode(
        &self,
        embedding: &Embedding,
        prompts: &[Prompt],
        multimask_output: bool,
        mut take: impl FnMut(Vec<DecodedMask>) -> Result<()>,
    ) -> Result<()> {
        let low_res = self.check_embedding(embedding)?;
        for (index, prompt) in prompts.iter().enumerate() {
            check_prompt(prompt, index, embedding.original_size(), low_res)?;
        }
        let features = embedding.features().to_device(self.sam.device()).map_err(Error::model)?;
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&i| Signature::of(&prompts[i]));
        let choice = if multimask_output { MaskChoice::Multiple } else { MaskChoice::Single };
        for group in order.chunk_by(|&a, &b| Signature::of(&prompts[a]) == Signature::of(&prompts[b])) {
            for batch in group.chunks(self.config.prompts_per_batch) {
                let run = || -> candle_core::Result<Decoded> {
                    let tokens: Vec<_> = batch.iter().map(|&i| embedding.tokens(&prompts[i])).collect();
                    let masks = self.mask_prompts(prompts, batch)?;
                    let prompts = PromptBatch { masks: masks.as_ref(), ..PromptBatch::of(&tokens) };
                    self.sam.decode(&features, &prompts, choice)
                };
                take(unpack(&run().map_err(Error::model)?, batch)?)?;
            }
        }
        Ok(())
    }

    fn mask_prompts(&self, prompts: &[Prompt], batch: &[usize]) -> candle_core::Result<Option<Tensor>> {
        let masks: Vec<&Array2<f32>> = batch.iter().filter_map(|&i| prompts[i].mask_logits.as_ref()).collect();
        let Some(first) = masks.first() else {
            return Ok(None);
        };
        let values: Vec<f32> = masks.iter().flat_map(|mask| mask.iter().copied()).collect();
        Tensor::from_vec(values, (masks.len(), first.nrows(), first.ncols()), self.sam.device()).map(Some)
    }

    /// What brings low-resolution logits to the size of the embedded image.
    pub(crate) fn upsampler(&self, embedding: &Embedding) -> Result<MaskUpsampler> {
        let low_res = self.check_embedding(embedding)?;
        embedding.upsampler(low_res)
    }

    /// The size of the low-resolution masks, when the embedding is one of this network.
    fn check_embedding(&self, embedding: &Embedding) -> Result<Size> {
        embedding.expect_of(self.sam.config(), "embedding")
    }

    fn score(&self, upsampler: &MaskUpsampler, embedding: &Embedding, decoded: DecodedMask) -> Result<ScoredMask> {
        let values = decoded.low_res_logits.as_slice().ok_or_else(|| Error::model("mask logits are not contiguous"))?;
        let logits = upsampler.upsample(values)?;
        let inside = logits.into_iter().map(|logit| logit > self.config.mask_threshold).collect();
        let mask = Array2::from_shape_vec(embedding.original_size().shape(), inside).map_err(Error::model)?;
        let class = decoded.class();
        Ok(ScoredMask {
            mask,
            predicted_iou: decoded.predicted_iou,
            class,
            mask_logits: decoded.low_res_logits,
            features: decoded.features,
        })
    }
}

/// Masks of a batch in the order of its prompts.
fn unpack(decoded: &Decoded, prompts: &[usize]) -> Result<Vec<DecodedMask>> {
    let read = || -> candle_core::Result<_> {
        let (_, per_prompt, height, width) = decoded.low_res_masks.dims4()?;
        let masks = decoded.low_res_masks.flatten_all()?.to_vec1::<f32>()?;
        let iou = decoded.iou.flatten_all()?.to_vec1::<f32>()?;
        let rows = |t: &Tensor| t.flatten_to(1)?.to_vec2::<f32>();
        let (classes, features) = match &decoded.semantics {
            Some(s) => (rows(&s.logits)?, rows(&s.features)?),
            None => (vec![vec![]; iou.len()], vec![vec![]; iou.len()]),
        };
        Ok((masks, iou, classes, features, (per_prompt, height, width)))
    };
    let (masks, iou, classes, features, (per_prompt, height, width)) = read().map_err(Error::model)?;
    let planes = masks.chunks_exact(height * width);
    let mut result = Vec::with_capacity(iou.len());
    for (index, (((plane, predicted_iou), class_logits), features)) in
        planes.zip(iou).zip(classes).zip(features).enumerate()
    {
        let finite =
            predicted_iou.is_finite() && class_logits.iter().chain(plane).chain(&features).all(|v| v.is_finite());
        if !finite {
            return Err(Error::model("the mask decoder gave values that are not finite"));
        }
        let low_res_logits = Array2::from_shape_vec((height, width), plane.to_vec()).map_err(Error::model)?;
        result.push(DecodedMask {
            prompt: prompts[index / per_prompt],
            low_res_logits,
            predicted_iou,
            class_logits,
            features,
        });
    }
    Ok(result)
}

impl PromptableSegmenter for Predictor {
    type Embedding = Embedding;

    fn embed(&self, image: &RgbImage) -> Result<Embedding> {
        Self::embed(self, image)
    }

    fn predict(&self, embedding: &Embedding, prompt: &Prompt) -> Result<Vec<ScoredMask>> {
        Self::predict(self, embedding, prompt)
    }
}

/// The image encoder's features.
impl FeatureExtractor for Predictor {
    fn dim(&self) -> usize {
        self.sam.config().dim
    }

    fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
        self.embed(image)?.feature_map()
    }
}
