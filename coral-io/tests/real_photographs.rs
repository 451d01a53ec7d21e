//! Real photographs with image labels from the folder in `CORAL_DATA_DIR`.

use std::path::{Path, PathBuf};

use coral_core::{Dataset, NoProgress, Size};
use coral_io::{PhotographFolder, PhotographFolderConfig, Repeated, Resize};

/// The folder of real data, or a printed reason why there is none.
fn data(sub: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CORAL_DATA_DIR").map(|root| Path::new(&root).join(sub));
    let found = folder.filter(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("skipped: CORAL_DATA_DIR is not set or holds no {sub}");
    }
    found
}

fn in_folder(root: PathBuf) -> PhotographFolderConfig {
    PhotographFolderConfig { root, ..Default::default() }
}

#[test]
fn patches_by_class() {
    for (sub, classes) in [("rsmas_patches", 14), ("kelp_patches", 24)] {
        let Some(root) = data(sub) else { return };
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
