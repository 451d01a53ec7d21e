use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coral_core::{AnnotatedImage, ClassId, Dataset, Error, Result, UNLABELED};
use serde::{Deserialize, Serialize};

use super::read_annotated;
use crate::coco::{SamAnnotations, read_sam_annotations};
use crate::folder_dataset::image_files;

/// Where a [`MaskFolder`] finds photographs and annotations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskFolderConfig {
    /// The folder of photographs (PNG, JPEG, TIFF or BMP).
    pub images: PathBuf,
    /// The folder of annotations, a JSON file for each photograph; may be the same.
    pub annotations: PathBuf,
    /// The class of masks that have none in their file: 1 for files that hold corals alone. Default: none.
    pub class: Option<ClassId>,
}

/// Photographs with a JSON file of masks each, as Segment Anything's data set (SA-1B) and CoralSCOP's CoralMask have
/// them ([`read_sam_annotations`]).
///
/// A photograph is found by the name of its JSON file or, where there is none of that name, by the `file_name` inside.
/// Samples are sorted by the JSON's name. Photographs without JSON are passed over: nobody has said what they show; one
/// without any object has a JSON with an empty list.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, InstanceMask, RleMask, Size, image::RgbImage};
/// use coral_io::{MaskFolder, MaskFolderConfig, SamAnnotations, write_image, write_sam_annotations};
/// let folder = tempfile::tempdir().unwrap();
/// let at = |name: &str| folder.path().join(name);
/// let size = Size { width: 8, height: 6 };
/// let masks = vec![InstanceMask::new(RleMask::from_fn(size, |x, y| x > 4 && y > 2))];
/// write_image(at("reef.png"), &RgbImage::new(8, 6))?;
/// write_sam_annotations(at("reef.json"), &SamAnnotations { image_id: 0, file_name: "reef.png".into(), size, masks })?;
///
/// let config = MaskFolderConfig { images: at(""), annotations: at(""), class: Some(1) };
/// let dataset = MaskFolder::new(config)?;
/// assert_eq!((dataset.len(), dataset.name(0)?), (1, "reef".to_owned()));
/// let reef = dataset.get(0)?;
/// assert_eq!((reef.masks[0].area(), reef.masks[0].class), (9, Some(1)));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MaskFolder {
    samples: Vec<Sample>,
    class: Option<ClassId>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    image: PathBuf,
    annotations: PathBuf,
}

impl MaskFolder {
    /// Lists the folders and pairs their files. A JSON is opened only when no photograph has its name.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the class is 255; [`Error::Io`] when a folder cannot be listed;
    /// [`Error::Format`] naming a JSON without photograph, two files that name one photograph, or a folder without JSON.
    pub fn new(config: MaskFolderConfig) -> Result<Self> {
        let MaskFolderConfig { images, annotations, class } = config;
        if class == Some(UNLABELED) {
            return Err(Error::parameter("class", format!("expected a class of 0–254, got {UNLABELED}")));
        }
        let photographs = image_files(&images)?;
        let mut samples = Vec::new();
        let mut owners: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        for (name, path) in json_files(&annotations)? {
            let image = match photographs.get(&name) {
                Some(image) => image.clone(),
                None => by_file_name(&images, &photographs, &path)?,
            };
            if let Some(other) = owners.insert(image.clone(), path.clone()) {
                let reason = format!("names the photograph {}, as does {}", image.display(), other.display());
                return Err(Error::format(path, None, reason));
            }
            samples.push(Sample { name, image, annotations: path });
        }
        if samples.is_empty() {
            return Err(Error::format(annotations, None, "the folder holds no JSON file of annotations"));
        }
        Ok(Self { samples, class })
    }

    fn sample(&self, index: usize) -> Result<&Sample> {
        self.samples.get(index).ok_or_else(|| Error::IndexOutOfRange {
            what: "the folder of masks".into(),
            index,
            len: self.samples.len(),
        })
    }
}

/// The JSON files of a folder by name without extension; hidden files are passed over.
fn json_files(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let failed = |source| Error::io(folder, source);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if !is_json || name.starts_with('.') || path.is_dir() {
            continue;
        }
        if let Some(other) = found.insert(name, path.clone()) {
            return Err(Error::format(path, None, format!("has the same name as {}", other.display())));
        }
    }
    Ok(found)
}

/// The photograph that an annotation file names, with or without its extension.
fn by_file_name(folder: &Path, photographs: &BTreeMap<String, PathBuf>, annotations: &Path) -> Result<PathBuf> {
    let file_name = read_sam_annotations(annotations)?.file_name;
    // Some files hold the path on the annotator's machine, of either kind.
    let name = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
    let found = [name, &*stem].into_iter().find_map(|name| photographs.get(name));
    found.cloned().ok_or_else(|| {
        let own = annotations.file_stem().unwrap_or_default().to_string_lossy();
        let reason = format!("expected its photograph `{own}.*` or `{file_name}` in {}", folder.display());
        Error::format(annotations, None, reason)
    })
}

