//! What holds for every synthetic reef as a whole.

use coral_core::{LabelMap, Size};

use super::{GrowthForm, SyntheticReef, SyntheticReefConfig, SyntheticScene, classes};

fn scene(config: SyntheticReefConfig, seed: u64) -> SyntheticScene {
    SyntheticReef::new(config).unwrap().generate(seed)
}

fn sized(width: u32, height: u32) -> SyntheticReefConfig {
    SyntheticReefConfig { size: Size { width, height }, ..Default::default() }
}

/// The share of pixels whose class `counts`.
fn share(labels: &LabelMap, counts: impl Fn(u8) -> bool) -> f64 {
    labels.iter().filter(|&&class| counts(class)).count() as f64 / labels.len() as f64
}

fn is_coral(class: u8) -> bool {
    GrowthForm::ALL.iter().any(|form| form.class() == class)
}

/// The mean share over a few seeds.
fn mean_share(config: &SyntheticReefConfig, counts: impl Fn(u8) -> bool + Copy) -> f64 {
    (0..6).map(|seed| share(&scene(config.clone(), seed).labels, counts)).sum::<f64>() / 6.0
}

#[test]
fn the_seed_decides_the_scene() {
    let first = scene(sized(90, 70), 3);
    assert_eq!(first, scene(sized(90, 70), 3));
    let other = scene(sized(90, 70), 4);
    assert_ne!(first.image, other.image);
    assert_ne!(first.labels, other.labels);
}

#[test]
fn pictures_never_change() {
    // Exactly rounded arithmetic only: these sums hold on every machine. Whoever changes the look on purpose renews them.
    let scene = scene(sized(64, 48), 11);
    let weighted = |values: &mut dyn Iterator<Item = u8>| {
        values.enumerate().fold(0u64, |sum, (i, v)| sum.wrapping_mul(31).wrapping_add(u64::from(v) + i as u64))
    };
    let sums = (weighted(&mut scene.labels.iter().copied()), weighted(&mut scene.image.as_raw().iter().copied()));
    assert_eq!(sums, (11_037_768_003_263_621_258, 828_013_663_378_625_923));
}

#[test]
fn any_size_works_and_labels_agree_with_instances() {
    let classes = SyntheticReef::class_set();
    for (width, height) in [(1, 1), (1, 40), (40, 1), (37, 91), (2, 300), (160, 120)] {
        for seed in 0..3 {
            let scene = scene(sized(width, height), seed);
            let shape = (height as usize, width as usize);
            assert_eq!(scene.image.dimensions(), (width, height));
            assert_eq!((scene.labels.dim(), scene.instances.dim()), (shape, shape));
            let mut pixels = vec![0; scene.instance_classes.len()];
            for (&class, &instance) in scene.labels.iter().zip(&scene.instances) {
                assert!(classes.get(class).is_some(), "class {class} is not declared");
                if instance > 0 {
                    let index = instance as usize - 1;
                    assert_eq!(scene.instance_classes[index], class);
                    pixels[index] += 1;
                } else {
                    assert!(!is_coral(class) && class != classes::SEAGRASS, "{} has no instance", classes.name(class));
                }
            }
            assert!(pixels.iter().all(|&n| n > 0), "an instance of the {width}x{height} picture has no pixel");
        }
    }
}

#[test]
fn a_scene_has_many_classes_and_stands_for_its_class_set() {
    let classes = SyntheticReef::class_set();
    assert_eq!(classes.len(), 13);
    for form in GrowthForm::ALL {
        assert_eq!(classes.ancestors(form.class()), [classes.id("coral").unwrap()]);
    }
    for seed in 0..4 {
        let scene = scene(sized(160, 120), seed);
        let present = classes.iter().filter(|class| share(&scene.labels, |id| id == class.id) > 0.002).count();
        assert!(present >= 7, "only {present} classes");
        assert!(scene.instance_classes.len() > 15);
    }
}

