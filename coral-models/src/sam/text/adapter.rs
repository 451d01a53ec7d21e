use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::TextAdapterConfig;
use crate::Sam;
use crate::layers::Perceptron;
use crate::sam::config::SamConfig;

/// How the names of the adapter's weights begin.
pub(super) const ADAPTER: &str = "text_adapter.";

/// A network of the Segment Anything family that also takes sentences.
#[derive(Debug, Clone)]
pub(crate) struct TextSam {
    pub(super) sam: Sam,
    /// From the text encoder's width to that of all tokens together.
    adapter: Perceptron,
    tokens: usize,
}

impl TextSam {
    pub(super) fn new(sam: SamConfig, adapter: TextAdapterConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let widths = [adapter.text_dim, adapter.hidden, sam.dim * adapter.tokens];
        Ok(Self {
            adapter: Perceptron::new(&widths, &vb.pp(ADAPTER.trim_end_matches('.')))?,
            tokens: adapter.tokens,
            sam: Sam::build(sam, vb)?,
        })
    }

    /// N×D embeddings of sentences to N×E×C tokens.
    pub(super) fn tokens(&self, sentences: &Tensor) -> Result<Tensor> {
        let flat = self.adapter.forward(sentences)?;
        let (count, width) = flat.dims2()?;
        flat.reshape((count, self.tokens, width / self.tokens))
    }
}
