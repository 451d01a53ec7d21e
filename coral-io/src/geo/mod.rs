//! Maps without GDAL (feature `geo`): rasters with a place in the world, reprojection, polygons, positions of frames, and
//! pictures with a scale.
//!
//! Positions have x (easting or longitude) first. What combines two things of the world checks that both have the same
//! [`Crs`](coral_core::Crs), and says so where they do not: nothing is reprojected silently. [`ClassPolygons::reprojected`],
//! [`FrameTrack::positions_in`], [`Resampled::reprojected`] and [`Projection`] do it on demand.
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

mod bands;
mod exif;
mod map_picture;
mod polygonize;
mod polygons;
mod raster;
mod rasterize;
mod tracks;

pub use polygons::{
    Attributes, ClassPolygon, ClassPolygons, GeoJsonCrs, read_geojson, read_polygons, read_shapefile, write_geojson,
};

pub use exif::{read_exif, read_exif_all};
pub use map_picture::{Amounts, Decimation, MapPicture, MapPictureConfig, confusion_picture};
pub use polygonize::{PolygonizeConfig, polygonize};
pub use raster::*;
pub use rasterize::{PolygonRaster, RasterizeConfig, polygon_mask, rasterize};
pub use tracks::{
    Frame, FramePredictions, FrameReadings, FrameRecord, FrameTrack, GpsFix, GpsTrack, PlaceConfig, UnplacedFrame,
    read_frame_table, read_gpx, write_frame_table, write_probabilities,
};

pub use ::geo::{Coord, LineString, MultiPolygon, Polygon};
