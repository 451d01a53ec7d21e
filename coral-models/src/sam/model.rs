use std::path::Path;

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use coral_core::{Error, Result};

use super::config::{EncoderConfig, SamConfig};
use super::image_encoder::ImageEncoder;
use super::mask_decoder::{Decoded, MaskChoice, MaskDecoder};
use super::prompt_encoder::{PromptEncoder, Token};
use crate::{Checkpoint, load};

/// A network of the Segment Anything family: image encoder, prompt encoder, mask decoder and, for CoralSCOP, the
/// semantic branch.
///
/// It works on tensors; [`Predictor`](super::Predictor) wraps it for photographs and prompts in pixels.
#[derive(Debug, Clone)]
pub struct Sam {
    config: SamConfig,
    encoder: Encoder,
    prompt_encoder: PromptEncoder,
    decoder: MaskDecoder,
    device: Device,
}

#[derive(Debug, Clone)]
enum Encoder {
    Vit(ImageEncoder),
}

impl Sam {
    /// Builds the network from weights under their original names.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an impossible configuration, [`Error::Model`] when a tensor is missing or has
    /// another shape.
    pub fn new(config: SamConfig, weights: VarBuilder<'_>) -> Result<Self> {
        config.validate()?;
        Self::build(config, &weights).map_err(Error::model)
    }

    fn build(config: SamConfig, vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let EncoderConfig::Vit(vit) = &config.encoder;
        Ok(Self {
            encoder: Encoder::Vit(ImageEncoder::new(vit, config.dim, &vb.pp("image_encoder"))?),
            prompt_encoder: PromptEncoder::new(&config, &vb.pp("prompt_encoder"))?,
            decoder: MaskDecoder::new(&config, &vb.pp("mask_decoder"))?,
            device: vb.device().clone(),
            config,
        })
    }

    /// Opens a checkpoint on the CPU, whichever network of the family it holds and whichever names it uses.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read, [`Error::Weights`] with the likely cause when it
    /// holds another network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let config = SamConfig::from_checkpoint(&checkpoint)?;
        Self::load(&checkpoint, config, &Device::Cpu)
    }

    /// Loads a checkpoint as the network of a configuration, e.g. one of [`SamConfig::from_checkpoint`] with another
    /// image size.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::InvalidParameter`] for an impossible configuration.
    pub fn load(checkpoint: &Checkpoint, config: SamConfig, device: &Device) -> Result<Self> {
        config.validate()?;
        load(checkpoint, device, &[], |weights| Self::build(config, &weights))
    }

    /// The network's shape.
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// N×3×H×W normalised pixels, H and W multiples of the token size, to N×h×w×C image features.
    ///
    /// # Errors
    /// [`Error::Model`] for another shape or when the tensor library fails.
    pub fn encode(&self, images: &Tensor) -> Result<Tensor> {
        self.encode_with(images, |_, _| {})
    }

    /// [`encode`](Self::encode) that also shows the tokens after the patch embedding (number 0) and after every block
    /// (1, 2, …).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with(&self, images: &Tensor, mut visit: impl FnMut(usize, &Tensor)) -> Result<Tensor> {
        let Encoder::Vit(encoder) = &self.encoder;
        encoder
            .forward_with(images, |index, tokens| {
                visit(index, tokens);
                Ok(())
            })
            .map_err(Error::model)
    }

    /// Masks of B prompts with the same number of tokens each on one image's 1×h×w×C features; `masks` are B×4h×4w
    /// logits of earlier masks.
    pub(crate) fn decode(
        &self,
        features: &Tensor,
        prompts: &[Vec<Token>],
        masks: Option<&Tensor>,
        choice: MaskChoice,
    ) -> candle_core::Result<Decoded> {
        let (_, height, width, dim) = features.dims4()?;
        let dense = match masks {
            Some(masks) => self.prompt_encoder.masks(masks)?,
            None => self.prompt_encoder.no_mask()?,
        };
        let image = features.broadcast_add(&dense)?;
        let places = self.prompt_encoder.grid(height, width)?;
        let tokens = match self.prompt_encoder.points(prompts)? {
            Some(tokens) => tokens,
            None => Tensor::zeros((prompts.len(), 0, dim), features.dtype(), features.device())?,
        };
        self.decoder.forward(&image, &places, &tokens, choice)
    }
}

#[cfg(test)]
mod tests {
    use coral_core::ndarray::ArrayD;
    use coral_core::testing::GoldenCase;

    use super::super::prompt_encoder::PointKind;
    use super::*;
    use crate::Normalization;

