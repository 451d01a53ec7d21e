//! From a photograph and labelled points to a class map, an overlay and percent cover.
//!
//! ```text
//! cargo run --release --example propagate_points -- --image reef.jpg --points points.csv --out out/reef
//! cargo run --release --example propagate_points -- --method list
//! cargo run --release --example propagate_points -- --image reef.jpg --points points.csv --out out/reef \
//!   --weights vit_b_coralscop.pth
//! ```
//!
//! With the weights of CoralSCOP or Segment Anything, every point prompts a mask, and the method fills what no mask
//! covers.
//!
//! Points come as CSV (`x,y,class`), CoralNet CSV or CPCe `.cpc`. Written are `labels.png` (8-bit grey, a class id
//! per pixel), `overlay.png`, `cover.csv` and `classes.csv` (the names of the ids).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use coral_core::image::RgbImage;
use coral_core::{ClassSet, Error, LabelMap, PointLabel, PointPropagator, Result, Size, UNLABELED};
use coral_examples::{NetworkArguments, finish, make_folder, spinner};
use coral_io::{
    draw_points, overlay, read_class_table, read_image, read_points, with_legend, write_class_set, write_cover,
    write_image, write_label_map,
};
use coral_metrics::cover;
use coral_weak::{DEFAULT_METHOD, METHODS, PromptPropagator, PromptPropagatorConfig, propagator};

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
    /// How to spread the points, or what masks leave free; `list` names the methods.
    #[arg(long)]
    method: Option<String>,
    #[command(flatten)]
    network: NetworkArguments,
    /// The folder for the results.
    #[arg(long, required_unless_present = "method")]
    out: Option<PathBuf>,
}

impl Arguments {
    /// The chosen method, behind masks where there is a network.
    fn propagator(&self) -> Result<Box<dyn PointPropagator>> {
        let method = propagator(self.method.as_deref().unwrap_or(DEFAULT_METHOD))?;
        if self.network.weights.is_none() {
            return Ok(method);
        }
        let masks = PromptPropagator::new(self.network.open()?, PromptPropagatorConfig::default())?;
        Ok(Box::new(masks.with_fill(method)))
    }
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn list_of_methods() -> String {
    let mark = |name| if name == DEFAULT_METHOD { " (default)" } else { "" };
    METHODS.iter().map(|method| format!("{:20} {}{}\n", method.name, method.summary, mark(method.name))).collect()
}

fn run(arguments: &Arguments) -> Result<String> {
    if arguments.method.as_deref() == Some("list") {
        return Ok(list_of_methods());
    }
    let given = |argument: &Option<PathBuf>, name: &str| {
        argument.clone().ok_or_else(|| Error::parameter(name, format!("--{name} is needed")))
    };
    let (image_path, points_path) = (given(&arguments.image, "image")?, given(&arguments.points, "points")?);
    let out = given(&arguments.out, "out")?;
    let propagator = arguments.propagator()?;

    let image = read_image(&image_path)?;
    let (points, classes) = read_labels(&points_path, &image_path, Size::of(&image), arguments.classes.as_deref())?;
    // A folder that cannot be made is better known before the work than after it.
    make_folder(&out)?;
    let spinner = spinner("spreading points");
    let labels = propagator.propagate(&image, &points)?;
    spinner.finish_and_clear();
    write_results(&out, &image, &points, (&labels, &classes))?;
    cover_table(&labels, &classes)
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
    write_label_map(out.join("labels.png"), labels)?;
    let picture = draw_points(&overlay(image, labels, classes, OPACITY)?, points, classes)?;
    write_image(out.join("overlay.png"), &with_legend(&picture, labels, classes)?)?;
    write_cover(out.join("cover.csv"), labels, classes)?;
    write_class_set(out.join("classes.csv"), classes)
}

/// The classes that occur, the largest first.
fn cover_table(labels: &LabelMap, classes: &ClassSet) -> Result<String> {
    let percent = cover(labels, usize::from(UNLABELED))?.unwrap_or_default();
    let mut found: Vec<_> = (0..UNLABELED).zip(percent).filter(|(_, percent)| *percent > 0.0).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(found.iter().map(|&(id, percent)| format!("{percent:6.2} %  {}\n", classes.name(id))).collect())
}

#[cfg(test)]
mod tests {
    use coral_core::image::Rgb;
    use coral_io::{image_size, read_class_set, read_label_map};
    use tempfile::TempDir;

    use super::*;

    const POINTS: &str = "x,y,class\n2,3,34\n17,3,0\n9,8,7\n";

    /// A folder with a photograph and labelled points.
    fn survey(points: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let image = RgbImage::from_fn(20, 11, |x, y| Rgb([x as u8 * 12, y as u8 * 20, 90]));
        write_image(folder.path().join("reef.png"), &image).unwrap();
        std::fs::write(folder.path().join("points.csv"), points).unwrap();
        folder
    }

