//! Rasters with a place in the world: GeoTIFF, coordinate reference systems, reprojection and resampling, without GDAL.
//!
//! # Examples
//! ```
//! use coral_core::{ClassSet, Crs, GeoTransform, LabelRaster, LabelSink, RasterGrid, Rect, Size, ndarray::array};
//! use coral_io::geo::{LabelGeoTiff, LabelGeoTiffWriter, TiffLayout};
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("map.tif");
//! let transform = GeoTransform::north_up(322_000.0, 7_658_000.0, 0.5, 0.5);
//! let grid = RasterGrid { size: Size { width: 3, height: 2 }, transform, crs: Crs::utm(40, true)? };
//!
//! let classes = ClassSet::from_names(["sand", "coral"])?;
//! let mut writer = LabelGeoTiffWriter::create(&path, grid, Some(&classes), TiffLayout::default())?;
//! writer.write_rows(&array![[0, 1, 1]])?;
//! writer.write_rows(&array![[0, 0, 255]])?;
//! writer.finish()?; // until here there is no file
//!
//! let map = LabelGeoTiff::open(&path, &[])?;
//! assert_eq!(map.grid(), grid);
//! assert_eq!(map.read_labels(Rect { x: 1, y: 0, width: 2, height: 2 })?, array![[1, 1], [0, 255]]);
//! # Ok::<(), coral_core::Error>(())
//! ```

mod raster;

pub use raster::*;
