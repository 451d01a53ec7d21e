//! Reading a network's shape off a checkpoint, or off the configuration of `transformers`.

use std::path::Path;

use coral_core::{Error, Result};
use serde::Deserialize;

use super::config::SegFormerConfig;
use super::names::{CLASSIFIER, ENCODER, FIRST, HEAD};
use crate::Checkpoint;
use crate::weights::{lacking, read_off, sides};

impl SegFormerConfig {
    /// Reads the configuration off the tensor shapes of a checkpoint with a head.
    ///
    /// Shapes tell neither the strides, taken as published, nor the heads, taken as wide as divides the channels of all
    /// stages, which is right for the published networks, nor what training drops. Set those of a network of one's own.
    ///
    /// # Errors
    /// [`Error::Weights`] with the likely cause when it holds no SegFormer, or one without a head; [`Error::Format`] naming
    /// the tensor with an impossible shape.
    ///
    /// # Examples
    /// ```
    /// use coral_models::{Checkpoint, Parameters, SegFormer, SegFormerConfig, candle_core::Device};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("segformer.safetensors");
    /// let config = SegFormerConfig {
    ///     hidden_sizes: [4, 8, 20, 32],
    ///     depths: [1, 2, 1, 1],
    ///     decoder_hidden_size: 6,
    ///     ..SegFormerConfig::mit_b0(3)
    /// };
    /// let (weights, _) = Parameters::create(1, &Device::Cpu, |vb| SegFormer::new(&config, &vb))?;
    /// weights.save(&path)?;
    /// assert_eq!(SegFormerConfig::from_checkpoint(&Checkpoint::open(&path)?)?, config);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let checkpoint = &checkpoint.clone().with_segformer_names()?;
        let head = format!("{CLASSIFIER}weight");
        match checkpoint.shape(&head).and_then(|shape| shape.first()) {
            Some(&num_labels) => detect(checkpoint, num_labels),
            None => Err(lacking(checkpoint, &[FIRST, &head])),
        }
    }

    /// The same for a checkpoint whose head is to be another, or that has none, such as `nvidia/mit-b0`. The width of the
    /// head is that of the file, or else the published one: 256 for encoders of at most two blocks a stage and 768 for
    /// larger ones.
    ///
    /// # Errors
    /// As [`from_checkpoint`](Self::from_checkpoint), and [`Error::Format`] when there can be no such number of classes.
    pub fn from_encoder(checkpoint: &Checkpoint, num_labels: usize) -> Result<Self> {
        detect(&checkpoint.clone().with_segformer_names()?, num_labels)
    }

    /// Reads a `config.json` as the Python library `transformers` writes it for SegFormer. Its `layer_norm_eps` does not
    /// count, as in that library.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Format`] when it is for another model or its sizes do not fit
    /// each other.
    pub fn from_transformers_json(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let json: Transformers =
            serde_json::from_slice(&text).map_err(|error| Error::format(path, None, error.to_string()))?;
        json.config().map_err(|reason| Error::format(path, None, reason))
    }
}

fn detect(checkpoint: &Checkpoint, num_labels: usize) -> Result<SegFormerConfig> {
    read_off(checkpoint, || {
        let config = of_shapes(checkpoint, num_labels)?;
        config.validate()?;
        Ok(config)
    })
}

