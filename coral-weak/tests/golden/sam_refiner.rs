//! The prompts of SAMRefiner.

use coral_core::ndarray::{Array1, Array2, ArrayD, Axis, Ix2, s};
use coral_core::testing::GoldenCase;
use coral_core::{FeatureMap, Rect, Size};
use coral_weak::{
    MaskDistance, MaskFrame, RefinerPrompts, SamRefinerConfig, expand_box, mask_depth, refiner_mask_logits,
    refiner_prompts,
};

use super::{TestResult, assert_close, open};

type Masks = Vec<Array2<bool>>;

fn masks(case: &GoldenCase, tensor: &str) -> Result<Masks, Box<dyn std::error::Error>> {
    let all = case.u8(tensor)?;
    all.outer_iter().map(|mask| Ok(mask.to_owned().into_dimensionality::<Ix2>()?.mapv(|v| v > 0))).collect()
}

fn published(case: &GoldenCase) -> Result<SamRefinerConfig, Box<dyn std::error::Error>> {
    Ok(SamRefinerConfig {
        gamma: case.number("/defaults/gamma")? as f32,
        strength: case.number("/defaults/strength")? as f32,
        iterations: case.number("/defaults/iters")? as usize,
        margin: case.number("/defaults/margin")? as f32,
        ..SamRefinerConfig::published()
    })
}

fn names(case: &GoldenCase) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let names = case.value("/names")?.as_array().ok_or("names")?;
    Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// First and last column and row.
fn inclusive(rect: Rect) -> Vec<i64> {
    let [x, y, width, height] = [rect.x, rect.y, rect.width, rect.height].map(i64::from);
    vec![x, y, x + width - 1, y + height - 1]
}

/// The (x, y) of `[y, x]`.
fn xy([y, x]: [usize; 2]) -> [i64; 2] {
    [x as i64, y as i64]
}

#[test]
fn depths() -> TestResult {
    let case = open("samrefiner");
    let (names, masks) = (names(&case)?, masks(&case, "masks")?);
    let mut checked = 0;
    for tensor in case.tensor_names()? {
        let Some((kind, name)) = tensor.split_once('/').filter(|(kind, _)| kind.starts_with("dt")) else { continue };
        let mask = &masks[names.iter().position(|n| n == name).ok_or("no such mask")?];
        let mask = mask.mapv(|inside| inside == (kind == "dt"));
        let ours = mask_depth(mask.view(), MaskDistance::Chamfer)?.mapv(f64::from).into_dyn();
        let reference = case.f32(&tensor)?.mapv(f64::from);
        assert_close(&tensor, &ours, &reference, |a, b| (a - b).abs() <= 1e-3);
        checked += 1;
    }
    assert!(checked > 0, "the case holds no distances");
    Ok(())
}

