//! Negatives of real photographs in the folder that `CORAL_DATA_DIR` names, and of synthetic reefs.

use std::path::PathBuf;

use coral_core::{Dataset, InstanceMask, LabelMap, LabeledImage, UNLABELED};
use coral_io::{
    ColorTable, LabelMapFolder, LabelMapFolderConfig, LabelMapMasks, LabelMapMasksConfig, RemappedMasks,
    SyntheticColonies, SyntheticReef, SyntheticReefConfig, SyntheticReefDataset, UnknownColor,
};
use coral_weak::{NegativeConfig, SentencePairs, WithNegatives, negative_masks};

/// Photographs and label maps of a data set, or a printed reason why there are none.
fn folder(name: &str, labels: &str, ignore: &[u8]) -> Option<LabelMapFolder> {
    let root = std::env::var_os("CORAL_DATA_DIR").map(|root| PathBuf::from(root).join(name));
    let Some(root) = root.filter(|root| root.is_dir()) else {
        eprintln!("skipped: CORAL_DATA_DIR is not set or holds no {name}");
        return None;
    };
    let config = LabelMapFolderConfig {
        images: root.join("images"),
        labels: root.join(labels),
        ignore: ignore.to_vec(),
        ..Default::default()
    };
    Some(LabelMapFolder::new(config).unwrap())
}

/// The classes under a mask, each once.
fn classes_under(one: &InstanceMask, labels: &LabelMap) -> Vec<u8> {
    let inside = one.mask.decode();
    let mut classes: Vec<_> = labels.iter().zip(&inside).filter(|(_, inside)| **inside).map(|(&id, _)| id).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

#[test]
fn fish_and_water_are_negatives_and_the_reef_is_none() {
    const REEF: u8 = 5;
    let Some(suim) = folder("suim", "masks", &[]) else { return };
    let corners = (0..8u8).map(|id| ([id >> 2 & 1, id >> 1 & 1, id & 1].map(|bit| bit * 255), id));
    let suim = suim.with_colors(ColorTable::new(corners).unwrap(), UnknownColor::Error);
    let background = (0..8).filter(|&class| class != REEF).collect();
    let config = LabelMapMasksConfig { background, ..Default::default() };
    let reefs = LabelMapMasks::new(&suim, config).unwrap();
    let config = NegativeConfig { per_positive: 8.0, ..Default::default() };
    let mut with_reef = 0;
    for index in 0..reefs.len() {
        let (annotated, LabeledImage { labels, .. }) = (reefs.get(index).unwrap(), suim.get(index).unwrap());
        let negatives = negative_masks(&annotated, &config, 1).unwrap();
        assert!(negatives.len() >= 6, "{} of photograph {index}", negatives.len());
        with_reef += usize::from(!annotated.masks.is_empty());
        for one in &negatives {
            let under = classes_under(one, &labels);
            // Regions below the smallest area are no masks, so a speck of reef can be left.
            assert!(annotated.masks.iter().all(|coral| coral.mask.intersection_area(&one.mask).unwrap() == 0));
            assert!(under.iter().any(|&class| class != REEF), "{under:?}");
        }
    }
    assert!(with_reef > 0 && with_reef < reefs.len());
}

#[test]
fn colonies_that_nobody_labelled_are_no_negatives() {
    let Some(mosaics) = folder("reef_mosaics", "labels", &[34]) else { return };
    for index in 0..mosaics.len() {
        let labels = mosaics.get(index).unwrap().labels;
        let mut pixels = [0; 256];
        labels.iter().for_each(|&class| pixels[usize::from(class)] += 1);
        // Which class is no coral the files do not say: the most frequent one stands for it.
        let ground = (0..UNLABELED).max_by_key(|&class| pixels[usize::from(class)]).unwrap();
        let config = LabelMapMasksConfig { background: vec![ground], unlabeled: true, ..Default::default() };
        let colonies = LabelMapMasks::new(&mosaics, config).unwrap();
        let config = NegativeConfig { class: 40, per_positive: 2.0, ..Default::default() };
        let whole =
            RemappedMasks::new(WithNegatives::new(colonies, config, 3).unwrap(), coral_core::Remapping::identity());
        let masks = whole.without_unclassed().get(index).unwrap().masks;
        let negatives: Vec<_> = masks.iter().filter(|one| one.class == Some(40)).collect();
        eprintln!("mosaic {index}: {} negatives on class {ground}", negatives.len());
        assert!(!negatives.is_empty());
        for one in negatives {
            assert!(!classes_under(one, &labels).contains(&UNLABELED));
        }
    }
}

#[test]
fn negatives_of_a_synthetic_reef_hold_no_coral() {
    let config = SyntheticReefConfig {
        size: coral_core::Size { width: 160, height: 120 },
        species: true,
        seagrass_cover: 0.0,
        ..Default::default()
    };
    let reefs = SyntheticReefDataset { config, len: 3, seed: 20 };
    let taxa = SyntheticReef::taxa();
    let (_, remapping) = taxa.objects_at_level(taxa.parse("coral").unwrap(), 0).unwrap();
    let corals = RemappedMasks::new(SyntheticColonies { reefs: reefs.clone(), min_area: 1 }, remapping.clone());
    // The stones of the survey are negatives already, and count.
    let config = NegativeConfig { per_positive: 10.0, max_count: 200, ..Default::default() };
    let dataset = WithNegatives::new(&corals, config, 1).unwrap();
    for index in 0..dataset.len() {
        let own = corals.get(index).unwrap().masks.len();
        let all = dataset.get(index).unwrap().masks;
        let labels = remapping.apply(&reefs.get(index).unwrap().labels);
        assert!(all.len() > own);
        for one in &all[own..] {
            assert_eq!((one.class, classes_under(one, &labels)), (Some(0), vec![0]));
        }
    }
}

#[test]
fn sentences_of_a_synthetic_reef_name_its_species() {
    let config =
        SyntheticReefConfig { size: coral_core::Size { width: 160, height: 120 }, species: true, ..Default::default() };
    let survey = SyntheticColonies { reefs: SyntheticReefDataset { config, len: 4, seed: 30 }, min_area: 30 };
    let taxa = SyntheticReef::taxa();
    let pairs = SentencePairs::new(taxa.clone(), SyntheticReef::sentences(), Default::default()).unwrap();
    let (mut positive, mut negative) = (0, 0);
    for index in 0..survey.len() {
        let annotated = survey.get(index).unwrap();
        let genera: Vec<_> =
            annotated.masks.iter().filter_map(|one| taxa.ancestors(one.class.unwrap()).first().copied()).collect();
        for pair in pairs.draw(coral_core::Size::of(&annotated.image), &annotated.masks, index as u64).unwrap() {
            let of_class = annotated.masks.iter().filter(|one| one.class == Some(pair.class));
            assert_eq!(pair.mask.area(), of_class.map(InstanceMask::area).sum::<u64>());
            assert!(pair.is_positive() || !genera.contains(&taxa.ancestors(pair.class)[0]));
            *(if pair.is_positive() { &mut positive } else { &mut negative }) += 1;
        }
    }
    assert!(positive > 8 && negative > 8, "{positive} {negative}");
}
