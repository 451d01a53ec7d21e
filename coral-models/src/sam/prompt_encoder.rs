use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::SamConfig;
use crate::layers::{LayerNorm, Linear};
use crate::ops::{self, Derived};

/// What a point stands for, with the label the published program gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointKind {
    /// No point at all (-1).
    Padding,
    /// Not part of the mask (0).
    Background,
    /// Part of the mask (1).
    Foreground,
    /// A box's top left corner (2).
    TopLeft,
    /// A box's bottom right corner (3).
    BottomRight,
}

/// A point in pixels of the resized image, before the half-pixel shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) kind: PointKind,
}

/// Points, boxes and masks to tokens of the decoder's width.
#[derive(Debug, Clone)]
pub(crate) struct PromptEncoder {
    dim: usize,
    image_size: usize,
    /// 2×(C/2) random frequencies, x first.
    frequencies: Tensor,
    /// 5×C in the order of [`PointKind`].
    kinds: Derived,
    /// 1×C, stands for a mask where there is none.
    no_mask: Tensor,
    shrink: [Linear; 2],
    norms: [LayerNorm; 2],
    widen: Linear,
}

impl PromptEncoder {
    pub(crate) fn new(config: &SamConfig, vb: &VarBuilder) -> Result<Self> {
        const EPS: f64 = 1e-6;
        let (dim, channels) = (config.dim, config.mask_prompt_channels);
        let normal = candle_nn::init::DEFAULT_KAIMING_NORMAL;
        let unit = candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 };
        let embedding = |name: &str| vb.pp(name).get_with_hints((1, dim), "weight", unit);
        let names = [
            "not_a_point_embed",
            "point_embeddings.0",
            "point_embeddings.1",
            "point_embeddings.2",
            "point_embeddings.3",
        ];
        let kinds = names.iter().map(|name| embedding(name)).collect::<Result<Vec<_>>>()?;
        let masks = vb.pp("mask_downscaling");
        let convolution = |name: &str, (out, inner, kernel): (usize, usize, usize)| -> Result<Linear> {
            let vb = masks.pp(name);
            let weight = vb.get_with_hints((out, inner, kernel, kernel), "weight", normal)?;
            let bias = vb.get_with_hints(out, "bias", candle_nn::Init::Const(0.0))?;
            Ok(Linear::from_weights(weight.reshape((out, inner * kernel * kernel))?, Some(bias)))
        };
        let first = channels / 4;
        let frequencies = vb.get_with_hints((2, dim / 2), "pe_layer.positional_encoding_gaussian_matrix", unit)?;
        Ok(Self {
            dim,
            image_size: config.image_size,
            // Drawn once and never trained.
            frequencies: frequencies.detach(),
            kinds: Derived::new(kinds, |kinds| Tensor::cat(kinds, 0))?,
            no_mask: embedding("no_mask_embed")?,
            shrink: [convolution("0", (first, 1, 2))?, convolution("3", (channels, first, 2))?],
            norms: [LayerNorm::new(first, EPS, &masks.pp("1"))?, LayerNorm::new(channels, EPS, &masks.pp("4"))?],
            widen: convolution("6", (dim, channels, 1))?,
        })
    }

    /// B prompts of T tokens each to B×T×C; `None` when T is 0.
    pub(crate) fn points(&self, prompts: &[Vec<Token>]) -> Result<Option<Tensor>> {
        let count = prompts.first().map_or(0, Vec::len);
        if prompts.iter().any(|tokens| tokens.len() != count) {
            candle_core::bail!("prompts of one batch need the same number of tokens");
        }
        if count == 0 {
            return Ok(None);
        }
        let tokens: Vec<Token> = prompts.iter().flatten().copied().collect();
        let size = self.image_size as f32;
        let places: Vec<[f32; 2]> = tokens.iter().map(|t| [(t.x + 0.5) / size, (t.y + 0.5) / size]).collect();
        // A padding point has no place.
        let present: Vec<f32> = tokens.iter().map(|t| f32::from(t.kind != PointKind::Padding)).collect();
        let (dtype, device) = (self.frequencies.dtype(), self.frequencies.device());
        let present = Tensor::from_vec(present, (tokens.len(), 1), device)?.to_dtype(dtype)?;
        let places = self.encode_places(&places)?.broadcast_mul(&present)?;
        let kinds: Vec<u32> = tokens.iter().map(|t| t.kind as u32).collect();
        let kinds = self.kinds.get()?.index_select(&Tensor::from_vec(kinds, tokens.len(), device)?, 0)?;
        (places + kinds)?.reshape((prompts.len(), count, self.dim)).map(Some)
    }

    /// Places in 0..1 to N×C sines and cosines of random frequencies (Tancik et al., *Fourier Features*, 2020).
    fn encode_places(&self, places: &[[f32; 2]]) -> Result<Tensor> {
        let centred: Vec<f32> = places.iter().flatten().map(|c| 2.0 * c - 1.0).collect();
        let centred = Tensor::from_vec(centred, (places.len(), 2), self.frequencies.device())?;
        let centred = centred.to_dtype(self.frequencies.dtype())?;
        let angles = (centred.matmul(&self.frequencies)? * (2.0 * std::f64::consts::PI))?;
        Tensor::cat(&[angles.sin()?, angles.cos()?], 1)
    }

    /// The places of an h×w token grid: 1×(h·w)×C.
    pub(crate) fn grid(&self, height: usize, width: usize) -> Result<Tensor> {
        let at = |i: usize, n: usize| (i as f32 + 0.5) / n as f32;
        let places: Vec<_> = (0..height).flat_map(|y| (0..width).map(move |x| [at(x, width), at(y, height)])).collect();
        self.encode_places(&places)?.unsqueeze(0)
    }

    /// B×4h×4w mask logits to B×h×w×C.
    pub(crate) fn masks(&self, logits: &Tensor) -> Result<Tensor> {
        let mut x = logits.unsqueeze(3)?;
        for (convolution, norm) in self.shrink.iter().zip(&self.norms) {
            x = ops::gelu(&norm.forward(&convolution.forward(&squares(&x)?)?)?)?;
        }
        self.widen.forward(&x)
    }

    /// 1×1×1×C, what stands for the mask when there is none.
    pub(crate) fn no_mask(&self) -> Result<Tensor> {
        self.no_mask.reshape((1, 1, 1, self.dim))
    }
}

/// N×H×W×C to N×H/2×W/2×4C, a 2×2 square's values in the order of a convolution's weights (channel, row, column).
fn squares(x: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    x.reshape(&[batch, height / 2, 2, width / 2, 2, channels][..])?
        .permute(&[0, 1, 3, 5, 2, 4][..])?
        .contiguous()?
        .reshape((batch, height / 2, width / 2, 4 * channels))
}