#[test]
fn points_boxes_and_weights() -> TestResult {
    let case = open("samrefiner");
    let config = published(&case)?;
    let alone = SamRefinerConfig { negative_point: false, ..config };
    let masks = masks(&case, "masks")?;
    let (points, boxes) = (case.i64("point_coords_xy")?, case.i64("boxes_xyxy")?);
    let (labels, areas) = (case.i64("point_labels")?, case.f32("areas")?);
    let (points_in_frame, boxes_in_frame) = (case.f32("points_model_frame")?, case.f32("boxes_model_frame")?);
    let (single, weights, target) =
        (case.i64("noneg/point_coords_xy")?, case.f32("gaus_dt_stride2")?, case.i64("target_hw")?);
    for (i, mask) in masks.iter().enumerate() {
        let Some(prompts) = refiner_prompts(mask.view(), &config)? else {
            assert!(!mask.iter().any(|&inside| inside), "mask {i} has pixels");
            continue;
        };
        let row = |all: &ArrayD<i64>| all.index_axis(Axis(0), i).iter().copied().collect::<Vec<_>>();
        let negative = prompts.negative.ok_or("no background point")?;
        assert_eq!([xy(prompts.positive), xy(negative)].concat(), row(&points), "points of mask {i}");
        let without = refiner_prompts(mask.view(), &alone)?.ok_or("no prompts")?;
        assert_eq!((xy(without.positive).to_vec(), without.negative), (row(&single), None));
        assert_eq!(inclusive(prompts.rect), row(&boxes), "box of mask {i}");
        // The area between the first and the last column and row.
        let area = (prompts.rect.width - 1) as f32 * (prompts.rect.height - 1) as f32;
        assert_eq!(area, areas[[i]], "area of mask {i}");
        let foreground: Vec<_> = prompts.points().iter().map(|point| i64::from(point.foreground)).collect();
        assert_eq!(foreground, row(&labels), "labels of the points of mask {i}");
        let ours = prompts.weight.slice(s![..;2, ..;2]).mapv(f64::from).into_dyn();
        let reference = weights.index_axis(Axis(0), i).mapv(f64::from);
        assert_close(&format!("weights of mask {i}"), &ours, &reference, |a, b| (a - b).abs() <= 1e-4);
        // Clicks and boxes are in pixels; the network scales them with the image.
        let scale = [target[[1]] as f64 / mask.ncols() as f64, target[[0]] as f64 / mask.nrows() as f64];
        let scaled =
            |places: Vec<f64>| -> Vec<f64> { places.iter().zip(scale.iter().cycle()).map(|(v, s)| v * s).collect() };
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-3;
        let clicks = scaled(prompts.points().iter().flat_map(|p| [p.x, p.y]).map(f64::from).collect());
        let corners = scaled(inclusive(prompts.rect).iter().map(|&v| v as f64).collect());
        for (what, ours, reference) in [("clicks", clicks, &points_in_frame), ("corners", corners, &boxes_in_frame)] {
            let reference = reference.index_axis(Axis(0), i).iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            assert_close(
                &format!("{what} of mask {i}"),
                &Array1::from(ours).into_dyn(),
                &Array1::from(reference).into_dyn(),
                close,
            );
        }
    }
    Ok(())
}

/// What the case says of the distances of both kinds of each mask.
#[test]
fn deepest_pixels() -> TestResult {
    let case = open("samrefiner");
    for (i, mask) in masks(&case, "masks")?.iter().enumerate() {
        let number = |name: &str| case.value(&format!("/info/{i}/{name}")).map(|value| value.as_f64());
        let chamfer = mask_depth(mask.view(), MaskDistance::Chamfer)?;
        let deepest = chamfer.iter().copied().fold(0.0, f32::max);
        let expected = number("max_dt")?.ok_or("max_dt")? as f32;
        assert!((deepest - expected).abs() <= 1e-3, "mask {i}: {deepest}, expected {expected}");
        let ties = chamfer.iter().filter(|&&depth| depth >= deepest - 1e-3).count();
        assert!(ties as f64 >= number("pos_ties")?.ok_or("pos_ties")?, "mask {i}: {ties} pixels are deepest");
        // Not told for masks without an inside or an outside.
        let Some(expected) = number("edt_max")? else { continue };
        let exact = mask_depth(mask.view(), MaskDistance::Euclidean)?;
        let deepest = f64::from(exact.iter().copied().fold(0.0, f32::max));
        assert!((deepest - expected).abs() <= 1e-6 * expected, "mask {i}: {deepest}, expected {expected}");
        let prompts = refiner_prompts(mask.view(), &SamRefinerConfig::default())?.ok_or("no prompts")?;
        let place = [0, 1].map(|axis| number(&format!("edt_argmax_xy/{axis}")));
        let [Some(x), Some(y)] = place.map(|value| value.ok().flatten()) else { return Err("edt_argmax_xy".into()) };
        assert_eq!(xy(prompts.positive), [x as i64, y as i64], "mask {i}");
    }
    Ok(())
}