#[test]
fn covers_follow_the_config() {
    let mut last = -1.0;
    for coral_cover in [0.0, 0.2, 0.4, 0.6] {
        let config = SyntheticReefConfig { coral_cover, seagrass_cover: 0.0, ..sized(96, 96) };
        let measured = mean_share(&config, is_coral);
        assert!((measured - f64::from(coral_cover)).abs() < 0.08, "coral: wanted {coral_cover}, got {measured}");
        assert!(measured > last);
        last = measured;
    }
    last = -1.0;
    for seagrass_cover in [0.0, 0.15, 0.4] {
        let config = SyntheticReefConfig { seagrass_cover, coral_cover: 0.2, hard_bottom: 0.3, ..sized(96, 96) };
        let measured = mean_share(&config, |class| class == classes::SEAGRASS);
        assert!(
            (measured - f64::from(seagrass_cover)).abs() < 0.12,
            "seagrass: wanted {seagrass_cover}, got {measured}"
        );
        assert!(measured > last);
        last = measured;
    }
    let rock = |hard_bottom| {
        let config = SyntheticReefConfig { hard_bottom, ..sized(96, 96) };
        mean_share(&config, |class| class == classes::TURF || class == classes::CORALLINE)
    };
    assert!(rock(0.1) + 0.1 < rock(0.5) && rock(0.5) + 0.1 < rock(0.9));
}

#[test]
fn only_the_wanted_growth_forms_occur() {
    let forms = vec![GrowthForm::Massive, GrowthForm::Soft];
    let labels = scene(SyntheticReefConfig { growth_forms: forms.clone(), ..sized(120, 80) }, 5).labels;
    assert!(labels.iter().all(|&class| !is_coral(class) || forms.iter().any(|form| form.class() == class)));
    assert!(forms.iter().all(|form| share(&labels, |class| class == form.class()) > 0.0));
}

#[test]
fn the_number_of_pixels_changes_the_scene_little() {
    let (small, large) = (scene(sized(128, 96), 8), scene(sized(384, 288), 8));
    let same = small.labels.indexed_iter().filter(|((y, x), class)| large.labels[[3 * y + 1, 3 * x + 1]] == **class);
    let agreement = same.count() as f64 / small.labels.len() as f64;
    assert!(agreement > 0.9, "{agreement}");
}

#[test]
fn colour_alone_does_not_tell_the_classes() {
    // Every coral class overlaps with another class in mean colour, picture by picture or over pictures.
    let mut means = vec![Vec::new(); 10];
    for seed in 0..6 {
        let scene = scene(sized(160, 160), seed);
        for (instance, &class) in scene.instance_classes.iter().enumerate() {
            let mut sum = [0.0; 3];
            let mut pixels = 0.0;
            for ((y, x), _) in scene.instances.indexed_iter().filter(|(_, id)| **id as usize == instance + 1) {
                let pixel = scene.image.get_pixel(x as u32, y as u32);
                (0..3).for_each(|c| sum[c] += f64::from(pixel[c]));
                pixels += 1.0;
            }
            if pixels > 80.0 && is_coral(class) {
                means[usize::from(class)].push(sum.map(|s| s / pixels));
            }
        }
    }
    let all: Vec<(usize, [f64; 3])> =
        means.iter().enumerate().flat_map(|(class, list)| list.iter().map(move |&mean| (class, mean))).collect();
    let distance = |a: &[f64; 3], b: &[f64; 3]| (0..3).map(|c| (a[c] - b[c]).powi(2)).sum::<f64>();
    // Leave one colony out: the colony of most similar colour is seldom of its form.
    let right = all.iter().enumerate().filter(|(i, (class, mean))| {
        let others = all.iter().enumerate().filter(|(j, _)| j != i);
        let nearest = others.min_by(|a, b| distance(&a.1.1, mean).total_cmp(&distance(&b.1.1, mean)));
        nearest.is_some_and(|(_, (found, _))| found == class)
    });
    let accuracy = right.count() as f64 / all.len() as f64;
    assert!(all.len() > 40 && accuracy < 0.5, "{accuracy} of {}", all.len());
}
