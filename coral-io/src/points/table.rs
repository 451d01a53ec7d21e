use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use coral_core::{ClassId, ClassSet, Error, PointLabel, Result, Size, UNLABELED};

use crate::class_table::{ClassTable, class_id};
use crate::text::reason_of;

/// A labelled point as a file gives it: the class is still a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPoint {
    /// Column, in pixels.
    pub x: u32,
    /// Row, in pixels.
    pub y: u32,
    /// The class's name, code or number.
    pub class: String,
    /// The line of the file that names the class, from 1.
    pub line: u64,
}

/// The labelled points of one photograph, as read by [`read_points`](crate::read_points).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointTable {
    /// The file they came from.
    pub path: PathBuf,
    /// The photograph's name in that file, without folders.
    pub image: Option<String>,
    /// The points in the order of the file; never empty, one per pixel.
    pub points: Vec<NamedPoint>,
    /// How many further points the file holds without a label.
    pub unlabeled: usize,
}

impl PointTable {
    /// A class set for points that come without one.
    ///
    /// When every class is a number, the numbers are the ids; otherwise the names, in
    /// alphabetical order, are classes 0, 1, 2, …
    ///
    /// # Errors
    /// [`Error::Format`] when all classes are numbers but one is no id (over 254, negative,
    /// `3.0`), or for more than 255 different names.
    ///
    /// # Examples
    /// ```
    /// use coral_core::Size;
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("points.csv");
    /// std::fs::write(&path, "x,y,class\n0,0,34\n1,0,7\n").unwrap();
    /// let table = coral_io::read_points(&path, Size { width: 9, height: 9 }, None)?;
    /// let ids: Vec<_> = table.classes()?.iter().map(|class| class.id).collect();
    /// assert_eq!(ids, [7, 34]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn classes(&self) -> Result<ClassSet> {
        // Numbers that are no ids must not become names, which would get other numbers as ids.
        if self.points.iter().all(|point| point.class.parse::<f64>().is_ok()) {
            let id = |point: &NamedPoint| {
                let failed = |reason| Error::format(&self.path, Some(point.line), reason);
                class_id(&point.class).map_err(failed)
            };
            return Ok(ClassSet::from_ids(self.points.iter().map(id).collect::<Result<Vec<_>>>()?));
        }
        // The same name in other case is the same class; the first spelling in the alphabet names it.
        let mut names = BTreeMap::new();
        for class in self.points.iter().map(|point| &point.class).collect::<BTreeSet<_>>() {
            names.entry(class.to_lowercase()).or_insert(class.clone());
        }
        if names.len() > usize::from(UNLABELED) {
            let reason = format!("{} different classes: at most 255 (0–254) fit", names.len());
            return Err(Error::format(&self.path, None, reason));
        }
        ClassSet::from_names(names.into_values()).map_err(|error| Error::format(&self.path, None, reason_of(error)))
    }

    /// The points with class ids of `classes`, by name or, failing that, by number.
    ///
    /// # Errors
    /// [`Error::Format`] at the first line whose class `classes` does not hold, naming it and
    /// up to five other unknown classes, and what would be known.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{ClassSet, Size};
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("points.csv");
    /// std::fs::write(&path, "x,y,class\n0,0,sand\n1,0,mud\n").unwrap();
    /// let table = coral_io::read_points(&path, Size { width: 9, height: 9 }, None)?;
    /// let error = table.to_labels(&ClassSet::from_names(["sand", "coral"])?).unwrap_err();
    /// assert!(error.to_string().ends_with("points.csv:3: unknown class `mud`: expected one of sand, coral"));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn to_labels(&self, classes: &ClassSet) -> Result<Vec<PointLabel>> {
        self.labels_by(|class| classes.parse(class))
    }

    /// The points with class ids of `table`, by name, code or number.
    ///
    /// # Errors
    /// As [`PointTable::to_labels`].
    ///
    /// # Examples
    /// ```
    /// use coral_core::Size;
    /// use coral_io::{read_class_table, read_points};
    /// let folder = tempfile::tempdir().unwrap();
    /// let (points, codes) = (folder.path().join("points.csv"), folder.path().join("codes.csv"));
    /// std::fs::write(&points, "x,y,class\n0,0,APAL\n1,0,ACER\n").unwrap();
    /// std::fs::write(&codes, "code,class\nACER,coral\nAPAL,coral\n").unwrap();
    /// let table = read_points(&points, Size { width: 9, height: 9 }, None)?;
    /// let labels = table.to_labels_with(&read_class_table(&codes)?)?;
    /// assert_eq!((labels[0].class, labels[1].class), (0, 0));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn to_labels_with(&self, table: &ClassTable) -> Result<Vec<PointLabel>> {
        self.labels_by(|class| table.parse(class))
    }

    fn labels_by(&self, id: impl Fn(&str) -> Result<ClassId>) -> Result<Vec<PointLabel>> {
        let (mut known, mut seen) = (HashMap::new(), HashSet::new());
        let mut unknown: Vec<(&NamedPoint, Error)> = Vec::new();
        for point in &self.points {
            if !seen.insert(point.class.as_str()) {
                continue;
            }
            match id(&point.class) {
                Ok(id) => drop(known.insert(point.class.as_str(), id)),
                Err(error) => unknown.push((point, error)),
            }
        }
        if let Some((first, error)) = unknown.first() {
            let mut reason = error.to_string();
            if let [_, others @ ..] = unknown.as_slice()
                && !others.is_empty()
            {
                let names: Vec<_> = others.iter().map(|(point, _)| format!("`{}`", point.class)).collect();
                reason = format!("{reason}; also unknown: {}", listing(&names));
            }
            return Err(Error::format(&self.path, Some(first.line), reason));
        }
        let label = |point: &NamedPoint| {
            known.get(point.class.as_str()).map(|&class| PointLabel { x: point.x, y: point.y, class })
        };
        Ok(self.points.iter().filter_map(label).collect())
    }

    /// Finds the photograph that the file names in `folder`: by its name without case, else
    /// without extension.
    ///
    /// # Errors
    /// [`Error::Format`] when the file names no photograph, or `folder` holds none or several
    /// that fit; [`Error::Io`] when `folder` cannot be listed.
    ///
    /// # Examples
    /// ```
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("points.csv");
    /// std::fs::write(&path, "Name,Row,Column,Label\nDSC_1.JPG,0,0,S\n").unwrap();
    /// std::fs::write(folder.path().join("dsc_1.jpg"), "").unwrap();
    /// let table = coral_io::read_points(&path, coral_core::Size { width: 9, height: 9 }, None)?;
    /// assert!(table.find_image(folder.path())?.ends_with("dsc_1.jpg"));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn find_image(&self, folder: impl AsRef<Path>) -> Result<PathBuf> {
        let folder = folder.as_ref();
        let fail = |reason: String| Error::format(&self.path, None, reason);
        let Some(image) = &self.image else {
            return Err(fail("the file does not name its image".into()));
        };
        let listed = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries = listed.map_err(|source| Error::io(folder, source))?;
        let names: BTreeSet<_> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        match matching_name(&names, image) {
            Matching::One(name) => Ok(folder.join(name)),
            Matching::None => Err(fail(format!("its image `{image}` is missing from {}", folder.display()))),
            Matching::Several(found) => {
                Err(fail(format!("several files in {} fit its image `{image}`: {}", folder.display(), listing(&found))))
            }
        }
    }
}

