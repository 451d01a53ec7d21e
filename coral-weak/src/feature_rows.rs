//! Reading a feature map at every pixel, one row at a time, without ever holding the
//! features of all pixels.

use coral_core::{Error, FeatureMap, Result, Size};
use ndarray::{ArrayView3, ArrayViewMut2, s};

use crate::between::{Between, betweens};

/// Larger values would overflow when squared and summed in f32.
const LIMIT: f32 = 1e15;

/// Checks that a feature map has cells and channels and only finite values of sane size.
pub(crate) fn check_features(features: &FeatureMap) -> Result<()> {
    let (channels, height, width) = features.data.dim();
    if features.data.is_empty() {
        let reason = format!("expected at least one channel and cell, got {channels}x{height}x{width}");
        return Err(Error::input("features", reason));
    }
    for (channel, plane) in features.data.outer_iter().enumerate() {
        if plane.rows().into_iter().all(|row| row.fold(true, |usable, value| usable & (value.abs() < LIMIT))) {
            continue;
        }
        if let Some(((y, x), value)) = plane.indexed_iter().find(|(_, value)| value.abs() >= LIMIT || value.is_nan()) {
            let reason =
                format!("expected finite values below {LIMIT:e}, got {value} in channel {channel} at cell ({x}, {y})");
            return Err(Error::input("features", reason));
        }
    }
    Ok(())
}

/// Bilinear interpolation of D×h×w values at the pixels of an image.
#[derive(Debug)]
pub(crate) struct FeatureRows<'a> {
    data: ArrayView3<'a, f32>,
    rows: Vec<Between>,
    columns: Vec<Between>,
}

impl<'a> FeatureRows<'a> {
    /// `data` must have at least one cell.
    pub(crate) fn new(data: ArrayView3<'a, f32>, image: Size) -> Self {
        let (_, height, width) = data.dim();
        Self { data, rows: betweens(height, image.height as usize), columns: betweens(width, image.width as usize) }
    }

    /// Values per pixel, D.
    pub(crate) fn dim(&self) -> usize {
        self.data.dim().0
    }

    /// The image's size.
    pub(crate) fn size(&self) -> Size {
        Size { width: self.columns.len() as u32, height: self.rows.len() as u32 }
    }

    /// The D×n values of row `y` from column `start` on into `out`.
    pub(crate) fn read(&self, y: usize, start: usize, mut out: ArrayViewMut2<'_, f32>) {
        let columns = &self.columns[start..start + out.ncols()];
        for (channel, mut out) in out.rows_mut().into_iter().enumerate() {
            self.read_channel(channel, y, columns, out.iter_mut());
        }
    }

    /// Every pixel of row `y` in one channel.
    pub(crate) fn read_plane_row(&self, channel: usize, y: usize, out: &mut [f32]) {
        self.read_channel(channel, y, &self.columns, out.iter_mut());
    }

    fn read_channel<'b>(&self, channel: usize, y: usize, columns: &[Between], out: impl Iterator<Item = &'b mut f32>) {
        let row = self.rows[y];
        let (upper, lower) =
            (self.data.slice(s![channel, row.first, ..]), self.data.slice(s![channel, row.second, ..]));
        if self.columns.len() == upper.len() && row.share == 0.0 {
            let start = columns.first().map_or(0, |column| column.first);
            out.zip(upper.iter().skip(start)).for_each(|(out, &value)| *out = value);
            return;
        }
        let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
        for (out, column) in out.zip(columns) {
            let left = mix(upper[column.first], lower[column.first], row.share);
            let right = mix(upper[column.second], lower[column.second], row.share);
            *out = mix(left, right, column.share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Array3, array};

    fn plane(data: Array2<f32>, width: u32, height: u32) -> Array2<f32> {
        let data = data.insert_axis(ndarray::Axis(0));
        let rows = FeatureRows::new(data.view(), Size { width, height });
        let mut out = Array2::zeros((height as usize, width as usize));
        for y in 0..height as usize {
            rows.read(y, 0, out.slice_mut(s![y..y + 1, ..]));
        }
        out
    }

    #[test]
    fn pixels_between_cells_are_mixed() {
        assert_eq!(plane(array![[0.0, 8.0]], 4, 1), array![[0.0, 2.0, 6.0, 8.0]]);
        assert_eq!(plane(array![[0.0], [4.0]], 1, 4), array![[0.0], [1.0], [3.0], [4.0]]);
        let same = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        assert_eq!(plane(same.clone(), 3, 2), same);
        assert_eq!(plane(array![[3.0]], 2, 3), Array2::from_elem((3, 2), 3.0));
    }

    #[test]
    fn parts_of_a_row_equal_the_row() {
        let data = Array3::from_shape_fn((2, 3, 5), |(c, y, x)| (7 * c + 3 * y * y + x * x) as f32);
        for width in [5, 11] {
            let rows = FeatureRows::new(data.view(), Size { width, height: 3 });
            let (mut whole, mut part) = (Array2::zeros((2, width as usize)), Array2::zeros((2, 2)));
            rows.read(1, 0, whole.view_mut());
            rows.read(1, 3, part.view_mut());
            assert_eq!(part, whole.slice(s![.., 3..5]));
        }
    }

    #[test]
    fn unusable_features_are_named() {
        let text = |data: Array3<f32>| {
            let image_size = Size { width: 4, height: 4 };
            check_features(&FeatureMap { data, image_size }).unwrap_err().to_string()
        };
        assert!(text(Array3::zeros((0, 2, 2))).contains("got 0x2x2"));
        let mut data = Array3::zeros((3, 2, 2));
        data[[1, 0, 1]] = f32::NAN;
        assert!(text(data.clone()).contains("got NaN in channel 1 at cell (1, 0)"));
        data[[1, 0, 1]] = f32::NEG_INFINITY;
        assert!(text(data).contains("got -inf in channel 1"));
    }
}
