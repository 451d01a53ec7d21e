use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use coral_core::{Error, Result, RleMask, Size};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::text::{decode_utf8, read_bytes, reason_of};

/// Reads a whole JSON file; `what` says in an error what was expected.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let bytes = read_bytes(path)?;
    let text = decode_utf8(path, &bytes)?;
    let fail =
        |error: serde_json::Error| Error::format(path, Some(error.line() as u64), format!("expected {what}: {error}"));
    serde_json::from_str(text).map_err(fail)
}

/// A list whose errors name the list and the position of the element at fault.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    name: &'static str,
) -> std::result::Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(ListVisitor { name, element: PhantomData })
}

struct ListVisitor<T> {
    name: &'static str,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", self.name)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Vec<T>, A::Error> {
        let mut elements = Vec::new();
        let name = |at: usize, error: A::Error| A::Error::custom(format!("{}[{at}]: {error}", self.name));
        while let Some(element) = seq.next_element().map_err(|error| name(elements.len(), error))? {
            elements.push(element);
        }
        Ok(elements)
    }
}

/// A number that a single can hold. Read as a double: what serde makes of a single beyond its range depends on features.
pub(super) fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<f32>, D::Error> {
    let number = Option::<f64>::deserialize(deserializer)?.map(|number| number as f32);
    match number {
        Some(number) if !number.is_finite() => Err(D::Error::custom("expected a score below 3e38")),
        number => Ok(number),
    }
}

/// A mask as it stands in a file; polygons need the image's size to become one.
#[derive(Debug, Default)]
pub(super) enum Segmentation {
    #[default]
    None,
    Polygons(Vec<Vec<f64>>),
    Runs(RleMask),
}

impl Segmentation {
    /// The mask in an image of `size`; the reason when there cannot be one.
    pub(super) fn into_mask(self, size: Size) -> std::result::Result<Option<RleMask>, String> {
        match self {
            Self::None => Ok(None),
            Self::Runs(mask) if mask.size() == size => Ok(Some(mask)),
            Self::Runs(mask) => Err(format!("the mask has {} pixels, its image {size}", mask.size())),
            Self::Polygons(polygons) => {
                let polygons = polygons.into_iter().map(points).collect::<std::result::Result<Vec<_>, _>>()?;
                RleMask::from_polygons(&polygons, size).map(Some).map_err(|error| match error {
                    Error::InvalidInput { what, reason } => format!("{what}: {reason}"),
                    other => reason_of(other),
                })
            }
        }
    }
}

fn points(coordinates: Vec<f64>) -> std::result::Result<Vec<(f64, f64)>, String> {
    let (pairs, rest) = coordinates.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(format!("expected pairs of x and y in a polygon, got {} numbers", coordinates.len()));
    }
    Ok(pairs.iter().map(|&[x, y]| (x, y)).collect())
}

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Kinds;
        impl<'de> Visitor<'de> for Kinds {
            type Value = Segmentation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of polygons or an object with `size` and `counts`")
            }

            fn visit_unit<E>(self) -> std::result::Result<Segmentation, E> {
                Ok(Segmentation::None)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Segmentation, A::Error> {
                let mut polygons: Vec<Vec<f64>> = Vec::new();
                while let Some(polygon) = seq.next_element()? {
                    polygons.push(polygon);
                }
                // An annotation of a box alone has `[]` or `[[]]`.
                let none = polygons.iter().all(Vec::is_empty);
                Ok(if none { Segmentation::None } else { Segmentation::Polygons(polygons) })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Segmentation, A::Error> {
                RleMask::deserialize(MapAccessDeserializer::new(map)).map(Segmentation::Runs)
            }
        }
        deserializer.deserialize_any(Kinds)
    }
}