/// Points that a format's reader found, before they are checked against the image.
#[derive(Debug, Default)]
pub(crate) struct FoundPoints {
    pub(crate) image: Option<String>,
    pub(crate) points: Vec<FoundPoint>,
    pub(crate) unlabeled: usize,
}

/// A point in pixels of the image, not yet known to lie inside.
#[derive(Debug)]
pub(crate) struct FoundPoint {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// The line of the position.
    pub(crate) line: u64,
    pub(crate) class: String,
    /// The line of the class.
    pub(crate) class_line: u64,
}

impl FoundPoints {
    /// Checks every point against the image and merges repeated ones.
    pub(crate) fn finish(self, path: &Path, size: Size) -> Result<PointTable> {
        let mut seen: HashMap<(u32, u32), (String, u64)> = HashMap::new();
        let mut points = Vec::with_capacity(self.points.len());
        for found in self.points {
            let inside = |at: f64, len: u32| (0.0..f64::from(len)).contains(&at);
            if !(inside(found.x, size.width) && inside(found.y, size.height)) {
                let reason = format!("point ({}, {}) lies outside the {size} image", found.x, found.y);
                return Err(Error::format(path, Some(found.line), reason));
            }
            let (x, y) = (found.x as u32, found.y as u32);
            match seen.get(&(x, y)) {
                Some((class, _)) if class.to_lowercase() == found.class.to_lowercase() => continue,
                Some((class, line)) => {
                    let reason =
                        format!("point ({x}, {y}) has class `{}`, but line {line} gives it `{class}`", found.class);
                    return Err(Error::format(path, Some(found.class_line), reason));
                }
                None => seen.insert((x, y), (found.class.clone(), found.class_line)),
            };
            points.push(NamedPoint { x, y, class: found.class, line: found.class_line });
        }
        if points.is_empty() {
            let reason = match self.unlabeled {
                0 => "the file holds no points".into(),
                unlabeled => format!("none of the {unlabeled} points has a label"),
            };
            return Err(Error::format(path, None, reason));
        }
        Ok(PointTable { path: path.to_owned(), image: self.image, points, unlabeled: self.unlabeled })
    }
}

