//! Layers with weights, shared by the networks.

mod attention;
mod batch_norm;
mod dropout;
mod patches;

pub(crate) use attention::{Attend, SelfAttention};
pub(crate) use batch_norm::BatchNorm;
pub use batch_norm::Mode;
pub(crate) use dropout::{drop_samples, drop_values};
pub(crate) use patches::PatchEmbedding;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::ops::{self, Activation};

/// `x wᵀ + b` over the last dimension.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` (out×inner) and `bias`.
    pub(crate) fn new(inner: usize, out: usize, vb: &VarBuilder) -> Result<Self> {
        // PyTorch's initial values, of weight and bias alike.
        let bound = 1.0 / (inner as f64).sqrt();
        let init = candle_nn::Init::Uniform { lo: -bound, up: bound };
        let bias = vb.get_with_hints(out, "bias", init)?;
        Ok(Self { weight: vb.get_with_hints((out, inner), "weight", init)?, bias: Some(bias) })
    }

    /// Weights that come from elsewhere, e.g. a convolution that is a matrix product.
    pub(crate) fn from_weights(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }

    /// Weight and bias.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [Some(&self.weight), self.bias.as_ref()].into_iter().flatten()
    }

    /// The bias, where there is one.
    pub(crate) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// Normalisation of the last dimension.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(dim: usize, eps: f64, vb: &VarBuilder) -> Result<Self> {
        let weight = vb.get_with_hints(dim, "weight", candle_nn::Init::Const(1.0))?;
        Ok(Self { weight, bias: vb.get_with_hints(dim, "bias", candle_nn::Init::Const(0.0))?, eps })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }

    /// Weight and bias.
    pub(crate) fn tensors(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }
}

/// Two linear layers with a non-linearity between.
#[derive(Debug, Clone)]
pub(crate) struct FeedForward {
    first: [Tensor; 2],
    second: [Tensor; 2],
    activation: Activation,
}

impl FeedForward {
    /// Reads the layers called `names`.
    pub(crate) fn new(
        (dim, hidden): (usize, usize),
        names: [&str; 2],
        activation: Activation,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let read = |name: &str, inner, out| -> Result<[Tensor; 2]> {
            let Linear { weight, bias } = Linear::new(inner, out, &vb.pp(name))?;
            let bias = bias.ok_or_else(|| candle_core::Error::Msg(format!("{name} has no bias")))?;
            Ok([weight, bias])
        };
        Ok(Self { first: read(names[0], dim, hidden)?, second: read(names[1], hidden, dim)?, activation })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let ([w1, b1], [w2, b2]) = (&self.first, &self.second);
        ops::mlp(x, [w1, b1], [w2, b2], self.activation)
    }

    /// Weights and biases.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.first.iter().chain(&self.second)
    }
}

/// A perceptron of any number of linear layers with ReLU between them, as in Segment Anything's decoder.
#[derive(Debug, Clone)]
pub(crate) struct Perceptron {
    layers: Vec<Linear>,
}

impl Perceptron {
    /// Reads `layers.0`, `layers.1`, … of the given widths, input first.
    pub(crate) fn new(widths: &[usize], vb: &VarBuilder) -> Result<Self> {
        let layer = |(i, pair): (usize, &[usize])| Linear::new(pair[0], pair[1], &vb.pp(format!("layers.{i}")));
        Ok(Self { layers: widths.windows(2).enumerate().map(layer).collect::<Result<_>>()? })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward_with_hidden(x)?.1)
    }

    /// The input of the last layer, and its output.
    pub(crate) fn forward_with_hidden(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let mut hidden = x.clone();
        let mut y = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                hidden = ops::relu(&y)?;
            }
            y = layer.forward(&hidden)?;
        }
        Ok((hidden, y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameters;
    use candle_core::Device;

    #[test]
    fn linear_layers_start_as_those_of_pytorch() {
        let (parameters, _) = Parameters::create(1, &Device::Cpu, |vb| Linear::new(100, 400, &vb)).unwrap();
        let values = parameters.get("weight").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        assert!((0.0999..=0.1).contains(&largest), "{largest}");
    }
}
