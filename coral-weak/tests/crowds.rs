//! Many points, crowded points, many classes on a large photograph: time and memory stay within bounds.

use std::time::Instant;

use coral_core::image::{Rgb, RgbImage};
use coral_core::{PointLabel, SeededRng, Size};
use coral_weak::{METHODS, propagator};

/// Noisy coloured blocks.
fn picture(size: Size) -> RgbImage {
    let mut rng = SeededRng::new(3);
    RgbImage::from_fn(size.width, size.height, |x, y| {
        let block = (x * 13 / size.width + 3 * (y * 9 / size.height)) % 5;
        let base = [[40, 90, 120], [190, 170, 120], [90, 130, 60], [120, 60, 90], [30, 40, 60]][block as usize];
        Rgb(base.map(|level: u8| level + rng.below(40) as u8))
    })
}

/// `count` points within the part of the image that starts at the top left and has `share` of each side.
fn scatter(size: Size, share: f64, count: usize, classes: u32) -> Vec<PointLabel> {
    let (width, height) = ((f64::from(size.width) * share) as u32, (f64::from(size.height) * share) as u32);
    let pixels = SeededRng::new(9).sample_indices((width * height) as usize, count);
    let at = |pixel: u32| ((pixel % width), (pixel / width));
    pixels
        .into_iter()
        .map(|pixel| at(pixel as u32))
        .map(|(x, y)| PointLabel { x, y, class: ((x / 37 + 5 * (y / 41)) % classes) as u8 })
        .collect()
}

#[test]
#[ignore = "measures every method; takes minutes"]
fn measure() {
    let size = Size { width: 4000, height: 3000 };
    let image = picture(size);
    let only = std::env::var("METHOD").ok();
    for (share, count, classes) in
        [(1.0, 300, 8), (1.0, 20_000, 8), (0.04, 19_000, 8), (0.3, 20_000, 8), (1.0, 20_000, 254)]
    {
        let points = scatter(size, share, count, classes);
        for method in METHODS {
            if only.as_deref().is_some_and(|only| only != method.name) {
                continue;
            }
            let start = Instant::now();
            let labels = propagator(method.name).unwrap().propagate(&image, &points);
            let seconds = start.elapsed().as_secs_f64();
            let peak = std::fs::read_to_string("/proc/self/status").unwrap();
            let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
            eprintln!(
                "{count} points in {share}, {classes} classes: {} {seconds:.2} s {peak} {}",
                method.name,
                labels.is_ok()
            );
        }
    }
}
