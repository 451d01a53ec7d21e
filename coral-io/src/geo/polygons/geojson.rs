use std::path::Path;

use ::geojson::{Feature, GeoJson, Geometry, GeometryValue, JsonObject, PolygonType, Position};
use coral_core::{Crs, Error, Result, write_atomically};
use geo::orient::{Direction, Orient};
use geo::{Coord, LineString, MultiPolygon, Polygon};
use serde_json::{Value, json};

use super::{Attributes, ClassPolygon, ClassPolygons, Parsed, crs_text};
use crate::text::{decode_utf8, read_bytes};

/// In which system [`write_geojson`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GeoJsonCrs {
    /// Longitude and latitude on WGS 84, the only system of RFC 7946.
    #[default]
    Wgs84,
    /// The polygons' own system, named by the `crs` member of GeoJSON 2008, which most programs still read.
    Named,
}

/// Reads the polygons of a GeoJSON file: a collection of features, one feature, or a geometry.
///
/// Without a `crs` member, positions are longitude and latitude ([`Crs::WGS84`]), as RFC 7946 has it. Elevations are left
/// out.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Format`], naming the feature, for text that is no GeoJSON, an
/// unknown or mixed `crs`, geometries that are no polygons, rings that are not closed or too short, coordinates that are
/// no finite numbers or no degrees, and a file without polygons.
pub fn read_geojson(path: impl AsRef<Path>) -> Result<ClassPolygons> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    let text = decode_utf8(path, &bytes)?;
    parse(text).map_err(|reason| Error::format(path, None, reason))
}

fn parse(text: &str) -> Parsed<ClassPolygons> {
    let root: GeoJson = text.parse().map_err(|error| format!("not a GeoJSON text: {error}"))?;
    let (own, features) = match root {
        GeoJson::FeatureCollection(all) => (all.foreign_members, all.features),
        GeoJson::Feature(feature) => (None, vec![feature]),
        GeoJson::Geometry(geometry) => (None, vec![Feature::from(geometry)]),
    };
    let mut crs = own.as_ref().map(crs_member).transpose()?.flatten();
    let mut polygons = Vec::with_capacity(features.len());
    for (index, feature) in features.into_iter().enumerate() {
        let at = |reason: String| format!("feature {}: {reason}", index + 1);
        let members =
            [&feature.foreign_members, &feature.geometry.as_ref().and_then(|one| one.foreign_members.clone())];
        for found in members.into_iter().flatten() {
            let Some(found) = crs_member(found).map_err(at)? else { continue };
            match crs {
                Some(crs) if crs != found => return Err(at(format!("is in {found}, others are in {crs}"))),
                None if index > 0 => return Err(at(format!("is in {found}, others name no `crs`"))),
                _ => crs = Some(found),
            }
        }
        polygons.push(polygon(feature).map_err(at)?);
    }
    ClassPolygons::of_features(crs.unwrap_or(Crs::WGS84), polygons)
}

/// The `crs` among the members of an object.
fn crs_member(members: &JsonObject) -> Parsed<Option<Crs>> {
    let Some(member) = members.get("crs") else { return Ok(None) };
    let name = member.pointer("/properties/name").and_then(Value::as_str);
    let name = name.ok_or_else(|| format!("expected the name of a system in `crs`, found {member}"))?;
    let crs = crs_text::parse_name(name);
    crs.map(Some).ok_or_else(|| format!("unknown `crs` `{name}`: expected e.g. urn:ogc:def:crs:EPSG::32740"))
}

/// The polygon of a feature; none where it has no geometry.
fn polygon(feature: Feature) -> Parsed<Option<ClassPolygon>> {
    let Some(geometry) = feature.geometry else { return Ok(None) };
    let parts = match geometry.value {
        GeometryValue::Polygon { coordinates } => vec![coordinates],
        GeometryValue::MultiPolygon { coordinates } => coordinates,
        other => return Err(format!("expected a Polygon or MultiPolygon, found a {}", other.type_name())),
    };
    let parts = parts.into_iter().map(part).collect::<Parsed<Vec<_>>>()?;
    let attributes = feature.properties.unwrap_or_default();
    Ok(Some(ClassPolygon { class: None, attributes, geometry: MultiPolygon(parts) }))
}

fn part(rings: PolygonType) -> Parsed<Polygon<f64>> {
    let mut rings = rings.into_iter().map(ring).collect::<Parsed<Vec<_>>>()?.into_iter();
    let outer = rings.next().ok_or("a polygon has no ring")?;
    Ok(Polygon::new(outer, rings.collect()))
}

