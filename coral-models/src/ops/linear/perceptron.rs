use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::layer::{Layer, linear};
use crate::ops::{Activation, Values, buffer, fusible, values};

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
        let (hidden, inner) = self.first[0].dims2()?;
        let width = b2.len();
        let first = Layer { weight: &w1, bias: Some(&b1), inner, width: hidden };
        let second = Layer { weight: &w2, bias: Some(&b2), inner: hidden, width };
        let rows = x.len() / inner;
        let step = (HIDDEN / hidden).clamp(1, rows.max(1));
        let mut scratch = buffer(step * hidden);
        let mut out = buffer(rows * width);
        for (x, out) in x.chunks(step * inner).zip(out.chunks_mut(step * width)) {
            let scratch = &mut scratch[..x.len() / inner * hidden];
            first.apply(x, scratch);
            self.activation.apply_in_place(scratch);
            second.apply(scratch, out);
        }
        Ok((CpuStorage::F32(out), (rows, width).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, tracked};

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