fn of_shapes(checkpoint: &Checkpoint, num_labels: usize) -> Result<SegFormerConfig> {
    let mut config = SegFormerConfig::mit_b0(num_labels);
    for stage in 0..4 {
        let [width, _, patch, _] = sides(checkpoint, &format!("{ENCODER}patch_embeddings.{stage}.proj.weight"))?;
        let block = |index: usize| format!("{ENCODER}block.{stage}.{index}.");
        let [hidden, _] = sides(checkpoint, &format!("{}mlp.dense1.weight", block(0)))?;
        let reduction = format!("{}attention.self.sr.weight", block(0));
        config.sr_ratios[stage] = match checkpoint.contains(&reduction) {
            true => sides::<4>(checkpoint, &reduction)?[2],
            false => 1,
        };
        let present = |&index: &usize| checkpoint.contains(&format!("{}mlp.dense1.weight", block(index)));
        config.depths[stage] = (0..).take_while(present).count();
        (config.hidden_sizes[stage], config.patch_sizes[stage]) = (width, patch);
        if !hidden.is_multiple_of(width) {
            let reason = format!("{hidden} rows; expected a multiple of the {width} columns");
            return Err(Error::input(format!("{}mlp.dense1.weight", block(0)), reason));
        }
        config.mlp_ratios[stage] = hidden / width;
    }
    let head = config.hidden_sizes.into_iter().fold(0, common_divisor);
    config.num_attention_heads = config.hidden_sizes.map(|width| width / head);
    let fuse = format!("{HEAD}linear_fuse.weight");
    config.decoder_hidden_size = match checkpoint.contains(&fuse) {
        true => sides::<4>(checkpoint, &fuse)?[0],
        false if config.depths.iter().all(|&depth| depth <= 2) => 256,
        false => 768,
    };
    Ok(config)
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// `config.json` of `transformers`, with the values that it leaves out.
#[derive(Deserialize)]
#[serde(default)]
struct Transformers {
    model_type: String,
    hidden_act: String,
    num_channels: usize,
    num_encoder_blocks: usize,
    hidden_sizes: [usize; 4],
    depths: [usize; 4],
    num_attention_heads: [usize; 4],
    sr_ratios: [usize; 4],
    mlp_ratios: [usize; 4],
    patch_sizes: [usize; 4],
    strides: [usize; 4],
    decoder_hidden_size: usize,
    drop_path_rate: f64,
    hidden_dropout_prob: f64,
    attention_probs_dropout_prob: f64,
    classifier_dropout_prob: f64,
    id2label: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Default for Transformers {
    fn default() -> Self {
        let SegFormerConfig {
            hidden_sizes,
            depths,
            num_attention_heads,
            sr_ratios,
            mlp_ratios,
            patch_sizes,
            strides,
            decoder_hidden_size,
            drop_path_rate,
            hidden_dropout,
            classifier_dropout,
            ..
        } = SegFormerConfig::mit_b0(2);
        Self {
            model_type: String::new(),
            hidden_act: "gelu".to_owned(),
            num_channels: 3,
            num_encoder_blocks: 4,
            hidden_sizes,
            depths,
            num_attention_heads,
            sr_ratios,
            mlp_ratios,
            patch_sizes,
            strides,
            decoder_hidden_size,
            drop_path_rate,
            hidden_dropout_prob: hidden_dropout,
            attention_probs_dropout_prob: 0.0,
            classifier_dropout_prob: classifier_dropout,
            id2label: None,
        }
    }
}

impl Transformers {
    fn config(self) -> std::result::Result<SegFormerConfig, String> {
        if self.model_type != "segformer" {
            return Err(format!("`model_type`: expected segformer, got `{}`", self.model_type));
        }
        if self.hidden_act != "gelu" {
            return Err(format!("`hidden_act`: expected gelu, got `{}`", self.hidden_act));
        }
        if (self.num_channels, self.num_encoder_blocks) != (3, 4) {
            return Err("`num_channels`, `num_encoder_blocks`: expected 3 and 4".to_owned());
        }
        if self.attention_probs_dropout_prob != 0.0 {
            return Err("`attention_probs_dropout_prob`: expected 0".to_owned());
        }
        let config = SegFormerConfig {
            // Without a list of classes there are two.
            num_labels: self.id2label.map_or(2, |labels| labels.len()),
            hidden_sizes: self.hidden_sizes,
            depths: self.depths,
            num_attention_heads: self.num_attention_heads,
            sr_ratios: self.sr_ratios,
            mlp_ratios: self.mlp_ratios,
            patch_sizes: self.patch_sizes,
            strides: self.strides,
            decoder_hidden_size: self.decoder_hidden_size,
            layer_norm_eps: 1e-5,
            drop_path_rate: self.drop_path_rate,
            hidden_dropout: self.hidden_dropout_prob,
            classifier_dropout: self.classifier_dropout_prob,
        };
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }
}
