use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use coral_core::{Error, Result};

use crate::folder_dataset::is_image_name;

/// A folder of photographs of one class.
#[derive(Debug)]
pub(super) struct ClassFolder {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// In natural order; at least one.
    pub(super) photographs: Vec<PathBuf>,
}

/// The class folders of `root` in natural order, without hidden ones and those that `leave_out` names.
pub(super) fn class_folders(root: &Path, leave_out: &[String]) -> Result<Vec<ClassFolder>> {
    let mut found = Vec::new();
    for path in entries(root)? {
        let name = file_name(&path);
        if path.is_dir() && !leave_out.iter().any(|other| same(other, &name)) {
            let photographs = photographs(&path)?;
            if photographs.is_empty() {
                let reason = "the class folder holds no PNG, JPEG, TIFF or BMP photograph: expected at least one";
                return Err(Error::format(path, None, reason));
            }
            found.push(ClassFolder { name, path, photographs });
        }
    }
    for wanted in leave_out {
        if !entries(root)?.iter().any(|path| same(&file_name(path), wanted)) {
            let reason = format!("there is no folder `{wanted}` to leave out in {}", root.display());
            return Err(Error::parameter("leave_out", reason));
        }
    }
    if found.is_empty() {
        let reason = "holds no class folder: expected a folder of photographs per class";
        return Err(Error::format(root, None, reason));
    }
    Ok(found)
}

/// Whether two folder names are one without case and surrounding blanks.
pub(super) fn same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The photographs below `folder`, in natural order of their paths within it.
fn photographs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        // Links to folders are not followed: they can lead in a circle.
        if path.is_dir() && !path.is_symlink() {
            found.extend(photographs(&path)?);
        } else if is_image_name(&path) && !path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}

/// What stands in a folder, without hidden entries, in natural order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::io(folder, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort_by(|a, b| natural_order(&file_name(a), &file_name(b)));
    Ok(paths)
}

/// Order in which `T2` stands before `T10`: runs of digits by their value, letters without case.
pub(super) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, n) = (take_number(&mut left), take_number(&mut right));
            (m.len(), m).cmp(&(n.len(), n))
        } else {
            left = &left[x.len_utf8()..];
            right = &right[y.len_utf8()..];
            x.to_lowercase().cmp(y.to_lowercase())
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    // Names that differ in case or leading zeros only still have an order.
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// Cuts the digits off the front of a text; returns them without leading zeros.
fn take_number<'a>(text: &mut &'a str) -> &'a str {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    *text = rest;
    number.trim_start_matches('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_by_value() {
        let mut names =
            ["T10", "t2", "T1", "75-100", "0-25", "100", "25-50", "a", "T02", "é3", "99999999999999999999991"];
        names.sort_by(|a, b| natural_order(a, b));
        let expected =
            ["0-25", "25-50", "75-100", "100", "99999999999999999999991", "a", "T1", "T02", "t2", "T10", "é3"];
        assert_eq!(names, expected);
    }

    proptest::proptest! {
        #[test]
        fn it_is_a_total_order(names in proptest::collection::vec("[aA0-2é-]{0,5}", 3)) {
            let [a, b, c] = [&names[0], &names[1], &names[2]];
            assert_eq!(natural_order(a, b), natural_order(b, a).reverse());
            assert_eq!(natural_order(a, b) == Ordering::Equal, a == b);
            if natural_order(a, b) != Ordering::Greater && natural_order(b, c) != Ordering::Greater {
                assert_ne!(natural_order(a, c), Ordering::Greater, "{a} {b} {c}");
            }
        }
    }
}
