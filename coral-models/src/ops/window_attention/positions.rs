use candle_core::{Result, Tensor};

use crate::Interpolation;
use crate::ops::{products_with_transposed, resize_rows};

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

impl Positions<'_> {
    /// Whether the tables are made for that many heads of width `head` and a grid of `keys`.
    pub(super) fn check(self, heads: usize, head: usize, keys: (usize, usize)) -> Result<()> {
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
    pub(super) fn scores(&self, q: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
        let (batch, tokens, head) = q.dims3()?;
        let table = |rows: &Tensor, size: usize| -> Result<Tensor> {
            let offsets: Vec<u32> =
                (0..size).flat_map(|query| (0..size).map(move |key| (query + size - 1 - key) as u32)).collect();
            let offsets = Tensor::from_vec(offsets, size * size, q.device())?;
            rows.index_select(&offsets, 0)?.reshape((size, size, head))
        };
        let grid = q.reshape((batch, height, width, head))?;
        let by_row = grid.transpose(0, 1)?.contiguous()?.reshape((height, batch * width, head))?;
        let vertical = products_with_transposed(&by_row, &table(&self.vertical, height)?)?;
        let vertical = vertical.reshape((height, batch, width, height))?.transpose(0, 1)?.contiguous()?;
        let by_column = grid.permute((2, 0, 1, 3))?.contiguous()?.reshape((width, batch * height, head))?;
        let horizontal = products_with_transposed(&by_column, &table(&self.horizontal, width)?)?;
        let horizontal = horizontal.reshape((width, batch, height, width))?.permute((1, 2, 0, 3))?.contiguous()?;
        let vertical = vertical.reshape((batch, tokens, height, 1))?;
        let horizontal = horizontal.reshape((batch, tokens, 1, width))?;
        vertical.broadcast_add(&horizontal)?.reshape((batch, tokens, tokens))
    }
}

/// The rows from last to first, so that the entries of one query's keys follow each other in ascending order.
pub(super) fn reversed(table: &Tensor) -> Result<Tensor> {
    let order: Vec<u32> = (0..table.dim(0)? as u32).rev().collect();
    let len = order.len();
    table.index_select(&Tensor::from_vec(order, len, table.device())?, 0)?.contiguous()
}
