//! What holds for folders of photographs as a whole.

use std::collections::BTreeMap;

use coral_core::image::{Rgb, RgbImage};
use coral_core::testing::check_dataset;
use coral_core::{ClassSet, CountingProgress, Dataset, Error, NoProgress, Size};

use super::*;
use crate::write_image;

/// A folder tree with a photograph for each `class/name.png`; its grey is the number in the list.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (nth, file) in files.iter().enumerate() {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_image(&path, &RgbImage::from_pixel(4, 3, Rgb([nth as u8; 3]))).unwrap();
    }
    folder
}

fn config(folder: &tempfile::TempDir) -> PhotographFolderConfig {
    PhotographFolderConfig { root: folder.path().into(), ..Default::default() }
}

fn text(config: PhotographFolderConfig) -> String {
    PhotographFolder::new(config).unwrap_err().to_string()
}

fn renames(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect()
}

#[test]
fn it_is_a_dataset_in_natural_order() {
    let folder = tree(&["b/T10.png", "b/T2.png", "A/site 2/1.png", "A/site 10/1.png", "A/z.png", ".git/x.png"]);
    for (name, bytes) in [("b/notes.txt", "x"), ("b/._T3.png", "x"), ("data.json", "{}"), ("b/.DS_Store", "")] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let dataset = PhotographFolder::new(config(&folder)).unwrap();
    check_dataset(&dataset, |a, b| a == b).unwrap();
    let names: Vec<_> = (0..dataset.len()).map(|index| dataset.name(index).unwrap()).collect();
    assert_eq!(names, ["A_1", "A_1_2", "A_z", "b_T2", "b_T10"]);
    assert_eq!(dataset.labels(), [0, 0, 0, 1, 1]);
    assert_eq!((dataset.class_set().name(0), dataset.counts()), ("A".to_owned(), vec![(0, 3), (1, 2)]));
    assert!(dataset.path(1).unwrap().ends_with("A/site 10/1.png"));
    assert_eq!((dataset.class(4).unwrap(), dataset.get(4).unwrap().image.get_pixel(0, 0).0), (1, [0; 3]));
    assert!(dataset.path(5).is_err() && dataset.class(5).is_err());
}

#[test]
fn folders_are_renamed_and_merged() {
    let folder = tree(&["Zostera/a.png", "Halophila/a.png", "HALODULE/b.png", "junk/c.png"]);
    let classes = ClassSet::from_names(["sand", "strappy", "rounded"]).unwrap();
    let merged = PhotographFolderConfig {
        rename: renames(&[("zostera", "Strappy"), ("halophila", "rounded"), ("Halodule", "strappy")]),
        leave_out: vec!["JUNK".into()],
        classes: Some(classes.clone()),
        ..config(&folder)
    };
    let dataset = PhotographFolder::new(merged.clone()).unwrap();
    check_dataset(&dataset, |a, b| a == b).unwrap();
    assert_eq!((dataset.labels(), dataset.class_set()), (&[1, 2, 1][..], &classes));
    assert_eq!(dataset.counts(), [(0, 0), (1, 2), (2, 1)]);
    let named = PhotographFolder::new(PhotographFolderConfig { classes: None, ..merged.clone() }).unwrap();
    assert_eq!((named.class_set().len(), named.class_set().name(1)), (2, "strappy".into()));

    let typo = PhotographFolderConfig { rename: renames(&[("Zostra", "strappy")]), classes: None, ..merged.clone() };
    assert!(text(typo).contains("`rename`: there is no folder `Zostra` to rename"));
    let typo = PhotographFolderConfig { leave_out: vec!["jnk".into()], ..merged.clone() };
    assert!(text(typo).contains("`leave_out`: there is no folder `jnk`"));
    let unknown = text(PhotographFolderConfig { leave_out: Vec::new(), ..merged });
    assert!(unknown.ends_with("junk: unknown class `junk`: expected one of sand, strappy, rounded"), "{unknown}");
}

