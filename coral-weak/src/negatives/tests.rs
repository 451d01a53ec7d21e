use coral_core::image::{Rgb, RgbImage};
use coral_core::testing::check_dataset;
use coral_core::{AnnotatedImage, Dataset, Error, InstanceMask, Result, RleMask, Size};
use proptest::prelude::*;

use super::*;

/// Coloured cells of 16×16 pixels with a little noise, and square objects of side 12.
fn scene(size: Size, objects: &[(u32, u32)], class: Option<u8>) -> AnnotatedImage {
    let mut rng = SeededRng::new(3);
    let image = RgbImage::from_fn(size.width, size.height, |x, y| {
        let base = [[200, 190, 160], [70, 90, 60], [120, 60, 90]][((x / 16 + y / 16) % 3) as usize];
        Rgb(base.map(|level: u8| level + rng.below(9) as u8))
    });
    let mask = |&(left, top): &(u32, u32)| {
        let mask = RleMask::from_fn(size, |x, y| (left..left + 12).contains(&x) && (top..top + 12).contains(&y));
        InstanceMask { class, ..InstanceMask::new(mask) }
    };
    AnnotatedImage { image, masks: objects.iter().map(mask).collect() }
}

const SIZE: Size = Size { width: 96, height: 64 };

fn config() -> NegativeConfig {
    NegativeConfig { per_positive: 4.0, min_area: 0.005, ..Default::default() }
}

#[test]
fn negatives_keep_away_from_objects_and_each_other() {
    for (class, seed) in [(Some(1), 0), (None, 1), (Some(7), 2)] {
        // Masks without class are not counted.
        let scene = scene(SIZE, &[(20, 10), (60, 40)], class);
        let found = negative_masks(&scene, &config(), seed).unwrap();
        assert_eq!(found.len(), if class.is_some() { 8 } else { config().without_positives });
        let near = RleMask::from_fn(SIZE, |x, y| {
            let within = |left: u32, top: u32| (left - 4..left + 16).contains(&x) && (top - 4..top + 16).contains(&y);
            within(20, 10) || within(60, 40)
        });
        for (at, one) in found.iter().enumerate() {
            assert_eq!((one.class, one.mask.components().len()), (Some(0), 1));
            assert_eq!(one.mask.intersection_area(&near).unwrap(), 0);
            assert!(one.area() as f64 >= 0.005 * SIZE.pixels() as f64);
            assert!(found[..at].iter().all(|other| other.mask.intersection_area(&one.mask).unwrap() == 0));
        }
    }
}

#[test]
fn negatives_are_about_as_large_as_objects() {
    let few = negative_masks(&scene(SIZE, &[(20, 10), (60, 40)], Some(1)), &config(), 1).unwrap();
    let mean = few.iter().map(InstanceMask::area).sum::<u64>() as f64 / few.len() as f64;
    assert!((70.0..300.0).contains(&mean), "objects have 144 pixels, negatives {mean}");
}

#[test]
fn negatives_are_no_larger_than_the_largest() {
    let size = Size { width: 200, height: 150 };
    let bare = scene(size, &[], None);
    for max_area in [0.002, 0.005, 0.02, 0.1, 0.3] {
        let config = NegativeConfig {
            min_area: max_area / 2.0,
            max_area,
            without_positives: 20,
            color_tolerance: 1e3,
            ..config()
        };
        let largest = f64::from(max_area) * size.pixels() as f64;
        for seed in 0..3 {
            let found = negative_masks(&bare, &config, seed).unwrap();
            let most = found.iter().map(InstanceMask::area).max().unwrap_or(0);
            assert!(most > 0 && most as f64 <= largest, "{most} of {largest}");
        }
    }
}

#[test]
fn regions_end_where_the_colour_changes() {
    // The right half is a flat wall of one colour, the left half another; a region never spans both.
    let image = RgbImage::from_fn(96, 64, |x, _| Rgb(if x < 48 { [210, 200, 170] } else { [40, 60, 80] }));
    let scene = AnnotatedImage { image, masks: Vec::new() };
    let large = NegativeConfig { min_area: 0.2, max_area: 0.6, without_positives: 9, ..config() };
    let found = negative_masks(&scene, &large, 1).unwrap();
    assert!(!found.is_empty());
    for one in &found {
        let rect = one.bounding_box().unwrap();
        assert!(rect.x + rect.width <= 48 || rect.x >= 48, "{rect:?}");
    }
}

