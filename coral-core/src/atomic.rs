use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

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
    let mut file = beside(path)?;
    let mut out = BufWriter::with_capacity(1 << 16, file.as_file_mut());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    take_name(file, path)
}

/// A temporary file in `path`'s folder.
fn beside(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".coral-").suffix(".part");
    // Temporary files are private by default; the finished file should get what the umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder).map_err(|error| {
        // The error of a missing folder would otherwise name the temporary file.
        std::io::Error::new(error.kind(), format!("cannot write into {}: {}", folder.display(), error.kind()))
    })
}

fn take_name(file: NamedTempFile, path: &Path) -> std::io::Result<()> {
    // Else a crash of the machine could leave the name with a part of the bytes.
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A file that is written over a longer time and appears whole or not at all.
///
/// Like [`write_atomically`] for a writer that lives on between its calls. Dropped before
/// [`finish`](UnfinishedFile::finish), it leaves nothing behind. It is not buffered.
///
/// # Examples
/// ```
/// use std::io::Write;
/// use coral_core::UnfinishedFile;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("note.txt");
/// let mut file = UnfinishedFile::create(&path)?;
/// file.write_all(b"whole").unwrap();
/// assert!(!path.exists());
/// file.finish()?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole");
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug)]
pub struct UnfinishedFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl UnfinishedFile {
    /// Starts a file that will be called `path`.
    ///
    /// # Errors
    /// [`Error::Io`] naming `path` when the folder does not exist or cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = beside(path).map_err(|source| Error::io(path, source))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Gives the file its name; an older file of that name is replaced.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file when the bytes cannot be stored or the name cannot be taken.
    pub fn finish(self) -> Result<()> {
        take_name(self.file, &self.path).map_err(|source| Error::io(&self.path, source))
    }
}

impl Write for UnfinishedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for UnfinishedFile {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
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
    fn unfinished_files_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let mut file = UnfinishedFile::create(&path).unwrap();
        file.write_all(b"12345").unwrap();
        file.seek(SeekFrom::Start(1)).unwrap();
        file.write_all(b"x").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = UnfinishedFile::create(folder.path().join("missing/a.txt")).unwrap_err();
        assert!(missing.to_string().contains("cannot write into"), "{missing}");
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
