use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::{Array2, Array3};
use coral_core::{ImageRaster, ImageWindow, LabelMap, LabelRaster, RasterGrid, Rect, Result, Size, UNLABELED};

use super::pixel_map::{PixelMap, Position, nearest};
use super::reader::GeoTiff;
use super::regrid::expect_overlap;

/// How a value between pixels is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// That of the pixel which holds the position.
    Nearest,
    /// The mean of the four pixels around, by their nearness. Pixels without data do not count, and where the pixel
    /// that holds the position has no data there is none.
    Bilinear,
}

/// A raster seen on the pixels of another grid, read by windows.
///
/// Only the part of the source under a window is read, in pieces that fit into memory. Pixels beyond the source hold
/// no data. Labels are always taken from the nearest pixel. Between coordinate reference systems, positions are right
/// to 0.001 source pixels. All windows agree with the whole.
///
/// # Examples
/// ```
/// use coral_core::{Crs, GeoTransform, LabelRaster, RasterGrid, Rect, Size, ndarray::array};
/// use coral_io::geo::{Resampled, Resampling};
/// let grid = |x, width, height, pixel| RasterGrid {
///     size: Size { width, height },
///     transform: GeoTransform::north_up(x, 7_650_000.0, pixel, pixel),
///     crs: Crs { epsg: 32740 },
/// };
/// let labels = array![[1, 2], [3, 4]];
/// let fine = Resampled::new(labels, grid(320_000.0, 2, 2, 1.0), grid(320_000.5, 4, 2, 0.5), Resampling::Nearest)?;
/// assert_eq!(fine.read_labels(Rect { x: 0, y: 0, width: 4, height: 2 })?, array![[1, 2, 2, 255], [1, 2, 2, 255]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Resampled<R> {
    source: R,
    map: PixelMap,
    method: Resampling,
}

impl<R> Resampled<R> {
    /// `source`, whose pixels lie on `from`, on the pixels of `to` in the same coordinate reference system.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](coral_core::Error::InvalidInput) when the systems differ, the rasters do not meet, or
    /// one has no pixels or no place.
    pub fn new(source: R, from: RasterGrid, to: RasterGrid, method: Resampling) -> Result<Self> {
        from.crs.expect("target grid", to.crs)?;
        Self::reprojected(source, from, to, method)
    }

    /// `source`, whose pixels lie on `from`, on the pixels of `to` in any known coordinate reference system.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) for an unknown system;
    /// [`Error::InvalidInput`](coral_core::Error::InvalidInput) when the rasters do not meet or one has no pixels or
    /// no place.
    pub fn reprojected(source: R, from: RasterGrid, to: RasterGrid, method: Resampling) -> Result<Self> {
        from.validate()?;
        to.validate()?;
        expect_overlap("target grid", &from, &to)?;
        Ok(Self { source, map: PixelMap::new(from, to)?, method })
    }

    /// Pixels and their place.
    pub fn grid(&self) -> RasterGrid {
        self.map.to
    }

    fn expect_source(&self, size: Size) -> Result<()> {
        self.map.from.size.expect("source raster", size)
    }

    /// Four source pixels with data and their weights, which sum to 1; `None` beyond the source or where there is no
    /// data by `valid`.
    fn weights(&self, position: Position, valid: impl Fn(u32, u32) -> bool) -> Option<[(u32, u32, f64); 4]> {
        let size = self.map.from.size;
        let (x, y) = nearest(position, size).filter(|&(x, y)| valid(x, y))?;
        let mut weights = [(x, y, 0.0); 4];
        if self.method == Resampling::Nearest {
            weights[0].2 = 1.0;
            return Some(weights);
        }
        let (left, top) = ((position.0 - 0.5).floor(), (position.1 - 0.5).floor());
        let (right, bottom) = (position.0 - 0.5 - left, position.1 - 0.5 - top);
        let corners = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)];
        for (entry, (u, v)) in weights.iter_mut().zip(corners) {
            let weight = (if u == 0.0 { 1.0 - right } else { right }) * (if v == 0.0 { 1.0 - bottom } else { bottom });
            if let Some((x, y)) = nearest((left + u, top + v), size)
                && weight > 0.0
                && valid(x, y)
            {
                *entry = (x, y, weight);
            }
        }
        let sum: f64 = weights.iter().map(|&(.., weight)| weight).sum();
        Some(weights.map(|(x, y, weight)| (x, y, weight / sum)))
    }
}

