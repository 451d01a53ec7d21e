//! Images and label maps in memory, read and written like rasters on disk.

use image::RgbImage;
use ndarray::{Array2, Axis, s};

use crate::{Error, ImageRaster, ImageWindow, LabelMap, LabelRaster, LabelSink, Rect, Result, Size};

/// All pixels hold data.
impl ImageRaster for RgbImage {
    fn size(&self) -> Size {
        Size::of(self)
    }

    fn read_image(&self, window: Rect) -> Result<ImageWindow> {
        window.expect_inside("window", Size::of(self))?;
        let image = window.crop(self);
        Ok(ImageWindow { valid: Array2::from_elem(Size::of(&image).shape(), true), image })
    }
}

impl LabelRaster for LabelMap {
    fn size(&self) -> Size {
        Size::of_map(self)
    }

    fn read_labels(&self, window: Rect) -> Result<LabelMap> {
        window.expect_inside("window", Size::of_map(self))?;
        let along = |start: u32, length: u32| start as usize..(start + length) as usize;
        Ok(self.slice(s![along(window.y, window.height), along(window.x, window.width)]).to_owned())
    }
}

/// Rows are appended; a map without columns takes the width of the first.
///
/// # Examples
/// ```
/// use coral_core::{LabelMap, LabelSink, ndarray::array};
/// let mut map = LabelMap::default((0, 0));
/// map.write_rows(&array![[1, 2]])?;
/// map.write_rows(&array![[3, 4], [5, 6]])?;
/// assert_eq!(map, array![[1, 2], [3, 4], [5, 6]]);
/// assert!(map.write_rows(&array![[1]]).is_err());
/// # Ok::<(), coral_core::Error>(())
/// ```
impl LabelSink for LabelMap {
    fn rows_written(&self) -> u32 {
        self.nrows() as u32
    }

    fn write_rows(&mut self, rows: &LabelMap) -> Result<()> {
        if self.ncols() == 0 {
            *self = rows.clone();
            return Ok(());
        }
        self.append(Axis(0), rows.view()).map_err(|_| {
            Error::shape("rows", format!("Nx{}", self.ncols()), format!("{}x{}", rows.nrows(), rows.ncols()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn windows_lie_inside() {
        let map = array![[1, 2, 3], [4, 5, 6]];
        let at = |x, y, width, height| Rect { x, y, width, height };
        assert_eq!(map.read_labels(at(1, 1, 2, 1)).unwrap(), array![[5, 6]]);
        for outside in [at(2, 0, 2, 1), at(0, 0, 0, 1), at(u32::MAX, 0, u32::MAX, 1), at(0, 2, 1, 1)] {
            assert!(map.read_labels(outside).unwrap_err().to_string().contains("inside 3x2"), "{outside:?}");
            assert!(RgbImage::new(3, 2).read_image(outside).is_err());
        }
        let window = RgbImage::new(3, 2).read_image(at(0, 0, 2, 2)).unwrap();
        assert_eq!((window.image.dimensions(), window.valid), ((2, 2), Array2::from_elem((2, 2), true)));
    }
}
