//! GeoTIFFs by windows, and their pixels on other grids.

mod band_writer;
mod gdal_metadata;
mod geo_keys;
mod georeference;
mod label_raster;
mod label_writer;
mod metadata;
mod missing_blocks;
mod orthophoto;
mod orthophoto_writer;
mod pixel_map;
mod projection;
mod reader;
mod regrid;
mod resampled;
mod samples;
mod tags;
mod writer;

pub use band_writer::BandWriter;
pub use label_raster::LabelGeoTiff;
pub use label_writer::LabelGeoTiffWriter;
pub use metadata::{ColorModel, GeoTiffMetadata};
pub use orthophoto::{Orthophoto, OrthophotoConfig};
pub use orthophoto_writer::OrthophotoWriter;
pub use projection::Projection;
pub use reader::{GeoTiff, GeoTiffOptions};
pub use regrid::{expect_north_up, expect_overlap, suggested_grid};
pub use resampled::{Resampled, Resampling};
pub use samples::{SampleType, Samples};
pub use writer::{TiffBlocks, TiffCompression, TiffLayout};