impl<R: LabelRaster> LabelRaster for Resampled<R> {
    fn size(&self) -> Size {
        self.map.to.size
    }

    fn read_labels(&self, window: Rect) -> Result<LabelMap> {
        window.expect_inside("window", self.map.to.size)?;
        self.expect_source(self.source.size())?;
        let mut labels = LabelMap::from_elem((window.height as usize, window.width as usize), UNLABELED);
        self.map.visit_parts(window, &mut |part| {
            let source = self.source.read_labels(part.source)?;
            for ((row, column), &position) in part.positions.indexed_iter() {
                if let Some((x, y)) = nearest(position, self.map.from.size) {
                    let place =
                        [row + (part.window.y - window.y) as usize, column + (part.window.x - window.x) as usize];
                    labels[place] = source[[(y - part.source.y) as usize, (x - part.source.x) as usize]];
                }
            }
            Ok(())
        })?;
        Ok(labels)
    }
}

impl<R: ImageRaster> ImageRaster for Resampled<R> {
    fn size(&self) -> Size {
        self.map.to.size
    }

    fn read_image(&self, window: Rect) -> Result<ImageWindow> {
        window.expect_inside("window", self.map.to.size)?;
        self.expect_source(self.source.size())?;
        let mut image = RgbImage::new(window.width, window.height);
        let mut valid = Array2::from_elem((window.height as usize, window.width as usize), false);
        self.map.visit_parts(window, &mut |part| {
            let source = self.source.read_image(part.source)?;
            let local = |x: u32, y: u32| (x - part.source.x, y - part.source.y);
            let holds_data = |x: u32, y: u32| {
                let (x, y) = local(x, y);
                source.valid[[y as usize, x as usize]]
            };
            for ((row, column), &position) in part.positions.indexed_iter() {
                let Some(weights) = self.weights(position, holds_data) else { continue };
                let mut color = [0.0; 3];
                for (x, y, weight) in weights {
                    let (x, y) = local(x, y);
                    let levels = source.image.get_pixel(x, y).0;
                    color.iter_mut().zip(levels).for_each(|(sum, level)| *sum += weight * f64::from(level));
                }
                let (x, y) = (column as u32 + part.window.x - window.x, row as u32 + part.window.y - window.y);
                image.put_pixel(x, y, Rgb(color.map(|level| level.round() as u8)));
                valid[[y as usize, x as usize]] = true;
            }
            Ok(())
        })?;
        Ok(ImageWindow { image, valid })
    }
}

impl Resampled<GeoTiff> {
    /// The values of `window` in single precision, B×H×W, NaN where there is no data. Bands may have gaps of their own.
    ///
    /// # Errors
    /// As [`GeoTiff::read`].
    pub fn read_f32(&self, window: Rect) -> Result<Array3<f32>> {
        window.expect_inside("window", self.map.to.size)?;
        self.expect_source(self.source.grid().size)?;
        let bands = self.source.metadata().bands;
        let mut values = Array3::from_elem((bands, window.height as usize, window.width as usize), f32::NAN);
        self.map.visit_parts(window, &mut |part| {
            let source = self.source.read_f32(part.source)?;
            let local = |x: u32, y: u32| ((y - part.source.y) as usize, (x - part.source.x) as usize);
            for ((row, column), &position) in part.positions.indexed_iter() {
                let place = (row + (part.window.y - window.y) as usize, column + (part.window.x - window.x) as usize);
                for band in 0..bands {
                    let at = |x: u32, y: u32| {
                        let (y, x) = local(x, y);
                        source[[band, y, x]]
                    };
                    if let Some(weights) = self.weights(position, |x, y| !at(x, y).is_nan()) {
                        let sum: f64 = weights.iter().map(|&(x, y, weight)| weight * f64::from(at(x, y))).sum();
                        values[[band, place.0, place.1]] = sum as f32;
                    }
                }
            }
            Ok(())
        })?;
        Ok(values)
    }
}
