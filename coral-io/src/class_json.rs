use std::path::Path;

use coral_core::{Class, ClassId, ClassSet, Error, Result, default_color};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::class_table::class_id;
use crate::colors::parse_color;
use crate::text::reason_of;

/// The entries of a JSON object in their order, repeated keys included.
struct Entries(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of names, ids or colours")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A class of a JSON object; colour and name as far as it gives them.
pub(crate) struct JsonClass {
    pub(crate) id: ClassId,
    pub(crate) name: Option<String>,
    pub(crate) color: Option<[u8; 3]>,
}

/// The entries of a JSON object `{"name": id}`, `{"id": "name"}` or `{"(r, g, b)": id}`.
pub(crate) fn parse_object(path: &Path, text: &str) -> Result<Vec<JsonClass>> {
    let Entries(entries) = serde_json::from_str(text).map_err(|error| not_json(path, &error))?;
    let class = |(key, value): (String, serde_json::Value)| {
        let fail = |reason: String| Error::format(path, None, reason);
        let text = match &value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if let (true, Ok(id)) = (value.is_string(), class_id(&key)) {
            return Ok(JsonClass { id, name: Some(text), color: None });
        }
        let id = class_id(&text).map_err(|reason| fail(format!("`{key}`: {reason}")))?;
        // Only a key that looks like a colour is one: a class may be called `face`.
        let looks_like_color = key.trim_start().starts_with(['(', '[', '#']);
        let color = looks_like_color.then(|| parse_color(&key).map_err(fail)).transpose()?;
        Ok(JsonClass { id, name: color.is_none().then_some(key), color })
    };
    entries.into_iter().map(class).collect()
}

/// The classes of a JSON text: a list as [`ClassSet`] is serialised, or an object.
pub(crate) fn parse_json(path: &Path, text: &str) -> Result<ClassSet> {
    let filled = |classes: ClassSet| match classes.is_empty() {
        true => Err(Error::format(path, None, "the table holds no class")),
        false => Ok(classes),
    };
    if text.trim_start().starts_with('[') {
        return filled(serde_json::from_str(text).map_err(|error| not_json(path, &error))?);
    }
    let named = |class: JsonClass| Class {
        id: class.id,
        name: class.name.unwrap_or_else(|| class.id.to_string()),
        color: class.color.unwrap_or(default_color(class.id)),
        parent: None,
    };
    let classes: Vec<_> = parse_object(path, text)?.into_iter().map(named).collect();
    filled(ClassSet::new(classes).map_err(|error| Error::format(path, None, reason_of(error)))?)
}

fn not_json(path: &Path, error: &serde_json::Error) -> Error {
    Error::format(path, Some(error.line() as u64), format!("not a JSON table of classes: {error}"))
}
