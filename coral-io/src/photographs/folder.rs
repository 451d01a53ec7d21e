use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use coral_core::{ClassId, ClassSet, Dataset, Error, LabeledPhotograph, Progress, Result, Size};

use super::checking::{SkippedPhotograph, check_all};
use super::config::{PhotographFolderConfig, Repeated};
use super::listing::{ClassFolder, class_folders, natural_order, same};
use super::repeats::{RepeatedPhotograph, repeated};
use crate::images::read_image;
use crate::sample_names::free_name;
use crate::text::reason_of;

/// Photographs with one class each, told by the folder they stand in: `root/class/photograph.jpg`.
///
/// Folders and photographs come in natural order (`T2` before `T10`). Hidden files, files that are no images and
/// files beside the class folders are passed over; folders within a class folder belong to its class.
///
/// [`PhotographFolder::new`] lists the files, [`PhotographFolder::checked`] also decodes each of them once, so that a
/// damaged one is known before a long training.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, NoProgress, image::RgbImage};
/// use coral_io::{Corrupt, PhotographFolder, PhotographFolderConfig, write_image};
/// let folder = tempfile::tempdir().unwrap();
/// let at = |name: &str| folder.path().join(name);
/// for (class, name) in [("sand", "2.png"), ("sand", "10.png"), ("seagrass", "2.png")] {
///     std::fs::create_dir_all(at(class)).unwrap();
///     write_image(at(class).join(name), &RgbImage::new(8, 6))?;
/// }
/// std::fs::write(at("seagrass/3.jpg"), "broken").unwrap();
///
/// let config = PhotographFolderConfig { root: at(""), on_corrupt: Corrupt::Skip, ..Default::default() };
/// let (photographs, skipped) = PhotographFolder::checked(config, &NoProgress)?;
/// assert_eq!(photographs.labels(), [0, 0, 1]);
/// assert_eq!(photographs.class_set().name(1), "seagrass");
/// assert_eq!(photographs.name(1)?, "sand_10");
/// assert_eq!(photographs.get(2)?.class, 1);
/// assert!(skipped[0].path.ends_with("seagrass/3.jpg"));
/// assert!(skipped[0].reason.starts_with("not an image"));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PhotographFolder {
    config: PhotographFolderConfig,
    classes: ClassSet,
    paths: Vec<PathBuf>,
    labels: Vec<ClassId>,
    names: Vec<String>,
}

impl PhotographFolder {
    /// Lists the class folders and their photographs, without decoding any.
    ///
    /// # Errors
    /// [`Error::Io`] when a folder cannot be listed. [`Error::Format`] naming the folder when there is no class folder,
    /// one without photographs, or one of a class that the config's classes do not hold; when all photographs
    /// are of one class; and naming all files when photographs are repeated and the config refuses that.
    /// [`Error::InvalidParameter`] when `leave_out` or, without `classes`, `rename` names a folder that is not there, or a size is 0.
    pub fn new(config: PhotographFolderConfig) -> Result<Self> {
        let folders = class_folders(&config.root, &config.leave_out)?;
        Self::of_folders(config, folders)
    }

    /// [`PhotographFolder::new`], and decodes every photograph once (on all cores with feature `rayon`), a step of
    /// `progress` each.
    ///
    /// The photographs that cannot be read or are smaller than `min_size` are an error, or left out and listed: see
    /// [`PhotographFolderConfig::on_corrupt`].
    ///
    /// # Errors
    /// Those of [`PhotographFolder::new`]; [`Error::Format`] naming a bad photograph, or a class
    /// of which none is left.
    pub fn checked(config: PhotographFolderConfig, progress: &dyn Progress) -> Result<(Self, Vec<SkippedPhotograph>)> {
        let mut folders = class_folders(&config.root, &config.leave_out)?;
        // Decoding can take long: what needs no photograph is checked before.
        let (classes, ids) = classes(&config, &folders)?;
        expect_several_classes(&config, &classes, &ids)?;
        let skipped = check_all(&mut folders, &config, progress)?;
        Ok((Self::of_folders(config, folders)?, skipped))
    }

    pub(super) fn of_folders(config: PhotographFolderConfig, folders: Vec<ClassFolder>) -> Result<Self> {
        let (classes, ids) = classes(&config, &folders)?;
        let mut dataset = Self { config, classes, paths: Vec::new(), labels: Vec::new(), names: Vec::new() };
        let mut taken = HashSet::new();
        for (folder, id) in folders.into_iter().zip(ids) {
            for path in folder.photographs {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                dataset.names.push(free_name(&format!("{}_{stem}", folder.name), &mut taken));
                dataset.labels.push(id);
                dataset.paths.push(path);
            }
        }
        expect_several_classes(&dataset.config, &dataset.classes, &dataset.labels)?;
        dataset.refuse_repeated()?;
        Ok(dataset)
    }

    fn refuse_repeated(&self) -> Result<()> {
        let only_same = match self.config.repeated {
            Repeated::Allow => return Ok(()),
            Repeated::RefuseSameName => false,
            Repeated::RefuseSameContent => true,
        };
        let found = self.repeated()?;
        let mut refused = found.iter().filter(|one| one.same_content || !only_same);
        let Some(one) = refused.next() else { return Ok(()) };
        let paths: Vec<_> = one.samples.iter().map(|&index| self.paths[index].display().to_string()).collect();
        let more = match refused.count() {
            0 => String::new(),
            more => format!(" ({more} more photographs stand in several classes)"),
        };
        let reason = format!("`{}` stands in several classes: {}{more}", one.name, paths.join(", "));
        Err(Error::format(&self.config.root, None, reason))
    }

