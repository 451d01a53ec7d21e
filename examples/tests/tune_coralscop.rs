use std::fs;

use coral_io::{SamAnnotations, SyntheticReef, write_class_set, write_label_map, write_sam_annotations};
use coral_models::TunedHead;

use super::*;
use reef_folder::{PHOTOGRAPHS, write_reefs};

#[path = "reef_folder.rs"]
mod reef_folder;

fn arguments(flags: &[&str]) -> Arguments {
    Arguments::try_parse_from(std::iter::once("tune_coralscop").chain(flags.iter().copied())).unwrap()
}

/// A folder with a small network, `base.safetensors`, and the head of a synthetic run.
fn synthetic(folder: &Path) -> String {
    let out = folder.join("head.safetensors");
    let small = ["--pictures", "4", "--pretraining-epochs", "1", "--epochs", "2"];
    run(&arguments(&[&small[..], &["--out", out.to_str().unwrap()]].concat())).unwrap()
}

fn on_folder(folder: &Path, more: &[&str]) -> Result<String> {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (data, base, table) = (at("reef"), at("base.safetensors"), at("reef/classes.csv"));
    let out = at("tuned.safetensors");
    let mut flags = vec!["--data", &data, "--base", &base, "--classes", &table, "--decoder-heads", "4", "--out", &out];
    flags.extend(["--epochs", "2", "--min-area", "40"]);
    flags.extend(more);
    if !more.contains(&"--held-out") {
        flags.extend(["--held-out", "0.4"]);
    }
    run(&arguments(&flags))
}

#[test]
fn synthetic_reefs_are_tuned_from_end_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let report = synthetic(folder.path());
    for line in ["commonest class", "nearest template", "tuned", "- 2 pictures without corals: "] {
        assert!(report.contains(line), "{report}");
    }
    let head = TunedHead::open(folder.path().join("head.safetensors")).unwrap();
    let names: Vec<String> = head.classes().iter().map(|class| class.name.clone()).collect();
    assert_eq!((names.len(), names[0].as_str(), names[1].as_str()), (6, "background", "branching coral"));
    assert!(head.tensors().keys().all(|name| name.starts_with("mask_decoder.cate_")));
    let base = Checkpoint::open(folder.path().join("base.safetensors")).unwrap();
    assert_eq!(head.load_onto(&base, &Device::Cpu).unwrap().config().semantic.unwrap().classes, 6);
    for name in ["reef_1.png", "reef_2.png"] {
        assert!(coral_io::read_image(folder.path().join(name)).unwrap().width() > 3 * 320);
    }
}

#[test]
fn folders_are_tuned_at_a_level_and_embeddings_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path());
    write_reefs(&folder.path().join("reef"));
    let kept = folder.path().join("embeddings");
    let level = ["--root", "coral", "--level", "1", "--embeddings", kept.to_str().unwrap()];
    let head = |more: &[&str]| {
        on_folder(folder.path(), more).unwrap();
        fs::read(folder.path().join("tuned.safetensors")).unwrap()
    };
    let first = head(&level);
    assert_eq!(fs::read_dir(&kept).unwrap().count(), PHOTOGRAPHS);
    assert_eq!(head(&level), first);
    // Nothing held out: there is nothing to compare on.
    let none = [&level[..], &["--held-out", "0"]].concat();
    let report = on_folder(folder.path(), &none).unwrap();
    assert!(!report.contains("nearest template") && report.contains("           tuned\n"), "{report}");
    // All classes but those of the background; the whole branch.
    let more = ["--background", "sand,rubble,seagrass", "--part", "semantic-branch"];
    assert!(head(&more).len() > first.len());
    let head = TunedHead::open(folder.path().join("tuned.safetensors")).unwrap();
    assert!(head.classes().len() > 30 && head.classes().parse("sand").is_err());
}

#[test]
fn masks_in_json_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let AnnotatedImage { image, masks } = SyntheticSurvey::new(5, 1).unwrap().train.get(0).unwrap();
    write_image(at("reef.png"), &image).unwrap();
    let size = coral_core::Size::of(&image);
    let file = SamAnnotations { image_id: 0, file_name: "reef.png".into(), size, masks: masks.clone() };
    write_sam_annotations(at("reef.json"), &file).unwrap();
    write_class_set(at("classes.csv"), &SyntheticReef::taxa()).unwrap();
    let open = |flags: &[String]| {
        let data = ["--data".to_owned(), folder.path().display().to_string(), "--base".to_owned(), "b".to_owned()];
        let flags: Vec<&str> = data.iter().chain(flags).map(String::as_str).collect();
        arguments(&flags).folder.open_objects(Objects::Below("coral", 0))
    };
    let (classes, images) = open(&["--classes".to_owned(), at("classes.csv").display().to_string()]).unwrap();
    assert_eq!((classes.len(), images.len(), classes.name(1).as_str()), (2, 1, "coral"));
    let read = images.get(0).unwrap().masks;
    assert_eq!(read.len(), masks.len());
    assert!(read.iter().any(|one| one.class == Some(1)));
    let unnamed = masks.into_iter().map(|one| InstanceMask { class: None, ..one }).collect();
    write_sam_annotations(at("reef.json"), &SamAnnotations { masks: unnamed, ..file }).unwrap();
    let classes = |more: &[&str]| {
        let table = at("classes.csv").display().to_string();
        let flags: Vec<String> = ["--classes", &table].iter().chain(more).map(|&flag| flag.to_owned()).collect();
        open(&flags).unwrap().1.get(0).unwrap().masks.iter().map(|one| one.class).collect::<Vec<_>>()
    };
    assert!(classes(&[]).iter().all(Option::is_none));
    assert!(classes(&["--mask-class", "coral"]).iter().all(|&class| class == Some(1)));
    assert!(open(&[]).err().unwrap().to_string().contains("--classes is needed"));
}

#[test]
fn wrong_arguments_are_told() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path());
    write_reefs(&folder.path().join("reef"));
    let refused = |more: &[&str]| on_folder(folder.path(), more).unwrap_err().to_string();
    assert!(refused(&["--root", "fish"]).contains("fish"));
    assert!(refused(&["--background", "mermaid"]).contains("mermaid"));
    assert!(refused(&["--negatives=-1"]).contains("`negatives`: expected a number in 0..=1000, got -1"));
    assert!(refused(&["--held-out", "1.5"]).contains("`held_out`: expected at least 0 and less than 1, got 1.5"));
    // No mask of these is an object.
    for index in 0..PHOTOGRAPHS {
        let sand = coral_core::LabelMap::zeros((64, 64));
        write_label_map(folder.path().join(format!("reef/labels/reef_{index}.png")), &sand).unwrap();
    }
    let text = refused(&["--root", "coral", "--level", "0"]);
    assert!(text.contains("no mask of the photographs to learn from is of a class of coral"), "{text}");
    let error = run(&arguments(&["--out", "head.pth"])).unwrap_err().to_string();
    assert!(error.contains("expected a file that ends in .safetensors, got head.pth"), "{error}");
    for flags in [
        &["--data", "reef"][..],
        &["--base", "w.pth"],
        &["--data", "d", "--base", "b", "--without-negatives"],
        &["--pictures", "0"],
    ] {
        assert!(Arguments::try_parse_from(std::iter::once(&"tune_coralscop").chain(flags)).is_err(), "{flags:?}");
    }
}
