use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::attention::{HeadBlock, Scratch};
use super::product::{Matrix, Output, product};
use super::{Values, buffer, fusible, resize_rows, values};
use crate::Interpolation;

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

/// What is added to the scores of each query.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Positions<'a> {
    /// A term of the query for each axis.
    Relative(&'a RelativePositions),
    /// One value per head, query and key: heads×n×n for n keys.
    Table(&'a Tensor),
}

/// Decomposed relative positions along both axes for one grid of keys (Li et al., *MViTv2*, CVPR 2022, as in Segment
/// Anything's image encoder).
#[derive(Debug, Clone)]
pub(crate) struct RelativePositions {
    /// (2h − 1)×d: row r belongs to the offset query − key = r − (h − 1).
    pub(crate) vertical: Tensor,
    /// (2w − 1)×d likewise.
    pub(crate) horizontal: Tensor,
}

impl WindowAttention<'_> {
    /// N×H×W×3C queries, keys and values (in this order, heads within each) to N×H×W×C.
    pub(crate) fn forward(self, qkv: &Tensor) -> Result<Tensor> {
        let (_, height, width, channels) = qkv.dims4()?;
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
        let op = Fused {
            heads: self.heads,
            window: self.window,
            padding: self.padding.contiguous()?,
            positions: match self.positions {
                Some(Positions::Relative(p)) => vec![reversed(&p.vertical)?, reversed(&p.horizontal)?],
                Some(Positions::Table(table)) => vec![table.contiguous()?],
                None => vec![],
            },
        };
        qkv.contiguous()?.apply_op1_no_bwd(&op)
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
        let mut scores = (q.matmul(&k.t()?)? * (head as f64).powf(-0.5))?;
        match self.positions {
            Some(Positions::Relative(positions)) => scores = (scores + positions.scores(&q, (kh, kw))?)?,
            Some(Positions::Table(table)) => {
                let shape = scores.shape().clone();
                let by_window = scores.reshape((windows, self.heads, kh * kw, kh * kw))?;
                scores = by_window.broadcast_add(table)?.reshape(shape)?;
            }
            None => (),
        }
        let out = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        out.reshape(&[batch, down, across, self.heads, kh, kw, head][..])?
            .permute(&[0, 1, 4, 2, 5, 3, 6][..])?
            .contiguous()?
            .reshape((batch, full_height, full_width, channels / 3))?
            .narrow(1, 0, height)?
            .narrow(2, 0, width)?
            .contiguous()
    }
}

impl Positions<'_> {
    /// Whether the tables are made for that many heads of width `head` and a grid of `keys`.
    fn check(self, heads: usize, head: usize, keys: (usize, usize)) -> Result<()> {
        let count = keys.0 * keys.1;
        match self {
            Self::Relative(RelativePositions { vertical: v, horizontal: h })
                if v.dims() != [2 * keys.0 - 1, head] || h.dims() != [2 * keys.1 - 1, head] =>
            {
                candle_core::bail!(
                    "relative positions {:?}, {:?} for {keys:?} keys and heads of width {head}",
                    v.dims(),
                    h.dims()
                )
            }
            Self::Table(table) if table.dims() != [heads, count, count] => {
                candle_core::bail!("positions {:?} for {heads} heads and {count} keys", table.dims())
            }
            _ => Ok(()),
        }
    }
}

impl RelativePositions {
    /// The tables for a grid of `keys`, interpolated linearly where they were made for another.
    pub(crate) fn fit(&self, keys: (usize, usize)) -> Result<Self> {
        Ok(Self {
            vertical: resize_rows(&self.vertical, 2 * keys.0 - 1, Interpolation::Bilinear)?,
            horizontal: resize_rows(&self.horizontal, 2 * keys.1 - 1, Interpolation::Bilinear)?,
        })
    }

    /// What B×(h·w)×d queries add to their scores with h×w keys: B×(h·w)×(h·w).
    fn scores(&self, q: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
        let (batch, tokens, head) = q.dims3()?;
        let table = |rows: &Tensor, size: usize| -> Result<Tensor> {
            let offsets: Vec<u32> =
                (0..size).flat_map(|query| (0..size).map(move |key| (query + size - 1 - key) as u32)).collect();
            let offsets = Tensor::from_vec(offsets, size * size, q.device())?;
            rows.index_select(&offsets, 0)?.reshape((size, size, head))?.transpose(1, 2)?.contiguous()
        };
        let grid = q.reshape((batch, height, width, head))?;
        let by_row = grid.transpose(0, 1)?.contiguous()?.reshape((height, batch * width, head))?;
        let vertical = by_row.matmul(&table(&self.vertical, height)?)?;
        let vertical = vertical.reshape((height, batch, width, height))?.transpose(0, 1)?.contiguous()?;
        let by_column = grid.permute((2, 0, 1, 3))?.contiguous()?.reshape((width, batch * height, head))?;
        let horizontal = by_column.matmul(&table(&self.horizontal, width)?)?;
        let horizontal = horizontal.reshape((width, batch, height, width))?.permute((1, 2, 0, 3))?.contiguous()?;
        let vertical = vertical.reshape((batch, tokens, height, 1))?;
        let horizontal = horizontal.reshape((batch, tokens, 1, width))?;
        vertical.broadcast_add(&horizontal)?.reshape((batch, tokens, tokens))
    }
}

