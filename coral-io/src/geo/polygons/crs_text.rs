//! Names of coordinate reference systems in GeoJSON and beside shapefiles.

use coral_core::Crs;

/// The system that an OGC name, `EPSG:NUMBER` or address of the registry names.
pub(super) fn parse_name(name: &str) -> Option<Crs> {
    let name = name.trim();
    let parts: Vec<&str> = name.split([':', '/']).filter(|part| !part.is_empty()).collect();
    let (last, before) = parts.split_last()?;
    if last.eq_ignore_ascii_case("CRS84") {
        return Some(Crs::WGS84);
    }
    // urn:ogc:def:crs:EPSG:[version:]32740, EPSG:32740, http://www.opengis.net/def/crs/EPSG/0/32740
    let named = before.iter().rev().take(2).any(|part| part.eq_ignore_ascii_case("EPSG"));
    last.parse().ok().filter(|_| named).map(|epsg| Crs { epsg })
}

/// The system of a well-known text: by its registry number, else WGS 84 and its zones of UTM by their parameters.
pub(super) fn parse_well_known_text(text: &str) -> Option<Crs> {
    let root = Node::parse(text)?;
    if let Some(id) = root.child(&["AUTHORITY", "ID"])
        && id.texts.first().is_some_and(|name| name.eq_ignore_ascii_case("EPSG"))
    {
        return id.texts.get(1).and_then(|number| number.parse().ok()).map(|epsg| Crs { epsg });
    }
    match root.keyword.as_str() {
        "GEOGCS" | "GEOGCRS" | "GEODCRS" => is_wgs84(&root).then_some(Crs::WGS84),
        "PROJCS" | "PROJCRS" => utm(&root),
        _ => None,
    }
}

fn is_wgs84(geographic: &Node) -> bool {
    let plain = |text: &String| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
    let datum = geographic.child(&["DATUM", "ENSEMBLE"]).and_then(|datum| datum.texts.first()).map(plain);
    let known = ["WGS1984", "DWGS1984", "WGS84", "WORLDGEODETICSYSTEM1984", "WORLDGEODETICSYSTEM1984ENSEMBLE"];
    datum.is_some_and(|datum| known.contains(&datum.as_str()))
}

/// A zone of UTM on WGS 84, told by its parameters, not by its name, which every program spells in its own way.
fn utm(projected: &Node) -> Option<Crs> {
    let geographic = projected.child(&["GEOGCS", "BASEGEOGCRS", "BASEGEODCRS"])?;
    let conversion = projected.child(&["CONVERSION"]).unwrap_or(projected);
    let plain = |text: &str| text.replace([' ', '_'], "").to_lowercase();
    let method = conversion.child(&["PROJECTION", "METHOD"])?.texts.first().map(|name| plain(name))?;
    if !is_wgs84(geographic) || method != "transversemercator" {
        return None;
    }
    let parameter = |names: &[&str]| {
        let named = |node: &&Node| {
            let name = node.texts.first().map(|name| plain(name)).unwrap_or_default();
            node.keyword == "PARAMETER" && names.contains(&name.as_str())
        };
        conversion.children.iter().find(named).and_then(|node| node.texts.get(1)?.parse::<f64>().ok())
    };
    let is = |names: &[&str], value: f64| parameter(names).is_some_and(|found| (found - value).abs() < 1e-9);
    let fits = is(&["latitudeoforigin", "latitudeofnaturalorigin"], 0.0)
        && is(&["scalefactor", "scalefactoratnaturalorigin"], 0.9996)
        && is(&["falseeasting"], 500_000.0);
    let south = match parameter(&["falsenorthing"])? {
        0.0 => false,
        10_000_000.0 => true,
        _ => return None,
    };
    let unit =
        projected.child(&["UNIT", "LENGTHUNIT"]).map(|unit| unit.texts.get(1).and_then(|size| size.parse().ok()));
    let metres = unit.is_none_or(|size| size == Some(1.0));
    let zone = (parameter(&["centralmeridian", "longitudeofnaturalorigin"])? + 183.0) / 6.0;
    let whole = zone.fract() == 0.0 && (1.0..=60.0).contains(&zone);
    if fits && metres && whole { Crs::utm(zone as u32, south).ok() } else { None }
}

/// `KEYWORD["text", 1.5, CHILD[…]]`.
#[derive(Debug, Default)]
struct Node {
    keyword: String,
    /// Quoted texts and numbers, in their order.
    texts: Vec<String>,
    children: Vec<Node>,
}

/// Deeper texts are no system of anything.
const DEEPEST: usize = 32;

