use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::WindowAttention;
use super::positions::{Positions, reversed};
use crate::ops::attention::{HeadBlock, Scratch};
use crate::ops::product::{Matrix, Output, product};
use crate::ops::{Values, buffer, values};

/// The operation on the CPU: no score outlives the block of queries that it belongs to.
pub(super) struct Fused {
    heads: usize,
    window: Option<usize>,
    padding: Tensor,
    /// Two reversed tables of relative positions, one of all pairs, or none.
    positions: Vec<Tensor>,
}

impl Fused {
    pub(super) fn new(attention: WindowAttention<'_>) -> Result<Self> {
        Ok(Self {
            heads: attention.heads,
            window: attention.window,
            padding: attention.padding.contiguous()?,
            positions: match attention.positions {
                Some(Positions::Relative(p)) => vec![reversed(&p.vertical)?, reversed(&p.horizontal)?],
                Some(Positions::Table(table)) => vec![table.contiguous()?],
                None => vec![],
            },
        })
    }
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
            let part = Part { image: *plane / self.heads, offset: *plane % self.heads * head };
            match self.window {
                None => grid.all_keys(part, *first, working, out),
                Some(window) => grid.windows(part, (*first / width, window), working, out),
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

/// Values of an image's tokens that belong together: a head's queries, keys or values.
#[derive(Clone, Copy)]
struct Part {
    image: usize,
    /// Where they begin among the 3C values of a token.
    offset: usize,
}

/// Queries of one head, and the grid of keys that they look at.
#[derive(Clone, Copy)]
struct Queries<'a> {
    block: HeadBlock<'a>,
    /// Where the head's queries begin among the 3C values of a token.
    offset: usize,
    /// Rows and columns of the keys.
    keys: (usize, usize),
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
    fn all_keys(&self, queries: Part, first: usize, working: &mut Working, out: &mut [f32]) {
        let (tokens, rows) = (self.height * self.width, out.len() / self.head);
        let part = |which: usize, start: usize, count: usize| {
            let from = (queries.image * tokens + start) * self.stride + which * self.stride / 3 + queries.offset;
            Matrix::new(&self.qkv[from..], count, self.head, self.stride)
        };
        let q = part(0, first, rows);
        let block = HeadBlock { q, k: part(1, 0, tokens), v: part(2, 0, tokens), keys: tokens };
        let at = |row: usize| ((first + row) / self.width, (first + row) % self.width);
        let queries = Queries { block, offset: queries.offset, keys: (self.height, self.width) };
        self.attend(queries, at, working, out);
    }

    /// The windows of the band of token rows that starts at row `top`.
    fn windows(&self, queries: Part, (top, window): (usize, usize), working: &mut Working, out: &mut [f32]) {
        let (rows, head) = (window.min(self.height - top), self.head);
        for left in (0..self.width).step_by(window) {
            let columns = window.min(self.width - left);
            let [mut q, mut k, mut v] = [&mut working.q, &mut working.k, &mut working.v].map(std::mem::take);
            let part = |which: usize| Part { offset: which * self.stride / 3 + queries.offset, ..queries };
            self.gather(part(0), (top, left), (rows, columns), &mut q);
            self.gather_padded(part(1), (top, left), window, &mut k);
            self.gather_padded(part(2), (top, left), window, &mut v);
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
            let queries = Queries { block, offset: queries.offset, keys: (window, window) };
            self.attend(queries, at, working, &mut attended);
            for (row, line) in attended.chunks_exact(columns * head).enumerate() {
                out[(row * self.width + left) * head..][..line.len()].copy_from_slice(line);
            }
            (working.q, working.k, working.v, working.out) = (q, k, v, attended);
        }
    }

    /// One head's part of the tokens of a rectangle.
    fn gather(&self, part: Part, (top, left): (usize, usize), size: (usize, usize), out: &mut Vec<f32>) {
        out.clear();
        for y in top..top + size.0 {
            for x in left..left + size.1 {
                let from = ((part.image * self.height + y) * self.width + x) * self.stride + part.offset;
                out.extend_from_slice(&self.qkv[from..from + self.head]);
            }
        }
    }

    /// The same for a whole window; tokens outside the grid are padding.
    fn gather_padded(&self, part: Part, (top, left): (usize, usize), window: usize, out: &mut Vec<f32>) {
        out.clear();
        let padding = &self.padding[part.offset..part.offset + self.head];
        for y in top..top + window {
            for x in left..left + window {
                if y < self.height && x < self.width {
                    let from = ((part.image * self.height + y) * self.width + x) * self.stride + part.offset;
                    out.extend_from_slice(&self.qkv[from..from + self.head]);
                } else {
                    out.extend_from_slice(padding);
                }
            }
        }
    }

    /// Attends with the positions of queries that lie `at` (row, column).
    fn attend(
        &self,
        Queries { block, offset, keys }: Queries<'_>,
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
