use std::path::Path;

use ::shapefile::dbase::{self, FieldValue};
use ::shapefile::record::polygon::GenericPolygon;
use ::shapefile::record::traits::HasXY;
use ::shapefile::{PolygonRing, Shape, ShapeReader};
use coral_core::{Crs, Error, Result};
use geo::{Area, Coord, Intersects, LineString, MultiPolygon, Polygon};
use serde_json::Value;

use super::{Attributes, ClassPolygon, ClassPolygons, Parsed, crs_text};
use crate::text::{decode_windows, open, read_bytes};

/// Reads the polygons of a shapefile: the rings from the `.shp`, their system from the `.prj` and, where there is one, the
/// attributes from the `.dbf` beside it.
///
/// Clockwise rings are parts, the others holes of the smallest part around them; a hole outside of every part, as
/// programs that do not mind the order of positions write them, is a part. Elevations and measures are left out.
///
/// # Errors
/// [`Error::Io`] naming a file that cannot be read, which the `.prj` must be; [`Error::Format`], naming the file and the
/// shape, for a damaged file, shapes that are no polygons, unusable coordinates, a `.prj` of a system other than WGS 84
/// and its zones of UTM (unless it has an EPSG number), and a `.dbf` with another number of lines.
pub fn read_shapefile(path: impl AsRef<Path>) -> Result<ClassPolygons> {
    let path = path.as_ref();
    let crs = read_prj(&path.with_extension("prj"))?;
    let fail = |reason: String| Error::format(path, None, reason);
    let reader = ShapeReader::new(open(path)?).map_err(|error| fail(format!("not a shapefile: {error}")))?;
    let shapes = reader.read().map_err(|error| fail(format!("the shapefile is damaged: {error}")))?;
    let attributes = read_dbf(&path.with_extension("dbf"), shapes.len())?;
    let polygon = |((index, shape), attributes): ((usize, Shape), Attributes)| {
        let geometry = multi_polygon(shape).map_err(|reason| fail(format!("shape {}: {reason}", index + 1)))?;
        Ok(geometry.map(|geometry| ClassPolygon { class: None, attributes, geometry }))
    };
    let polygons = shapes.into_iter().enumerate().zip(attributes).map(polygon).collect::<Result<_>>()?;
    ClassPolygons::of_features(crs, polygons).map_err(fail)
}

fn read_prj(path: &Path) -> Result<Crs> {
    let text = decode_windows(&read_bytes(path)?);
    crs_text::parse_well_known_text(&text).ok_or_else(|| {
        let short: String = text.trim().chars().take(60).collect();
        let reason = format!("expected WGS 84, one of its zones of UTM or an EPSG number, found `{short}`");
        Error::format(path, None, reason)
    })
}

/// The attributes of every shape; empty ones where there is no file.
fn read_dbf(path: &Path, shapes: usize) -> Result<Vec<Attributes>> {
    if !path.exists() {
        return Ok(vec![Attributes::new(); shapes]);
    }
    let fail = |reason: String| Error::format(path, None, reason);
    let reader = dbase::Reader::new(open(path)?);
    let records =
        reader.and_then(|mut reader| reader.read()).map_err(|error| fail(format!("no dBASE table: {error}")))?;
    if records.len() != shapes {
        return Err(fail(format!("expected a line for each of {shapes} shapes, found {}", records.len())));
    }
    let attributes = |record: dbase::Record| record.into_iter().map(|(name, value)| (name, json(value))).collect();
    Ok(records.into_iter().map(attributes).collect())
}

fn json(value: FieldValue) -> Value {
    match value {
        FieldValue::Character(text) => text.into(),
        FieldValue::Memo(text) => text.into(),
        FieldValue::Numeric(number) => number.into(),
        FieldValue::Float(number) => number.into(),
        FieldValue::Integer(number) => number.into(),
        FieldValue::Currency(number) | FieldValue::Double(number) => number.into(),
        FieldValue::Logical(logical) => logical.into(),
        FieldValue::Date(date) => date.map_or(Value::Null, |date| date.to_string().into()),
        FieldValue::DateTime(_) => Value::Null,
    }
}

/// The polygon of a shape; none where it has no geometry.
fn multi_polygon(shape: Shape) -> Parsed<Option<MultiPolygon<f64>>> {
    let rings = match shape {
        Shape::Polygon(polygon) => rings(&polygon),
        Shape::PolygonM(polygon) => rings(&polygon),
        Shape::PolygonZ(polygon) => rings(&polygon),
        Shape::NullShape => return Ok(None),
        other => return Err(format!("expected a polygon, found a {}", other.shapetype())),
    };
    let (mut parts, holes): (Vec<_>, Vec<_>) = rings.into_iter().partition(|(_, is_part)| *is_part);
    let mut parts: Vec<_> = parts.drain(..).map(|(ring, _)| Polygon::new(ring, Vec::new())).collect();
    let outlines = parts.clone();
    for (hole, _) in holes {
        let first = hole.0.first().copied().unwrap_or_default();
        let around = outlines.iter().enumerate().filter(|(_, outline)| outline.intersects(&first));
        match around.min_by(|a, b| a.1.unsigned_area().total_cmp(&b.1.unsigned_area())) {
            Some((at, _)) => parts[at].interiors_push(hole),
            None => parts.push(Polygon::new(hole, Vec::new())),
        }
    }
    Ok(Some(MultiPolygon(parts)))
}

/// The rings and whether they run clockwise, as those around a part do.
fn rings<P: HasXY>(polygon: &GenericPolygon<P>) -> Vec<(LineString<f64>, bool)> {
    let ring = |ring: &PolygonRing<P>| {
        let positions = ring.points().iter().map(|at| Coord { x: at.x(), y: at.y() }).collect();
        (LineString(positions), matches!(ring, PolygonRing::Outer(_)))
    };
    polygon.rings().iter().map(ring).collect()
}
