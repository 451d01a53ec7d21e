use std::ops::Range;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::SamConfig;
use super::semantic_branch::{SemanticBranch, Semantics};
use super::two_way_transformer::TwoWayTransformer;
use crate::layers::{LayerNorm, Perceptron};
use crate::ops::{self, Derived};

/// Which of the mask tokens answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaskChoice {
    /// The first token, for prompts that leave no doubt.
    Single,
    /// The others: whole, part and subpart of an ambiguous prompt.
    Multiple,
    /// Every token, for training the classes of all of them.
    All,
}

/// What the decoder says of B prompts, M masks each.
#[derive(Debug, Clone)]
pub(crate) struct Decoded {
    /// B×M×4h×4w logits.
    pub(crate) low_res_masks: Tensor,
    /// B×M predicted IoU.
    pub(crate) iou: Tensor,
    /// Classes and features, where the network has a semantic branch.
    pub(crate) semantics: Option<Semantics>,
}

/// B prompts before their masks are drawn: what is known of the masks, and what they are made of.
#[derive(Debug, Clone)]
pub(crate) struct Scored {
    /// B×M predicted IoU.
    pub(crate) iou: Tensor,
    /// Classes and features, where the network has a semantic branch.
    pub(crate) semantics: Option<Semantics>,
    /// B×(h·w)×C image tokens.
    src: Tensor,
    /// B×M×C/8, the weights of each mask.
    hyper: Tensor,
    /// h and w.
    grid: (usize, usize),
}

/// Prompt tokens and image features to masks.
#[derive(Debug, Clone)]
pub(crate) struct MaskDecoder {
    transformer: TwoWayTransformer,
    /// (1 + M)×C: the IoU token and the mask tokens.
    output_tokens: Derived,
    upscaling: [Doubling; 2],
    upscaling_norm: LayerNorm,
    hypernetworks: Vec<Perceptron>,
    iou_head: Perceptron,
    semantic: Option<SemanticBranch>,
    mask_tokens: usize,
}

