//! What the trainings from one label per photograph ask of photographs, and tell of them.

use std::sync::atomic::{AtomicBool, Ordering};

use coral_core::{ClassId, Dataset, Error, LabeledPhotograph, Progress, Result};

type Photographs<'a> = &'a dyn Dataset<Item = LabeledPhotograph>;

/// The error of a photograph with its name.
pub(crate) fn named(photographs: Photographs<'_>, index: usize, error: Error) -> Error {
    match photographs.name(index) {
        Ok(name) => of_named(&name, error),
        Err(_) => error,
    }
}

/// An error that says what it is about.
pub(crate) fn of_named(name: &str, error: Error) -> Error {
    match error {
        Error::InvalidInput { what, reason } => Error::input(what, format!("{name}: {reason}")),
        Error::ShapeMismatch { what, expected, actual } => Error::shape(format!("{what} of {name}"), expected, actual),
        other => other,
    }
}

/// Checks that a photograph's class is one of the classifier's.
pub(crate) fn check_class(
    photographs: Photographs<'_>,
    index: usize,
    class: ClassId,
    num_classes: usize,
) -> Result<()> {
    if usize::from(class) < num_classes {
        return Ok(());
    }
    let name = photographs.name(index)?;
    let reason = format!("{name} has class {class}; expected a class below {num_classes}");
    Err(Error::input("photographs", reason))
}

/// Checks that every class, the background among them, has photographs.
pub(crate) fn check_classes(photographs: &[u64], background: ClassId) -> Result<()> {
    let fail = |reason: String| Err(Error::input("photographs", reason));
    if usize::from(background) >= photographs.len() {
        let reason = format!("{background} is past the classifier's {} classes", photographs.len());
        return Err(Error::parameter("background", reason));
    }
    if photographs.len() == 1 {
        return Err(Error::parameter("num_classes", "the classifier has one class; expected background and another"));
    }
    if photographs[usize::from(background)] == 0 {
        return fail(format!("none is labelled background (class {background}); its template needs at least one"));
    }
    let present = photographs.iter().filter(|&&count| count > 0).count();
    if present == 1 {
        return fail("all have the same class; expected background and at least one other".into());
    }
    match photographs.iter().position(|&count| count == 0) {
        Some(class) => fail(format!("none has class {class}; every class of the classifier needs at least one")),
        None => Ok(()),
    }
}

/// Reports the photographs that are loaded, the first time: a classifier may ask for one several times.
pub(crate) struct Observed<'a> {
    photographs: Photographs<'a>,
    progress: &'a dyn Progress,
    seen: Vec<AtomicBool>,
}

impl<'a> Observed<'a> {
    pub(crate) fn new(photographs: Photographs<'a>, progress: &'a dyn Progress) -> Self {
        Self { photographs, progress, seen: (0..photographs.len()).map(|_| AtomicBool::new(false)).collect() }
    }
}

impl Dataset for Observed<'_> {
    type Item = LabeledPhotograph;

    fn len(&self) -> usize {
        self.photographs.len()
    }

    fn get(&self, index: usize) -> Result<LabeledPhotograph> {
        let photograph = self.photographs.get(index)?;
        if self.seen.get(index).is_some_and(|seen| !seen.swap(true, Ordering::Relaxed)) {
            self.progress.advance(1);
        }
        Ok(photograph)
    }

    fn name(&self, index: usize) -> Result<String> {
        self.photographs.name(index)
    }
}
