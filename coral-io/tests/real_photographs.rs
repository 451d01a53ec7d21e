//! Real photographs with image labels from the folder in `CORAL_DATA_DIR`.

mod real_data;

use std::collections::BTreeSet;
use std::path::PathBuf;

use coral_core::{Dataset, NoProgress, PatchGrid, Size};
use coral_io::{
    GridPatches, MultiLabelConfig, MultiLabelDataset, PhotographFolder, PhotographFolderConfig, Repeated, Resize,
    SitePattern, k_folds, read_multi_labels, site_of, split_by_class, split_by_site,
};

use real_data::data;

fn in_folder(root: PathBuf) -> PhotographFolderConfig {
    PhotographFolderConfig { root, ..Default::default() }
}

#[test]
fn patches_by_class() {
    for (sub, classes) in [("rsmas_patches", 14), ("kelp_patches", 24)] {
        let Some(root) = data(sub) else { continue };
        let (dataset, skipped) = PhotographFolder::checked(in_folder(root.clone()), &NoProgress).unwrap();
        assert_eq!((dataset.class_set().len(), skipped.len()), (classes, 0));
        // The photographers counted from 1 in every class: names repeat, contents do not.
        let repeated = dataset.repeated().unwrap();
        assert!(repeated.iter().all(|one| !one.same_content));
        assert_eq!(repeated.is_empty(), sub == "kelp_patches");
        let strict = PhotographFolderConfig { repeated: Repeated::RefuseSameContent, ..in_folder(root) };
        assert!(PhotographFolder::new(strict).is_ok());
        eprintln!("{sub}: {:?}, {} repeated names", dataset.counts(), repeated.len());
    }
}

#[test]
fn eelgrass_frames_stand_in_two_folders() {
    let Some(root) = data("eelgrass") else { return };
    let shrunk = PhotographFolderConfig { resize: Some(Resize::MaxSide(480)), ..in_folder(root.clone()) };
    let (dataset, skipped) = PhotographFolder::checked(shrunk, &NoProgress).unwrap();
    assert!(skipped.is_empty());
    assert_eq!(Size::of(&dataset.get(0).unwrap().image), Size { width: 480, height: 360 });
    let names: Vec<_> = dataset.class_set().iter().map(|class| class.name.clone()).collect();
    eprintln!("{names:?} {:?}", dataset.counts());
    let repeated = dataset.repeated().unwrap();
    assert!(!repeated.is_empty() && repeated.iter().all(|one| one.same_content));
    eprintln!("{} of {} frames stand in several folders", repeated.len(), dataset.len());
    let strict = PhotographFolderConfig { repeated: Repeated::RefuseSameContent, ..in_folder(root.clone()) };
    let error = PhotographFolder::new(strict).unwrap_err().to_string();
    assert!(error.contains("stands in several classes"), "{error}");
    // The densities alone do not overlap.
    let densities = ["0-25", "25-50", "50-75", "75-100"];
    let others = names.iter().filter(|name| !densities.contains(&name.as_str()));
    let only = PhotographFolderConfig {
        leave_out: others.cloned().collect(),
        repeated: Repeated::RefuseSameName,
        ..in_folder(root)
    };
    assert!(PhotographFolder::new(only).unwrap().repeated().unwrap().is_empty());
}

#[test]
fn splits_of_patches() {
    let Some(root) = data("rsmas_patches") else { return };
    let dataset = PhotographFolder::new(in_folder(root)).unwrap();
    let [train, validation, test] = split_by_class(dataset.labels(), [0.7, 0.15, 0.15], 1).unwrap();
    for part in [&train, &validation, &test] {
        let classes: BTreeSet<_> = part.iter().map(|&index| dataset.labels()[index]).collect();
        assert_eq!(classes.len(), dataset.class_set().len());
    }
    eprintln!("{} + {} + {}", train.len(), validation.len(), test.len());
    assert_eq!(k_folds(dataset.labels(), 5, 1).unwrap().len(), 5);
}

#[test]
fn eelgrass_patches() {
    let Some(root) = data("eelgrass") else { return };
    let shrunk = PhotographFolderConfig { resize: Some(Resize::MaxSide(480)), ..in_folder(root) };
    let photographs = PhotographFolder::new(shrunk).unwrap();
    let patches = GridPatches::new(&photographs, PatchGrid::SEACLIP, &NoProgress).unwrap();
    assert_eq!(patches.len(), 40 * photographs.len());
    let patch = patches.get(81).unwrap();
    assert_eq!((patch.photograph, patch.image.dimensions()), (2, (60, 72)));
}

#[test]
fn tables_of_several_labels() {
    let Some(root) = data("dinovdeau") else { return };
    let sets = [
        ("fs_ml_bin", ["train.csv", "val.csv", "test.csv"], "fs_ml", 31),
        ("fs_monolabel_bin", ["train_df.csv", "val_df.csv", "test_df.csv"], "fs_monolabel", 23),
        (
            "ms_ml_bin",
            ["drone-train_df_binary.csv", "drone-val_df_binary.csv", "drone-test_df_binary.csv"],
            "drone",
            13,
        ),
        ("ms_ml_prob", ["drone-train_df_prob.csv", "drone-val_df_prob.csv", "drone-test_df_prob.csv"], "drone", 13),
    ];
    for (folder, files, images, classes) in sets {
        let mut config = MultiLabelConfig::default();
        for file in files {
            let path = root.join("annotations").join(folder).join(file);
            let table = read_multi_labels(&path, &config).unwrap();
            assert_eq!(table.classes.len(), classes, "{}", path.display());
            config.classes = Some(table.classes.clone());
            let soft = table.targets.iter().filter(|&&value| value > 0.0 && value < 1.0).count();
            assert_eq!(soft > 0, folder.ends_with("prob"));
            assert!(folder != "fs_monolabel_bin" || table.labels().is_ok());
            let dataset = MultiLabelDataset::new(table, root.join("images").join(images)).unwrap();
            let dataset = dataset.with_resize(Resize::MaxSide(100)).unwrap();
            let sample = dataset.get(0).unwrap();
            assert_eq!((sample.target.len(), sample.image.width().max(sample.image.height())), (classes, 100));
            eprintln!("{folder}/{file}: {} photographs, {soft} soft values", dataset.len());
        }
    }
}

#[test]
fn sites_from_names() {
    let Some(root) = data("dinovdeau") else { return };
    let path = root.join("annotations/fs_monolabel_bin/train_df.csv");
    let table = read_multi_labels(path, &MultiLabelConfig::default()).unwrap();
    let pattern = SitePattern::Prefix { delimiter: "_".into(), parts: 2 };
    let sites: Vec<_> = table.files.iter().map(|file| site_of(file, &pattern).unwrap()).collect();
    let [train, test] = split_by_site(&sites, [0.7, 0.3], 1).unwrap();
    let of = |part: &[usize]| part.iter().map(|&index| sites[index].as_str()).collect::<BTreeSet<_>>();
    assert!(of(&train).is_disjoint(&of(&test)) && !test.is_empty());
    eprintln!("{:?} | {:?}", of(&train), of(&test));
}