    /// The classes; the config's, or those of the folders.
    pub fn class_set(&self) -> &ClassSet {
        &self.classes
    }

    /// The class of every photograph.
    pub fn labels(&self) -> &[ClassId] {
        &self.labels
    }

    /// The file of every photograph.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The file of photograph `index`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] past the end.
    pub fn path(&self, index: usize) -> Result<&Path> {
        self.at(&self.paths, index).map(PathBuf::as_path)
    }

    /// The class of photograph `index`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] past the end.
    pub fn class(&self, index: usize) -> Result<ClassId> {
        self.at(&self.labels, index).copied()
    }

    /// How many photographs each class of the set has, by ascending id.
    pub fn counts(&self) -> Vec<(ClassId, usize)> {
        let count = |id| self.labels.iter().filter(|&&label| label == id).count();
        self.classes.iter().map(|class| (class.id, count(class.id))).collect()
    }

    /// The files that occur, by name, in the folders of several classes: often one photograph of two things, sometimes
    /// only two cameras that count from 1. Files of one name are compared byte for byte.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read.
    pub fn repeated(&self) -> Result<Vec<RepeatedPhotograph>> {
        repeated(&self.paths, &self.labels)
    }

    fn at<'a, T>(&self, list: &'a [T], index: usize) -> Result<&'a T> {
        list.get(index).ok_or_else(|| Error::IndexOutOfRange {
            what: "the folder of photographs".into(),
            index,
            len: self.paths.len(),
        })
    }
}

impl Dataset for PhotographFolder {
    type Item = LabeledPhotograph;

    fn len(&self) -> usize {
        self.paths.len()
    }

    fn get(&self, index: usize) -> Result<LabeledPhotograph> {
        let path = self.path(index)?;
        let image = read_image(path)?;
        expect_size(path, Size::of(&image), self.config.min_size)?;
        let image = match self.config.resize {
            Some(resize) => resize.apply(image)?,
            None => image,
        };
        Ok(LabeledPhotograph { image, class: self.labels[index] })
    }

    fn name(&self, index: usize) -> Result<String> {
        self.at(&self.names, index).cloned()
    }
}

/// Checks a photograph's size as stored.
pub(super) fn expect_size(path: &Path, size: Size, least: Option<Size>) -> Result<()> {
    match least {
        Some(least) if size.width < least.width || size.height < least.height => {
            Err(Error::format(path, None, format!("the photograph is {size}, expected at least {least}")))
        }
        _ => Ok(()),
    }
}

/// All classes, and that of every folder; checks the settings that need no photograph.
fn classes(config: &PhotographFolderConfig, folders: &[ClassFolder]) -> Result<(ClassSet, Vec<ClassId>)> {
    config.resize.map_or(Ok(()), |resize| resize.validate())?;
    let names = class_names(config, folders)?;
    let classes = match &config.classes {
        Some(classes) => classes.clone(),
        None => classes_of(&config.root, &names)?,
    };
    let id = |(folder, name): (&ClassFolder, &String)| {
        classes.parse(name).map_err(|error| Error::format(&folder.path, None, error.to_string()))
    };
    let ids = folders.iter().zip(&names).map(id).collect::<Result<_>>()?;
    Ok((classes, ids))
}

fn expect_several_classes(config: &PhotographFolderConfig, classes: &ClassSet, labels: &[ClassId]) -> Result<()> {
    let first = labels.first();
    if config.allow_one_class || labels.iter().any(|label| Some(label) != first) {
        return Ok(());
    }
    let class = first.map(|&id| classes.name(id)).unwrap_or_default();
    let reason = format!("all photographs are of the class `{class}`: expected folders of at least two classes");
    Err(Error::format(&config.root, None, reason))
}

/// The class name of every folder.
fn class_names(config: &PhotographFolderConfig, folders: &[ClassFolder]) -> Result<Vec<String>> {
    let unused = config.rename.keys().find(|key| !folders.iter().any(|folder| same(key, &folder.name)));
    if let (Some(unused), None) = (unused, &config.classes) {
        let reason = format!("there is no folder `{unused}` to rename in {}", config.root.display());
        return Err(Error::parameter("rename", reason));
    }
    let renamed = |folder: &ClassFolder| config.rename.iter().find(|(key, _)| same(key, &folder.name));
    let name = |folder: &ClassFolder| renamed(folder).map_or(&folder.name, |(_, class)| class).trim().to_owned();
    Ok(folders.iter().map(name).collect())
}

/// Classes 0, 1, 2, … of these names, each once.
fn classes_of(root: &Path, names: &[String]) -> Result<ClassSet> {
    // Names that differ in case only are one class.
    let by_name: BTreeMap<String, &String> = names.iter().rev().map(|name| (name.to_lowercase(), name)).collect();
    let mut distinct: Vec<_> = by_name.into_values().collect();
    distinct.sort_by(|a, b| natural_order(a, b));
    ClassSet::from_names(distinct).map_err(|error| Error::format(root, None, reason_of(error)))
}
