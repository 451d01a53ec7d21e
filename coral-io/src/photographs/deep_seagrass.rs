use std::collections::BTreeMap;
use std::path::PathBuf;

use coral_core::{Class, ClassSet};

use super::config::PhotographFolderConfig;

/// Names of folders and, where they name something narrower, of the classes that hold them.
const SYNONYMS: [(&str, &[&str]); 4] = [
    ("Background", &["bg", "substrate", "bare substrate", "water", "sand", "bare", "no seagrass", "none"]),
    ("Ferny", &["fern", "ferns", "halophila spinulosa"]),
    ("Rounded", &["round", "halophila ovalis"]),
    ("Strappy", &["strap", "straps", "zostera", "zostera muelleri", "cymodocea", "halodule", "syringodium"]),
];

/// The classes of DeepSeagrass: 0 Background, 1 Ferny, 2 Rounded and 3 Strappy.
///
/// # Examples
/// ```
/// let classes = coral_io::deep_seagrass_classes();
/// assert_eq!((classes.len(), classes.id("strappy")), (4, Some(3)));
/// ```
///
/// # References
/// Raine, Marchant, Moghadam, Maire, Kettle, Kusy: *Multi-species Seagrass Detection and Classification from Underwater
/// Images* (DICTA 2020).
pub fn deep_seagrass_classes() -> ClassSet {
    let colors = [[225, 130, 190], [214, 60, 60], [50, 110, 220], [240, 200, 40]];
    let class = |((id, (name, _)), color)| Class { id, name: String::from(name), color, parent: None };
    // The table is a constant that the tests check; an empty set stands in for the impossible.
    ClassSet::new((0..).zip(SYNONYMS).zip(colors).map(class)).unwrap_or_default()
}

impl PhotographFolderConfig {
    /// The photographs of DeepSeagrass, one label each: folders Background, Ferny, Rounded and Strappy.
    ///
    /// Case does not matter. Common other names are understood, as are the folders Substrate and Water, which become
    /// Background.
    ///
    /// # Examples
    /// ```
    /// use coral_core::image::RgbImage;
    /// use coral_io::{PhotographFolder, PhotographFolderConfig, write_image};
    /// let root = tempfile::tempdir().unwrap();
    /// for folder in ["Substrate", "Water", "strappy", "Halophila_ovalis"] {
    ///     std::fs::create_dir(root.path().join(folder)).unwrap();
    ///     write_image(root.path().join(folder).join("G0043959.png"), &RgbImage::new(8, 5))?;
    /// }
    /// let photographs = PhotographFolder::new(PhotographFolderConfig::deep_seagrass(root.path()))?;
    /// assert_eq!(photographs.labels(), [2, 3, 0, 0]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn deep_seagrass(root: impl Into<PathBuf>) -> Self {
        let spellings = |name: &str| [" ", "_", "-", ""].map(|between| name.replace(' ', between));
        let synonyms = SYNONYMS.iter().flat_map(|&(class, others)| others.iter().map(move |&other| (other, class)));
        let rename: BTreeMap<_, _> =
            synonyms.flat_map(|(other, class)| spellings(other).map(|name| (name, class.to_owned()))).collect();
        Self { root: root.into(), classes: Some(deep_seagrass_classes()), rename, ..Self::default() }
    }

    /// The patches of DeepSeagrass, 578×520 pixels each, in folders of the same names as those of
    /// [`PhotographFolderConfig::deep_seagrass`]. Patches of a single class are accepted, for tests.
    ///
    /// [`OneHot`](crate::OneHot) makes training patches of them.
    pub fn deep_seagrass_patches(root: impl Into<PathBuf>) -> Self {
        Self { allow_one_class: true, ..Self::deep_seagrass(root) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::photographs::PhotographFolder;
    use crate::{OneHot, write_image};
    use coral_core::Dataset;
    use coral_core::image::RgbImage;

    #[test]
    fn the_classes_are_sound() {
        let classes = deep_seagrass_classes();
        let names: Vec<_> = classes.iter().map(|class| (class.id, class.name.as_str())).collect();
        assert_eq!(names, [(0, "Background"), (1, "Ferny"), (2, "Rounded"), (3, "Strappy")]);
        let rename = PhotographFolderConfig::deep_seagrass("x").rename;
        assert!(rename.values().all(|class| classes.id(class).is_some()));
        assert!(rename.keys().all(|other| classes.id(other).is_none()));
    }

    #[test]
    fn patches_of_one_class_can_be_tested() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("FERNY")).unwrap();
        write_image(root.path().join("FERNY/Image0_Row1_Col0.png"), &RgbImage::new(9, 8)).unwrap();
        assert!(PhotographFolder::new(PhotographFolderConfig::deep_seagrass(root.path())).is_err());
        let patches = PhotographFolder::new(PhotographFolderConfig::deep_seagrass_patches(root.path())).unwrap();
        assert_eq!(OneHot::new(patches, 4).unwrap().get(0).unwrap().target.to_vec(), [0.0, 1.0, 0.0, 0.0]);
        std::fs::rename(root.path().join("FERNY"), root.path().join("Kelp")).unwrap();
        let error = PhotographFolder::new(PhotographFolderConfig::deep_seagrass_patches(root.path())).unwrap_err();
        assert!(error.to_string().contains("unknown class `Kelp`: expected one of Background, Ferny"), "{error}");
    }
}
