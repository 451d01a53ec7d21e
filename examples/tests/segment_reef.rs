use std::fs;

use coral_core::RleMask;
use coral_core::image::{DynamicImage, ImageBuffer, Rgb, Rgba};
use coral_io::{image_size, read_coco, read_label_map};
use coral_models::candle_core::{DType, Device, Tensor};

use super::*;

#[path = "reef_case.rs"]
mod reef_case;
use reef_case::ReefCase;

/// The reference's settings as flags.
fn settings(reef: &ReefCase) -> String {
    let settings = reef.case.value("/amg").unwrap().as_object().unwrap();
    settings.iter().map(|(name, value)| format!("--{} {value} ", name.replace('_', "-"))).collect()
}

fn segment(reef: &ReefCase, image: &Path, more: &str) -> Result<Outcome> {
    let flags = reef.flags("segment_reef", image, &format!("{} {more}", settings(reef)));
    run(&Arguments::try_parse_from(flags).unwrap())
}

/// The error of a run in which the last flags win.
fn refuse(reef: &ReefCase, more: &str) -> String {
    let flags = reef.flags("segment_reef", &reef.photo("reef.png"), more);
    run(&Arguments::try_parse_from(flags).unwrap()).unwrap_err().to_string()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn masks_are_those_of_the_reference() {
    let reef = ReefCase::new();
    let outcome = segment(&reef, &reef.photo("reef.png"), "--group-threshold 0.95 --standard-coco").unwrap();
    assert!(outcome.failures.is_empty());
    let out = reef.at("out");
    let expected = "colonies.csv coco.json cover.csv reef.json reef_groups.csv reef_labels.png reef_overlay.png";
    let mut expected: Vec<_> = expected.split(' ').collect();
    expected.sort_unstable();
    assert_eq!(names(&out), expected);

    let ours = read_sam_annotations(out.join("reef.json")).unwrap();
    assert_eq!((ours.file_name.as_str(), ours.size), ("reef.png", reef.size()));
    let published = reef.case.value("/annotations").unwrap().as_array().unwrap();
    assert_eq!(ours.masks.len(), published.len());
    for (mask, expected) in ours.masks.iter().zip(published) {
        let counts = expected.pointer("/coco_rle/counts").unwrap().as_str().unwrap();
        let pixels = RleMask::from_coco_string(reef.size(), counts).unwrap();
        let differing = mask.area() + pixels.area() - 2 * mask.mask.intersection_area(&pixels).unwrap();
        assert!(differing <= 8, "{differing} pixels differ");
        let number = |name: &str| expected.pointer(name).unwrap().as_f64().unwrap();
        assert!((f64::from(mask.predicted_iou) - number("/predicted_iou")).abs() < 1e-3);
        assert!((f64::from(mask.stability_score) - number("/stability_score")).abs() < 1e-3);
        assert_eq!(mask.class.map(f64::from), Some(number("/cate_preds")));
        let point = mask.point.unwrap();
        let click = [f64::from(point.x), f64::from(point.y)];
        assert_eq!(click, [number("/point_coords/0/0"), number("/point_coords/0/1")]);
    }

    let labels = read_label_map(out.join("reef_labels.png")).unwrap();
    let union = RleMask::union_of(ours.size, ours.masks.iter().map(|mask| &mask.mask)).unwrap().decode();
    assert_eq!(labels, union.mapv(u8::from));
    assert_eq!(image_size(out.join("reef_overlay.png")).unwrap(), reef.size());
    let groups = fs::read_to_string(out.join("reef_groups.csv")).unwrap();
    assert!(groups.starts_with("colony,group\n1,1\n"), "{groups}");
    assert_eq!(groups.lines().count(), published.len() + 1);
    let coco = read_coco(out.join("coco.json")).unwrap();
    assert_eq!(coco.class_set().unwrap().name(1), "coral");
    assert!(coco.instances(1).unwrap().iter().zip(&ours.masks).all(|(a, b)| a.mask == b.mask));

    let percent = 100.0 * labels.iter().filter(|&&id| id == 1).count() as f64 / labels.len() as f64;
    let cover = fs::read_to_string(out.join("cover.csv")).unwrap();
    let line = format!("\nreef.png,1,coral,{},", published.len());
    assert!(cover.contains(&line) && cover.contains(&format!(",{percent:.4},")), "{cover}");
    assert_eq!(fs::read_to_string(out.join("colonies.csv")).unwrap().lines().count(), published.len() + 1);
    assert!(outcome.report.contains("all images"), "{}", outcome.report);
}

#[test]
fn a_folder_is_resumed_and_broken_images_are_named() {
    let reef = ReefCase::new();
    fs::write(reef.photo("empty.png"), "").unwrap();
    let bytes = fs::read(reef.photo("reef.png")).unwrap();
    fs::write(reef.photo("half.png"), &bytes[..bytes.len() / 2]).unwrap();
    let deep = ImageBuffer::from_fn(61, 40, |x, y| Rgb([x as u16 * 900, y as u16 * 900, 30_000]));
    DynamicImage::from(deep).save(reef.photo("deep.png")).unwrap();
    let clear = ImageBuffer::from_fn(33, 70, |x, y| Rgba([x as u8, y as u8 * 3, 90, 0]));
    DynamicImage::from(clear).save(reef.photo("four_channels.png")).unwrap();

    let first = segment(&reef, &reef.at("photos"), "--cm-per-pixel 0.5").unwrap();
    assert_eq!(first.failures.len(), 2);
    assert!(first.failures[0].ends_with("photos/empty.png: not an image: expected a PNG, JPEG, TIFF or BMP file"));
    assert!(first.failures[1].contains("photos/half.png: "), "{:?}", first.failures);
    let out = reef.at("out");
    for (name, size) in [("deep", (61, 40)), ("four_channels", (33, 70))] {
        let size = Size { width: size.0, height: size.1 };
        assert_eq!(image_size(out.join(format!("{name}_overlay.png"))).unwrap(), size);
        assert_eq!(Size::of_map(&read_label_map(out.join(format!("{name}_labels.png"))).unwrap()), size);
        assert_eq!(read_sam_annotations(out.join(format!("{name}.json"))).unwrap().size, size);
    }
    let tables = || ["cover.csv", "colonies.csv"].map(|name| fs::read_to_string(out.join(name)).unwrap());
    let before = tables();
    assert!(before[0].contains("mean_cm2") && before[0].contains("\ndeep.png,1,coral,"), "{}", before[0]);

    // What is there is not made again, and counts all the same.
    fs::write(out.join("deep_overlay.png"), "kept").unwrap();
    fs::remove_file(out.join("reef_labels.png")).unwrap();
    let second = segment(&reef, &reef.at("photos"), "--cm-per-pixel 0.5").unwrap();
    assert!(second.report.contains("3 images. 2 had their files already"), "{}", second.report);
    assert_eq!(tables(), before);
    assert_eq!(fs::read(out.join("deep_overlay.png")).unwrap(), b"kept");
    assert!(out.join("reef_labels.png").exists());
    let third = segment(&reef, &reef.at("photos"), "--overwrite").unwrap();
    assert!(!third.report.contains("already") && third.failures.len() == 2);
    assert_eq!(image_size(out.join("deep_overlay.png")).unwrap().width, 61);
    fs::write(out.join("reef.json"), "{}").unwrap();
    let fourth = segment(&reef, &reef.at("photos"), "").unwrap();
    assert!(fourth.failures[2].contains("out/reef.json:1: expected the masks of one image"), "{:?}", fourth.failures);
}

#[test]
fn tiles_and_filters_reach_the_generator() {
    let reef = ReefCase::new();
    let Size { width, height } = reef.size();
    let masks = |more: &str| {
        segment(&reef, &reef.photo("reef.png"), &format!("--overwrite {more}")).unwrap();
        read_sam_annotations(reef.at("out/reef.json")).unwrap().masks
    };
    let all = masks("");
    assert_eq!(masks(&format!("--tile {}", width.max(height))), all);
    let tiled = masks(&format!("--tile {} --tile-overlap 40 --group-threshold 0.9", width / 2));
    assert!(!tiled.is_empty() && tiled != all);
    let inside = |mask: &InstanceMask| mask.crop_box.x + mask.crop_box.width <= width;
    assert!(tiled.iter().all(|mask| inside(mask) && mask.mask.size() == reef.size()));
    let mut areas: Vec<_> = all.iter().map(InstanceMask::area).collect();
    areas.sort_unstable();
    let percent = 100.0 * areas[areas.len() / 2] as f64 / reef.size().pixels() as f64;
    let small = masks(&format!("--max-mask-area {percent}%"));
    assert!(small.iter().all(|mask| mask.area() <= areas[areas.len() / 2]) && small != all);
    // Without a background class nothing is known of the pixels in no mask.
    let any = masks("--background-class none --overlaps highest-iou");
    let labels = read_label_map(reef.at("out/reef_labels.png")).unwrap();
    let union = RleMask::union_of(reef.size(), any.iter().map(|mask| &mask.mask)).unwrap().decode();
    assert!(labels.iter().zip(&union).all(|(&id, &inside)| (id == UNLABELED) != inside));
    let none = masks("--min-mask-area 99%");
    assert!(none.is_empty());
    assert!(read_label_map(reef.at("out/reef_labels.png")).unwrap().iter().all(|&id| id == 0));
}

#[test]
fn a_network_without_classes_finds_objects() {
    let reef = ReefCase::new();
    let case = reef_case::open("sam_tiny");
    let weights = case.dir().join("weights.safetensors").display().to_string();
    let heads = case.number("/config/dec_heads").unwrap();
    let image = reef.photo("reef.png").display().to_string();
    let out = reef.at("out").display().to_string();
    let flags = format!("segment_reef --weights {weights} --decoder-heads {heads} --image {image} --out {out}");
    let more = "--points-per-side 4 --pred-iou-thresh 0 --stability-score-thresh 0 --standard-coco";
    let with = |more: &str| {
        let flags = format!("{flags} {more}");
        run(&Arguments::try_parse_from(flags.split(' ')).unwrap())
    };
    let outcome = with(more).unwrap();
    assert!(outcome.report.contains("object"), "{}", outcome.report);
    let masks = read_sam_annotations(reef.at("out/reef.json")).unwrap().masks;
    assert!(!masks.is_empty() && masks.iter().all(|mask| mask.class.is_none()));
    let labels = read_label_map(reef.at("out/reef_labels.png")).unwrap();
    assert!(labels.iter().all(|id| [0, UNLABELED].contains(id)) && labels.iter().any(|&id| id == 0));
    assert_eq!(read_coco(reef.at("out/coco.json")).unwrap().class_set().unwrap().name(0), "object");
    let error = with(&format!("{more} --group-threshold 0.9")).unwrap_err().to_string();
    assert!(error.contains("`group_threshold`: the network gives no semantic features"), "{error}");
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    let reef = ReefCase::new();
    let cases = [
        ("--pred-iou-thresh NaN", "`pred_iou_thresh`: expected a finite number"),
        ("--background-class 9", "`background_class`: the network knows classes 0 to 1, got 9"),
        ("--tile 1", "`tile`: expected at least 2, got 1"),
        ("--tile 64 --tile-overlap 64", "`overlap`: expected 1 to below `tile` = 64, got 64"),
        ("--group-threshold NaN", "`threshold`: expected a number, got NaN"),
        ("--image-size 101", "`image_size`: expected a multiple of "),
        ("--cm-per-pixel 0", "`cm_per_pixel`: expected a positive number, got 0"),
        ("--classes gone.csv", "gone.csv: "),
    ];
    for (flags, expected) in cases {
        let text = refuse(&reef, flags);
        assert!(text.contains(expected), "{text}");
        assert!(!reef.at("out").exists(), "{flags}");
    }
    assert!(overlap_policy("nearest").unwrap_err().to_string().contains("expected one of `smallest_first`"));
    let flags = reef.flags("segment_reef", &reef.at("photos"), "--tile-overlap 5");
    assert!(Arguments::try_parse_from(flags).is_err());

    let image_error = |image: &Path| segment(&reef, image, "").unwrap_err().to_string();
    assert!(image_error(&reef.at("gone")).contains("gone: No such file"));
    fs::create_dir(reef.at("nothing")).unwrap();
    assert!(image_error(&reef.at("nothing")).contains("nothing holds no PNG, JPEG, TIFF or BMP image"));
    fs::copy(reef.photo("reef.png"), reef.photo("reef.bmp")).unwrap();
    assert!(image_error(&reef.at("photos")).contains("reef.png: has the same name as "));
    fs::remove_file(reef.photo("reef.bmp")).unwrap();
    fs::rename(reef.at("photos"), reef.at("out")).unwrap();
    for image in [reef.at("out/reef.png"), reef.at("out/../out")] {
        assert!(image_error(&image).contains("holds the images, expected another folder"), "{}", image.display());
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let reef = ReefCase::new();
    let with = |weights: &Path, more: &str| {
        let out = reef.at("out").display().to_string();
        let (weights, image) = (weights.display().to_string(), reef.photo("reef.png").display().to_string());
        let flags = format!("segment_reef --image {image} --out {out} --weights {weights} {more}");
        run(&Arguments::try_parse_from(flags.split_whitespace()).unwrap()).unwrap_err().to_string()
    };
    let file = reef.at("other.safetensors");
    let other = Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap();
    other.save_safetensors("visual.proj", &file).unwrap();
    let text = with(&file, "");
    assert!(text.contains("other.safetensors: the checkpoint does not fit the model"), "{text}");
    let bytes = fs::read(reef.weights()).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(with(&file, "").contains("other.safetensors: "));
    fs::write(&file, "").unwrap();
    assert!(with(&file, "").contains("other.safetensors: "));
    // The width of the golden network's decoder allows so many heads.
    let text = with(&reef.weights(), "--decoder-heads 1009");
    assert!(text.contains("`decoder_heads`: 1009 heads do not divide the width"), "{text}");
    let text = with(&reef.at("gone.pth"), "");
    assert!(text.contains("gone.pth: No such file") && text.contains("github.com/zhengziqiang/CoralSCOP"), "{text}");
    assert!(!reef.at("out").exists());
}
