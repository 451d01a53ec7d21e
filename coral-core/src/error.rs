use std::path::{Path, PathBuf};

/// Shorthand for results with the crates' [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in the coral crates.
///
/// Every variant names the thing at fault (a file, a field, an argument) and
/// what was expected of it, so that its text can be shown to a user as it is.
///
/// # Examples
/// ```
/// use coral_core::Error;
/// let error = Error::shape("target", "4x6", "6x4");
/// assert_eq!(error.to_string(), "target: expected shape 4x6, got 6x4");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array or image has another shape than its partner or the contract asks for.
    #[error("{what}: expected shape {expected}, got {actual}")]
    ShapeMismatch {
        /// The argument or tensor at fault.
        what: String,
        /// The shape it should have, e.g. `3x480x640`.
        expected: String,
        /// The shape it has.
        actual: String,
    },
    /// A parameter of an algorithm is outside its documented range.
    #[error("invalid parameter `{name}`: {reason}")]
    InvalidParameter {
        /// The field or argument.
        name: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// Input data (points, images, labels) cannot be used.
    #[error("invalid input `{what}`: {reason}")]
    InvalidInput {
        /// The argument at fault.
        what: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A class id or name that the class set does not hold.
    #[error("unknown class `{class}`: expected {expected}")]
    UnknownClass {
        /// The id or name found.
        class: String,
        /// What would have been accepted.
        expected: String,
    },
    /// A position past the end of a dataset or list.
    #[error("index {index} out of range: {what} has {len} items")]
    IndexOutOfRange {
        /// What was indexed.
        what: String,
        /// The position asked for.
        index: usize,
        /// How many items there are.
        len: usize,
    },
    /// A file could not be opened, read, written or renamed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file was read but does not hold what its format asks for.
    #[error("{}{}: {reason}", path.display(), line.map(|n| format!(":{n}")).unwrap_or_default())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line (from 1), where the format has lines.
        line: Option<u64>,
        /// What was found and what was expected.
        reason: String,
    },
    /// A checkpoint does not fit the model.
    #[error("{}: {}", path.display(), weights_text(missing, unexpected, mismatched, cause.as_deref()))]
    Weights {
        /// The checkpoint.
        path: PathBuf,
        /// Tensors that the model needs and the file lacks.
        missing: Vec<String>,
        /// Tensors of the file that the model has no place for.
        unexpected: Vec<String>,
        /// Tensors of another shape, as `name: expected AxB, got CxD`.
        mismatched: Vec<String>,
        /// What probably went wrong, e.g. `the file is a CLIP checkpoint`.
        cause: Option<String>,
    },
    /// The tensor library reported an error.
    #[error("model: {source}")]
    Model {
        /// The library's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// A [`Error::ShapeMismatch`].
    pub fn shape(what: impl Into<String>, expected: impl Into<String>, actual: impl Into<String>) -> Self {
        Self::ShapeMismatch { what: what.into(), expected: expected.into(), actual: actual.into() }
    }

    /// A [`Error::InvalidParameter`].
    pub fn parameter(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidParameter { name: name.into(), reason: reason.into() }
    }

    /// A [`Error::InvalidInput`].
    pub fn input(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidInput { what: what.into(), reason: reason.into() }
    }

    /// An [`Error::Io`] about `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    /// An [`Error::Format`] about `path`; `line` counts from 1.
    pub fn format(path: impl AsRef<Path>, line: Option<u64>, reason: impl Into<String>) -> Self {
        Self::Format { path: path.as_ref().to_owned(), line, reason: reason.into() }
    }

    /// An [`Error::Model`] around an error of the tensor library.
    pub fn model(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Model { source: source.into() }
    }
}

/// How many tensor names of a kind a text lists before it only counts them.
const NAMES_SHOWN: usize = 8;

fn weights_text(missing: &[String], unexpected: &[String], mismatched: &[String], cause: Option<&str>) -> String {
    let kinds = [("missing", missing), ("unexpected", unexpected), ("mis-shaped", mismatched)];
    let lists = kinds.iter().filter(|(_, names)| !names.is_empty()).map(|(kind, names)| {
        let shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
        let more = match names.len().saturating_sub(NAMES_SHOWN) {
            0 => String::new(),
            more => format!(", … and {more} more"),
        };
        format!("{} {kind} ({shown}{more})", names.len())
    });
    let lists = lists.collect::<Vec<_>>().join("; ");
    let cause = cause.map(|cause| format!("; likely cause: {cause}")).unwrap_or_default();
    format!("the checkpoint does not fit the model: {lists}{cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_the_file_and_line() {
        let with_line = Error::format("a/points.csv", Some(3), "expected 3 fields, got 2");
        assert_eq!(with_line.to_string(), "a/points.csv:3: expected 3 fields, got 2");
        let without = Error::format("a.png", None, "truncated");
        assert_eq!(without.to_string(), "a.png: truncated");
        let io = Error::io("gone.csv", std::io::Error::from(std::io::ErrorKind::NotFound));
        assert!(io.to_string().starts_with("gone.csv: "));
    }

    #[test]
    fn weights_text_lists_some_names_and_counts_the_rest() {
        let names = |n: usize| (0..n).map(|index| format!("t{index}")).collect::<Vec<_>>();
        let error = Error::Weights {
            path: "sam.pth".into(),
            missing: names(1),
            unexpected: names(10),
            mismatched: Vec::new(),
            cause: Some("another model".into()),
        };
        assert_eq!(
            error.to_string(),
            "sam.pth: the checkpoint does not fit the model: 1 missing (t0); \
             10 unexpected (t0, t1, t2, t3, t4, t5, t6, t7, … and 2 more); likely cause: another model"
        );
    }

    #[test]
    fn errors_cross_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
    }
}
