use std::fmt;
use std::path::Path;

use candle_core::{Device, Tensor};
use coral_core::ndarray::Array2;
use coral_core::{Dataset, Error, PointPrompt, Progress, Prompt, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::adapter::{ADAPTER, TextSam};
use super::config::TextPrompterConfig;
use super::sample::{InstructedImage, PairBatch, TextSample};
use super::sentences::SentenceEmbeddings;
use crate::sam::mask_decoder::MaskChoice;
use crate::sam::model::{PromptBatch, ignored};
use crate::sam::prompt_tokens::check_prompt;
use crate::sam::training::{Backward, EpochSums, RoundInput, SamEpoch, Scene, Shares, Wanted, fresh_semantics};
use crate::train::{STATE_PREFIXES, Settings, Trained, Trainer};
use crate::{BatchPlan, Checkpoint, Embedding, Fresh, Parameters, Predictor, epoch_order, for_each_batch};

/// What a sentence names in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct TextAnswer {
    /// H×W of the original image, true inside; empty when the image does not show what the sentence names.
    pub mask: Array2<bool>,
    /// How probable it is that the image shows it, 0 to 1.
    pub presence: f32,
    /// The network's estimate of the mask's IoU with the truth.
    pub predicted_iou: f32,
}

/// Follows sentences: a network of the Segment Anything family with an adapter that makes prompt tokens of the embedding of a
/// sentence, and what trains both.
///
/// Any [`TextEncoder`](coral_core::TextEncoder) gives the embeddings, e.g. CLIP's; it stays as it is, and so does the image
/// encoder. Sentences that name nothing in an image are answered with an empty mask: the semantic branch learns to tell.
///
/// # References
/// Zheng et al., *CoralSCOP: Segment any COral Image on this Planet*, CVPR 2024, instruction-following tuning. Sizes, losses and
/// learning rates are not published; the losses here are those of [`SamLoss`](crate::SamLoss).
pub struct TextPrompter {
    pub(super) trained: Trained<TextPrompterConfig>,
}

impl TextPrompter {
    /// A network with initial values drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the setting that is out of range.
    pub fn new(config: TextPrompterConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::of(config, |config| Parameters::create(seed, device, |vb| config.build(&vb)))
    }

    /// A network that starts from a checkpoint of CoralSCOP or Segment Anything; what it lacks is drawn from `seed`: the adapter,
    /// and the semantic branch or its last layer where that is for another number of classes.
    ///
    /// # Errors
    /// [`Error::Weights`] when the checkpoint is of another network; [`Error::InvalidParameter`] as for [`new`](Self::new).
    pub fn fine_tune(config: TextPrompterConfig, checkpoint: &Checkpoint, seed: u64, device: &Device) -> Result<Self> {
        let checkpoint = checkpoint.clone().with_original_sam_names()?;
        let mut prefixes: Vec<&str> = fresh_semantics(&checkpoint, Some(2)).into_iter().collect();
        if !checkpoint.names().any(|name| name.starts_with(ADAPTER)) {
            prefixes.push(ADAPTER);
        }
        let mut ignore = STATE_PREFIXES.to_vec();
        ignore.extend(ignored(&config.network));
        let fresh = Fresh { prefixes: &prefixes, seed, ignore: &ignore };
        Self::of(config, |config| Parameters::load_partly(&checkpoint, device, fresh, |vb| config.build(&vb)))
    }

