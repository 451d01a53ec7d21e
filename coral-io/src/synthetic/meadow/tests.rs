//! What holds for every synthetic meadow as a whole.

use coral_core::testing::check_dataset;
use coral_core::{ClassId, Dataset, PatchGrid, Size};

use super::*;

fn sized(width: u32, height: u32) -> SyntheticMeadowConfig {
    SyntheticMeadowConfig { size: Size { width, height }, ..Default::default() }
}

fn scene(config: SyntheticMeadowConfig, class: ClassId, seed: u64) -> MeadowScene {
    SyntheticMeadow::new(config).unwrap().generate(class, seed).unwrap()
}

/// The share of pixels that are background.
fn bare(scene: &MeadowScene) -> f64 {
    scene.labels.iter().filter(|&&class| class == 0).count() as f64 / scene.labels.len() as f64
}

#[test]
fn seed_and_class_decide_the_scene() {
    let first = scene(sized(96, 60), 2, 3);
    assert_eq!(first, scene(sized(96, 60), 2, 3));
    assert_ne!(first.image, scene(sized(96, 60), 2, 4).image);
    assert_ne!(first.labels, scene(sized(96, 60), 1, 3).labels.mapv(|class| 2 * class));
}

#[test]
fn pictures_never_change() {
    // Exactly rounded arithmetic only: these sums hold on every machine. Whoever changes the look on purpose renews them.
    let scene = scene(sized(64, 40), 3, 11);
    let weighted = |values: &mut dyn Iterator<Item = u8>| {
        values.enumerate().fold(0u64, |sum, (i, v)| sum.wrapping_mul(31).wrapping_add(u64::from(v) + i as u64))
    };
    let sums = (weighted(&mut scene.labels.iter().copied()), weighted(&mut scene.image.as_raw().iter().copied()));
    assert_eq!(sums, (1_808_946_075_338_569_904, 15_355_337_457_683_357_587));
}

#[test]
fn any_size_works_and_shows_only_its_class() {
    let species = vec![Seagrass::Strappy, Seagrass::Ferny];
    for (width, height) in [(1, 1), (1, 40), (40, 1), (37, 91), (2, 300), (160, 100)] {
        for class in 0..3 {
            let config = SyntheticMeadowConfig { species: species.clone(), ..sized(width, height) };
            let scene = scene(config, class, 5);
            assert_eq!((scene.image.dimensions(), scene.class), ((width, height), class));
            assert_eq!(scene.labels.dim(), (height as usize, width as usize));
            assert!(scene.labels.iter().all(|&id| id == 0 || id == class));
        }
    }
    let error = SyntheticMeadow::new(SyntheticMeadowConfig { species, ..sized(9, 9) }).unwrap().generate(3, 0);
    assert_eq!(error.unwrap_err().to_string(), "unknown class `3`: expected 0 to 2");
}

#[test]
fn the_label_is_wrong_for_about_the_configured_share() {
    let meadow = SyntheticMeadow::new(SyntheticMeadowConfig::default()).unwrap();
    let [from, to] = meadow.config().bare;
    for class in 1..=3 {
        let mut shares = Vec::new();
        for seed in 0..8 {
            let scene = meadow.generate(class, seed).unwrap();
            let truth = scene.patch_truth(PatchGrid::SEACLIP, 0.5).unwrap();
            shares.push(truth.iter().filter(|&&one| one == 0).count() as f32 / truth.len() as f32);
        }
        let mean = shares.iter().sum::<f32>() / 8.0;
        assert!((from..=to).contains(&mean), "class {class}: {shares:?}");
        assert!(shares.iter().all(|&share| share > from - 0.12 && share < to + 0.12), "class {class}: {shares:?}");
    }
}

#[test]
fn bare_ground_follows_the_setting() {
    for class in 1..=3 {
        for wanted in [0.05_f32, 0.4, 0.8] {
            let config = SyntheticMeadowConfig { bare: [wanted; 2], ..sized(160, 100) };
            let mean = (0..6).map(|seed| bare(&scene(config.clone(), class, seed))).sum::<f64>() / 6.0;
            assert!((mean - f64::from(wanted)).abs() < 0.12, "class {class}: wanted {wanted}, got {mean}");
        }
    }
    assert_eq!(bare(&scene(sized(80, 50), 0, 1)), 1.0);
}

