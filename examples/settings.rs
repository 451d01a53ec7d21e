use std::path::Path;

use coral_core::{Error, Result, write_atomically};
use serde::Serialize;
use serde_json::Value;

/// How the settings of earlier results compare with those of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum EarlierSettings {
    /// They are not known.
    Unknown,
    /// They are the same.
    Same,
    /// The first one that differs, and what it was and is.
    Other(String),
}

impl EarlierSettings {
    /// Compares the file that [`write_settings`] wrote with the settings of a run.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when there is a file that cannot be read or is no JSON.
    pub fn compare(path: &Path, settings: &impl Serialize) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::Unknown),
            text => text.map_err(|error| Error::io(path, error))?,
        };
        let not_json = |error: serde_json::Error| Error::format(path, Some(error.line() as u64), error.to_string());
        let theirs: Value = serde_json::from_str(&text).map_err(not_json)?;
        // Through text, as theirs went: a number may be written shorter than it is.
        let ours: Value = serde_json::from_str(&text_of(settings)?).map_err(Error::model)?;
        Ok(match first_difference(&theirs, &ours, "") {
            None if theirs == ours => Self::Same,
            None => Self::Unknown,
            Some(what) => Self::Other(what),
        })
    }
}

/// The first field that differs, by its path within objects of objects.
fn first_difference(theirs: &Value, ours: &Value, path: &str) -> Option<String> {
    let keys = |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    let mut names = keys(ours).into_iter().chain(keys(theirs)).flatten();
    let name = names.find(|name| theirs.get(name) != ours.get(name))?;
    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
    let (theirs, ours) = (theirs.get(&name), ours.get(&name));
    if let (Some(theirs @ Value::Object(_)), Some(ours @ Value::Object(_))) = (theirs, ours) {
        return first_difference(theirs, ours, &path);
    }
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    Some(format!("`{path}` was {}, is {}", shown(theirs), shown(ours)))
}

/// Writes the settings of a run as JSON; the file appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] when it cannot be written.
pub fn write_settings(path: &Path, settings: &impl Serialize) -> Result<()> {
    let text = text_of(settings)?;
    write_atomically(path, |out| writeln!(out, "{text}"))
}

fn text_of(settings: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(settings).map_err(Error::model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Serialize)]
    struct Settings {
        grid: [u32; 2],
        confidence: f32,
    }

    #[test]
    fn changes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        let settings = |rows, confidence| Settings { grid: [rows, 8], confidence };
        assert_eq!(EarlierSettings::compare(&path, &settings(5, 0.7)).unwrap(), EarlierSettings::Unknown);
        for confidence in [0.7, 0.1 + 0.2, f32::MIN_POSITIVE] {
            write_settings(&path, &settings(5, confidence)).unwrap();
            assert_eq!(EarlierSettings::compare(&path, &settings(5, confidence)).unwrap(), EarlierSettings::Same);
        }
        write_settings(&path, &settings(5, 0.7)).unwrap();
        let other = |settings: &Settings| EarlierSettings::compare(&path, settings).unwrap();
        assert_eq!(other(&settings(4, 0.7)), EarlierSettings::Other("`grid` was [5,8], is [4,8]".into()));
        assert_eq!(other(&settings(5, 0.5)), EarlierSettings::Other("`confidence` was 0.7, is 0.5".into()));
        let nested = |width| json!({"network": {"name": "resnet", "stem": {"width": width}}});
        write_settings(&path, &nested(64)).unwrap();
        assert_eq!(
            EarlierSettings::compare(&path, &nested(16)).unwrap(),
            EarlierSettings::Other("`network.stem.width` was 64, is 16".into())
        );
        write_settings(&path, &settings(5, 0.7)).unwrap();
        let more = json!({"grid": [5, 8], "confidence": 0.7, "dense": true});
        assert_eq!(
            EarlierSettings::compare(&path, &more).unwrap(),
            EarlierSettings::Other("`dense` was nothing, is true".into())
        );
        std::fs::write(&path, "[]").unwrap();
        assert!(matches!(other(&settings(5, 0.7)), EarlierSettings::Other(_)));
        std::fs::write(&path, "{\n").unwrap();
        let error = EarlierSettings::compare(&path, &more).unwrap_err().to_string();
        assert!(error.contains("settings.json:"), "{error}");
    }
}
