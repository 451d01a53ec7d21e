use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Writes a file that appears whole or not at all.
///
/// The bytes go to a temporary file in the same folder, which takes `path`'s
/// place (replacing an older file) only after `write` succeeded; on an error it
/// is removed.
///
/// # Errors
/// [`Error::Io`] naming `path` when the folder does not exist or cannot be
/// written, or with the error of `write`.
///
/// # Examples
/// ```
/// use coral_core::write_atomically;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("note.txt");
/// write_atomically(&path, |out| out.write_all(b"whole"))?;
/// let failed = write_atomically(&path, |out| {
///     out.write_all(b"ha")?;
///     Err(std::io::Error::other("the disk is full"))
/// });
/// assert!(failed.unwrap_err().to_string().ends_with("note.txt: the disk is full"));
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole");
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_atomically(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    write_beside(path, write).map_err(|source| Error::io(path, source))
}

fn write_beside(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".coral-").suffix(".part");
    // Temporary files are private by default; the finished file should get what the umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(|error| {
        // The error of a missing folder would otherwise name the temporary file.
        std::io::Error::new(error.kind(), format!("cannot write into {}: {}", folder.display(), error.kind()))
    })?;
    let mut out = BufWriter::with_capacity(1 << 16, file.as_file_mut());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    // Else a crash of the machine could leave the name with a part of the bytes.
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_behind_on_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, |_| Err(std::io::Error::other("no"))).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        write_atomically(&path, |out| out.write_all(b"1")).unwrap();
        write_atomically(&path, |out| out.write_all(b"2")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"2");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/a.txt");
        let text = write_atomically(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{}: cannot write into ", path.display())), "{text}");
        assert!(text.contains("not found"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn files_are_not_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("a"), folder.path().join("b"));
        write_atomically(&ours, |_| Ok(())).unwrap();
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
