//! Outlines with a class, as drawn in a geographic information system.

mod crs_text;
mod geojson;
mod operations;
mod rings;
mod shapefile;

use std::path::Path;

use coral_core::{ClassId, ClassSet, Crs, Error, Result};
use geo::MultiPolygon;
use serde_json::Value;

pub use geojson::{GeoJsonCrs, read_geojson, write_geojson};
pub(crate) use rings::rings;
pub use shapefile::read_shapefile;

/// What was read, or what is wrong with it.
type Parsed<T> = std::result::Result<T, String>;

/// What a file says about a polygon, by name.
pub type Attributes = serde_json::Map<String, Value>;

/// One outline, which may have several parts and holes.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassPolygon {
    /// What it outlines; `None` where nobody has said yet.
    pub class: Option<ClassId>,
    /// What its file says about it.
    pub attributes: Attributes,
    /// Outer and inner rings, x first.
    pub geometry: MultiPolygon<f64>,
}

/// Polygons in one coordinate reference system.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, Crs};
/// use coral_io::geo::read_polygons;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("reef.geojson");
/// std::fs::write(&path, r#"{"type": "FeatureCollection",
///   "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32740"}},
///   "features": [{"type": "Feature", "properties": {"habitat": "sand"}, "geometry": {"type": "Polygon",
///     "coordinates": [[[10, 10], [14, 10], [14, 12], [10, 12], [10, 10]]]}}]}"#).unwrap();
/// let classes = ClassSet::from_names(["coral", "sand"])?;
/// let polygons = read_polygons(&path)?.with_classes("habitat", &classes)?;
/// assert_eq!((polygons.crs, polygons.polygons[0].class), (Crs::utm(40, true)?, Some(1)));
/// assert_eq!(polygons.areas()?, [8.0]);
/// assert_eq!((polygons.at(11.0, 11.0), polygons.at(9.0, 11.0)), (Some(0), None));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ClassPolygons {
    /// What the coordinates are.
    pub crs: Crs,
    /// The polygons; where they overlap, later ones lie on top.
    pub polygons: Vec<ClassPolygon>,
    /// Features of the file that have no geometry at all, which GeoJSON and shapefiles allow; they are left out.
    pub unlocated: usize,
}

/// Reads polygons from a shapefile (`.shp`) or, by any other name, from GeoJSON.
///
/// # Errors
/// Those of [`read_shapefile`] and [`read_geojson`].
pub fn read_polygons(path: impl AsRef<Path>) -> Result<ClassPolygons> {
    let path = path.as_ref();
    let is_shapefile = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("shp"));
    if is_shapefile { read_shapefile(path) } else { read_geojson(path) }
}

impl ClassPolygons {
    /// The features of a file, of which those without geometry are counted.
    fn of_features(crs: Crs, features: Vec<Option<ClassPolygon>>) -> Parsed<Self> {
        let number = features.len();
        let polygons: Vec<_> = features.into_iter().flatten().collect();
        let unlocated = number - polygons.len();
        if polygons.is_empty() {
            return Err(format!("expected polygons, found {number} features, of which {unlocated} have no geometry"));
        }
        let polygons = Self::new(crs, polygons).map_err(|error| error.to_string())?;
        Ok(Self { unlocated, ..polygons })
    }

    /// These polygons, once their rings are checked: coordinates of 0 or 1e-100 to 1e100, at least four positions in each ring,
    /// and degrees that are such in a geographic system. Rings may still cross themselves: see [`validate`](Self::validate).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the polygon and what is wrong with it.
    pub fn new(crs: Crs, polygons: Vec<ClassPolygon>) -> Result<Self> {
        for (index, polygon) in polygons.iter().enumerate() {
            if let Some(problem) = rings::problem(&polygon.geometry, crs) {
                return Err(fail(index, problem));
            }
        }
        Ok(Self { crs, polygons, unlocated: 0 })
    }

    /// All polygons as outlines of one class.
    pub fn with_class(mut self, class: ClassId) -> Self {
        self.polygons.iter_mut().for_each(|polygon| polygon.class = Some(class));
        self
    }

    /// The polygons with the classes that an attribute names, by name or number.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming a polygon without the attribute, or whose value is no class of the set.
    pub fn with_classes(mut self, attribute: &str, classes: &ClassSet) -> Result<Self> {
        for (index, polygon) in self.polygons.iter_mut().enumerate() {
            let text = match polygon.attributes.get(attribute) {
                Some(Value::String(text)) => text.clone(),
                // A .dbf stores whole numbers as decimal ones.
                Some(Value::Number(number)) => number.as_f64().map_or_else(|| number.to_string(), |n| n.to_string()),
                Some(other) => return Err(fail(index, format!("expected a class in `{attribute}`, found {other}"))),
                None => {
                    let names: Vec<_> = polygon.attributes.keys().map(String::as_str).collect();
                    return Err(fail(index, format!("no attribute `{attribute}`: found {}", names.join(", "))));
                }
            };
            let class = classes.parse(&text).map_err(|error| fail(index, format!("`{attribute}`: {error}")))?;
            polygon.class = Some(class);
        }
        Ok(self)
    }

    /// How many polygons there are.
    pub fn len(&self) -> usize {
        self.polygons.len()
    }

    /// Whether there is no polygon.
    pub fn is_empty(&self) -> bool {
        self.polygons.is_empty()
    }
}

/// An error about the polygon at `index`.
fn fail(index: usize, reason: impl std::fmt::Display) -> Error {
    Error::input(format!("polygons[{index}]"), reason.to_string())
}

#[cfg(test)]
mod tests;
