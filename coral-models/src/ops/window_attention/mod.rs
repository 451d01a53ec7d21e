//! Self-attention over a token grid, as vision transformers with windows have it.

mod fused;
mod positions;

use candle_core::{D, Result, Tensor};

use self::fused::Fused;
use super::{fusible, products, products_with_transposed};

pub(crate) use positions::{Positions, RelativePositions};

/// Self-attention of a vision transformer over a token grid: global, or within square windows whose right and
/// bottom remainders are padded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowAttention<'a> {
    /// Attention heads.
    pub(crate) heads: usize,
    /// Tokens along a window's side; the whole grid when absent.
    pub(crate) window: Option<usize>,
    /// What is added to the scores.
    pub(crate) positions: Option<Positions<'a>>,
    /// Query, key and value of a padded token, 3C.
    pub(crate) padding: &'a Tensor,
}

impl WindowAttention<'_> {
    /// N×H×W×3C queries, keys and values (in this order, heads within each) to N×H×W×C.
    pub(crate) fn forward(self, qkv: &Tensor) -> Result<Tensor> {
        let (_, height, width, channels) = qkv.dims4()?;
        if self.heads == 0 || self.window == Some(0) {
            candle_core::bail!("expected heads and a window, got {} and {:?}", self.heads, self.window);
        }
        let head = channels / 3 / self.heads;
        let keys = self.window.map_or((height, width), |w| (w, w));
        if let Some(positions) = self.positions {
            positions.check(self.heads, head, keys)?;
        }
        if self.padding.dims() != [channels] || channels != 3 * self.heads * head {
            candle_core::bail!("{} heads and padding {:?} for {channels} channels", self.heads, self.padding.dims());
        }
        let mut inputs = vec![qkv, self.padding];
        match self.positions {
            Some(Positions::Relative(p)) => inputs.extend([&p.vertical, &p.horizontal]),
            Some(Positions::Table(table)) => inputs.push(table),
            None => (),
        }
        if !fusible(&inputs) || qkv.elem_count() == 0 {
            return self.composed(qkv);
        }
        qkv.contiguous()?.apply_op1_no_bwd(&Fused::new(self)?)
    }

    fn composed(self, qkv: &Tensor) -> Result<Tensor> {
        let (batch, height, width, channels) = qkv.dims4()?;
        let (kh, kw) = self.window.map_or((height, width), |w| (w, w));
        let (down, across) = (height.div_ceil(kh), width.div_ceil(kw));
        let (full_height, full_width) = (down * kh, across * kw);
        let blank = |h: usize, w: usize| {
            self.padding.reshape((1, 1, 1, channels))?.broadcast_as((batch, h, w, channels))?.contiguous()
        };
        let mut padded = qkv.clone();
        if full_width > width {
            padded = Tensor::cat(&[padded, blank(height, full_width - width)?], 2)?;
        }
        if full_height > height {
            padded = Tensor::cat(&[padded, blank(full_height - height, full_width)?], 1)?;
        }
        let (head, windows) = (channels / 3 / self.heads, batch * down * across);
        let parts = padded
            .reshape(&[batch, down, kh, across, kw, channels][..])?
            .permute(&[0, 1, 3, 2, 4, 5][..])?
            .contiguous()?
            .reshape((windows, kh * kw, 3, self.heads, head))?
            .permute((2, 0, 3, 1, 4))?
            .contiguous()?
            .reshape((3, windows * self.heads, kh * kw, head))?;
        let (q, k, v) = (parts.get(0)?, parts.get(1)?, parts.get(2)?);
        let mut scores = (products_with_transposed(&q, &k)? * (head as f64).powf(-0.5))?;
        match self.positions {
            Some(Positions::Relative(positions)) => scores = (scores + positions.scores(&q, (kh, kw))?)?,
            Some(Positions::Table(table)) => {
                let shape = scores.shape().clone();
                let by_window = scores.reshape((windows, self.heads, kh * kw, kh * kw))?;
                scores = by_window.broadcast_add(table)?.reshape(shape)?;
            }
            None => (),
        }
        let out = products(&candle_nn::ops::softmax(&scores, D::Minus1)?, &v)?;
        out.reshape(&[batch, down, across, self.heads, kh, kw, head][..])?
            .permute(&[0, 1, 4, 2, 5, 3, 6][..])?
            .contiguous()?
            .reshape((batch, full_height, full_width, channels / 3))?
            .narrow(1, 0, height)?
            .narrow(2, 0, width)?
            .contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, tracked};

    #[test]
    fn fused_equals_composed() {
        for (batch, height, width, heads, head, window) in [
            (1, 1, 1, 1, 2, None),
            (2, 5, 9, 3, 4, None),
            (1, 13, 17, 2, 8, None),
            (2, 5, 9, 3, 4, Some(3)),
            (1, 10, 4, 2, 6, Some(7)),
            (1, 14, 28, 2, 16, Some(14)),
            (1, 64, 64, 2, 64, Some(14)),
            (1, 64, 64, 2, 64, None),
        ] {
            let qkv = random(&[batch, height, width, 3 * heads * head], 1);
            let padding = random(&[3 * heads * head], 2);
            let (kh, kw) = window.map_or((height, width), |w| (w, w));
            let positions = RelativePositions {
                vertical: random(&[2 * kh - 1, head], 3),
                horizontal: random(&[2 * kw - 1, head], 4),
            };
            let table = random(&[heads, kh * kw, kh * kw], 5);
            for positions in [None, Some(Positions::Relative(&positions)), Some(Positions::Table(&table))] {
                let op = WindowAttention { heads, window, positions, padding: &padding };
                let composed = op.forward(&tracked(&qkv)).unwrap();
                assert_close(&op.forward(&qkv).unwrap(), &composed, 1e-5);
                // The same values in another order in memory.
                let turned = qkv.transpose(1, 3).unwrap().contiguous().unwrap().transpose(1, 3).unwrap();
                assert_close(&op.forward(&turned).unwrap(), &composed, 1e-5);
            }
        }
    }

    #[test]
    fn a_window_sees_nothing_of_its_neighbours() {
        let padding = random(&[6], 2);
        let op = WindowAttention { heads: 1, window: Some(2), positions: None, padding: &padding };
        let whole = random(&[1, 4, 4, 6], 1);
        let corner = whole.narrow(1, 0, 2).unwrap().narrow(2, 2, 2).unwrap();
        let from_whole = op.forward(&whole).unwrap().narrow(1, 0, 2).unwrap().narrow(2, 2, 2).unwrap();
        assert_close(&from_whole, &op.forward(&corner).unwrap(), 1e-6);
    }
}
