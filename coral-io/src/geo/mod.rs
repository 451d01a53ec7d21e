//! Maps: polygons, positions of frames, and pictures with a scale (feature `geo`).
//!
//! Positions have x (easting or longitude) first. What combines two things of the world checks that both have the same
//! [`Crs`](coral_core::Crs), and says so where they do not: nothing is reprojected silently.

mod bands;
mod exif;
mod map_picture;
mod metric;
mod polygonize;
mod polygons;
mod rasterize;
mod tracks;

pub use polygons::{
    Attributes, ClassPolygon, ClassPolygons, GeoJsonCrs, read_geojson, read_polygons, read_shapefile, write_geojson,
};

pub use exif::{read_exif, read_exif_all};
pub use map_picture::{Amounts, Decimation, MapPicture, MapPictureConfig, confusion_picture};
pub use polygonize::{PolygonizeConfig, polygonize};
pub use rasterize::{PolygonRaster, RasterizeConfig, polygon_mask, rasterize};
pub use tracks::{
    Frame, FramePredictions, FrameReadings, FrameRecord, FrameTrack, GpsFix, GpsTrack, PlaceConfig, UnplacedFrame,
    read_frame_table, read_gpx, write_frame_table, write_probabilities,
};

pub use ::geo::{Coord, LineString, MultiPolygon, Polygon};