#[test]
fn numbers_follow_the_config() {
    let count = |scene: &AnnotatedImage, config: NegativeConfig| negative_masks(scene, &config, 0).unwrap().len();
    let two = scene(SIZE, &[(20, 10), (60, 40)], Some(1));
    assert_eq!(count(&two, NegativeConfig { per_positive: 1.5, ..config() }), 3);
    assert_eq!(count(&two, NegativeConfig { per_positive: 0.0, ..config() }), 0);
    assert_eq!(count(&two, NegativeConfig { max_count: 5, ..config() }), 5);
    let bare = scene(SIZE, &[], None);
    assert_eq!(count(&bare, NegativeConfig { without_positives: 4, ..config() }), 4);
    // Masks of the background count, and nothing is drawn over them.
    let mut with_one = two.clone();
    let whole = RleMask::from_fn(SIZE, |x, _| x < 40);
    with_one.masks.push(InstanceMask { class: Some(0), ..InstanceMask::new(whole.clone()) });
    let more = negative_masks(&with_one, &NegativeConfig { per_positive: 2.0, ..config() }, 0).unwrap();
    assert_eq!(more.len(), 3);
    assert!(more.iter().all(|one| one.mask.intersection_area(&whole).unwrap() == 0));
    let full = InstanceMask { class: Some(1), ..InstanceMask::new(RleMask::from_fn(SIZE, |_, _| true)) };
    assert_eq!(count(&AnnotatedImage { masks: vec![full], ..two }, config()), 0);
}

#[test]
fn the_seed_decides() {
    let scene = scene(SIZE, &[(20, 10)], Some(1));
    let of = |seed| negative_masks(&scene, &config(), seed).unwrap();
    assert_eq!(of(5), of(5));
    assert_ne!(of(5), of(6));
}

#[test]
fn bad_input_is_named() {
    let scene = scene(SIZE, &[(20, 10)], Some(1));
    type Change = fn(&mut NegativeConfig);
    let changes: [(Change, &str); 9] = [
        (|c| c.class = 255, "`class`: expected a class of 0–254"),
        (|c| c.per_positive = -1.0, "`per_positive`"),
        (|c| c.per_positive = f64::NAN, "`per_positive`"),
        (|c| c.max_overlap = 1.1, "`max_overlap`"),
        (|c| c.max_area = 0.0, "`max_area`"),
        (|c| c.min_area = 0.3, "`min_area`: expected a share above 0 and up to 0.2"),
        (|c| c.min_area = f32::NAN, "`min_area`"),
        (|c| c.color_tolerance = -1.0, "`color_tolerance`"),
        (|c| c.compactness = 0.0, "`compactness`"),
    ];
    for (change, expected) in changes {
        let mut bad = NegativeConfig::default();
        change(&mut bad);
        let error = negative_masks(&scene, &bad, 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut odd = scene.clone();
    odd.image = RgbImage::new(4, 4);
    assert!(matches!(negative_masks(&odd, &config(), 0), Err(Error::ShapeMismatch { .. })));
    let nothing = AnnotatedImage { image: RgbImage::new(0, 3), masks: Vec::new() };
    assert!(matches!(negative_masks(&nothing, &config(), 0), Err(Error::InvalidInput { .. })));
}

#[test]
fn tiny_images_work() {
    for (width, height) in [(1, 1), (1, 30), (30, 1), (3, 2)] {
        let image = RgbImage::from_pixel(width, height, Rgb([90; 3]));
        let found = negative_masks(&AnnotatedImage { image, masks: Vec::new() }, &config(), 0).unwrap();
        assert!(!found.is_empty() && found.iter().all(|one| one.area() > 0), "{width}x{height}");
    }
}

struct Scenes;

impl Dataset for Scenes {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        3
    }

    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        self.name(index)?;
        Ok(scene(SIZE, &[(20, 10), (60, 40)][..index.min(2)], Some(1)))
    }

    fn name(&self, index: usize) -> Result<String> {
        let range = || Error::IndexOutOfRange { what: "the scenes".into(), index, len: 3 };
        (index < 3).then(|| format!("scene_{index}")).ok_or_else(range)
    }
}

#[test]
fn a_dataset_with_negatives() {
    let dataset = WithNegatives::new(Scenes, config(), 2).unwrap();
    check_dataset(&dataset, |a, b| a == b).unwrap();
    let counts = [0, 1, 2].map(|index| dataset.get(index).unwrap().masks.len());
    assert_eq!(counts, [8, 5, 10]);
    let other = WithNegatives::new(Scenes, config(), 3).unwrap();
    assert_ne!(dataset.get(0).unwrap().masks, other.get(0).unwrap().masks);
    assert!(WithNegatives::new(Scenes, NegativeConfig { class: 255, ..config() }, 0).is_err());
}

proptest! {
    #[test]
    fn widening_is_a_maximum_over_the_neighbours(line in proptest::collection::vec(any::<bool>(), 0..20), margin in 0u32..6) {
        let reach = margin as usize;
        let near = |at: usize| line[at.saturating_sub(reach)..line.len().min(at + reach + 1)].contains(&true);
        let naive: Vec<bool> = (0..line.len()).map(near).collect();
        let mut wide = ndarray::Array1::from(line.clone());
        widen(wide.view_mut(), margin);
        prop_assert_eq!(wide.to_vec(), naive);
    }
}
