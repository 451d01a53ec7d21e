use coral_core::{ClassId, ClassSet, Error, Result};

/// The classes 0 to `classes` by their names, or by their numbers where there are no names.
pub(crate) fn class_set(names: &[String], classes: usize) -> Result<ClassSet> {
    if names.is_empty() {
        return Ok(ClassSet::from_ids((0..=ClassId::MAX).take(classes)));
    }
    if names.len() != classes {
        return Err(Error::parameter("class_names", format!("{} names for {classes} classes", names.len())));
    }
    ClassSet::from_names(names).map_err(|error| Error::parameter("class_names", error.to_string()))
}
