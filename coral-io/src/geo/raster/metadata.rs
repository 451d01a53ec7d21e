use std::collections::BTreeMap;
use std::path::Path;

use coral_core::{ClassId, Crs, Error, GeoTransform, RasterGrid, Result, Size};
use tiff_reader::{ExtraSample, Ifd, PhotometricInterpretation};

use super::gdal_metadata::GdalMetadata;
use super::geo_keys::{GeoKeys, OrReason};
use super::georeference::{transform_of, world_file};
use super::reader::damaged;
use super::samples::SampleType;
use super::tags;

/// What the bands of a raster mean.
#[derive(Debug, Clone, PartialEq)]
pub enum ColorModel {
    /// Independent bands, or one band of grey.
    Bands,
    /// The first three bands are red, green and blue.
    Rgb,
    /// One band of places in this table of RGB colours.
    Palette(Vec<[u8; 3]>),
}

/// What a GeoTIFF says about its raster.
#[derive(Debug, Clone, PartialEq)]
pub struct GeoTiffMetadata {
    /// Pixels and their place.
    pub grid: RasterGrid,
    /// How many bands there are, with an alpha band.
    pub bands: usize,
    /// What the values are.
    pub sample_type: SampleType,
    /// What the bands mean.
    pub color: ColorModel,
    /// Which band says how opaque a pixel is; 0 marks pixels without data.
    pub alpha: Option<usize>,
    /// The value that marks missing data.
    pub no_data: Option<f64>,
    /// Whether the file gave positions of pixel centres; `grid` is about the pixels' corners in either case.
    pub pixel_is_point: bool,
    /// What each band is called.
    pub band_names: Vec<Option<String>>,
    /// Names of classes by their ids, as [`LabelGeoTiffWriter`](super::LabelGeoTiffWriter) writes them.
    pub class_names: BTreeMap<ClassId, String>,
    /// Further values by name, GDAL's metadata of the file.
    pub items: BTreeMap<String, String>,
    /// Width and height of the strips or tiles that the file is read by.
    pub block: Size,
    /// How the blocks are compressed.
    pub compression: &'static str,
}

impl GeoTiffMetadata {
    /// Reads one image's tags; `crs` stands in for a system that the file does not name.
    pub(super) fn of(path: &Path, ifd: &Ifd, crs: Option<Crs>) -> Result<Self> {
        let layout = ifd.raster_layout().map_err(|error| damaged(path, error))?;
        let fail = |reason: String| Error::format(path, None, reason);
        let sample_type = SampleType::of(&layout).ok_or_else(|| {
            let bits = layout.bits_per_sample;
            fail(format!("samples of {bits} bits, format {} are not supported", layout.sample_format))
        })?;
        let text = |tag| ifd.tag(tag).and_then(|tag| tag.value.as_str());
        let gdal = text(tags::GDAL_METADATA).map(GdalMetadata::parse).unwrap_or_default();
        let (size, bands) = (Size { width: ifd.width(), height: ifd.height() }, layout.samples_per_pixel);
        let no_data = text(tags::GDAL_NO_DATA)
            .map(|text| text.trim().parse().map_err(|_| fail(format!("the no-data value `{text}` is no number"))));
        let keys = GeoKeys::of(ifd);
        Ok(Self {
            grid: grid(path, (ifd, &keys), size, crs)?,
            bands,
            sample_type,
            color: color_model(ifd).map_err(fail)?,
            alpha: alpha(ifd, bands),
            no_data: no_data.transpose()?,
            pixel_is_point: keys.pixel_is_point(),
            band_names: (0..bands).map(|band| gdal.band_names.get(&band).cloned()).collect(),
            class_names: gdal.class_names,
            items: gdal.items,
            block: block_of(ifd),
            compression: tiff_reader::constants::Compression::from_code(ifd.compression())
                .map_or("unknown", |compression| compression.name()),
        })
    }

    /// Whether `value` marks missing data.
    pub fn is_no_data(&self, value: f64) -> bool {
        let same = |no_data: f64| match self.sample_type {
            // The text in the file may have fewer digits than the double.
            SampleType::F32 => value as f32 == no_data as f32,
            _ => value == no_data,
        };
        self.no_data.is_some_and(|no_data| same(no_data) || (value.is_nan() && no_data.is_nan()))
    }
}

/// Width and height of the image's strips or tiles.
pub(super) fn block_of(ifd: &Ifd) -> Size {
    Size {
        width: ifd.tile_width().unwrap_or(ifd.width()),
        height: ifd.tile_height().unwrap_or_else(|| ifd.rows_per_strip().min(ifd.height())),
    }
}

fn grid(path: &Path, (ifd, keys): (&Ifd, &GeoKeys), size: Size, assumed: Option<Crs>) -> Result<RasterGrid> {
    let fail = |reason: String| Error::format(path, None, reason);
    let crs = match (keys.crs(), assumed) {
        (Ok(own), Some(assumed)) if own != assumed => {
            return Err(fail(format!("the file says {own}, it cannot be taken for {assumed}")));
        }
        (Ok(own), _) => own,
        (Err(_), Some(assumed)) => assumed,
        (Err(reason), None) => return Err(fail(reason)),
    };
    let transform = transform_of(ifd, keys).map_err(fail)?.or_else(|| world_file(path));
    let transform: GeoTransform = transform.ok_or_else(|| {
        fail(
            "the file does not say where its pixels lie: expected a pixel scale with a tie point, a transformation, or a \
             world file of six numbers beside it"
                .into(),
        )
    })?;
    let grid = RasterGrid { size, transform, crs };
    grid.validate().map_err(|error| fail(error.to_string()))?;
    Ok(grid)
}

fn alpha(ifd: &Ifd, bands: usize) -> Option<usize> {
    let extra = ifd.extra_samples().unwrap_or_default();
    let opaque = |kind: &ExtraSample| matches!(kind, ExtraSample::AssociatedAlpha | ExtraSample::UnassociatedAlpha);
    let at = extra.iter().position(opaque)?;
    bands.checked_sub(extra.len()).map(|colors| colors + at)
}

fn color_model(ifd: &Ifd) -> OrReason<ColorModel> {
    let words = ifd.tag(tags::COLOR_MAP).and_then(|tag| tag.value.as_u16_slice()).unwrap_or_default();
    let photometric = ifd.photometric_interpretation_enum();
    // GDAL gives a colour table to a grey band too.
    let palette = photometric == Some(PhotometricInterpretation::Palette)
        || (photometric == Some(PhotometricInterpretation::MinIsBlack) && !words.is_empty());
    if palette {
        if words.is_empty() || !words.len().is_multiple_of(3) {
            return Err(format!("a palette of {} numbers: expected three for each colour", words.len()));
        }
        let colors = words.len() / 3;
        // Levels reach to 65535 there.
        let color = |index: usize| [0, 1, 2].map(|channel| (words[channel * colors + index] >> 8) as u8);
        return Ok(ColorModel::Palette((0..colors).map(color).collect()));
    }
    Ok(match photometric {
        Some(PhotometricInterpretation::Rgb | PhotometricInterpretation::YCbCr) => ColorModel::Rgb,
        _ => ColorModel::Bands,
    })
}
