use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};

use super::product::{Matrix, Output, product};
use super::{Activation, Values, buffer, fusible, values};

/// `x wᵀ + b` over the last dimension; `w` is out×in as in PyTorch.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    let Some((&last, leading)) = x.dims().split_last() else {
        candle_core::bail!("a linear layer needs at least one dimension");
    };
    if last != inner || bias.is_some_and(|b| b.dims() != [out]) {
        candle_core::bail!("linear layer {:?} on {:?}", weight.dims(), x.dims());
    }
    let mut shape = leading.to_vec();
    shape.push(out);
    if let Some(bias) = bias
        && fusible(&[x, weight, bias])
        && weight.elem_count() > 0
    {
        let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
        return x.apply_op3_no_bwd(&weight, &bias, &Linear)?.reshape(shape);
    }
    let y = x.contiguous()?.reshape(((), inner))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(shape)
}

struct Linear;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (values(x, x_layout)?, values(weight, weight_layout)?, values(bias, bias_layout)?);
        let layer = Layer { weight, bias };
        let rows = x.len() / layer.inner();
        let mut out = buffer(rows * bias.len());
        layer.apply(x, &mut out, false);
        Ok((CpuStorage::F32(out), (rows, bias.len()).into()))
    }
}

/// Borrowed weights of a linear layer, out×in.
#[derive(Clone, Copy)]
struct Layer<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
}

impl Layer<'_> {
    fn inner(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// Writes (or adds) the layer's outputs of all rows of `x` to `out`, on all threads.
    fn apply(&self, x: &[f32], out: &mut [f32], add: bool) {
        let (inner, width) = (self.inner(), self.bias.len());
        let rows = x.len() / inner;
        for row in out.chunks_exact_mut(width) {
            if add {
                row.iter_mut().zip(self.bias).for_each(|(v, b)| *v += b);
            } else {
                row.copy_from_slice(self.bias);
            }
        }
        product(
            Matrix::new(x, rows, inner, inner),
            Matrix::new(self.weight, width, inner, inner).transposed(),
            1.0,
            Output { data: out, row_stride: width, accumulate: true },
            0,
        );
    }
}

/// Two linear layers with a non-linearity between, out×in weights: `w2 act(w1 x + b1) + b2`, over the last dimension.
///
/// The hidden values of only a few rows exist at a time.
pub(crate) fn mlp(x: &Tensor, first: [&Tensor; 2], second: [&Tensor; 2], activation: Activation) -> Result<Tensor> {
    let empty = first[0].elem_count() == 0 || second[0].elem_count() == 0;
    if empty || !fusible(&[x, first[0], first[1], second[0], second[1]]) {
        let hidden = activation.apply(&linear(x, first[0], Some(first[1]))?)?;
        return linear(&hidden, second[0], Some(second[1]));
    }
    let (hidden, inner) = first[0].dims2()?;
    let (out, second_inner) = second[0].dims2()?;
    let biases = first[1].dims() == [hidden] && second[1].dims() == [out];
    if x.dims().last() != Some(&inner) || second_inner != hidden || !biases {
        candle_core::bail!("perceptron {:?}, {:?} on {:?}", first[0].dims(), second[0].dims(), x.dims());
    }
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(out);
    let layers = [first[0], first[1], second[0], second[1]];
    let [w1, b1, w2, b2] = layers.map(Tensor::contiguous);
    x.contiguous()?.apply_op1_no_bwd(&Mlp { first: [w1?, b1?], second: [w2?, b2?], activation })?.reshape(shape)
}

struct Mlp {
    first: [Tensor; 2],
    second: [Tensor; 2],
    activation: Activation,
}

impl CustomOp1 for Mlp {
    fn name(&self) -> &'static str {
        "mlp"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        // As many rows as keep the hidden values within a few MB.
        const HIDDEN: usize = 2 << 20;
        let x = values(x, layout)?;
        let (w1, b1) = (Values::of(&self.first[0])?, Values::of(&self.first[1])?);
        let (w2, b2) = (Values::of(&self.second[0])?, Values::of(&self.second[1])?);
        let (first, second) = (Layer { weight: &w1, bias: &b1 }, Layer { weight: &w2, bias: &b2 });
        let (inner, hidden, width) = (first.inner(), first.bias.len(), second.bias.len());
        let rows = x.len() / inner;
        let step = (HIDDEN / hidden).clamp(1, rows.max(1));
        let mut scratch = buffer(step * hidden);
        let mut out = buffer(rows * width);
        for (x, out) in x.chunks(step * inner).zip(out.chunks_mut(step * width)) {
            let scratch = &mut scratch[..x.len() / inner * hidden];
            first.apply(x, scratch, false);
            self.activation.apply_in_place(scratch);
            second.apply(scratch, out, false);
        }
        Ok((CpuStorage::F32(out), (rows, width).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, tracked};

    #[test]
    fn linear_layers_agree_with_their_composition() {
        for (shape, out) in [(vec![1, 1], 1), (vec![3, 7], 5), (vec![2, 9, 33], 65), (vec![2, 3, 5, 64], 10)] {
            let inner = *shape.last().unwrap();
            let (x, w, b) = (random(&shape, 1), random(&[out, inner], 2), random(&[out], 3));
            assert_close(&linear(&x, &w, Some(&b)).unwrap(), &linear(&tracked(&x), &w, Some(&b)).unwrap(), 1e-4);
        }
        assert!(linear(&random(&[2, 3], 1), &random(&[4, 5], 2), None).is_err());
        let none = linear(&random(&[2, 3], 1), &random(&[0, 3], 2), Some(&random(&[0], 3)));
        assert_eq!(none.unwrap().dims(), [2, 0]);
    }

    #[test]
    fn perceptrons_agree_with_their_composition() {
        for (activation, rows, hidden) in [(Activation::Relu, 5, 11), (Activation::Gelu, 700, 4096)] {
            let x = random(&[1, rows, 24], 1);
            let (w1, b1) = (random(&[hidden, 24], 2), random(&[hidden], 3));
            let (w2, b2) = (random(&[7, hidden], 4).affine(0.1, 0.0).unwrap(), random(&[7], 5));
            let run = |x: &Tensor| mlp(x, [&w1, &b1], [&w2, &b2], activation).unwrap();
            assert_close(&run(&x), &run(&tracked(&x)), 2e-3);
        }
    }
}