#[test]
fn the_number_of_pixels_changes_the_scene_little() {
    for class in 1..=3 {
        let (small, large) = (scene(sized(160, 100), class, 8), scene(sized(480, 300), class, 8));
        let same =
            small.labels.indexed_iter().filter(|((y, x), class)| large.labels[[3 * y + 1, 3 * x + 1]] == **class);
        let agreement = same.count() as f64 / small.labels.len() as f64;
        assert!(agreement > 0.9, "class {class}: {agreement}");
    }
}

/// How often the photograph whose seagrass is nearest in mean colour is of the same species.
fn told_by_color(difficulty: f32) -> f64 {
    let size = Size { width: 160, height: 100 };
    let config = SyntheticMeadowConfig { size, ..SyntheticMeadowConfig::with_difficulty(difficulty) };
    let meadow = SyntheticMeadow::new(config).unwrap();
    let mut means = Vec::new();
    for (class, seed) in (1..=3).flat_map(|class| (0..10).map(move |seed| (class, seed))) {
        let scene = meadow.generate(class, seed).unwrap();
        let (mut sum, mut pixels) = ([0.0; 3], 1e-9);
        for ((y, x), _) in scene.labels.indexed_iter().filter(|(_, id)| **id == class) {
            let pixel = scene.image.get_pixel(x as u32, y as u32);
            (0..3).for_each(|c| sum[c] += f64::from(pixel[c]));
            pixels += 1.0;
        }
        means.push((class, sum.map(|s| s / pixels)));
    }
    let distance = |a: &[f64; 3], b: &[f64; 3]| (0..3).map(|c| (a[c] - b[c]).powi(2)).sum::<f64>();
    let right = means.iter().enumerate().filter(|(i, (class, mean))| {
        let others = means.iter().enumerate().filter(|(j, _)| j != i);
        let nearest = others.min_by(|a, b| distance(&a.1.1, mean).total_cmp(&distance(&b.1.1, mean)));
        nearest.is_some_and(|(_, (found, _))| found == class)
    });
    right.count() as f64 / means.len() as f64
}

#[test]
fn colour_tells_the_species_only_where_it_is_easy() {
    let (easy, default, hard) = (told_by_color(0.0), told_by_color(0.5), told_by_color(1.0));
    assert!(easy > 0.9 && default < 0.7 && hard < 0.6, "{easy} {default} {hard}");
}

#[test]
fn backgrounds_differ() {
    // Sand, blurred sand and plain water: from hardly any detail to much.
    let meadow = SyntheticMeadow::new(SyntheticMeadowConfig { noise: 0.0, ..sized(96, 60) }).unwrap();
    let mut details: Vec<f64> = (0..24)
        .map(|seed| {
            let image = meadow.generate(0, seed).unwrap().image;
            let steps = image.enumerate_pixels().filter(|(x, ..)| *x > 0);
            let step = |(x, y, pixel): (u32, u32, &coral_core::image::Rgb<u8>)| {
                f64::from(pixel[1].abs_diff(image.get_pixel(x - 1, y)[1]))
            };
            steps.map(step).sum::<f64>() / f64::from(image.width() * image.height())
        })
        .collect();
    details.sort_by(f64::total_cmp);
    assert!(details[0] < 0.3 && details[4] < 2.0 && details[23] > 4.0, "{details:?}");
}

#[test]
fn the_survey_fulfils_the_contract() {
    for (len, seed) in [(0, 1), (5, 9), (3, u64::MAX - 1)] {
        let survey = SyntheticMeadowDataset { config: sized(41, 23), len, seed };
        check_dataset(&survey, |a, b| a == b).unwrap();
        assert_eq!(survey.labels().len(), len);
        for (index, class) in survey.labels().into_iter().enumerate() {
            assert_eq!((survey.get(index).unwrap().class, survey.scene(index).unwrap().class), (class, class));
        }
    }
    let config = SyntheticMeadowConfig { noise: -1.0, ..sized(9, 9) };
    let error = SyntheticMeadowDataset { config, len: 1, seed: 0 }.get(0).unwrap_err();
    assert!(error.to_string().contains("`noise`"));
}
