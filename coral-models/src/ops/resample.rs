use candle_core::{Result, Tensor};
use coral_core::Size;

use crate::{Interpolation, PlaneResampler};

/// Interpolation between the entries of one axis as a to×from matrix, through which gradients pass.
pub(super) fn matrix((from, to): (usize, usize), interpolation: Interpolation, like: &Tensor) -> Result<Tensor> {
    weights((from, to), None, interpolation, like)
}

/// [`matrix`]; with a `scale` (outputs per input) coordinates follow it and not the ratio of the sizes.
fn weights(
    (from, to): (usize, usize),
    scale: Option<f64>,
    interpolation: Interpolation,
    like: &Tensor,
) -> Result<Tensor> {
    // Resizing the identity's rows gives the weights.
    let mut identity = vec![0.0f32; from * from];
    identity.iter_mut().step_by(from + 1).for_each(|v| *v = 1.0);
    let size = |height: usize| Size { width: from as u32, height: height as u32 };
    let resampler = match scale {
        Some(scale) => PlaneResampler::with_scale_factor(size(from), [1.0, scale], interpolation),
        None => PlaneResampler::new(size(from), size(to), interpolation),
    };
    let weights = resampler.and_then(|resampler| resampler.resize(&identity));
    Tensor::from_vec(weights.map_err(candle_core::Error::wrap)?, (to, from), like.device())?.to_dtype(like.dtype())
}

/// Resizes the first dimension of a table, rows×D.
pub(crate) fn resize_rows(table: &Tensor, rows: usize, interpolation: Interpolation) -> Result<Tensor> {
    let (from, _) = table.dims2()?;
    if from == rows {
        return Ok(table.clone());
    }
    matrix((from, rows), interpolation, table)?.matmul(&table.contiguous()?)
}

/// Resizes a grid of vectors, h×w×D.
pub(crate) fn resize_grid(grid: &Tensor, size: (usize, usize), interpolation: Interpolation) -> Result<Tensor> {
    let (height, width, _) = grid.dims3()?;
    if (height, width) == size {
        return Ok(grid.clone());
    }
    let rows = (height != size.0).then(|| matrix((height, size.0), interpolation, grid)).transpose()?;
    let columns = (width != size.1).then(|| matrix((width, size.1), interpolation, grid)).transpose()?;
    apply(grid, rows, columns)
}

/// [`resize_grid`] with coordinates that follow the scale (size + `offset`) / old size on each axis, also one that keeps
/// its length.
pub(crate) fn resize_grid_with_offset(
    grid: &Tensor,
    size: (usize, usize),
    offset: f64,
    interpolation: Interpolation,
) -> Result<Tensor> {
    let (height, width, _) = grid.dims3()?;
    let axis = |from: usize, to: usize| {
        weights((from, to), Some((to as f64 + offset) / from as f64), interpolation, grid).map(Some)
    };
    apply(grid, axis(height, size.0)?, axis(width, size.1)?)
}

/// Applies the matrices of both axes, where there are such, to h×w×D.
fn apply(grid: &Tensor, rows: Option<Tensor>, columns: Option<Tensor>) -> Result<Tensor> {
    let along_first = |grid: &Tensor, matrix: Option<Tensor>| -> Result<Tensor> {
        let Some(matrix) = matrix else { return Ok(grid.clone()) };
        let (from, other, dim) = grid.dims3()?;
        matrix.matmul(&grid.contiguous()?.reshape((from, other * dim))?)?.reshape(((), other, dim))
    };
    let columns_first = along_first(grid, rows)?.transpose(0, 1)?;
    along_first(&columns_first, columns)?.transpose(0, 1)?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};
    use crate::resize_plane;
    use candle_core::Device;
    use coral_core::ndarray::Array2;

    #[test]
    fn grids_are_resized_like_planes() {
        for interpolation in [Interpolation::Bicubic, Interpolation::Bilinear] {
            let grid = random(&[5, 7, 3], 1);
            let ours = resize_grid(&grid, (8, 4), interpolation).unwrap();
            for channel in 0..3 {
                let plane = |t: &Tensor| t.narrow(2, channel, 1).unwrap().flatten_all().unwrap();
                let values = plane(&grid).to_vec1().unwrap();
                let input = Array2::from_shape_vec((5, 7), values).unwrap();
                let expected = resize_plane(input.view(), Size { width: 4, height: 8 }, interpolation).unwrap();
                let expected: Vec<f32> = expected.iter().copied().collect();
                assert_close(&plane(&ours), &Tensor::from_vec(expected, 32, &Device::Cpu).unwrap(), 1e-5);
            }
        }
        let grid = random(&[5, 7, 3], 1);
        let without = resize_grid(&grid, (5, 4), Interpolation::Bicubic).unwrap();
        assert_close(&resize_grid_with_offset(&grid, (5, 4), 0.0, Interpolation::Bicubic).unwrap(), &without, 1e-6);
        let moved = resize_grid_with_offset(&grid, (5, 7), 0.1, Interpolation::Bicubic).unwrap();
        assert_eq!(moved.dims(), [5, 7, 3]);
        assert!((moved - grid).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-3);
        assert_close(&resize_rows(&random(&[3, 2], 1), 3, Interpolation::Bilinear).unwrap(), &random(&[3, 2], 1), 0.0);
    }
}