impl Dataset for MaskFolder {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        self.samples.len()
    }

    /// # Errors
    /// Also [`Error::ShapeMismatch`] naming both files when the photograph has another size than its annotations say.
    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        let sample = self.sample(index)?;
        let SamAnnotations { size, mut masks, .. } = read_sam_annotations(&sample.annotations)?;
        let image = read_annotated(&sample.image, &sample.annotations.display().to_string(), size)?;
        masks.iter_mut().for_each(|one| one.class = one.class.or(self.class));
        Ok(AnnotatedImage { image, masks })
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(self.sample(index)?.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{write_image, write_sam_annotations};
    use coral_core::image::{Rgb, RgbImage};
    use coral_core::testing::check_dataset;
    use coral_core::{InstanceMask, RleMask, Size};

    const SIZE: Size = Size { width: 5, height: 4 };

    /// Photographs `images/NAME` and annotations `masks/JSON` that name a file; each mask has its position as class.
    fn folder_of(images: &[&str], jsons: &[(&str, &str)]) -> (tempfile::TempDir, MaskFolderConfig) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let config = MaskFolderConfig { images: at("images"), annotations: at("masks"), class: None };
        for folder in [&config.images, &config.annotations] {
            std::fs::create_dir(folder).unwrap();
        }
        for (shade, name) in (0..).zip(images) {
            write_image(config.images.join(name), &RgbImage::from_pixel(5, 4, Rgb([shade; 3]))).unwrap();
        }
        for (class, (name, file_name)) in (0..).zip(jsons) {
            let mask = InstanceMask::new(RleMask::from_fn(SIZE, |x, _| x > u32::from(class)));
            let masks = vec![InstanceMask { class: Some(class), ..mask.clone() }, mask];
            let annotations = SamAnnotations { image_id: 0, file_name: (*file_name).into(), size: SIZE, masks };
            write_sam_annotations(config.annotations.join(name), &annotations).unwrap();
        }
        (folder, config)
    }

    #[test]
    fn it_is_a_dataset() {
        let (_folder, config) =
            folder_of(&["b.png", "a.png", "other.png"], &[("a.json", "x.jpg"), ("b.JSON", "gone.jpg")]);
        let dataset = MaskFolder::new(config.clone()).unwrap();
        check_dataset(&dataset, |a, b| a == b).unwrap();
        assert_eq!((dataset.len(), dataset.name(0).unwrap(), dataset.name(1).unwrap()), (2, "a".into(), "b".into()));
        let classes = |dataset: &MaskFolder| dataset.get(1).unwrap().masks.iter().map(|m| m.class).collect::<Vec<_>>();
        assert_eq!(classes(&dataset), [Some(1), None]);
        assert_eq!(dataset.get(0).unwrap().image.get_pixel(0, 0).0, [1; 3]);
        let with_class = MaskFolder::new(MaskFolderConfig { class: Some(9), ..config }).unwrap();
        assert_eq!(classes(&with_class), [Some(1), Some(9)]);
    }

    #[test]
    fn photographs_are_found_by_the_name_inside() {
        for inside in ["reef.png", "D:\\survey\\reef.jpg", "/data/reef.png", "reef"] {
            let (_folder, config) = folder_of(&["reef.png", "b.png"], &[("0001.json", inside)]);
            let dataset = MaskFolder::new(config).unwrap();
            assert_eq!((dataset.name(0).unwrap(), dataset.get(0).unwrap().masks.len()), ("0001".into(), 2), "{inside}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |images: &[&str], jsons: &[(&str, &str)]| {
            let (_folder, config) = folder_of(images, jsons);
            MaskFolder::new(config).unwrap_err().to_string()
        };
        let alone = error(&["b.png"], &[("a.json", "x/a.jpg")]);
        assert!(alone.contains("a.json: expected its photograph `a.*` or `x/a.jpg` in "), "{alone}");
        let shared = error(&["a.png"], &[("a.json", "a.png"), ("b.json", "a.png")]);
        assert!(shared.contains("b.json: names the photograph") && shared.ends_with("masks/a.json"), "{shared}");
        assert!(error(&["a.png"], &[]).contains("masks: the folder holds no JSON"));
        assert!(error(&["a.png"], &[("a.json", ""), ("a.JSON", "")]).contains("has the same name as"));

        let (_folder, config) = folder_of(&["a.png"], &[("a.json", "a.png")]);
        let unlabelled = MaskFolderConfig { class: Some(UNLABELED), ..config.clone() };
        assert!(MaskFolder::new(unlabelled).unwrap_err().to_string().contains("`class`: expected a class of 0–254"));
        std::fs::write(config.annotations.join("list.json"), "[]").unwrap();
        assert!(MaskFolder::new(config).unwrap_err().to_string().contains("list.json:1: expected the masks of one"));
    }

    #[test]
    fn other_sizes_name_both_files() {
        let (_folder, config) = folder_of(&["a.png"], &[("a.json", "a.png")]);
        write_image(config.images.join("a.png"), &RgbImage::new(4, 5)).unwrap();
        let error = MaskFolder::new(config).unwrap().get(0).unwrap_err().to_string();
        assert!(error.contains("images/a.png, annotated in ") && error.contains("masks/a.json: expected"), "{error}");
        assert!(error.ends_with("expected shape 5x4, got 4x5"), "{error}");
    }
}
