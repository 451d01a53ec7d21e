//! A tour without any data: a synthetic survey, labelled points, every propagator, scores and pictures.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! Writes under `out/quickstart/`: the photographs and their true label maps, the points and classes of the first photograph, and
//! each method's label map and overlay for it. `summary.png` shows photograph, points, the default method's
//! map and the truth side by side.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use coral_core::image::{GenericImage, Rgb, RgbImage};
use coral_core::{ClassSet, Error, LabelMap, Metric, PointLabel, PointPropagator, Progress, Result, Size};
use coral_examples::{Bar, finish};
use coral_io::{
    SyntheticReef, SyntheticReefConfig, SyntheticScene, draw_points, overlay, with_legend, write_class_set,
    write_image, write_label_map, write_points,
};
use coral_metrics::{ConfusionMatrix, Report};
use coral_weak::{DEFAULT_METHOD, METHODS, Method, grid_points};

const OUT: &str = "out/quickstart";
/// Points per photograph, as the side of a grid: 25, 100 and 289 (about 300).
const GRIDS: [usize; 3] = [5, 10, 17];
/// The budget, an index of [`GRIDS`], whose maps are written.
const SHOWN: usize = 1;
const PHOTOGRAPHS: u64 = 3;

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<String> {
    let out = Path::new(OUT);
    std::fs::create_dir_all(out).map_err(|error| Error::io(out, error))?;
    let size = Size { width: 640, height: 480 };
    let reef = SyntheticReef::new(SyntheticReefConfig { size, ..Default::default() })?;
    let classes = SyntheticReef::class_set();
    let survey: Vec<_> = (1..=PHOTOGRAPHS).map(|seed| reef.generate(seed)).collect();
    write_survey(out, &survey, &classes)?;

    let bar = Bar::new();
    bar.start((METHODS.len() * GRIDS.len()) as u64, "spreading points");
    let mut rows = Vec::new();
    for method in METHODS {
        let mut cells = Vec::new();
        for (budget, &k) in GRIDS.iter().enumerate() {
            let shown = (budget == SHOWN).then_some(out);
            cells.push(measure(method, &survey, k, shown)?);
            bar.advance(1);
        }
        rows.push((method, cells));
    }
    bar.finish();
    Ok(table(&rows))
}

fn write_survey(out: &Path, survey: &[SyntheticScene], classes: &ClassSet) -> Result<()> {
    for (index, scene) in survey.iter().enumerate() {
        let number = index + 1;
        write_image(out.join(format!("photo_{number}.png")), &scene.image)?;
        write_label_map(out.join(format!("truth_{number}.png")), &scene.labels)?;
    }
    let points = grid_points(&survey[0].labels, GRIDS[SHOWN]);
    write_points(out.join("points_1.csv"), &points, classes)?;
    write_class_set(out.join("classes.csv"), classes)
}

/// Averages over the photographs.
struct Scores {
    mean_iou: f64,
    pixel_accuracy: f64,
    cover_error: f64,
    milliseconds: f64,
}

fn measure(method: &Method, survey: &[SyntheticScene], k: usize, shown: Option<&Path>) -> Result<Scores> {
    let classes = SyntheticReef::class_set();
    let propagator = method.build()?;
    let mut sum = Scores { mean_iou: 0.0, pixel_accuracy: 0.0, cover_error: 0.0, milliseconds: 0.0 };
    for (index, scene) in survey.iter().enumerate() {
        let points = grid_points(&scene.labels, k);
        let start = Instant::now();
        let labels = propagator.propagate(&scene.image, &points)?;
        sum.milliseconds += start.elapsed().as_secs_f64() * 1e3;
        let mut matrix = ConfusionMatrix::new(classes.num_ids())?;
        matrix.update(&labels, &scene.labels)?;
        // Only classes that occur count towards the error of cover.
        let report = Report::new(&matrix, &ClassSet::default());
        sum.mean_iou += report.mean_iou.unwrap_or(0.0);
        sum.pixel_accuracy += report.pixel_accuracy.unwrap_or(0.0);
        sum.cover_error += report.cover_error.unwrap_or(0.0);
        if let (0, Some(out)) = (index, shown) {
            write_result(out, method.name, scene, (&points, &labels))?;
        }
    }
    let n = survey.len() as f64;
    Ok(Scores {
        mean_iou: sum.mean_iou / n,
        pixel_accuracy: sum.pixel_accuracy / n,
        cover_error: sum.cover_error / n,
        milliseconds: sum.milliseconds / n,
    })
}

fn write_result(
    out: &Path,
    name: &str,
    scene: &SyntheticScene,
    (points, labels): (&[PointLabel], &LabelMap),
) -> Result<()> {
    let classes = SyntheticReef::class_set();
    write_label_map(out.join(format!("{name}_labels.png")), labels)?;
    let picture = draw_points(&overlay(&scene.image, labels, &classes, 0.5)?, points, &classes)?;
    write_image(out.join(format!("{name}_overlay.png")), &with_legend(&picture, labels, &classes)?)?;
    if name == DEFAULT_METHOD {
        let clicked = draw_points(&scene.image, points, &classes)?;
        let map = overlay(&scene.image, labels, &classes, 0.75)?;
        let truth = overlay(&scene.image, &scene.labels, &classes, 0.75)?;
        let four = side_by_side(&[&scene.image, &clicked, &map, &truth])?;
        write_image(out.join("summary.png"), &four)?;
    }
    Ok(())
}

/// Pictures of one size in a row, two at a time.
fn side_by_side(pictures: &[&RgbImage]) -> Result<RgbImage> {
    const GAP: u32 = 8;
    let Size { width, height } = Size::of(pictures[0]);
    let rows = pictures.len().div_ceil(2) as u32;
    let mut sheet = RgbImage::from_pixel(2 * width + GAP, rows * (height + GAP) - GAP, Rgb([255; 3]));
    for (index, picture) in pictures.iter().enumerate() {
        let (column, row) = (index as u32 % 2, index as u32 / 2);
        let placed = sheet.copy_from(*picture, column * (width + GAP), row * (height + GAP));
        placed.map_err(|error| Error::input("pictures", error.to_string()))?;
    }
    Ok(sheet)
}

fn table(rows: &[(&Method, Vec<Scores>)]) -> String {
    let mut lines = vec![
        format!("Means over {PHOTOGRAPHS} synthetic photographs: mean IoU over the classes present and pixel accuracy"),
        "in %, error of percent cover in percentage points, time in milliseconds.\n".into(),
        GRIDS.iter().fold(format!("{:20}", "points"), |line, k| line + &format!(" | {:^26}", k * k)),
        GRIDS.iter().fold(format!("{:20}", "method"), |line, _| {
            line + &format!(" | {:>5} {:>5} {:>6} {:>7}", "mIoU", "acc", "cover", "ms")
        }),
    ];
    for (method, cells) in rows {
        let mark = if method.name == DEFAULT_METHOD { "*" } else { "" };
        lines.push(cells.iter().fold(format!("{:20}", format!("{}{mark}", method.name)), |line, s| {
            let (iou, accuracy) = (100.0 * s.mean_iou, 100.0 * s.pixel_accuracy);
            line + &format!(" | {iou:5.1} {accuracy:5.1} {:6.2} {:7.1}", s.cover_error, s.milliseconds)
        }));
    }
    lines.push("\n* the default. `largest-class` and `nearest` are the baselines.\n".into());
    lines.push(format!("Pictures and label maps are in {OUT}/; start with {OUT}/summary.png.\n"));
    lines.join("\n")
}
