//! Maps: polygons, positions of frames, and pictures with a scale (feature `geo`).
//!
//! Positions have x (easting or longitude) first. What combines two things of the world checks that both have the same
//! [`Crs`](coral_core::Crs), and says so where they do not: nothing is reprojected silently.

mod metric;
mod polygonize;
mod polygons;
mod rasterize;

pub use polygons::{
    Attributes, ClassPolygon, ClassPolygons, GeoJsonCrs, read_geojson, read_polygons, read_shapefile, write_geojson,
};

pub use polygonize::{PolygonizeConfig, polygonize};
pub use rasterize::{PolygonRaster, RasterizeConfig, polygon_mask, rasterize};

pub use ::geo::{Coord, LineString, MultiPolygon, Polygon};
