//! Measures propagators on real reef mosaics, which are private: `CORAL_DATA_DIR` names the folder.

use std::path::PathBuf;

use coral_core::image::RgbImage;
use coral_core::{LabelMap, PointLabel, PointPropagator, Size};
use coral_weak::GaussianProcessPropagator;
use image::ImageReader;

/// The id that these label maps use for pixels that are not scored.
const IGNORED: u8 = 34;

fn mosaics() -> Option<Vec<(RgbImage, LabelMap)>> {
    let Some(root) = std::env::var_os("CORAL_DATA_DIR").map(PathBuf::from) else {
        println!("skipped: CORAL_DATA_DIR is not set");
        return None;
    };
    let open = |folder: &str, name: &str| {
        ImageReader::open(root.join("reef_mosaics").join(folder).join(name)).unwrap().decode().unwrap()
    };
    let load = |name: &str| {
        let labels = open("labels", name).into_luma8();
        let shape = (labels.height() as usize, labels.width() as usize);
        (open("images", name).into_rgb8(), LabelMap::from_shape_vec(shape, labels.into_raw()).unwrap())
    };
    Some(["1.png", "2.png", "3.png"].map(load).into())
}

/// k×k labelled pixels at the centres of a grid.
fn grid(labels: &LabelMap, k: usize) -> Vec<PointLabel> {
    let (height, width) = labels.dim();
    let at = |i: usize, pixels: usize| (2 * i + 1) * pixels / (2 * k);
    let point = |i: usize| (at(i % k, width), at(i / k, height));
    (0..k * k).map(point).map(|(x, y)| PointLabel { x: x as u32, y: y as u32, class: labels[[y, x]] }).collect()
}

/// Mean IoU over the classes present in the target, and accuracy; ignored pixels of the target left out.
fn score(prediction: &LabelMap, target: &LabelMap) -> (f64, f64) {
    let mut counts = [[0_u32; 3]; 256];
    for (&p, &t) in prediction.iter().zip(target).filter(|(_, t)| **t != IGNORED) {
        counts[usize::from(t)][0] += 1;
        counts[usize::from(p)][1] += 1;
        counts[usize::from(t)][2] += u32::from(p == t);
    }
    let present: Vec<_> = counts.iter().filter(|[target, ..]| *target > 0).collect();
    let iou = |[target, predicted, both]: &[u32; 3]| f64::from(*both) / f64::from(target + predicted - both);
    let (hit, all) = present.iter().fold((0, 0), |(hit, all), [target, _, both]| (hit + both, all + target));
    (present.iter().map(|c| iou(c)).sum::<f64>() / present.len() as f64, f64::from(hit) / f64::from(all))
}

fn mean_scores(propagator: &dyn PointPropagator, mosaics: &[(RgbImage, LabelMap)]) -> [(f64, f64); 3] {
    [5, 10, 17].map(|k| {
        let scores = mosaics.iter().map(|(image, target)| {
            assert_eq!(Size::of(image), Size::of_map(target));
            score(&propagator.propagate(image, &grid(target, k)).unwrap(), target)
        });
        let (iou, accuracy) = scores.fold((0.0, 0.0), |sum, s| (sum.0 + s.0, sum.1 + s.1));
        (iou / mosaics.len() as f64, accuracy / mosaics.len() as f64)
    })
}

#[test]
fn the_default_beats_a_kernel_vote() {
    let Some(mosaics) = mosaics() else { return };
    let scores = mean_scores(&GaussianProcessPropagator::default(), &mosaics);
    println!("{scores:.3?}");
    // A vote of the points, with a kernel in position and segment-mean features, measured on the same images.
    for ((iou, accuracy), (least_iou, least_accuracy)) in
        scores.into_iter().zip([(0.356, 0.761), (0.575, 0.845), (0.729, 0.910)])
    {
        assert!(iou >= least_iou && accuracy >= least_accuracy, "{scores:?}");
    }
}