/// The rows from last to first, so that the entries of one query's keys follow each other in ascending order.
fn reversed(table: &Tensor) -> Result<Tensor> {
    let order: Vec<u32> = (0..table.dim(0)? as u32).rev().collect();
    let len = order.len();
    table.index_select(&Tensor::from_vec(order, len, table.device())?, 0)?.contiguous()
}

struct Fused {
    heads: usize,
    window: Option<usize>,
    padding: Tensor,
    /// Two reversed tables of relative positions, one of all pairs, or none.
    positions: Vec<Tensor>,
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "window_attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let qkv = values(qkv, layout)?;
        let (batch, height, width, stride) = layout.shape().dims4()?;
        let padding = Values::of(&self.padding)?;
        let tables = self.positions.iter().map(Values::of).collect::<Result<Vec<_>>>()?;
        let head = stride / 3 / self.heads;
        let grid = Grid {
            qkv,
            width,
            height,
            stride,
            head,
            padding: &padding,
            tables: match &tables[..] {
                [vertical, horizontal] => Tables::Relative(vertical, horizontal),
                [pairs] => Tables::Pairs(pairs),
                _ => Tables::None,
            },
        };
        let tokens = height * width;
        let mut by_head = buffer(batch * self.heads * tokens * head);
        // Global attention takes 64 queries at a time: their scores with 4096 keys are 1 MB.
        let piece = self.window.map_or(64, |window| window * width).min(tokens);
        let mut pieces: Vec<_> = by_head
            .chunks_mut(tokens * head)
            .enumerate()
            .flat_map(|(i, plane)| plane.chunks_mut(piece * head).enumerate().map(move |(j, out)| (i, j * piece, out)))
            .collect();
        pieces.par_iter_mut().for_each_init(Working::default, |working, (plane, first, out)| {
            let (image, offset) = (*plane / self.heads, *plane % self.heads * head);
            match self.window {
                None => grid.all_keys(image, offset, *first, working, out),
                Some(window) => grid.windows(image, offset, (*first / width, window), working, out),
            }
        });
        let out = heads_last(&by_head, self.heads, tokens, head);
        Ok((CpuStorage::F32(out), (batch, height, width, stride / 3).into()))
    }
}

/// N×heads×tokens×d to N×tokens×heads×d.
fn heads_last(by_head: &[f32], heads: usize, tokens: usize, head: usize) -> Vec<f32> {
    let mut out = buffer(by_head.len());
    out.par_chunks_mut(heads * head).enumerate().with_min_len(64).for_each(|(index, token)| {
        let (image, t) = (index / tokens, index % tokens);
        for (h, part) in token.chunks_exact_mut(head).enumerate() {
            let start = ((image * heads + h) * tokens + t) * head;
            part.copy_from_slice(&by_head[start..start + head]);
        }
    });
    out
}

/// Working memory of one thread.
#[derive(Default)]
struct Working {
    scratch: Scratch,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    vertical: Vec<f32>,
    horizontal: Vec<f32>,
    out: Vec<f32>,
}

/// The arguments of one call.
struct Grid<'a> {
    qkv: &'a [f32],
    height: usize,
    width: usize,
    /// 3C.
    stride: usize,
    /// Width of a head.
    head: usize,
    padding: &'a [f32],
    tables: Tables<'a>,
}

/// What is added to the scores.
#[derive(Clone, Copy)]
enum Tables<'a> {
    None,
    /// Reversed vertical and horizontal relative positions.
    Relative(&'a [f32], &'a [f32]),
    /// By head, query and key.
    Pairs(&'a [f32]),
}