impl Node {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim_start_matches('\u{feff}').trim();
        let root = Self::parse_one(&mut rest, 0)?;
        rest.trim().is_empty().then_some(root)
    }

    fn parse_one(rest: &mut &str, depth: usize) -> Option<Self> {
        let open = rest.find(['[', '('])?;
        let mut node = Self { keyword: rest[..open].trim().to_uppercase(), ..Self::default() };
        if depth > DEEPEST || !node.keyword.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        *rest = &rest[open + 1..];
        loop {
            *rest = rest.trim_start();
            if let Some(quoted) = rest.strip_prefix('"') {
                let (text, after) = quoted.split_once('"')?;
                node.texts.push(text.to_owned());
                *rest = after;
            } else {
                let end = rest.find([',', ']', ')', '[', '('])?;
                if rest[end..].starts_with(['[', '(']) {
                    node.children.push(Self::parse_one(rest, depth + 1)?);
                } else {
                    node.texts.push(rest[..end].trim().to_owned());
                    *rest = &rest[end..];
                }
            }
            *rest = rest.trim_start();
            let last = rest.starts_with([']', ')']);
            *rest = rest.strip_prefix([',', ']', ')'])?;
            if last {
                return Some(node);
            }
        }
    }

    fn child(&self, keywords: &[&str]) -> Option<&Self> {
        self.children.iter().find(|node| keywords.contains(&node.keyword.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_kinds() {
        for (name, epsg) in [
            ("urn:ogc:def:crs:OGC:1.3:CRS84", 4326),
            ("urn:ogc:def:crs:OGC::CRS84", 4326),
            ("urn:ogc:def:crs:EPSG::32740", 32740),
            ("urn:ogc:def:crs:EPSG:6.9:32740", 32740),
            ("epsg:2975", 2975),
            ("http://www.opengis.net/def/crs/EPSG/0/32632", 32632),
        ] {
            assert_eq!(parse_name(name), Some(Crs { epsg }), "{name}");
        }
        for name in ["", "32740", "EPSG", "EPSG:", "EPSG:x", "ESRI:102100", "urn:ogc:def:crs:EPSG::-1"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    const UTM: &str = r#"PROJCS["WGS_1984_UTM_Zone_40S",GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984",
        SPHEROID["WGS_1984",6378137.0,298.257223563]],PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]],
        PROJECTION["Transverse_Mercator"],PARAMETER["False_Easting",500000.0],PARAMETER["False_Northing",10000000.0],
        PARAMETER["Central_Meridian",57.0],PARAMETER["Scale_Factor",0.9996],PARAMETER["Latitude_Of_Origin",0.0],
        UNIT["Meter",1.0]]"#;
    const DEGREES: &str = r#"GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984",SPHEROID["WGS_1984",6378137.0,298.257223563]],
        PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]]"#;
    const MODERN: &str = r#"PROJCRS["WGS 84 / UTM zone 32N",BASEGEOGCRS["WGS 84",ENSEMBLE["World Geodetic System 1984 ensemble",
        MEMBER["World Geodetic System 1984 (G2296)"],ELLIPSOID["WGS 84",6378137,298.257223563]]],
        CONVERSION["UTM zone 32N",METHOD["Transverse Mercator"],PARAMETER["Latitude of natural origin",0],
        PARAMETER["Longitude of natural origin",9],PARAMETER["Scale factor at natural origin",0.9996],
        PARAMETER["False easting",500000],PARAMETER["False northing",0]],CS[Cartesian,2],LENGTHUNIT["metre",1]]"#;

    #[test]
    fn well_known_texts() {
        assert_eq!(parse_well_known_text(UTM), Some(Crs { epsg: 32740 }));
        assert_eq!(parse_well_known_text(DEGREES), Some(Crs::WGS84));
        assert_eq!(parse_well_known_text(MODERN), Some(Crs { epsg: 32632 }));
        let numbered = r#"PROJCS["x",GEOGCS["y"],AUTHORITY["EPSG","2975"]]"#;
        assert_eq!(parse_well_known_text(numbered), Some(Crs { epsg: 2975 }));
    }

    #[test]
    fn other_systems_are_not_taken_for_known_ones() {
        for (from, to) in [
            ("Transverse_Mercator", "Lambert_Conformal_Conic"),
            ("\"D_WGS_1984\"", "\"D_ETRS_1989\""),
            ("0.9996", "1.0"),
            ("57.0", "55.5"),
            ("500000.0", "160000.0"),
            ("10000000.0", "50000.0"),
            ("\"Meter\",1.0", "\"Foot\",0.3048"),
            ("]]", "]"),
            ("Greenwich\"", "Greenwich"),
        ] {
            assert!(UTM.contains(from));
            assert_eq!(parse_well_known_text(&UTM.replace(from, to)), None, "{to}");
        }
        assert_eq!(parse_well_known_text(&"A[".repeat(10_000)), None);
    }
}
