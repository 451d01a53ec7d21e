//! What a promptable segmenter is worth to [`PromptPropagator`], by segmenters that look up the truth and spoil it more or less.
//!
//! With the unspoilt truth this is the upper bound of what any segmenter could give; a network lies between.

mod oracle;

use std::path::PathBuf;

use coral_core::image::RgbImage;
use coral_core::{LabelMap, PointLabel, PointPropagator, Size, UNLABELED, ndarray::Array2};
use coral_io::{SyntheticReef, SyntheticReefConfig};
use coral_weak::{DefaultPropagator, PromptPropagator, PromptPropagatorConfig, grid_points};
use oracle::{Noise, Oracle};

/// The target's id that is not scored: none, or the one that the mosaics use for pixels without a class.
const IGNORED: [u8; 2] = [UNLABELED, 34];
/// Points along a side of the grid: 25, 100 and about 300 points.
const GRIDS: [usize; 3] = [5, 10, 17];

struct Scene {
    image: RgbImage,
    labels: LabelMap,
    /// Objects, and where there are none classes.
    regions: Array2<u32>,
}

fn synthetic_scenes() -> Vec<Scene> {
    let config = SyntheticReefConfig { size: Size { width: 256, height: 192 }, ..Default::default() };
    let reef = SyntheticReef::new(config).unwrap();
    let scene = |seed| {
        let scene = reef.generate(seed);
        let object = |place| scene.instances[place] * 256 + u32::from(scene.labels[place]);
        let regions = Array2::from_shape_fn(scene.labels.dim(), object);
        Scene { image: scene.image, labels: scene.labels, regions }
    };
    (0..4).map(scene).collect()
}

/// The mosaics, or nothing where the data is not at hand.
fn mosaics() -> Option<Vec<Scene>> {
    let Some(data) = std::env::var_os("CORAL_DATA_DIR") else {
        eprintln!("skipped: CORAL_DATA_DIR is not set");
        return None;
    };
    let folder = PathBuf::from(data).join("reef_mosaics");
    let read = |name: String| {
        let image = image::open(folder.join("images").join(&name)).unwrap().to_rgb8();
        let labels = image::open(folder.join("labels").join(&name)).unwrap().to_luma8();
        let shape = (labels.height() as usize, labels.width() as usize);
        let labels = LabelMap::from_shape_vec(shape, labels.into_raw()).unwrap();
        Scene { image, regions: labels.mapv(u32::from), labels }
    };
    Some((1..4).map(|number| read(format!("{number}.png"))).collect())
}

/// Mean IoU over the classes of the target, and accuracy, where the target is not `ignored`.
fn score(prediction: &LabelMap, target: &LabelMap, ignored: u8) -> [f64; 2] {
    let mut counts = [[0_u32; 3]; 256];
    for (&p, &t) in prediction.iter().zip(target).filter(|(_, t)| **t != ignored) {
        counts[usize::from(t)][0] += 1;
        counts[usize::from(p)][1] += 1;
        counts[usize::from(t)][2] += u32::from(p == t);
    }
    let present: Vec<_> = counts.iter().filter(|[target, ..]| *target > 0).collect();
    let iou = |[target, predicted, both]: &[u32; 3]| f64::from(*both) / f64::from(target + predicted - both);
    let (hit, all) = present.iter().fold((0, 0), |(hit, all), [target, _, both]| (hit + both, all + target));
    [present.iter().map(|counts| iou(counts)).sum::<f64>() / present.len() as f64, f64::from(hit) / f64::from(all)]
}

/// Mean IoU and accuracy, means over scenes, per ignored id and grid.
type Scores = [[[f64; 2]; 3]; 2];

fn scores(scenes: &[Scene], labels: impl Fn(&Scene, &[PointLabel]) -> LabelMap) -> Scores {
    let mut means = Scores::default();
    for (grid, k) in GRIDS.into_iter().enumerate() {
        for scene in scenes {
            let labels = labels(scene, &grid_points(&scene.labels, k));
            for (which, ignored) in IGNORED.into_iter().enumerate() {
                let score = score(&labels, &scene.labels, ignored);
                (0..2).for_each(|i| means[which][grid][i] += score[i] / scenes.len() as f64);
            }
        }
    }
    means
}

fn with_oracle(scenes: &[Scene], noise: Noise, config: &PromptPropagatorConfig) -> Scores {
    let scores = scores(scenes, |scene, points| {
        let oracle = Oracle::new(&scene.regions, noise);
        PromptPropagator::new(oracle, config.clone()).unwrap().propagate(&scene.image, points).unwrap()
    });
    eprintln!("{noise:?} noise: {scores:.3?}");
    scores
}

fn fill_alone(scenes: &[Scene]) -> Scores {
    let scores = scores(scenes, |scene, points| DefaultPropagator::default().propagate(&scene.image, points).unwrap());
    eprintln!("fill alone: {scores:.3?}");
    scores
}

/// Whether `scores` are above `reference` by `margins` of mean IoU (or not farther below, where negative).
fn gains(scores: Scores, reference: Scores, margins: [f64; 3]) -> bool {
    (0..2).all(|which| (0..3).all(|grid| scores[which][grid][0] >= reference[which][grid][0] + margins[grid]))
}

#[test]
fn good_masks_help_much_noisy_ones_some_and_useless_ones_do_no_harm() {
    let scenes = synthetic_scenes();
    let config = PromptPropagatorConfig::default();
    let fill = fill_alone(&scenes);
    assert!(gains(with_oracle(&scenes, Noise::None, &config), fill, [0.04, 0.14, 0.14]));
    assert!(gains(with_oracle(&scenes, Noise::Some, &config), fill, [-0.005, 0.03, 0.04]));
    assert!(gains(with_oracle(&scenes, Noise::All, &config), fill, [-0.005; 3]));
}

#[test]
fn without_its_rules_useless_masks_do_harm() {
    let scenes = synthetic_scenes();
    let gullible = PromptPropagatorConfig {
        min_predicted_iou: 0.0,
        max_area: 1.0,
        min_purity: 0.0,
        sufficient_reliability: 0.0,
        ..Default::default()
    };
    let harmed = with_oracle(&scenes, Noise::All, &gullible);
    assert!(gains(fill_alone(&scenes), harmed, [0.03; 3]));
}

#[test]
fn skipping_covered_points_costs_little() {
    let scenes = synthetic_scenes();
    let all = PromptPropagatorConfig::default();
    let some = PromptPropagatorConfig { skip_covered: Some(0.9), ..all.clone() };
    for (noise, cost) in [(Noise::None, 0.002), (Noise::Some, 0.02)] {
        let asked_all = with_oracle(&scenes, noise, &all);
        assert!(gains(with_oracle(&scenes, noise, &some), asked_all, [-cost; 3]));
    }
}

#[test]
fn the_same_holds_on_real_mosaics() {
    let Some(scenes) = mosaics() else { return };
    let config = PromptPropagatorConfig::default();
    let fill = fill_alone(&scenes);
    assert!(gains(with_oracle(&scenes, Noise::None, &config), fill, [0.03, 0.08, 0.05]));
    assert!(gains(with_oracle(&scenes, Noise::Some, &config), fill, [0.005, 0.03, 0.04]));
    assert!(gains(with_oracle(&scenes, Noise::All, &config), fill, [-0.01; 3]));
}