#[test]
fn mask_prompts() -> TestResult {
    let case = open("samrefiner");
    let (config, names, masks) = (published(&case)?, names(&case)?, masks(&case, "masks")?);
    let frame = config.frame.ok_or("no frame")?;
    let mut checked = 0;
    for (i, (name, mask)) in names.iter().zip(&masks).enumerate() {
        let ours = match refiner_prompts(mask.view(), &config)? {
            Some(prompts) => refiner_mask_logits(mask.view(), &prompts, config.strength, frame)?,
            None => {
                let rect = Rect { x: 0, y: 0, width: 1, height: 1 };
                let weight = Array2::zeros(mask.dim());
                let nothing = RefinerPrompts { positive: [0, 0], negative: None, rect, weight };
                refiner_mask_logits(mask.view(), &nothing, config.strength, frame)?
            }
        };
        for (tensor, part) in [
            (format!("mask_input_stride4/{name}"), ours.slice(s![..;4, ..;4])),
            (format!("mask_input_crop128/{name}"), ours.slice(s![..ours.nrows().min(128), ..ours.ncols().min(128)])),
        ] {
            if !case.tensor_names()?.contains(&tensor) {
                continue;
            }
            let reference = case.f32(&tensor)?.index_axis_move(Axis(0), 0);
            // Cells that the edge of the mask halves may fall on either side; their sizes still agree.
            let sizes = |all: ArrayD<f32>| all.mapv(|v| f64::from(v.abs()));
            assert_close(&tensor, &sizes(part.to_owned().into_dyn()), &sizes(reference.clone()), |a, b| {
                (a - b).abs() <= 1e-3
            });
            let flipped = part.iter().zip(&reference).filter(|(a, b)| (*a - *b).abs() > 1e-3).count();
            assert!(flipped * 200 <= part.len(), "{tensor}: {flipped} cells on the other side");
            checked += 1;
        }
        for (statistic, ours) in [
            ("min", ours.iter().copied().fold(f32::INFINITY, f32::min)),
            ("max", ours.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
        ] {
            let reference = case.f32(&format!("mask_input_{statistic}"))?[[i]];
            assert!((ours - reference).abs() <= 1e-3, "{name}: {statistic} {ours}, expected {reference}");
        }
        let mean = ours.iter().map(|&v| f64::from(v)).sum::<f64>() / ours.len() as f64;
        let reference = f64::from(case.f32("mask_input_mean")?[[i]]);
        // A cell on the other side moves the mean of the published frame by 1e-3.
        assert!((mean - reference).abs() <= 1e-2, "{name}: mean {mean}, expected {reference}");
    }
    assert!(checked > 0, "the case holds no mask prompts");
    assert_eq!(frame, MaskFrame::SAM);
    Ok(())
}

#[test]
fn boxes_with_context() -> TestResult {
    let case = open("samrefiner");
    let (config, masks, boxes) = (published(&case)?, masks(&case, "expand/masks")?, case.i64("expand/boxes_xyxy")?);
    let (grown, all) = (case.i64("expand/expand_list")?, case.f32("expand/embedding")?.index_axis_move(Axis(0), 0));
    let (height, width) = masks[0].dim();
    // The part of the network's square that the image fills.
    let side = all.shape()[1];
    let cells = |pixels: usize| side * pixels / width.max(height);
    let data = all.slice(s![.., ..cells(height), ..cells(width)]).to_owned();
    let features = FeatureMap { data, image_size: Size { width: width as u32, height: height as u32 } };
    let margin = case.number("/expand/margin").unwrap_or(0.3) as f32;
    for (i, mask) in masks.iter().enumerate() {
        let Some(prompts) = refiner_prompts(mask.view(), &config)? else { continue };
        let rect = expand_box(mask.view(), prompts.rect, &features, margin)?;
        assert_eq!(
            inclusive(rect),
            boxes.index_axis(Axis(0), i).iter().copied().collect::<Vec<_>>(),
            "box of mask {i}"
        );
        assert_eq!(i64::from(rect != prompts.rect), grown[[i]]);
    }
    Ok(())
}