fn ring(positions: Vec<Position>) -> Parsed<LineString<f64>> {
    let coord = |position: &Position| match position.as_slice() {
        [x, y, ..] => Ok(Coord { x: *x, y: *y }),
        short => Err(format!("expected two coordinates, found {}", short.len())),
    };
    let ring = LineString(positions.iter().map(coord).collect::<Parsed<_>>()?);
    // Checked here, as a polygon closes its rings by itself.
    if ring.0.first() != ring.0.last() {
        return Err("a ring is not closed: its last position must be its first".into());
    }
    Ok(ring)
}

/// Writes polygons as a collection of GeoJSON features, outer rings counter-clockwise, with their attributes; a class that
/// no attribute `class` names already becomes one. The file appears whole or not at all.
///
/// # Errors
/// [`Error::InvalidInput`] for [`GeoJsonCrs::Wgs84`] and polygons in another system: map their positions first;
/// [`Error::Io`] when the file cannot be written.
///
/// # Examples
/// ```
/// use coral_core::Crs;
/// use coral_io::geo::{ClassPolygon, ClassPolygons, GeoJsonCrs, MultiPolygon, read_geojson, write_geojson, Polygon, LineString};
/// let ring = LineString::from(vec![(5.0, 1.0), (7.0, 1.0), (7.0, 4.0), (5.0, 1.0)]);
/// let geometry = MultiPolygon(vec![Polygon::new(ring, vec![])]);
/// let polygon = ClassPolygon { class: Some(3), attributes: Default::default(), geometry };
/// let polygons = ClassPolygons::new(Crs::utm(40, true)?, vec![polygon])?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("map.geojson");
/// write_geojson(&path, &polygons, GeoJsonCrs::Named)?;
/// let read = read_geojson(&path)?;
/// assert_eq!((read.crs, &read.polygons[0].geometry), (polygons.crs, &polygons.polygons[0].geometry));
/// assert_eq!(read.polygons[0].attributes["class"], 3);
/// assert!(write_geojson(&path, &polygons, GeoJsonCrs::Wgs84).unwrap_err().to_string().contains("EPSG:32740"));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_geojson(path: impl AsRef<Path>, polygons: &ClassPolygons, crs: GeoJsonCrs) -> Result<()> {
    let mut members = JsonObject::new();
    match crs {
        GeoJsonCrs::Wgs84 if polygons.crs != Crs::WGS84 => {
            let reason = format!(
                "are in {}, RFC 7946 has {} only: map the positions first or write GeoJsonCrs::Named",
                polygons.crs,
                Crs::WGS84
            );
            return Err(Error::input("polygons", reason));
        }
        GeoJsonCrs::Wgs84 => {}
        GeoJsonCrs::Named => {
            let name = format!("urn:ogc:def:crs:EPSG::{}", polygons.crs.epsg);
            members.insert("crs".into(), json!({"type": "name", "properties": {"name": name}}));
        }
    }
    write_atomically(path, |out| {
        // One feature at a time: the text of a large map is larger than the map.
        let members = members.iter().map(|(name, value)| format!("\"{name}\":{value},\n")).collect::<String>();
        write!(out, "{{\"type\":\"FeatureCollection\",\n{members}\"features\":[\n")?;
        for (index, polygon) in polygons.polygons.iter().enumerate() {
            serde_json::to_writer(&mut *out, &feature(polygon))?;
            out.write_all(if index + 1 < polygons.len() { b",\n" } else { b"\n" })?;
        }
        out.write_all(b"]}\n")
    })
}

fn feature(polygon: &ClassPolygon) -> Feature {
    let mut attributes: Attributes = polygon.attributes.clone();
    if let Some(class) = polygon.class {
        attributes.entry("class").or_insert_with(|| class.into());
    }
    let ring = |ring: &LineString<f64>| ring.coords().map(|at| Position::from([at.x, at.y])).collect::<Vec<_>>();
    let part = |part: &Polygon<f64>| -> PolygonType {
        let part = part.orient(Direction::Default);
        super::rings::rings(&part).map(ring).collect()
    };
    let mut parts: Vec<PolygonType> = polygon.geometry.iter().map(part).collect();
    let value = match (parts.pop(), parts.is_empty()) {
        (Some(coordinates), true) => GeometryValue::Polygon { coordinates },
        (last, _) => GeometryValue::MultiPolygon { coordinates: parts.into_iter().chain(last).collect() },
    };
    Feature { geometry: Some(Geometry::new(value)), properties: Some(attributes), ..Feature::default() }
}