    fn open(name: &str) -> (GoldenCase, Sam) {
        let case = GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), name).unwrap();
        let path = case.dir().join("weights.safetensors");
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let mut config = SamConfig::from_shapes(|name| tensors.get(name).map(|t| t.dims().to_vec())).unwrap();
        config.decoder_heads = case.number("/config/dec_heads").unwrap() as usize;
        let weights = VarBuilder::from_tensors(tensors, candle_core::DType::F32, &Device::Cpu);
        (case, Sam::new(config, weights).unwrap())
    }

    fn tensor(case: &GoldenCase, name: &str) -> Tensor {
        let array = case.f32(name).unwrap();
        Tensor::from_vec(array.iter().copied().collect::<Vec<_>>(), array.shape(), &Device::Cpu).unwrap()
    }

    fn assert_close(what: &str, ours: &Tensor, expected: &Tensor, tolerance: f32) {
        assert_eq!(ours.dims(), expected.dims(), "{what}");
        let difference = (ours - expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let difference = difference.to_scalar::<f32>().unwrap();
        assert!(difference <= tolerance, "{what}: off by {difference}");
    }

    fn tokens(case: &GoldenCase, prompt: &str) -> Vec<Vec<Token>> {
        let names = case.tensor_names().unwrap();
        let mut prompts: Vec<Vec<Token>> = vec![];
        let key = |part: &str| format!("{prompt}/{part}");
        let boxes = names.contains(&key("boxes")).then(|| case.f32(&key("boxes")).unwrap());
        if names.contains(&key("point_coords")) {
            let labels = case.i64(&key("point_labels")).unwrap();
            for (places, labels) in case.f32(&key("point_coords")).unwrap().outer_iter().zip(labels.outer_iter()) {
                let kind = |label: i64| match label {
                    -1 => PointKind::Padding,
                    0 => PointKind::Background,
                    _ => PointKind::Foreground,
                };
                let point =
                    |(p, l): (coral_core::ndarray::ArrayViewD<f32>, &i64)| Token { x: p[0], y: p[1], kind: kind(*l) };
                prompts.push(places.outer_iter().zip(labels.iter()).map(point).collect());
            }
            if boxes.is_none() {
                prompts.iter_mut().for_each(|p| p.push(Token { x: 0.0, y: 0.0, kind: PointKind::Padding }));
            }
        }
        if let Some(boxes) = boxes {
            prompts.resize(boxes.shape()[0], vec![]);
            for (prompt, corners) in prompts.iter_mut().zip(boxes.outer_iter()) {
                prompt.push(Token { x: corners[0], y: corners[1], kind: PointKind::TopLeft });
                prompt.push(Token { x: corners[2], y: corners[3], kind: PointKind::BottomRight });
            }
        }
        prompts
    }

    fn pixels(case: &GoldenCase, sam: &Sam) -> Tensor {
        let resized: ArrayD<u8> = case.u8("image_resized_u8").unwrap();
        let size = sam.config().image_size;
        let normal = Normalization::IMAGENET;
        let mut values = vec![0.0f32; 3 * size * size];
        for (at, &v) in resized.indexed_iter() {
            let value = (f32::from(v) / 255.0 - normal.mean[at[2]]) / normal.std[at[2]];
            values[(at[2] * size + at[0]) * size + at[1]] = value;
        }
        Tensor::from_vec(values, (1, 3, size, size), &Device::Cpu).unwrap()
    }

    fn check(name: &str) {
        let (case, sam) = open(name);
        let features = sam
            .encode_with(&pixels(&case, &sam), |index, tokens| {
                let name = if index == 0 { "enc.patch_embed".into() } else { format!("enc.block{}", index - 1) };
                assert_close(&name, tokens, &tensor(&case, &name), 2e-4);
            })
            .unwrap();
        let expected = tensor(&case, "image_embedding").permute((0, 2, 3, 1)).unwrap();
        assert_close("image_embedding", &features, &expected, 2e-4);
        for prompt in case.value("/prompts").unwrap().as_array().unwrap() {
            check_prompt(&case, &sam, &expected.contiguous().unwrap(), prompt.as_str().unwrap());
        }
    }

    fn check_prompt(case: &GoldenCase, sam: &Sam, features: &Tensor, prompt: &str) {
        let names = case.tensor_names().unwrap();
        let has = |part: &str| names.contains(&format!("{prompt}/{part}"));
        let expected = |part: &str| tensor(case, &format!("{prompt}/{part}"));
        let mut prompts = tokens(case, prompt);
        if prompts.is_empty() {
            prompts.push(vec![]);
        } else {
            let sparse = sam.prompt_encoder.points(&prompts).unwrap().unwrap();
            assert_close(&format!("{prompt}/sparse"), &sparse, &expected("sparse_embeddings"), 2e-5);
        }
        let masks = has("mask_input").then(|| expected("mask_input").squeeze(1).unwrap());
        if let Some(masks) = &masks {
            let dense = sam.prompt_encoder.masks(masks).unwrap().permute((0, 3, 1, 2)).unwrap();
            assert_close(&format!("{prompt}/dense"), &dense, &expected("dense_embeddings"), 2e-4);
        }
        for (multi, choice) in [(0, MaskChoice::Single), (1, MaskChoice::Multiple)] {
            let out = sam.decode(features, &prompts, masks.as_ref(), choice).unwrap();
            let part = |name: &str| format!("multi{multi}/{name}");
            assert_close(&part("masks"), &out.low_res_masks, &expected(&part("low_res_masks")), 1e-4);
            assert_close(&part("iou"), &out.iou, &expected(&part("iou")), 1e-4);
            if let Some(semantics) = &out.semantics {
                assert_close(&part("cate"), &semantics.logits, &expected(&part("cate_pred")), 1e-4);
                assert_close(&part("features"), &semantics.features, &expected(&part("fc_features")), 1e-4);
            }
        }
    }

    #[test]
    fn sam_tiny_inside() {
        check("sam_tiny");
    }

    #[test]
    fn coralscop_tiny_inside() {
        check("coralscop_tiny");
    }
}