impl Grid<'_> {
    /// Queries from `first` on, as many as fit `out`, against every token.
    fn all_keys(&self, image: usize, offset: usize, first: usize, working: &mut Working, out: &mut [f32]) {
        let (tokens, rows) = (self.height * self.width, out.len() / self.head);
        let part = |which: usize, start: usize, count: usize| {
            let from = (image * tokens + start) * self.stride + which * self.stride / 3 + offset;
            Matrix::new(&self.qkv[from..], count, self.head, self.stride)
        };
        let q = part(0, first, rows);
        let block = HeadBlock { q, k: part(1, 0, tokens), v: part(2, 0, tokens), keys: tokens };
        let at = |row: usize| ((first + row) / self.width, (first + row) % self.width);
        self.attend(block, offset, (self.height, self.width), at, working, out);
    }

    /// The windows of the band of token rows that starts at row `top`.
    fn windows(
        &self,
        image: usize,
        offset: usize,
        (top, window): (usize, usize),
        working: &mut Working,
        out: &mut [f32],
    ) {
        let (rows, head) = (window.min(self.height - top), self.head);
        for left in (0..self.width).step_by(window) {
            let columns = window.min(self.width - left);
            let [mut q, mut k, mut v] = [&mut working.q, &mut working.k, &mut working.v].map(std::mem::take);
            self.gather(image, offset, (top, left), (rows, columns), &mut q);
            self.gather_padded(image, self.stride / 3 + offset, (top, left), window, &mut k);
            self.gather_padded(image, 2 * self.stride / 3 + offset, (top, left), window, &mut v);
            let mut attended = std::mem::take(&mut working.out);
            attended.resize(rows * columns * head, 0.0);
            let keys = window * window;
            let block = HeadBlock {
                q: Matrix::new(&q, rows * columns, head, head),
                k: Matrix::new(&k, keys, head, head),
                v: Matrix::new(&v, keys, head, head),
                keys,
            };
            let at = |row: usize| (row / columns, row % columns);
            self.attend(block, offset, (window, window), at, working, &mut attended);
            for (row, line) in attended.chunks_exact(columns * head).enumerate() {
                out[(row * self.width + left) * head..][..line.len()].copy_from_slice(line);
            }
            (working.q, working.k, working.v, working.out) = (q, k, v, attended);
        }
    }

    /// One head's part of the tokens of a rectangle.
    fn gather(&self, image: usize, part: usize, (top, left): (usize, usize), size: (usize, usize), out: &mut Vec<f32>) {
        out.clear();
        for y in top..top + size.0 {
            for x in left..left + size.1 {
                let from = ((image * self.height + y) * self.width + x) * self.stride + part;
                out.extend_from_slice(&self.qkv[from..from + self.head]);
            }
        }
    }

    /// The same for a whole window; tokens outside the grid are padding.
    fn gather_padded(&self, image: usize, part: usize, (top, left): (usize, usize), window: usize, out: &mut Vec<f32>) {
        out.clear();
        let padding = &self.padding[part..part + self.head];
        for y in top..top + window {
            for x in left..left + window {
                if y < self.height && x < self.width {
                    let from = ((image * self.height + y) * self.width + x) * self.stride + part;
                    out.extend_from_slice(&self.qkv[from..from + self.head]);
                } else {
                    out.extend_from_slice(padding);
                }
            }
        }
    }

    /// Attends with the positions of queries `at` (row, column) to a grid of `keys`, for the head at `offset`.
    fn attend(
        &self,
        block: HeadBlock<'_>,
        offset: usize,
        keys: (usize, usize),
        at: impl Fn(usize) -> (usize, usize),
        working: &mut Working,
        out: &mut [f32],
    ) {
        let (vertical, horizontal) = match self.tables {
            Tables::Relative(vertical, horizontal) => (vertical, horizontal),
            Tables::Pairs(pairs) => {
                let first = offset / self.head * block.keys;
                let bias = |row: usize, scores: &mut [f32]| {
                    let (y, x) = at(row);
                    let pairs = &pairs[(first + y * keys.1 + x) * block.keys..][..block.keys];
                    scores.iter_mut().zip(pairs).for_each(|(s, p)| *s += p);
                };
                return block.attend(&mut working.scratch, bias, out, self.head);
            }
            Tables::None => return block.attend(&mut working.scratch, |_, _| (), out, self.head),
        };
        let (tall, wide) = (2 * keys.0 - 1, 2 * keys.1 - 1);
        project(block.q, vertical, tall, &mut working.vertical);
        project(block.q, horizontal, wide, &mut working.horizontal);
        let (by_row, by_column) = (&working.vertical, &working.horizontal);
        let bias = |row: usize, scores: &mut [f32]| {
            let (y, x) = at(row);
            let vertical = &by_row[row * tall + keys.0 - 1 - y..][..keys.0];
            let horizontal = &by_column[row * wide + keys.1 - 1 - x..][..keys.1];
            for (line, v) in scores.chunks_exact_mut(keys.1).zip(vertical) {
                line.iter_mut().zip(horizontal).for_each(|(s, h)| *s += v + h);
            }
        };
        block.attend(&mut working.scratch, bias, out, self.head);
    }
}

/// Every query times every row of a table of relative positions.
fn project(q: Matrix<'_>, table: &[f32], rows: usize, out: &mut Vec<f32>) {
    out.resize(q.rows() * rows, 0.0);
    let table = Matrix::new(table, rows, q.columns(), q.columns());
    product(q, table.transposed(), 1.0, Output { data: out, row_stride: rows, accumulate: false }, 1);
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
                assert_close(&op.forward(&qkv).unwrap(), &op.forward(&tracked(&qkv)).unwrap(), 1e-5);
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
