//! From a photograph and labelled points to a class map, an overlay and percent cover.
//!
//! ```text
//! cargo run --release --example propagate_points -- --image reef.jpg --points points.csv --out out/reef
//! cargo run --release --example propagate_points -- --method list
//! ```
//!
//! Points come as CSV (`x,y,class`), CoralNet CSV or CPCe `.cpc`. Written are `labels.png` (8-bit grey, a class id
//! per pixel), `overlay.png`, `cover.csv` and `classes.csv` (the names of the ids).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use coral_core::image::RgbImage;
use coral_core::{ClassSet, Error, LabelMap, PointLabel, Progress, Result, Size};
use coral_examples::Bar;
use coral_io::{
    draw_points, overlay, read_class_table, read_image, read_points, with_legend, write_class_set, write_cover,
    write_image, write_label_map,
};
use coral_weak::{DEFAULT_METHOD, METHODS, propagator};

/// How much of the overlay is the classes' colours.
const OPACITY: f32 = 0.5;

/// Spreads labelled points over a photograph.
#[derive(Debug, Parser)]
struct Arguments {
    /// The photograph (PNG, JPEG, TIFF or BMP).
    #[arg(long, required_unless_present = "method")]
    image: Option<PathBuf>,
    /// Its labelled points: CSV, CoralNet CSV or CPCe.
    #[arg(long, required_unless_present = "method")]
    points: Option<PathBuf>,
    /// A class table (names, ids, colours, codes). Without it the classes are those of the points.
    #[arg(long)]
    classes: Option<PathBuf>,
    /// How to spread the points; `list` names the methods.
    #[arg(long)]
    method: Option<String>,
    /// The folder for the results.
    #[arg(long, required_unless_present = "method")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.method.as_deref() == Some("list") {
        for method in METHODS {
            let mark = if method.name == DEFAULT_METHOD { " (default)" } else { "" };
            println!("{:20} {}{mark}", method.name, method.summary);
        }
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String> {
    let given = |argument: &Option<PathBuf>, name: &str| {
        argument.clone().ok_or_else(|| Error::parameter(name, format!("--{name} is needed")))
    };
    let (image_path, points_path) = (given(&arguments.image, "image")?, given(&arguments.points, "points")?);
    let out = given(&arguments.out, "out")?;
    let propagator = propagator(arguments.method.as_deref().unwrap_or(DEFAULT_METHOD))?;

    let image = read_image(&image_path)?;
    let (points, classes) = read_labels(&points_path, &image_path, Size::of(&image), arguments.classes.as_deref())?;
    let bar = Bar::new();
    bar.start(1, "spreading points");
    let labels = propagator.propagate(&image, &points)?;
    bar.advance(1);
    bar.finish();
    write_results(&out, &image, &points, (&labels, &classes))?;
    Ok(cover_table(&labels, &classes))
}

/// The points of `image` in the file, and what their ids mean.
fn read_labels(points: &Path, image: &Path, size: Size, classes: Option<&Path>) -> Result<(Vec<PointLabel>, ClassSet)> {
    let name = image.file_name().map(|name| name.to_string_lossy().into_owned());
    let table = read_points(points, size, name.as_deref())?;
    match classes {
        Some(path) => {
            let classes = read_class_table(path)?;
            Ok((table.to_labels_with(&classes)?, classes.classes))
        }
        None => {
            let classes = table.classes()?;
            Ok((table.to_labels(&classes)?, classes))
        }
    }
}

fn write_results(
    out: &Path,
    image: &RgbImage,
    points: &[PointLabel],
    (labels, classes): (&LabelMap, &ClassSet),
) -> Result<()> {
    std::fs::create_dir_all(out).map_err(|error| Error::io(out, error))?;
    write_label_map(out.join("labels.png"), labels)?;
    let picture = draw_points(&overlay(image, labels, classes, OPACITY)?, points, classes)?;
    write_image(out.join("overlay.png"), &with_legend(&picture, labels, classes)?)?;
    write_cover(out.join("cover.csv"), labels, classes)?;
    write_class_set(out.join("classes.csv"), classes)
}

fn cover_table(labels: &LabelMap, classes: &ClassSet) -> String {
    let mut pixels = [0_u64; 256];
    labels.iter().for_each(|&id| pixels[usize::from(id)] += 1);
    let mut found: Vec<_> = (0..=u8::MAX).filter(|&id| pixels[usize::from(id)] > 0).collect();
    found.sort_by_key(|&id| std::cmp::Reverse(pixels[usize::from(id)]));
    let percent = |id: u8| 100.0 * pixels[usize::from(id)] as f64 / labels.len() as f64;
    found.iter().map(|&id| format!("{:6.2} %  {}\n", percent(id), classes.name(id))).collect()
}