#[test]
fn numbered_folders_name_classes_by_their_ids() {
    let folder = tree(&["1/a.png", "0/a.png"]);
    let classes = ClassSet::from_names(["sand", "seagrass"]).unwrap();
    let dataset = PhotographFolder::new(PhotographFolderConfig { classes: Some(classes), ..config(&folder) }).unwrap();
    assert_eq!((dataset.labels(), dataset.name(0).unwrap()), (&[0, 1][..], "0_a".into()));
}

#[test]
fn trees_that_cannot_be_used_are_named() {
    let folder = tree(&["sand/a.png"]);
    let error = text(config(&folder));
    assert!(error.contains("all photographs are of the class `sand`: expected folders of at least two"), "{error}");
    let one = PhotographFolderConfig { allow_one_class: true, ..config(&folder) };
    assert_eq!(PhotographFolder::new(one).unwrap().len(), 1);
    std::fs::create_dir(folder.path().join("mud")).unwrap();
    let error = text(config(&folder));
    assert!(error.contains("mud: the class folder holds no PNG"), "{error}");

    let empty = tempfile::tempdir().unwrap();
    std::fs::write(empty.path().join("photograph.png"), "").unwrap();
    assert!(text(config(&empty)).contains("holds no class folder: expected a folder of photographs per class"));
    let missing = PhotographFolderConfig { root: empty.path().join("no"), ..Default::default() };
    assert!(matches!(PhotographFolder::new(missing), Err(Error::Io { .. })));
    let file = PhotographFolderConfig { root: empty.path().join("photograph.png"), ..Default::default() };
    assert!(matches!(PhotographFolder::new(file), Err(Error::Io { .. })));
    let folder = tree(&["sand/a.png", "mud/a.png"]);
    let none = Some(Resize::Exact(Size { width: 0, height: 4 }));
    assert!(text(PhotographFolderConfig { resize: none, ..config(&folder) }).contains("`resize`: expected at least 1"));
    let only_sand = ClassSet::from_names(["sand"]).unwrap();
    let error = text(PhotographFolderConfig { classes: Some(only_sand), ..config(&folder) });
    assert!(error.contains("mud: unknown class `mud`: expected one of sand"), "{error}");
}

/// Five photographs: one damaged, one too small.
fn spoilt() -> tempfile::TempDir {
    let folder = tree(&["a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png"]);
    let whole = std::fs::read(folder.path().join("a/2.png")).unwrap();
    std::fs::write(folder.path().join("a/2.png"), &whole[..whole.len() / 2]).unwrap();
    write_image(folder.path().join("b/1.png"), &RgbImage::new(4, 2)).unwrap();
    folder
}

#[test]
fn bad_photographs_are_an_error_or_skipped_and_always_named() {
    let folder = spoilt();
    let wanted = Size { width: 4, height: 3 };
    let strict = PhotographFolderConfig { min_size: Some(wanted), ..config(&folder) };
    let progress = CountingProgress::default();
    let error = PhotographFolder::checked(strict.clone(), &progress).unwrap_err().to_string();
    let end = "2.png: the image file ends too early (1 more photographs cannot be used)";
    assert!(error.ends_with(end), "{error}");
    assert_eq!(progress.done(), 5);

    let lenient = PhotographFolderConfig { on_corrupt: Corrupt::Skip, ..strict.clone() };
    let (dataset, skipped) = PhotographFolder::checked(lenient.clone(), &NoProgress).unwrap();
    check_dataset(&dataset, |a, b| a == b).unwrap();
    assert_eq!((dataset.labels(), dataset.name(1).unwrap()), (&[0, 0, 1][..], "a_3".into()));
    let reasons: Vec<_> = skipped.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["the image file ends too early", "the photograph is 4x2, expected at least 4x3"]);
    assert!(skipped[0].path.ends_with("a/2.png") && skipped[1].path.ends_with("b/1.png"));

    std::fs::remove_file(folder.path().join("b/2.png")).unwrap();
    let error = PhotographFolder::checked(lenient, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("b: none of the photographs can be used, e.g. ") && error.contains("4x2"), "{error}");

    // Without a check they are errors when they are loaded.
    let unchecked = PhotographFolder::new(strict).unwrap();
    assert!(unchecked.get(0).is_ok());
    assert!(unchecked.get(1).unwrap_err().to_string().ends_with("2.png: the image file ends too early"));
    assert!(unchecked.get(3).unwrap_err().to_string().ends_with("the photograph is 4x2, expected at least 4x3"));
}

