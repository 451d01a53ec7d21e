use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::{SamConfig, SemanticConfig};
use crate::layers::Perceptron;
use crate::{Interpolation, ops};

/// What the semantic branch says of B prompts with M masks each.
#[derive(Debug, Clone)]
pub(crate) struct Semantics {
    /// B×M×K class logits.
    pub(crate) logits: Tensor,
    /// B×M×D semantic features, the last hidden layer of the class head.
    pub(crate) features: Tensor,
}

/// CoralSCOP's parallel semantic branch: which class each mask is.
///
/// # References
/// Zheng et al., *CoralSCOP: Segment any COral Image on this Planet*, CVPR 2024.
#[derive(Debug, Clone)]
pub(crate) struct SemanticBranch {
    projection: Perceptron,
    hypernetworks: Vec<Perceptron>,
    head: Perceptron,
    /// Side of the square token grid that the head was trained on.
    side: usize,
}

impl SemanticBranch {
    pub(crate) fn new(config: &SamConfig, semantic: SemanticConfig, vb: &VarBuilder) -> Result<Self> {
        let (dim, hidden) = (config.dim, semantic.feature_dim);
        let widths = [dim, dim, dim, dim / 8];
        let hypernetwork = |i: usize| Perceptron::new(&widths, &vb.pp(format!("cate_output_hypernetworks_mlps.{i}")));
        let head = [semantic.tokens, hidden, hidden, semantic.classes];
        Ok(Self {
            projection: Perceptron::new(&widths, &vb.pp("cate_feature_projection_head"))?,
            hypernetworks: (0..config.mask_tokens).map(hypernetwork).collect::<Result<_>>()?,
            head: Perceptron::new(&head, &vb.pp("cate_prediction_head"))?,
            side: semantic.tokens.isqrt(),
        })
    }

    /// B×N×C image tokens of an h×w grid, and the B×C outputs of the mask tokens from number `first` on.
    pub(crate) fn forward(
        &self,
        src: &Tensor,
        grid: (usize, usize),
        first: usize,
        tokens: &[Tensor],
    ) -> Result<Semantics> {
        self.classify(&self.class_maps(src, grid, first, tokens)?)
    }

    /// The class head on B×M×N maps.
    pub(crate) fn classify(&self, maps: &Tensor) -> Result<Semantics> {
        let (features, logits) = self.head.forward_with_hidden(maps)?;
        Ok(Semantics { logits, features })
    }

    /// One value per mask and image token, B×M×N: the input of the class head.
    pub(crate) fn class_maps(
        &self,
        src: &Tensor,
        (height, width): (usize, usize),
        first: usize,
        tokens: &[Tensor],
    ) -> Result<Tensor> {
        let projected = self.projection.forward(src)?;
        let weights = tokens.iter().zip(&self.hypernetworks[first..]).map(|(token, mlp)| mlp.forward(token));
        let weights = Tensor::stack(&weights.collect::<Result<Vec<_>>>()?, 1)?;
        let maps = ops::products_with_transposed(&weights, &projected)?;
        if (height, width) == (self.side, self.side) {
            return Ok(maps);
        }
        // The head was trained on another token grid: bring the maps to it.
        let (batch, masks, _) = maps.dims3()?;
        let grid = maps.reshape((batch * masks, height, width))?.permute((1, 2, 0))?.contiguous()?;
        let grid = ops::resize_grid(&grid, (self.side, self.side), Interpolation::Bilinear)?;
        grid.permute((2, 0, 1))?.contiguous()?.reshape((batch, masks, self.side * self.side))
    }
}