    /// Reads what [`save`](Self::save) wrote, with its settings.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read, or holds no settings or impossible ones;
    /// [`Error::Weights`] when it is damaged.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        Trained::open(&checkpoint, |config: TextPrompterConfig| Self::fine_tune(config, &checkpoint, 0, device))
    }

    fn of(
        config: TextPrompterConfig,
        make: impl FnOnce(&TextPrompterConfig) -> Result<(Parameters, TextSam)>,
    ) -> Result<Self> {
        let part = config.training.part;
        let trained = Trained::new(config, |config| {
            let (mut parameters, _) = make(config)?;
            parameters.freeze(|name| !part.contains(name));
            let network = parameters.build(|vb| config.build(&vb))?;
            Ok((parameters, network))
        })?;
        Ok(Self { trained })
    }

    /// The settings.
    pub fn config(&self) -> &TextPrompterConfig {
        &self.trained.config
    }

    /// What trains the network, to judge an epoch ([`Trainer::judge`]) or the like.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        self.trained.trainer_mut()
    }

    /// The network without sentences, which embeds photographs.
    ///
    /// # Errors
    /// [`Error::Model`] when there is no memory for it.
    pub fn predictor(&self) -> Result<Predictor> {
        Ok(Predictor::new(self.trained.inference()?.sam.clone()))
    }

    /// Writes weights and settings to a `safetensors` file, which appears whole or not at all.
    ///
    /// # Errors
    /// Those of [`Parameters::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.trained.save(path.as_ref())
    }

    /// Writes the state of the training too, so that [`resume`](Self::resume) goes on as if nothing had happened; `extra` is what
    /// the caller wants to find again, e.g. the next epoch.
    ///
    /// # Errors
    /// Those of [`Trainer::save`].
    pub fn save_training(&self, path: impl AsRef<Path>, extra: &impl Serialize) -> Result<()> {
        self.trained.save_training(path.as_ref(), extra)
    }

    /// Goes back to a state that [`save_training`](Self::save_training) wrote, and gives the caller's part of it.
    ///
    /// # Errors
    /// Those of [`Trainer::resume`], and [`Error::Format`] naming the setting that was another; nothing is changed then.
    pub fn resume<T: DeserializeOwned>(&mut self, path: impl AsRef<Path>) -> Result<T> {
        self.trained.resume(path.as_ref())
    }

    /// One pass over images, in an order and with points drawn from `seed`.
    ///
    /// # Errors
    /// When an image cannot be loaded, a mask has another size than its photograph, a sentence was not encoded or has an embedding
    /// of another width, or the training diverges.
    pub fn fit_epoch(
        &mut self,
        images: &dyn Dataset<Item = InstructedImage>,
        sentences: &SentenceEmbeddings,
        (seed, progress): (u64, &dyn Progress),
    ) -> Result<SamEpoch> {
        let batches = epoch_order(images.len(), seed, 0).into_iter().map(|index| vec![index]).collect();
        let plan = BatchPlan::of_epoch(batches, seed);
        let config = self.trained.config.clone();
        let load = |index: usize, seed: u64| TextSample::load(&config, images, sentences, (index, seed));
        self.trained.start_epoch()?;
        let mut sums = EpochSums::default();
        progress.start(images.len() as u64, "images");
        for_each_batch(&plan, config.training.loader, &load, |samples| {
            for sample in samples {
                self.step(&sample, &mut sums)?;
                progress.advance(1);
            }
            Ok(())
        })?;
        let report = self.trained.trainer.finish_epoch()?;
        progress.finish();
        Ok(sums.report(report))
    }

    fn step(&mut self, sample: &TextSample, sums: &mut EpochSums) -> Result<()> {
        sums.vanished += sample.vanished;
        if sample.len() == 0 {
            return Ok(());
        }
        let network = &self.trained.network;
        let device = self.trained.trainer.parameters().device();
        let features = sample.embedding.features().to_device(&device).map_err(Error::model)?;
        let mut backward = Backward::new(self.trained.trainer.parameters(), features)?;
        let seen = backward.seen.clone();
        let share = |count: usize| 1.0 / count.max(1) as f64;
        let counted = sample.batches.iter().flat_map(|batch| &batch.truths.counted).filter(|&&counted| counted).count();
        let scene = Scene {
            sam: &network.sam,
            features: &seen,
            frame: &sample.frame,
            sizes: sample.sizes,
            loss: &self.trained.config.training.loss,
            wanted: Wanted { masks: true, classes: true },
            shares: Shares { mask: share(counted), class: share(sample.len()) },
        };
        for PairBatch { tokens, sentences, truths } in &sample.batches {
            let extra = text_tokens(network, sentences, tokens.len(), &self.trained.config)?;
            let input = RoundInput {
                tokens: tokens.clone(),
                masks: None,
                extra: Some(extra),
                choice: MaskChoice::Single,
                draw: true,
            };
            let part = scene.round(&input, truths)?.loss;
            sums.parts.add(&part.sums);
            part.loss.as_ref().map_or(Ok(()), |loss| backward.add(loss, &sample.name))?;
        }
        // Sentences alone that name nothing, of which neither pixels nor presence count.
        if backward.is_empty() {
            return Ok(());
        }
        let (value, gradients) = backward.finish()?;
        sums.images += 1;
        self.trained.trainer.step_collected(value, gradients, sample.len())
    }

    /// What the sentence of this embedding names in an image; points inside of it help. Nothing was learnt of points outside.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an embedding of another width or of another network; [`Error::InvalidInput`] for a point
    /// outside of the image; [`Error::Model`] when the tensor library fails.
    pub fn predict(&self, embedding: &Embedding, sentence: &[f32], points: &[PointPrompt]) -> Result<TextAnswer> {
        let (network, config) = (self.trained.inference()?, &self.trained.config);
        let low_res = embedding.expect_of(&config.network, "embedding")?;
        let prompt = Prompt { points: points.to_vec(), ..Prompt::default() };
        if !points.is_empty() {
            check_prompt(&prompt, 0, embedding.original_size(), low_res)?;
        }
        let tokens = [embedding.tokens(&prompt)];
        let extra = text_tokens(&network, sentence, 1, config)?;
        let batch = PromptBatch { tokens: &tokens, masks: None, extra: Some(&extra) };
        let answer = || -> candle_core::Result<_> {
            let features = embedding.features().to_device(network.sam.device())?;
            let decoded = network.sam.decode(&features, &batch, MaskChoice::Single)?;
            let semantics = decoded.semantics.ok_or_else(|| candle_core::Error::msg("no semantic branch"))?;
            let logits = semantics.logits.flatten_all()?.to_vec1::<f32>()?;
            let iou = decoded.iou.flatten_all()?.to_vec1::<f32>()?[0];
            Ok((logits, iou, decoded.low_res_masks.flatten_all()?.to_vec1::<f32>()?))
        };
        let (logits, predicted_iou, plane) = answer().map_err(Error::model)?;
        let presence = 1.0 / (1.0 + (logits[0] - logits[1]).exp());
        if !presence.is_finite() || !predicted_iou.is_finite() || plane.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::model("the mask decoder gave values that are not finite"));
        }
        let shape = embedding.original_size().shape();
        let mask = match presence >= config.presence_threshold {
            true => {
                let inside =
                    embedding.upsampler(low_res)?.upsample(&plane)?.into_iter().map(|logit| logit > 0.0).collect();
                Array2::from_shape_vec(shape, inside).map_err(Error::model)?
            }
            false => Array2::from_elem(shape, false),
        };
        Ok(TextAnswer { mask, presence, predicted_iou })
    }
}

/// B×E×C tokens of B sentences.
fn text_tokens(network: &TextSam, sentences: &[f32], count: usize, config: &TextPrompterConfig) -> Result<Tensor> {
    let dim = config.adapter.text_dim;
    if sentences.len() != count * dim {
        let actual = format!("{}", sentences.len() / count.max(1));
        return Err(Error::shape("the embedding of a sentence", format!("{dim} values"), actual));
    }
    let tensor = Tensor::from_slice(sentences, (count, dim), network.sam.device());
    tensor.and_then(|sentences| network.tokens(&sentences)).map_err(Error::model)
}

impl fmt::Debug for TextPrompter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TextPrompter").field("config", &self.trained.config).finish_non_exhaustive()
    }
}