impl MaskDecoder {
    pub(crate) fn new(config: &SamConfig, vb: &VarBuilder) -> Result<Self> {
        let dim = config.dim;
        let unit = candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 };
        let iou_token = vb.pp("iou_token").get_with_hints((1, dim), "weight", unit)?;
        let mask_tokens = vb.pp("mask_tokens").get_with_hints((config.mask_tokens, dim), "weight", unit)?;
        let hypernetwork =
            |i: usize| Perceptron::new(&[dim, dim, dim, dim / 8], &vb.pp(format!("output_hypernetworks_mlps.{i}")));
        let mut iou_widths = vec![dim];
        iou_widths.extend(std::iter::repeat_n(config.iou_hidden, config.iou_depth.saturating_sub(1)));
        iou_widths.push(config.mask_tokens);
        let semantic = match &config.semantic {
            Some(semantic) => Some(SemanticBranch::new(config, *semantic, vb)?),
            None => None,
        };
        Ok(Self {
            transformer: TwoWayTransformer::new(config, &vb.pp("transformer"))?,
            output_tokens: Derived::new(vec![iou_token, mask_tokens], |tokens| Tensor::cat(tokens, 0))?,
            upscaling: [
                Doubling::new(dim, dim / 4, &vb.pp("output_upscaling.0"))?,
                Doubling::new(dim / 4, dim / 8, &vb.pp("output_upscaling.3"))?,
            ],
            upscaling_norm: LayerNorm::new(dim / 4, 1e-6, &vb.pp("output_upscaling.1"))?,
            hypernetworks: (0..config.mask_tokens).map(hypernetwork).collect::<Result<_>>()?,
            iou_head: Perceptron::new(&iou_widths, &vb.pp("iou_prediction_head"))?,
            semantic,
            mask_tokens: config.mask_tokens,
        })
    }

    /// Image features B×h×w×C (or 1×h×w×C for all prompts; the mask prompt already added), their 1×(h·w)×C places and
    /// B×T×C prompt tokens.
    pub(crate) fn forward(
        &self,
        image: &Tensor,
        places: &Tensor,
        prompts: &Tensor,
        choice: MaskChoice,
    ) -> Result<Decoded> {
        let scored = self.score(image, places, prompts, choice)?;
        let low_res_masks = self.draw(&scored.src, &scored.hyper, scored.grid)?;
        Ok(Decoded { low_res_masks, iou: scored.iou, semantics: scored.semantics })
    }

    /// [`forward`](Self::forward) up to the masks, whose pixels cost about a third of the work.
    pub(crate) fn score(
        &self,
        image: &Tensor,
        places: &Tensor,
        prompts: &Tensor,
        choice: MaskChoice,
    ) -> Result<Scored> {
        let (_, height, width, _) = image.dims4()?;
        let (hs, src) = self.transform(image, places, prompts)?;
        let chosen = self.chosen(choice);
        let iou = self.iou_head.forward(&hs.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)?;
        let hyper = chosen.clone().map(|i| self.hypernetworks[i].forward(&token(&hs, 1 + i)?));
        let hyper = Tensor::stack(&hyper.collect::<Result<Vec<_>>>()?, 1)?;
        let semantics = match &self.semantic {
            Some(branch) => {
                let tokens = chosen.clone().map(|i| token(&hs, 1 + i)).collect::<Result<Vec<_>>>()?;
                Some(branch.forward(&src, (height, width), chosen.start, &tokens)?)
            }
            None => None,
        };
        let iou = iou.narrow(1, chosen.start, chosen.len())?.contiguous()?;
        Ok(Scored { iou, semantics, src, hyper, grid: (height, width) })
    }

    fn chosen(&self, choice: MaskChoice) -> Range<usize> {
        match choice {
            MaskChoice::Single => 0..1,
            MaskChoice::Multiple => 1..self.mask_tokens,
            MaskChoice::All => 0..self.mask_tokens,
        }
    }

    /// What the class head looks at, B×M×N; `None` without a semantic branch.
    pub(crate) fn class_maps(
        &self,
        image: &Tensor,
        places: &Tensor,
        prompts: &Tensor,
        choice: MaskChoice,
    ) -> Result<Option<Tensor>> {
        let Some(branch) = &self.semantic else { return Ok(None) };
        let (_, height, width, _) = image.dims4()?;
        let (hs, src) = self.transform(image, places, prompts)?;
        let chosen = self.chosen(choice);
        let tokens = chosen.clone().map(|i| token(&hs, 1 + i)).collect::<Result<Vec<_>>>()?;
        branch.class_maps(&src, (height, width), chosen.start, &tokens).map(Some)
    }

    /// The classes that such maps show, B×M×K.
    pub(crate) fn classify_maps(&self, maps: &Tensor) -> Result<Option<Tensor>> {
        self.semantic.as_ref().map(|branch| branch.classify(maps).map(|found| found.logits)).transpose()
    }

    /// The masks of some of the prompts, in this order: N×M×4h×4w.
    pub(crate) fn masks_of(&self, scored: &Scored, prompts: &[u32]) -> Result<Tensor> {
        let rows = Tensor::new(prompts, scored.src.device())?;
        self.draw(&scored.src.index_select(&rows, 0)?, &scored.hyper.index_select(&rows, 0)?, scored.grid)
    }

    /// The transformer's outputs: B×(1 + M + T)×C tokens and B×(h·w)×C image tokens.
    pub(crate) fn transform(&self, image: &Tensor, places: &Tensor, prompts: &Tensor) -> Result<(Tensor, Tensor)> {
        let (shared, height, width, dim) = image.dims4()?;
        let batch = prompts.dim(0)?;
        let own = self.output_tokens.get()?.unsqueeze(0)?.broadcast_as((batch, 1 + self.mask_tokens, dim))?;
        let tokens = Tensor::cat(&[&own.contiguous()?, prompts], 1)?;
        self.transformer.forward(&tokens, &image.reshape((shared, height * width, dim))?, places)
    }

    /// Upscales the image tokens four times and multiplies them by each mask's weights: B×M×4h×4w.
    ///
    /// Each doubling turns a token into its four children, which stay next to each other.
    fn draw(&self, src: &Tensor, hyper: &Tensor, grid: (usize, usize)) -> Result<Tensor> {
        let (batch, tokens, dim) = src.dims3()?;
        let x = self.upscaling[0].forward(src)?.reshape((batch, tokens * 4, dim / 4))?;
        let x = ops::gelu(&self.upscaling_norm.forward(&x)?)?;
        let Doubling { weight, bias } = &self.upscaling[1];
        ops::draw_masks(&x, [&weight.get()?, &bias.get()?], hyper, grid)
    }
}

fn token(hs: &Tensor, index: usize) -> Result<Tensor> {
    hs.narrow(1, index, 1)?.squeeze(1)?.contiguous()
}

/// A transposed convolution with kernel and stride 2 as a linear layer from a token to its four children, in the
/// order of rows, each child's channels together.
#[derive(Debug, Clone)]
struct Doubling {
    /// 4·out×in.
    weight: Derived,
    /// 4·out.
    bias: Derived,
}

impl Doubling {
    fn new(inner: usize, out: usize, vb: &VarBuilder) -> Result<Self> {
        let init = candle_nn::init::DEFAULT_KAIMING_UNIFORM;
        let weight = vb.get_with_hints((inner, out, 2, 2), "weight", init)?;
        let bias = vb.get_with_hints(out, "bias", candle_nn::Init::Const(0.0))?;
        let by_child = |weights: &[Tensor]| weights[0].permute((2, 3, 1, 0))?.contiguous()?.flatten_to(2);
        Ok(Self {
            weight: Derived::new(vec![weight], by_child)?,
            bias: Derived::new(vec![bias], |weights| weights[0].repeat(4))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight.get()?, Some(&self.bias.get()?))
    }
}