#[test]
fn settings_are_checked_before_photographs_are_decoded() {
    let folder = spoilt();
    let refused = |config: PhotographFolderConfig, expected: &str| {
        let progress = CountingProgress::default();
        let error = PhotographFolder::checked(config, &progress).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(progress.done(), 0, "{error}");
    };
    refused(PhotographFolderConfig { resize: Some(Resize::MaxSide(0)), ..config(&folder) }, "`resize`");
    refused(PhotographFolderConfig { rename: renames(&[("c", "d")]), ..config(&folder) }, "`rename`");
    refused(PhotographFolderConfig { leave_out: vec!["c".into()], ..config(&folder) }, "`leave_out`");
    let only_a = ClassSet::from_names(["a"]).unwrap();
    refused(PhotographFolderConfig { classes: Some(only_a), ..config(&folder) }, "unknown class `b`");
    refused(PhotographFolderConfig { rename: renames(&[("b", "a")]), ..config(&folder) }, "all photographs are of");
}

#[test]
fn photographs_are_shrunk_on_load() {
    let folder = tree(&["a/1.png", "b/1.png"]);
    let sized = |resize| {
        let config = PhotographFolderConfig { resize: Some(resize), ..config(&folder) };
        PhotographFolder::new(config).unwrap().get(1).unwrap().image.dimensions()
    };
    assert_eq!(sized(Resize::MaxSide(2)), (2, 2));
    assert_eq!(sized(Resize::MaxSide(40)), (4, 3));
    assert_eq!(sized(Resize::Exact(Size { width: 5, height: 1 })), (5, 1));
}

#[test]
fn photographs_in_several_classes_are_told_by_name_and_content() {
    let folder = tree(&["a/1.png", "b/1.png", "b/2.png", "c/2.png", "a/x/3.png", "a/y/3.png"]);
    let copy = |from: &str, to: &str| std::fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
    copy("b/2.png", "c/2.png");
    let dataset = PhotographFolder::new(config(&folder)).unwrap();
    let found = dataset.repeated().unwrap();
    let expected = [("1.png", vec![0, 3], false), ("2.png", vec![4, 5], true)];
    assert_eq!(found.len(), 2);
    for (one, (name, samples, same_content)) in found.iter().zip(expected) {
        assert_eq!((one.name.as_str(), &one.samples, one.same_content), (name, &samples, same_content));
    }
    let refuse = |repeated| text(PhotographFolderConfig { repeated, ..config(&folder) });
    let error = refuse(Repeated::RefuseSameContent);
    assert!(error.contains("`2.png` stands in several classes: ") && !error.contains("more photographs"), "{error}");
    let error = refuse(Repeated::RefuseSameName);
    assert!(error.contains("`1.png` stands") && error.contains("(1 more photographs stand"), "{error}");
    std::fs::remove_file(folder.path().join("c/2.png")).unwrap();
    copy("a/x/3.png", "c/9.png");
    let config = PhotographFolderConfig { repeated: Repeated::RefuseSameContent, ..config(&folder) };
    assert!(PhotographFolder::new(config).is_ok());
}

#[cfg(unix)]
#[test]
fn links_do_not_lead_in_circles() {
    let folder = tree(&["a/1.png", "b/1.png"]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/all")).unwrap();
    assert_eq!(PhotographFolder::new(config(&folder)).unwrap().len(), 2);
}
