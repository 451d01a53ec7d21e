use std::path::Path;

use coral_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::trainer::Trainer;

/// Goes back to a state that was saved with the settings `ours`, but for those that `take_over` sets to ours; gives what the
/// caller kept beside the settings.
pub(crate) fn resume_alike<C: Serialize + DeserializeOwned, T: DeserializeOwned>(
    trainer: &mut Trainer,
    path: &Path,
    ours: &C,
    take_over: impl FnOnce(C) -> C,
) -> Result<T> {
    let (_, extra) = trainer.resume_if(path, |saved: &(Value, T)| {
        let theirs = C::deserialize(&saved.0)
            .map_err(|error| Error::format(path, None, format!("training state: field `extra`: {error}")))?;
        expect_same_settings(path, &take_over(theirs), ours)
    })?;
    Ok(extra)
}

/// Checks that a training that is to go on has the settings that its file was written with.
///
/// # Errors
/// [`Error::Format`] naming the first field that differs, by its path, and both values.
pub(super) fn expect_same_settings<C: Serialize>(path: &Path, theirs: &C, ours: &C) -> Result<()> {
    let value = |config: &C| serde_json::to_value(config).map_err(Error::model);
    match difference(&value(theirs)?, &value(ours)?) {
        Some((field, theirs, ours)) => {
            let reason = format!("field `config{field}`: {theirs}, but this training has {ours}");
            Err(Error::format(path, None, reason))
        }
        None => Ok(()),
    }
}

/// The first field that differs, with what stands there.
fn difference(theirs: &Value, ours: &Value) -> Option<(String, Value, Value)> {
    match (theirs, ours) {
        (Value::Object(their_fields), Value::Object(our_fields)) => {
            let names = our_fields.keys().chain(their_fields.keys());
            names.into_iter().find_map(|name| {
                let [theirs, ours] = [their_fields, our_fields].map(|fields| fields.get(name).unwrap_or(&Value::Null));
                let (inner, theirs, ours) = difference(theirs, ours)?;
                Some((format!(".{name}{inner}"), theirs, ours))
            })
        }
        _ => (theirs != ours).then(|| (String::new(), theirs.clone(), ours.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_field_that_differs_is_named() {
        let settings = |rate: f64, crop: Value| json!({"network": {"width": 4, "crop": crop}, "rate": rate});
        let text = |theirs: Value, ours: Value| {
            let result = expect_same_settings(Path::new("state.safetensors"), &theirs, &ours);
            result.err().map(|error| error.to_string()).unwrap_or_default()
        };
        let some = || json!({"side": 8});
        assert_eq!(text(settings(0.1, some()), settings(0.1, some())), "");
        assert_eq!(
            text(settings(0.1, json!({"side": 9})), settings(0.2, some())),
            "state.safetensors: field `config.network.crop.side`: 9, but this training has 8"
        );
        assert!(
            text(settings(0.1, Value::Null), settings(0.1, some())).contains("crop`: null, but this training has {")
        );
        assert!(text(settings(0.1, some()), settings(0.2, some())).contains("`config.rate`: 0.1"));
        assert!(text(json!({"old": 1}), json!({})).contains("`config.old`: 1, but this training has null"));
    }
}
