use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coral_core::{ClassId, Dataset, Error, LabeledImage, Remapping, Result, Size, UNLABELED};
use serde::{Deserialize, Serialize};

use crate::color_label_maps::{ColorTable, UnknownColor, read_color_label_map};
use crate::images::read_image;
use crate::label_maps::read_label_map;

/// Where a [`LabelMapFolder`] finds photographs and label maps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelMapFolderConfig {
    /// The folder of photographs (PNG, JPEG, TIFF or BMP).
    pub images: PathBuf,
    /// The folder of label maps (PNG, BMP or TIFF); may be the same when there is a suffix.
    pub labels: PathBuf,
    /// What a label map's name has after the photograph's, before the extension: `_mask` pairs
    /// `reef.jpg` with `reef_mask.png`. Default: nothing.
    pub label_suffix: String,
    /// Ids in the files that mean unlabelled, besides 255. Default: none.
    pub ignore: Vec<ClassId>,
}

/// Photographs with dense label maps in folders, paired by file name without extension.
///
/// Files that are no images and folders inside are passed over. Samples are sorted by name.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, image::RgbImage, ndarray::array};
/// use coral_io::{LabelMapFolder, LabelMapFolderConfig, write_image, write_label_map};
/// let folder = tempfile::tempdir().unwrap();
/// let at = |name: &str| folder.path().join(name);
/// write_image(at("reef.png"), &RgbImage::new(3, 1))?;
/// write_label_map(at("reef_mask.png"), &array![[0, 34, 1]])?;
/// let dataset = LabelMapFolder::new(LabelMapFolderConfig {
///     images: at(""),
///     labels: at(""),
///     label_suffix: "_mask".into(),
///     ignore: vec![34],
/// })?;
/// assert_eq!((dataset.len(), dataset.name(0)?), (1, "reef".to_owned()));
/// assert_eq!(dataset.get(0)?.labels, array![[0, 255, 1]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LabelMapFolder {
    /// Name, photograph and label map.
    samples: Vec<(String, PathBuf, PathBuf)>,
    remapping: Remapping,
    colors: Option<(ColorTable, UnknownColor)>,
}

impl LabelMapFolder {
    /// Lists the folders and pairs their files.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when photographs and label maps share a folder without a suffix;
    /// [`Error::Io`] when a folder cannot be listed; [`Error::Format`] naming a file
    /// without partner, two files of one name, or a folder without photographs.
    pub fn new(config: LabelMapFolderConfig) -> Result<Self> {
        if config.images == config.labels && config.label_suffix.is_empty() {
            let reason = "photographs and label maps in one folder can only be told apart by a suffix, got none";
            return Err(Error::parameter("label_suffix", reason));
        }
        let mut images = image_files(&config.images)?;
        let mut labels = image_files(&config.labels)?;
        if config.images == config.labels {
            images.retain(|stem, _| !stem.ends_with(&config.label_suffix));
        }
        labels.retain(|stem, _| stem.ends_with(&config.label_suffix));
        if images.is_empty() {
            return Err(Error::format(&config.images, None, "the folder holds no PNG, JPEG, TIFF or BMP image"));
        }
        let mut samples = Vec::with_capacity(images.len());
        for (stem, image) in images {
            let partner = format!("{stem}{}", config.label_suffix);
            let Some(label) = labels.remove(&partner) else {
                let reason = format!("expected its label map `{partner}.*` in {}", config.labels.display());
                return Err(Error::format(image, None, reason));
            };
            samples.push((stem, image, label));
        }
        if let Some(alone) = labels.into_values().next() {
            let reason = format!("expected the photograph of this label map in {}", config.images.display());
            return Err(Error::format(alone, None, reason));
        }
        let mut remapping = Remapping::identity();
        config.ignore.iter().for_each(|&id| remapping.set(id, UNLABELED));
        Ok(Self { samples, remapping, colors: None })
    }

    /// Replaces ids by others as samples are loaded, instead of the config's `ignore`.
    pub fn with_remapping(self, remapping: Remapping) -> Self {
        Self { remapping, ..self }
    }

    /// Reads the label maps as colour-coded pictures.
    pub fn with_colors(self, table: ColorTable, unknown: UnknownColor) -> Self {
        Self { colors: Some((table, unknown)), ..self }
    }

    fn sample(&self, index: usize) -> Result<&(String, PathBuf, PathBuf)> {
        self.samples.get(index).ok_or_else(|| Error::IndexOutOfRange {
            what: "the folder of label maps".into(),
            index,
            len: self.samples.len(),
        })
    }
}

impl Dataset for LabelMapFolder {
    type Item = LabeledImage;

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn get(&self, index: usize) -> Result<LabeledImage> {
        let (_, image, labels) = self.sample(index)?;
        let stored = match &self.colors {
            Some((table, unknown)) => read_color_label_map(labels, table, *unknown)?,
            None => read_label_map(labels)?,
        };
        let image = read_image(image)?;
        Size::of(&image).expect(&labels.display().to_string(), Size::of_map(&stored))?;
        Ok(LabeledImage { image, labels: self.remapping.apply(&stored) })
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(self.sample(index)?.0.clone())
    }
}

/// The image files (PNG, JPEG, TIFF, BMP, by extension) of a folder, by name without extension; hidden files
/// and folders within are passed over.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read; [`Error::Format`] when two files differ in their extension only.
///
/// # Examples
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// for name in ["b.png", "a.JPG", "._a.jpg", "notes.txt"] {
///     std::fs::write(folder.path().join(name), "").unwrap();
/// }
/// let files = coral_io::image_files(folder.path())?;
/// assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "b"]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn image_files(folder: impl AsRef<Path>) -> Result<BTreeMap<String, PathBuf>> {
    let folder = folder.as_ref();
    let failed = |source| Error::io(folder, source);
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !is_image_name(&path) || stem.starts_with('.') || path.is_dir() {
            continue;
        }
        if let Some(other) = found.insert(stem, path.clone()) {
            return Err(Error::format(path, None, format!("has the same name as {}", other.display())));
        }
    }
    Ok(found)
}