    fn propagate(folder: &TempDir, out: &str, more: &[&str]) -> Result<String> {
        let at = |name: &str| folder.path().join(name).display().to_string();
        let paths = [at("reef.png"), at("points.csv"), at(out)];
        let given = ["propagate_points", "--image", &paths[0], "--points", &paths[1], "--out", &paths[2]];
        run(&Arguments::try_parse_from(given.iter().chain(more)).unwrap())
    }

    #[test]
    fn numbers_of_a_table_are_the_grey_values_of_the_map() {
        let folder = survey(POINTS);
        for method in METHODS {
            propagate(&folder, "out/deep", &["--method", method.name]).unwrap();
            let png = std::fs::read(folder.path().join("out/deep/labels.png")).unwrap();
            // Bit depth and colour type of a PNG's header: 8 bits, grey.
            assert_eq!(png[24..26], [8, 0]);
            let labels = read_label_map(folder.path().join("out/deep/labels.png")).unwrap();
            assert_eq!(labels.dim(), (11, 20));
            assert!(labels.iter().all(|id| [0, 7, 34].contains(id)), "{}", method.name);
            if method.name != "largest-class" {
                assert_eq!([labels[[3, 2]], labels[[3, 17]], labels[[8, 9]]], [34, 0, 7], "{}", method.name);
            }
        }
        let classes = read_class_set(folder.path().join("out/deep/classes.csv")).unwrap();
        assert_eq!(classes.iter().map(|class| class.id).collect::<Vec<_>>(), [0, 7, 34]);
        let overlay = image_size(folder.path().join("out/deep/overlay.png")).unwrap();
        assert!(overlay.width > 20 && overlay.height >= 11);
        let cover = std::fs::read_to_string(folder.path().join("out/deep/cover.csv")).unwrap();
        assert!(cover.starts_with("class,name,pixels,percent\n0,0,"), "{cover}");
    }

    #[test]
    fn the_order_of_points_and_their_file_format_make_no_difference() {
        let map = |points: &str| {
            let folder = survey(points);
            propagate(&folder, "out", &[]).unwrap();
            read_label_map(folder.path().join("out/labels.png")).unwrap()
        };
        let expected = map(POINTS);
        assert_eq!(map("x,y,class\n9,8,7\n2,3,34\n17,3,0\n"), expected);
        let coralnet = "\u{feff}Name,Row,Column,Label\r\nreef.png,3,17,0\r\nREEF.PNG,0,0,1\r\nreef.png,8,9,7\r\nreef.png,3,2,34\r\n";
        assert_eq!(map(coralnet), expected);
        assert_eq!(map("17\t3\t0\r\n2\t3\t34\r\n9\t8\t7\r\n"), expected);
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_is_written() {
        let folder = survey(POINTS);
        let error = |out: &str, more: &[&str]| propagate(&folder, out, more).unwrap_err().to_string();
        let text = error("reef.png", &[]);
        assert!(
            text.starts_with("invalid parameter `out`: ") && text.ends_with("reef.png is a file, expected a folder")
        );
        let text = error("reef.png/below", &[]);
        assert!(text.contains("`out`: cannot make the folder ") && text.contains("reef.png/below: "), "{text}");
        assert!(error("out", &["--method", "magic"]).contains("`method`: expected one of largest-class, nearest"));
        assert!(error("out", &["--classes", "gone.csv"]).starts_with("gone.csv: "));
        std::fs::write(folder.path().join("names.csv"), "sand\n").unwrap();
        let names = folder.path().join("names.csv").display().to_string();
        assert!(
            error("out", &["--classes", &names]).contains("points.csv:2: unknown class `34`: expected one of sand")
        );
        assert!(!folder.path().join("out").exists());
        let alone = run(&Arguments::try_parse_from(["propagate_points", "--method", "nearest"]).unwrap());
        assert!(alone.unwrap_err().to_string().contains("--image is needed"));
    }

    #[test]
    fn points_prompt_a_network() {
        let case =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../coral-models/tests/golden/coralscop_amg/weights.safetensors");
        let folder = survey(POINTS);
        propagate(&folder, "out", &["--weights", case, "--decoder-heads", "4", "--method", "nearest"]).unwrap();
        let labels = read_label_map(folder.path().join("out/labels.png")).unwrap();
        assert_eq!([labels[[3, 2]], labels[[3, 17]], labels[[8, 9]]], [34, 0, 7]);
        let text = propagate(&folder, "out", &["--weights", "gone.pth"]).unwrap_err().to_string();
        assert!(text.starts_with("gone.pth: ") && text.contains("vit_b_coralscop.pth"), "{text}");
    }

    #[test]
    fn methods_are_listed() {
        let list = run(&Arguments::try_parse_from(["propagate_points", "--method", "list"]).unwrap()).unwrap();
        assert_eq!(list.lines().count(), METHODS.len());
        assert_eq!(list.matches(" (default)").count(), 1);
    }
}