/// Which of some names a wanted image has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Matching {
    None,
    One(String),
    Several(Vec<String>),
}

/// The names that fit `wanted`: as they are, else without folders and case, else without extension.
pub(crate) fn matching_name(names: &BTreeSet<String>, wanted: &str) -> Matching {
    let same: [fn(&str) -> String; 3] = [
        str::to_owned,
        |name| file_name(name).to_lowercase(),
        |name| {
            let name = file_name(name).to_lowercase();
            name.rsplit_once('.').map_or(name.clone(), |(stem, _)| stem.to_owned())
        },
    ];
    for form in same {
        let mut found: Vec<_> = names.iter().filter(|name| form(name) == form(wanted)).cloned().collect();
        match (found.pop(), found.is_empty()) {
            (None, _) => {}
            (Some(only), true) => return Matching::One(only),
            (Some(last), false) => {
                found.push(last);
                return Matching::Several(found);
            }
        }
    }
    Matching::None
}

/// The last part of a Windows or Unix path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// Up to five names, for an error.
pub(crate) fn listing(names: &[String]) -> String {
    let mut shown: Vec<_> = names.iter().take(5).map(String::as_str).collect();
    if names.len() > shown.len() {
        shown.push("…");
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_from_strict_to_loose() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
        let one = |name: &str| Matching::One(name.into());
        assert_eq!(matching_name(&names(&["A.JPG", "b.jpg"]), "a.jpg"), one("A.JPG"));
        assert_eq!(matching_name(&names(&["A.JPG", "a.jpg"]), "a.jpg"), one("a.jpg"));
        assert_eq!(matching_name(&names(&["C:\\x\\a.jpg"]), "/y/a.JPG"), one("C:\\x\\a.jpg"));
        assert_eq!(matching_name(&names(&["a.png"]), "a.jpg"), one("a.png"));
        assert_eq!(matching_name(&names(&["b.png"]), "a.png"), Matching::None);
        let two = Matching::Several(vec!["p/a.jpg".into(), "q/a.jpg".into()]);
        assert_eq!(matching_name(&names(&["q/a.jpg", "p/a.jpg"]), "a.jpg"), two);
    }
}
