use super::*;
use coral_core::image::Rgb;
use coral_core::ndarray::Array2;

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let level = |c: u32| ((x * x * 29 + y * 67 + c * 101) % 256) as u8;
        Rgb([level(0), level(1), level(2)])
    })
}

fn everything() -> Augmentation {
    Augmentation {
        vertical_flip: 0.5,
        quarter_turns: true,
        channel_shift: Some(ChannelShift { levels: [30.0, 10.0, 0.0], probability: 0.7 }),
        ..Augmentation::simclr(Size { width: 20, height: 12 })
    }
}

#[test]
fn the_default_changes_nothing() {
    let image = picture(9, 7);
    assert_eq!(Augmentation::default().apply(&image, 3).unwrap(), image);
}

#[test]
fn the_seed_decides_everything() {
    let image = picture(50, 40);
    let augmentation = everything();
    let results: Vec<_> = (0..20).map(|seed| augmentation.apply(&image, seed).unwrap()).collect();
    for (seed, result) in results.iter().enumerate() {
        assert_eq!(&augmentation.apply(&image, seed as u64).unwrap(), result);
        assert!(results[..seed].iter().all(|other| other != result));
    }
}

#[test]
fn parts_do_not_disturb_each_other() {
    let image = picture(50, 40);
    let all = everything();
    let colorless = Augmentation { color_jitter: None, channel_shift: None, grayscale: 0.0, blur: None, ..all.clone() };
    let mut unchanged = 0;
    for seed in 0..60 {
        let (with, without) = (all.apply(&image, seed).unwrap(), colorless.apply(&image, seed).unwrap());
        assert_eq!(Size::of(&with), Size::of(&without));
        unchanged += usize::from(with == without);
    }
    // No shift (0.3), jitter (0.2), grey (0.8) nor blur (0.5): 2.4 % of the views.
    assert!((1..6).contains(&unchanged), "{unchanged}");
}

#[test]
fn labels_follow_the_image() {
    // The image shows its labels.
    let labels = Array2::from_shape_fn((40, 50), |(y, x)| ((x / 25 + 2 * (y / 20)) * 60) as u8);
    let image = RgbImage::from_fn(50, 40, |x, y| Rgb([labels[[y as usize, x as usize]]; 3]));
    let sample = LabeledImage { image, labels };
    let augmentation = Augmentation {
        color_jitter: None,
        channel_shift: None,
        blur: None,
        resize: Some(Size { width: 24, height: 24 }),
        ..everything()
    };
    for seed in 0..30 {
        let moved = augmentation.apply_labeled(&sample, seed).unwrap();
        assert_eq!(moved.image, augmentation.apply(&sample.image, seed).unwrap());
        assert_eq!(Size::of_map(&moved.labels), Size { width: 24, height: 24 });
        let same = moved.image.pixels().zip(&moved.labels).filter(|(pixel, label)| pixel.0[0] == **label).count();
        // Bilinear resampling mixes the pixels along the two borders.
        assert!(same * 10 >= 24 * 24 * 7, "seed {seed}: {same} of {}", 24 * 24);
    }
    let misfit = LabeledImage { labels: Array2::zeros((50, 40)), ..sample };
    assert!(matches!(augmentation.apply_labeled(&misfit, 1), Err(Error::ShapeMismatch { .. })));
}

#[test]
fn probabilities_are_kept() {
    let image = picture(3, 2);
    let mirrored = {
        let mut copy = image.clone();
        coral_core::image::imageops::flip_horizontal_in_place(&mut copy);
        copy
    };
    let flips = Augmentation { horizontal_flip: 0.25, ..Augmentation::default() };
    let count = (0..800).filter(|&seed| flips.apply(&image, seed).unwrap() == mirrored).count();
    assert!((160..240).contains(&count), "{count}");
    let turns = Augmentation { quarter_turns: true, ..Augmentation::default() };
    let upright = (0..800).filter(|&seed| turns.apply(&image, seed).unwrap().width() == 3).count();
    assert!((350..450).contains(&upright), "{upright}");
}

#[test]
fn jitter_draws_from_its_ranges_in_any_order() {
    let grey = RgbImage::from_pixel(1, 1, Rgb([100; 3]));
    let jitter = ColorJitter::symmetric(0.5, 0.0, 0.0, 0.0);
    assert_eq!(ColorJitter::symmetric(1.5, 0.0, 0.0, 0.1).brightness, [0.0, 2.5]);
    let augmentation = Augmentation { color_jitter: Some(jitter), ..Augmentation::default() };
    let levels: Vec<u8> = (0..300).map(|seed| augmentation.apply(&grey, seed).unwrap().as_raw()[0]).collect();
    let (least, most) = (levels.iter().min().unwrap(), levels.iter().max().unwrap());
    assert!((50..55).contains(least) && (145..150).contains(most), "{least} to {most}");
    // Brightness 0.5 and contrast 2 do not commute: both orders occur.
    let both = ColorJitter { brightness: [0.5; 2], contrast: [2.0; 2], ..ColorJitter::symmetric(0.0, 0.0, 0.0, 0.0) };
    let augmentation = Augmentation { color_jitter: Some(both), ..Augmentation::default() };
    let steps = RgbImage::from_fn(2, 1, |x, _| Rgb([200 * x as u8 + 20; 3]));
    let mut results: Vec<_> = (0..40).map(|seed| augmentation.apply(&steps, seed).unwrap().into_raw()).collect();
    results.sort();
    results.dedup();
    assert_eq!(results.len(), 2);
}

