use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use coral_core::{Error, LabelMap, LabelSink, Result, Size};

/// Rows of a copy at a time.
const ROWS: usize = 256;

/// The rows of a map that is still being made: a killed job finds them again.
///
/// The file is named after the map and the job's key, so that rows of another job are never taken for its own.
#[derive(Debug)]
pub struct RowsFile {
    path: PathBuf,
    file: File,
    size: Size,
    rows: u32,
}

impl RowsFile {
    /// The rows of `map` by the job of this key, none or as many as were complete; rows of other jobs are removed.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened, [`Error::InvalidInput`] for a path without a name.
    pub fn open(map: &Path, key: &str, size: Size) -> Result<Self> {
        let name = map.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|_| size.pixels() > 0) else {
            return Err(Error::input(
                "map",
                format!("expected a file name and pixels, got {} and {size}", map.display()),
            ));
        };
        let folder = map.parent().unwrap_or(Path::new(""));
        let path = folder.join(format!(".{name}.{}.rows", key.get(..16).unwrap_or(key)));
        remove_others(folder, name, &path)?;
        let fail = |error| Error::io(&path, error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let rows = (length / u64::from(size.width)).min(size.height.into()) as u32;
        // What is left of a row that was being written goes.
        let length = u64::from(rows) * u64::from(size.width);
        file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length))).map_err(fail)?;
        Ok(Self { path, file, size, rows })
    }

    /// Hands all rows to `sink`; the file stays until what became of them is stored ([`remove`](Self::remove)).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when rows are missing, [`Error::Io`], the sink's errors.
    pub fn copy_to(&mut self, sink: &mut dyn LabelSink) -> Result<()> {
        let Size { width, height } = self.size;
        if self.rows != height {
            return Err(Error::shape("rows of the map", height.to_string(), self.rows.to_string()));
        }
        let fail = |error| Error::io(&self.path, error);
        self.file.seek(SeekFrom::Start(0)).map_err(fail)?;
        for start in (0..height as usize).step_by(ROWS) {
            let mut rows = LabelMap::zeros((ROWS.min(height as usize - start), width as usize));
            if let Some(bytes) = rows.as_slice_mut() {
                self.file.read_exact(bytes).map_err(fail)?;
            }
            sink.write_rows(&rows)?;
        }
        Ok(())
    }

    /// Removes the file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be removed.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|error| Error::io(&self.path, error))
    }
}

impl LabelSink for RowsFile {
    fn rows_written(&self) -> u32 {
        self.rows
    }

    fn write_rows(&mut self, rows: &LabelMap) -> Result<()> {
        let left = self.size.height - self.rows;
        if rows.ncols() != self.size.width as usize || rows.nrows() > left as usize {
            let expected = format!("up to {left}x{}", self.size.width);
            return Err(Error::shape("rows", expected, format!("{}x{}", rows.nrows(), rows.ncols())));
        }
        let bytes: Vec<u8> = rows.iter().copied().collect();
        self.file.write_all(&bytes).map_err(|error| Error::io(&self.path, error))?;
        self.rows += rows.nrows() as u32;
        Ok(())
    }
}

fn remove_others(folder: &Path, name: &str, own: &Path) -> Result<()> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(here).map_err(|error| Error::io(here, error))?;
    let start = format!(".{name}.");
    for entry in entries.flatten() {
        let file = entry.file_name();
        let rows = file.to_str().is_some_and(|file| file.starts_with(&start) && file.ends_with(".rows"));
        if rows && own.file_name() != Some(&file) {
            fs::remove_file(entry.path()).map_err(|error| Error::io(entry.path(), error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::ndarray::array;

    #[test]
    fn rows_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let map = folder.path().join("map.tif");
        let size = Size { width: 3, height: 3 };
        let mut rows = RowsFile::open(&map, "key", size).unwrap();
        rows.write_rows(&array![[1, 2, 3]]).unwrap();
        // A kill in the middle of a row.
        rows.file.write_all(&[4]).unwrap();
        drop(rows);
        let mut rows = RowsFile::open(&map, "key", size).unwrap();
        assert_eq!(rows.rows_written(), 1);
        rows.write_rows(&array![[4, 5, 6], [7, 8, 9]]).unwrap();
        assert!(rows.write_rows(&array![[0, 0, 0]]).is_err());
        let mut copy = LabelMap::default((0, 0));
        rows.copy_to(&mut copy).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        rows.remove().unwrap();
        assert_eq!(copy, array![[1, 2, 3], [4, 5, 6], [7, 8, 9]]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn rows_of_another_job_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let map = folder.path().join("map.tif");
        let size = Size { width: 2, height: 2 };
        RowsFile::open(&map, "one", size).unwrap().write_rows(&array![[1, 1]]).unwrap();
        let mut other = RowsFile::open(&map, "two", size).unwrap();
        assert_eq!((other.rows_written(), fs::read_dir(folder.path()).unwrap().count()), (0, 1));
        assert!(other.copy_to(&mut LabelMap::default((0, 0))).unwrap_err().to_string().contains("rows of the map"));
    }
}
