mod oracle;
use coral_core::image::RgbImage;
use coral_core::{LabelMap, PointPropagator, Size, ndarray::Array2};
use coral_io::{SyntheticReef, SyntheticReefConfig};
use coral_weak::*;
use oracle::{Noise, Oracle};
use std::path::PathBuf;

fn score(prediction: &LabelMap, target: &LabelMap, ignored: u8) -> (f64, f64) {
    let mut counts = [[0_u32; 3]; 256];
    for (&p, &t) in prediction.iter().zip(target).filter(|(_, t)| **t != ignored) {
        counts[usize::from(t)][0] += 1;
        counts[usize::from(p)][1] += 1;
        counts[usize::from(t)][2] += u32::from(p == t);
    }
    let present: Vec<_> = counts.iter().filter(|[target, ..]| *target > 0).collect();
    let iou = |[target, predicted, both]: &[u32; 3]| f64::from(*both) / f64::from(target + predicted - both);
    let (hit, all) = present.iter().fold((0, 0), |(hit, all), [target, _, both]| (hit + both, all + target));
    (present.iter().map(|counts| iou(counts)).sum::<f64>() / present.len() as f64, f64::from(hit) / f64::from(all))
}
struct Scene {
    image: RgbImage,
    labels: LabelMap,
    regions: Array2<u32>,
}
fn scenes() -> Vec<Scene> {
    let size = Size { width: 256, height: 192 };
    (0..4)
        .map(|seed| {
            let s = SyntheticReef::new(SyntheticReefConfig { size, ..Default::default() }).unwrap().generate(seed);
            let regions = Array2::from_shape_fn(s.labels.dim(), |p| s.instances[p] * 256 + u32::from(s.labels[p]));
            Scene { image: s.image, labels: s.labels, regions }
        })
        .collect()
}
fn mosaics() -> Vec<Scene> {
    let folder = PathBuf::from(std::env::var_os("CORAL_DATA_DIR").unwrap()).join("reef_mosaics");
    (1..4)
        .map(|i| {
            let name = format!("{i}.png");
            let image = image::open(folder.join("images").join(&name)).unwrap().to_rgb8();
            let labels = image::open(folder.join("labels").join(&name)).unwrap().to_luma8();
            let shape = (labels.height() as usize, labels.width() as usize);
            let labels = LabelMap::from_shape_vec(shape, labels.into_raw()).unwrap();
            Scene { image, regions: labels.mapv(u32::from), labels }
        })
        .collect()
}
#[allow(dead_code)]
fn configs() -> Vec<(String, PromptPropagatorConfig)> {
    let d = PromptPropagatorConfig::default();
    vec![
        ("default".into(), d.clone()),
        ("noskip".into(), PromptPropagatorConfig { skip_covered: None, ..d.clone() }),
        ("purity1".into(), PromptPropagatorConfig { min_purity: 1.0, ..d.clone() }),
        ("p1noskip".into(), PromptPropagatorConfig { skip_covered: None, min_purity: 1.0, ..d.clone() }),
        ("p1fill100".into(), PromptPropagatorConfig { fill_points: 100, min_purity: 1.0, ..d.clone() }),
        ("p1iou.8".into(), PromptPropagatorConfig { min_predicted_iou: 0.8, min_purity: 1.0, ..d.clone() }),
        ("purity.9".into(), PromptPropagatorConfig { min_purity: 0.9, ..d.clone() }),
        ("purity.8".into(), PromptPropagatorConfig { min_purity: 0.8, ..d.clone() }),
        ("purity.5".into(), PromptPropagatorConfig { min_purity: 0.5, ..d.clone() }),
        ("fill400".into(), PromptPropagatorConfig { fill_points: 400, ..d.clone() }),
        ("fill100".into(), PromptPropagatorConfig { fill_points: 100, ..d.clone() }),
    ]
}
#[test]
fn measure() {
    let real = std::env::var("REAL").is_ok();
    let scenes = if real { mosaics() } else { scenes() };
    for ignored in if real { vec![34, 255] } else { vec![255] } {
        for k in [5, 10, 17] {
            let run = |make: &dyn Fn(&Scene) -> LabelMap| {
                let s: Vec<_> = scenes.iter().map(|s| score(&make(s), &s.labels, ignored)).collect();
                let n = s.len() as f64;
                format!("{:.3}/{:.3}", s.iter().map(|s| s.0).sum::<f64>() / n, s.iter().map(|s| s.1).sum::<f64>() / n)
            };
            let pts = |s: &Scene| grid_points(&s.labels, k);
            println!(
                "ignored {ignored} k {k}  nearest {} fill {}",
                run(&|s| NearestPropagator.propagate(&s.image, &pts(s)).unwrap()),
                run(&|s| DefaultPropagator::default().propagate(&s.image, &pts(s)).unwrap())
            );
            for (name, config) in
                configs().into_iter().filter(|c| std::env::var("ONLY").is_ok_and(|o| o.split(',').any(|o| o == c.0)))
            {
                let mut line = format!("   {name:12}");
                for noise in [Noise::None, Noise::Some, Noise::All] {
                    line += &format!(
                        "  {}",
                        run(&|s| PromptPropagator::new(Oracle::new(&s.regions, noise), config.clone())
                            .unwrap()
                            .propagate(&s.image, &pts(s))
                            .unwrap())
                    );
                }
                println!("{line}");
            }
        }
    }
}