#[test]
fn blur_is_that_of_torchvision() {
    // torchvision.transforms.functional.gaussian_blur of the same picture, kernel 5, sigma 1.3; red and blue.
    let red = [[95, 99, 108, 100, 95], [112, 115, 119, 110, 105], [145, 147, 144, 133, 127], [163, 163, 157, 144, 136]];
    let blue =
        [[108, 108, 114, 118, 120], [107, 107, 111, 114, 115], [112, 112, 111, 107, 105], [109, 109, 108, 102, 98]];
    let blur = GaussianBlur { kernel: 5, sigma: [1.3; 2], probability: 1.0 };
    let blurred = Augmentation { blur: Some(blur), ..Augmentation::default() }.apply(&picture(5, 4), 1).unwrap();
    for (pixel, (red, blue)) in blurred.pixels().zip(red.as_flattened().iter().zip(blue.as_flattened())) {
        assert_eq!([pixel.0[0], pixel.0[2]], [*red, *blue]);
    }
}

#[test]
fn presets_are_valid() {
    let size = Size { width: 132, height: 132 };
    let simclr = Augmentation::simclr(size);
    assert_eq!(simclr.blur.unwrap().kernel, 13);
    for augmentation in [simclr, Augmentation::seaclip(Some(size)), Augmentation::seaclip(None)] {
        assert_eq!(Size::of(&augmentation.apply(&picture(132, 140), 1).unwrap()).width, 132);
        let text = serde_json::to_string(&augmentation).unwrap();
        assert_eq!(serde_json::from_str::<Augmentation>(&text).unwrap(), augmentation);
    }
    assert_eq!(serde_json::from_str::<Augmentation>("{}").unwrap(), Augmentation::default());
}

#[test]
fn what_is_out_of_range_is_named() {
    let text = |augmentation: Augmentation| augmentation.apply(&picture(9, 9), 1).unwrap_err().to_string();
    let default = Augmentation::default;
    let blur = |kernel, sigma| Some(GaussianBlur { kernel, sigma, probability: 1.0 });
    let jitter = |hue| Some(ColorJitter { hue, ..ColorJitter::symmetric(0.1, 0.1, 0.1, 0.0) });
    let none = Size { width: 4, height: 0 };
    let resized = |area| Some(RandomCrop::Resized { size: Size { width: 4, height: 4 }, area, aspect: [1.0, 1.0] });
    for (augmentation, name) in [
        (Augmentation { horizontal_flip: 1.1, ..default() }, "horizontal_flip"),
        (Augmentation { vertical_flip: f64::NAN, ..default() }, "vertical_flip"),
        (Augmentation { grayscale: -0.1, ..default() }, "grayscale"),
        (Augmentation { resize: Some(none), ..default() }, "resize"),
        (Augmentation { crop: Some(RandomCrop::Fixed(none)), ..default() }, "crop"),
        (Augmentation { crop: resized([0.0, 1.0]), ..default() }, "crop.area"),
        (Augmentation { crop: resized([0.6, 0.5]), ..default() }, "crop.area"),
        (Augmentation { blur: blur(4, [1.0; 2]), ..default() }, "blur.kernel"),
        (Augmentation { blur: blur(3, [0.0, 1.0]), ..default() }, "blur.sigma"),
        (Augmentation { color_jitter: jitter([-0.6, 0.0]), ..default() }, "color_jitter.hue"),
    ] {
        assert!(text(augmentation.clone()).contains(&format!("`{name}`")), "{name}: {}", text(augmentation));
    }
    let large = Augmentation { crop: Some(RandomCrop::Fixed(Size { width: 10, height: 2 })), ..default() };
    assert!(text(large).contains("expected at least the crop's 10x2"));
    assert!(default().apply(&RgbImage::new(0, 5), 1).is_err());
}

#[test]
#[ignore = "measures: cargo test --release -- --ignored views_per_second"]
fn views_per_second() {
    let image = picture(578, 520);
    let augmentation = Augmentation::simclr(Size { width: 132, height: 132 });
    let once = || {
        let start = std::time::Instant::now();
        (0..200).for_each(|seed| drop(augmentation.apply(&image, seed).unwrap()));
        start.elapsed().as_secs_f64() * 5.0
    };
    println!("{:.3} ms per view", (0..5).map(|_| once()).fold(f64::MAX, f64::min));
}
