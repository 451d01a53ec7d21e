use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use coral_core::{Dataset, Error, LabeledPatch, Result};

use super::table::MultiLabelTable;
use crate::folder_dataset::is_image_name;
use crate::images::read_image;
use crate::photographs::Resize;
use crate::sample_names::free_name;

/// Photographs with a value in 0..=1 for every class: several can be 1, and they need not sum to 1.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, image::RgbImage, ndarray::array};
/// use coral_io::{MultiLabelConfig, MultiLabelDataset, read_multi_labels, write_image};
/// let folder = tempfile::tempdir().unwrap();
/// write_image(folder.path().join("a.png"), &RgbImage::new(4, 3))?;
/// let path = folder.path().join("labels.csv");
/// std::fs::write(&path, "FileName,sand,coral\na.png,1,1\n").unwrap();
/// let table = read_multi_labels(&path, &MultiLabelConfig::default())?;
/// let dataset = MultiLabelDataset::new(table, folder.path())?;
/// assert_eq!((dataset.name(0)?, dataset.get(0)?.target), ("a".to_owned(), array![1.0, 1.0]));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MultiLabelDataset {
    table: MultiLabelTable,
    paths: Vec<PathBuf>,
    names: Vec<String>,
    resize: Option<Resize>,
}

impl MultiLabelDataset {
    /// The photographs of `table`, with their files in `folder`.
    ///
    /// A file is found by its path below the folder or, where that is missing, by its name without case or, if the table
    /// gives none, without extension.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be listed; [`Error::Format`] naming the table's line when a file is missing,
    /// or several have its name.
    pub fn new(table: MultiLabelTable, folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let listed = list(folder)?;
        let mut taken = HashSet::new();
        let (mut paths, mut names) = (Vec::new(), Vec::new());
        for (file, &line) in table.files.iter().zip(&table.lines) {
            let path = find(folder, &listed, file).map_err(|reason| Error::format(&table.path, Some(line), reason))?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            names.push(free_name(&stem, &mut taken));
            paths.push(path);
        }
        Ok(Self { table, paths, names, resize: None })
    }

    /// Shrinks photographs as they are loaded.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when a side is 0.
    pub fn with_resize(self, resize: Resize) -> Result<Self> {
        resize.validate()?;
        Ok(Self { resize: Some(resize), ..self })
    }

    /// The labels.
    pub fn table(&self) -> &MultiLabelTable {
        &self.table
    }

    /// The file of every photograph.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    fn expect(&self, index: usize) -> Result<()> {
        if index < self.paths.len() {
            return Ok(());
        }
        Err(Error::IndexOutOfRange { what: "the table of labels".into(), index, len: self.paths.len() })
    }
}

/// The image files of a folder by name and by name without extension, in lower case.
fn list(folder: &Path) -> Result<HashMap<String, Vec<PathBuf>>> {
    let failed = |source| Error::io(folder, source);
    let mut listed: HashMap<String, Vec<PathBuf>> = HashMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_image_name(&path) {
            for name in [path.file_name(), path.file_stem()].into_iter().flatten() {
                listed.entry(name.to_string_lossy().to_lowercase()).or_default().push(path.clone());
            }
        }
    }
    Ok(listed)
}

fn find(folder: &Path, listed: &HashMap<String, Vec<PathBuf>>, file: &str) -> std::result::Result<PathBuf, String> {
    let exact = folder.join(file);
    if exact.is_file() {
        return Ok(exact);
    }
    match listed.get(&file.to_lowercase()).map(Vec::as_slice) {
        Some([path]) => Ok(path.clone()),
        Some(several) => Err(format!("`{file}` stands for {} files in {}", several.len(), folder.display())),
        None => Err(format!("its photograph `{file}` is missing in {}", folder.display())),
    }
}

impl Dataset for MultiLabelDataset {
    type Item = LabeledPatch;

    fn len(&self) -> usize {
        self.paths.len()
    }

    fn get(&self, index: usize) -> Result<LabeledPatch> {
        self.expect(index)?;
        let image = read_image(&self.paths[index])?;
        let image = match self.resize {
            Some(resize) => resize.apply(image)?,
            None => image,
        };
        Ok(LabeledPatch { image, target: self.table.targets.row(index).to_owned() })
    }

    fn name(&self, index: usize) -> Result<String> {
        self.expect(index)?;
        Ok(self.names[index].clone())
    }
}