/// Whether a file has the extension of a format that is read.
pub(crate) fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    matches!(extension.as_str(), "png" | "jpg" | "jpeg" | "tif" | "tiff" | "bmp")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{write_image, write_label_map};
    use coral_core::image::{Rgb, RgbImage};
    use coral_core::ndarray::array;
    use coral_core::testing::check_dataset;

    fn config(root: &Path) -> LabelMapFolderConfig {
        LabelMapFolderConfig { images: root.join("images"), labels: root.join("labels"), ..Default::default() }
    }

    fn folder_of(names: &[(&str, u8)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let LabelMapFolderConfig { images, labels, .. } = config(folder.path());
        std::fs::create_dir_all(images.join("a folder.png")).unwrap();
        std::fs::create_dir_all(&labels).unwrap();
        std::fs::write(images.join("notes.txt"), "not an image").unwrap();
        for (name, id) in names {
            write_image(images.join(format!("{name}.png")), &RgbImage::from_pixel(2, 1, Rgb([*id; 3]))).unwrap();
            write_label_map(labels.join(format!("{name}.png")), &array![[*id, 34]]).unwrap();
        }
        folder
    }

    #[test]
    fn it_is_a_dataset() {
        let folder = folder_of(&[("b", 2), ("a", 1), ("c.1", 3)]);
        let dataset = LabelMapFolder::new(config(folder.path())).unwrap();
        check_dataset(&dataset, |a, b| a == b).unwrap();
        let names: Vec<_> = (0..3).map(|index| dataset.name(index).unwrap()).collect();
        assert_eq!(names, ["a", "b", "c.1"]);
        assert_eq!(dataset.get(1).unwrap().labels, array![[2, 34]]);
        let mut remapping = Remapping::identity();
        remapping.set(34, UNLABELED);
        assert_eq!(dataset.with_remapping(remapping).get(1).unwrap().labels, array![[2, 255]]);
    }

    #[test]
    fn color_coded_folders() {
        let folder = folder_of(&[("a", 1)]);
        let mask = RgbImage::from_fn(2, 1, |x, _| Rgb([0, 0, 255 * x as u8]));
        write_image(folder.path().join("labels/a.png"), &mask).unwrap();
        let dataset = LabelMapFolder::new(config(folder.path())).unwrap();
        assert!(dataset.get(0).unwrap_err().to_string().contains("read it with a colour table"));
        let table = ColorTable::new([([0, 0, 0], UNLABELED), ([0, 0, 255], 7)]).unwrap();
        assert_eq!(dataset.with_colors(table, UnknownColor::Error).get(0).unwrap().labels, array![[255, 7]]);
    }

    #[test]
    fn broken_files_inside_are_named() {
        let cases: [(&str, &[u8], &str); 5] = [
            ("images/a.png", b"", "images/a.png: not an image: expected a PNG"),
            ("images/a.png", b"\x89PNG\r\n\x1a\n\0\0", "images/a.png: the image file ends too early"),
            ("labels/a.png", b"", "labels/a.png: not a label map: expected a PNG"),
            ("labels/a.png", b"x,y,class\n", "labels/a.png: not a label map"),
            ("labels/a.png", b"\x89PNG\r\n\x1a\n\0\0", "labels/a.png: the label map cannot be decoded"),
        ];
        for (name, bytes, text) in cases {
            let folder = folder_of(&[("a", 1), ("b", 2)]);
            std::fs::write(folder.path().join(name), bytes).unwrap();
            let dataset = LabelMapFolder::new(config(folder.path())).unwrap();
            let error = dataset.get(0).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert!(dataset.get(1).is_ok());
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        type Spoil = fn(&Path);
        let cases: [(Spoil, &str); 5] = [
            (
                |root| std::fs::remove_file(root.join("labels/b.png")).unwrap(),
                "b.png: expected its label map `b.*` in ",
            ),
            (
                |root| std::fs::remove_file(root.join("images/a.png")).unwrap(),
                "a.png: expected the photograph of this label map",
            ),
            (
                |root| assert!(std::fs::copy(root.join("images/a.png"), root.join("images/a.jpg")).is_ok()),
                "has the same name as",
            ),
            (|root| std::fs::remove_dir_all(root.join("labels")).unwrap(), "No such file"),
            (
                |root| {
                    ["a", "b"]
                        .iter()
                        .for_each(|name| std::fs::remove_file(root.join(format!("images/{name}.png"))).unwrap())
                },
                "the folder holds no PNG",
            ),
        ];
        for (spoil, text) in cases {
            let folder = folder_of(&[("a", 1), ("b", 2)]);
            spoil(folder.path());
            let error = LabelMapFolder::new(config(folder.path())).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let folder = folder_of(&[("a", 1)]);
        let same = LabelMapFolderConfig { labels: folder.path().join("images"), ..config(folder.path()) };
        assert!(LabelMapFolder::new(same).unwrap_err().to_string().contains("by a suffix, got none"));
        write_label_map(folder.path().join("labels/a.png"), &array![[1], [1]]).unwrap();
        let error = LabelMapFolder::new(config(folder.path())).unwrap().get(0).unwrap_err().to_string();
        assert!(error.contains("a.png: expected shape 2x1, got 1x2"), "{error}");
    }
}
