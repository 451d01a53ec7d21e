use std::path::Path;

use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, Array3};
use coral_core::{Error, ImageRaster, ImageWindow, RasterGrid, Rect, Result, Size};

use super::metadata::{ColorModel, GeoTiffMetadata};
use super::reader::GeoTiff;
use super::samples::{SampleType, Value};

/// How the bands of a file become colours.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OrthophotoConfig {
    /// The values that become 0 and 255; between them linear, beyond them cut off. Bytes are taken as they are without;
    /// for any other values the range has to be given.
    pub range: Option<(f64, f64)>,
    /// Which bands are red, green and blue, counted from 0. Without, they are the first three of a colour picture or
    /// of a file with three bands, and the one band of a grey file.
    pub bands: Option<[usize; 3]>,
}

/// A GeoTIFF of an orthophoto, read by windows as RGB.
///
/// A pixel holds data unless its alpha or mask is 0, a value is NaN, or all its colour bands have the file's no-data
/// value. Palettes are looked up; one band of grey is repeated.
#[derive(Debug, Clone)]
pub struct Orthophoto {
    tiff: GeoTiff,
    bands: [usize; 3],
    range: Option<(f64, f64)>,
}

impl Orthophoto {
    /// Opens a file of bytes in RGB, grey or by a palette.
    ///
    /// # Errors
    /// As [`GeoTiff::open`] and [`Orthophoto::new`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(GeoTiff::open(path)?, OrthophotoConfig::default())
    }

    /// Takes an open file for a picture.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the range is needed and missing, or not ascending, or a band does not exist,
    /// or it is not known which bands are colours.
    pub fn new(tiff: GeoTiff, config: OrthophotoConfig) -> Result<Self> {
        let metadata = tiff.metadata();
        let file = tiff.path().display();
        if let Some((low, high)) = config.range
            && !(low < high && low.is_finite() && high.is_finite())
        {
            return Err(Error::parameter("range", format!("expected ascending numbers, got {low} to {high}")));
        }
        let named = matches!(metadata.color, ColorModel::Palette(_));
        if config.range.is_none() && metadata.sample_type != SampleType::U8 && !named {
            let reason = format!("{file} holds {} values: expected which become 0 and 255", metadata.sample_type);
            return Err(Error::parameter("range", reason));
        }
        let colors: Vec<usize> = (0..metadata.bands).filter(|&band| Some(band) != metadata.alpha).collect();
        let bands = match (config.bands, &metadata.color, colors.as_slice()) {
            (Some(bands), ..) => bands,
            (None, ColorModel::Rgb, &[red, green, blue, ..]) => [red, green, blue],
            (None, _, &[red, green, blue]) => [red, green, blue],
            (None, _, &[grey]) => [grey; 3],
            _ => {
                let reason = format!("{file} has {} bands: expected which are red, green and blue", metadata.bands);
                return Err(Error::parameter("bands", reason));
            }
        };
        if let Some(band) = bands.iter().find(|&&band| band >= metadata.bands) {
            return Err(Error::parameter("bands", format!("{file} has {} bands, no band {band}", metadata.bands)));
        }
        Ok(Self { tiff, bands, range: config.range })
    }

    /// Pixels and their place.
    pub fn grid(&self) -> RasterGrid {
        self.tiff.grid()
    }

    /// What the file says about its raster.
    pub fn metadata(&self) -> &GeoTiffMetadata {
        self.tiff.metadata()
    }

    /// Colours and validity of H×W×B values; `level` makes a byte of a value.
    fn picture<T: Value>(&self, window: Rect, values: &Array3<T>, level: impl Fn(T) -> u8) -> Result<ImageWindow> {
        let metadata = self.tiff.metadata();
        let palette = match &metadata.color {
            ColorModel::Palette(colors) => Some(colors),
            _ => None,
        };
        let (no_data, transparent) = (metadata.no_data.and_then(T::exact), T::exact(0.0));
        let (height, width, bands) = values.dim();
        let mask = self.tiff.mask(window)?;
        let mut valid = mask.unwrap_or_else(|| Array2::from_elem((height, width), true));
        let mut image = RgbImage::new(width as u32, height as u32);
        let values = values.as_standard_layout();
        let pixels = values.as_slice().unwrap_or_default().chunks_exact(bands);
        for ((pixel, valid), color) in pixels.zip(&mut valid).zip(image.pixels_mut()) {
            let colors = self.bands.map(|band| pixel[band]);
            let opaque = metadata.alpha.is_none_or(|band| Some(pixel[band]) != transparent);
            let missing = no_data.is_some_and(|no_data| colors.iter().all(|&value| value == no_data));
            *valid &= opaque && !missing && !colors.into_iter().any(T::is_nan);
            if *valid {
                color.0 = match palette {
                    None => colors.map(&level),
                    Some(palette) => self.looked_up(palette, colors[0].into())?,
                };
            }
        }
        Ok(ImageWindow { image, valid })
    }

    fn looked_up(&self, palette: &[[u8; 3]], place: f64) -> Result<[u8; 3]> {
        let color = if place < 0.0 { None } else { palette.get(place as usize).copied() };
        color.ok_or_else(|| self.tiff.fail(format!("place {place} in a palette of {} colours", palette.len())))
    }
}

impl ImageRaster for Orthophoto {
    fn size(&self) -> Size {
        self.grid().size
    }

    fn read_image(&self, window: Rect) -> Result<ImageWindow> {
        let scaled = |low: f64, high: f64| move |value: f64| ((value - low) / (high - low) * 255.0).round() as u8;
        match (self.tiff.metadata().sample_type, self.range) {
            (SampleType::U8, None) => self.picture(window, &self.tiff.pixels::<u8>(window)?, |value| value),
            (_, range) => {
                let (low, high) = range.unwrap_or((0.0, 255.0));
                let values = self.tiff.read(window)?.to_f64().permuted_axes([1, 2, 0]);
                self.picture(window, &values, scaled(low, high))
            }
        }
    }
}
