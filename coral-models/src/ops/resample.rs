use candle_core::{Result, Tensor};
use coral_core::Size;

use crate::{Interpolation, PlaneResampler};

/// Interpolation between the entries of one axis as a to×from matrix, through which gradients pass.
pub(super) fn matrix((from, to): (usize, usize), interpolation: Interpolation, like: &Tensor) -> Result<Tensor> {
    // Resizing the identity's rows gives the weights.
    let mut identity = vec![0.0f32; from * from];
    identity.iter_mut().step_by(from + 1).for_each(|v| *v = 1.0);
    let size = |height: usize| Size { width: from as u32, height: height as u32 };
    let weights = PlaneResampler::new(size(from), size(to), interpolation).and_then(|r| r.resize(&identity));
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
    let (height, width, dim) = grid.dims3()?;
    if (height, width) == size {
        return Ok(grid.clone());
    }
    let rows = resize_rows(&grid.reshape((height, width * dim))?, size.0, interpolation)?;
    let columns = rows.reshape((size.0, width, dim))?.transpose(0, 1)?.contiguous()?;
    let columns = resize_rows(&columns.reshape((width, size.0 * dim))?, size.1, interpolation)?;
    columns.reshape((size.1, size.0, dim))?.transpose(0, 1)?.contiguous()
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
        assert_close(&resize_rows(&random(&[3, 2], 1), 3, Interpolation::Bilinear).unwrap(), &random(&[3, 2], 1), 0.0);
    }
}
