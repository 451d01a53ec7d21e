use std::path::{Path, PathBuf};

use coral_core::{Error, Result};
use coral_io::image_files;

/// The photographs at `path`, a file or a folder, by name without extension. Results are to go to the folder `out`.
///
/// # Errors
/// [`Error::Io`] when there is nothing at `path`; [`Error::InvalidInput`] naming `argument` when there is no photograph;
/// [`Error::InvalidParameter`] when `out` is the photographs' own folder; those of [`image_files`].
pub fn photographs(path: &Path, out: &Path, argument: &str) -> Result<Vec<(String, PathBuf)>> {
    let kind = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
    let photographs: Vec<_> = if kind.is_dir() {
        image_files(path)?.into_iter().collect()
    } else {
        vec![(path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path.to_owned())]
    };
    if photographs.is_empty() {
        return Err(Error::input(argument, format!("{} holds no PNG, JPEG, TIFF or BMP image", path.display())));
    }
    // Else the next run would take the pictures of this one for photographs.
    let folder = if kind.is_dir() { Some(path) } else { path.parent() };
    let folder = folder.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    match (out.canonicalize(), folder.map(Path::canonicalize)) {
        (Ok(out), Some(Ok(folder))) if out == folder => {
            Err(Error::parameter("out", format!("{} holds the images, expected another folder", out.display())))
        }
        _ => Ok(photographs),
    }
}

/// An error that names the photograph that it is about.
pub fn about_photograph(path: &Path, error: Error) -> Error {
    match error {
        error if error.to_string().contains(&*path.to_string_lossy()) => error,
        Error::InvalidInput { reason, .. } => Error::format(path, None, reason),
        error => Error::format(path, None, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_photograph_once() {
        let text = |error| about_photograph(Path::new("photos/a.png"), error).to_string();
        assert_eq!(text(Error::input("photograph", "is too small")), "photos/a.png: is too small");
        assert_eq!(text(Error::format("photos/a.png", None, "truncated")), "photos/a.png: truncated");
        assert_eq!(text(Error::parameter("grid", "0x1")), "photos/a.png: invalid parameter `grid`: 0x1");
    }
}
