//! Scores predicted label maps against targets.
//!
//! ```text
//! cargo run --release --example evaluate -- --prediction labels.png --target truth.png --ignore 34
//! cargo run --release --example evaluate -- --prediction predicted/ --target truth/ --json
//! ```
//!
//! With folders, files are paired by name without extension; all pixels are pooled, and the scores of
//! each image and their averages are given beside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use coral_core::{ClassId, ClassSet, Error, Metric, Progress, Remapping, Result, Size, UNLABELED};
use coral_examples::{Bar, finish};
use coral_io::{image_files, read_class_set, read_label_map};
use coral_metrics::{ClassReport, ConfusionMatrix, Report};
use serde::Serialize;

/// Scores predicted label maps against targets: IoU, F1, accuracy, kappa, percent cover.
#[derive(Debug, Parser)]
struct Arguments {
    /// A predicted label map, or a folder of them.
    #[arg(long)]
    prediction: PathBuf,
    /// The label map to score against, or a folder with files of the same names.
    #[arg(long)]
    target: PathBuf,
    /// Leave out target pixels of this class id (repeatable); 255 is always left out. Predicting it is still wrong.
    #[arg(long, value_name = "ID")]
    ignore: Vec<ClassId>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// A class table, for the names.
    #[arg(long, value_name = "TABLE")]
    classes: Option<PathBuf>,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()).map(|text| text + "\n"))
}

fn run(arguments: &Arguments) -> Result<String> {
    let classes = arguments.classes.as_ref().map_or_else(|| Ok(ClassSet::default()), read_class_set)?;
    let Arguments { prediction, target, ignore, .. } = arguments;
    for path in [prediction, target] {
        std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
    }
    if prediction.is_dir() != target.is_dir() {
        let kind = |path: &Path| if path.is_dir() { "a folder" } else { "a file" };
        let text = format!("{} is {}", prediction.display(), kind(prediction));
        return Err(Error::input("prediction", format!("{text}, but {} is {}", target.display(), kind(target))));
    }
    if !prediction.is_dir() {
        let matrix = score(prediction, target, ignore)?;
        expect_scored(&matrix, target, ignore)?;
        let report = Report::new(&matrix, &classes);
        return if arguments.json { to_json(&report) } else { Ok(report.to_string()) };
    }
    let scores = score_folders(arguments, &classes)?;
    if arguments.json { to_json(&scores) } else { Ok(scores.to_string()) }
}

/// Counts one pair of files. Classes are whatever ids occur, so the matrix is of the largest size.
fn score(prediction: &Path, target: &Path, ignore: &[ClassId]) -> Result<ConfusionMatrix> {
    let (predicted, truth) = (read_label_map(prediction)?, read_label_map(target)?);
    let (expected, found) = (Size::of_map(&truth), Size::of_map(&predicted));
    if expected != found {
        let expected = format!("{expected} (the size of {})", target.display());
        return Err(Error::shape(prediction.display().to_string(), expected, found.to_string()));
    }
    let mut unlabelled = Remapping::identity();
    ignore.iter().for_each(|&id| unlabelled.set(id, UNLABELED));
    let mut matrix = ConfusionMatrix::new(usize::from(UNLABELED))?;
    matrix.update(&predicted, &unlabelled.apply(&truth))?;
    Ok(matrix)
}

fn expect_scored(matrix: &ConfusionMatrix, target: &Path, ignore: &[ClassId]) -> Result<()> {
    if matrix.total() > 0 {
        return Ok(());
    }
    let ignored: Vec<_> = ignore.iter().chain([&UNLABELED]).map(ClassId::to_string).collect();
    let reason = format!("{}: nothing to score, every pixel is ignored (id {})", target.display(), ignored.join(", "));
    Err(Error::input("target", reason))
}

/// The scores of two folders: all pixels pooled, each image, and averages over images.
#[derive(Debug, Serialize)]
struct FolderScores {
    #[serde(flatten)]
    pooled: Report,
    mean_over_images: MeanOverImages,
    per_image: Vec<ImageScores>,
}

#[derive(Debug, Serialize)]
struct ImageScores {
    name: String,
    pixel_accuracy: Option<f64>,
    mean_iou: Option<f64>,
    mean_f1: Option<f64>,
    per_class: BTreeMap<ClassId, ClassReport>,
}

/// Averages over the images with at least one scored pixel.
#[derive(Debug, Serialize)]
struct MeanOverImages {
    images: usize,
    pixel_accuracy: f64,
    mean_iou: f64,
    mean_f1: f64,
}

fn score_folders(arguments: &Arguments, classes: &ClassSet) -> Result<FolderScores> {
    let Arguments { prediction, target, ignore, .. } = arguments;
    let pairs = pairs(prediction, target)?;
    let bar = Bar::new();
    bar.start(pairs.len() as u64, "scoring");
    let mut pooled = ConfusionMatrix::new(usize::from(UNLABELED))?;
    let mut per_image = Vec::with_capacity(pairs.len());
    for (name, (prediction, target)) in pairs {
        let matrix = score(&prediction, &target, ignore)?;
        pooled.merge(&matrix)?;
        let Report { pixel_accuracy, mean_iou, mean_f1, per_class, .. } = Report::new(&matrix, classes);
        per_image.push(ImageScores { name, pixel_accuracy, mean_iou, mean_f1, per_class });
        bar.advance(1);
    }
    bar.finish();
    expect_scored(&pooled, target, ignore)?;
    let mean = |of: fn(&ImageScores) -> Option<f64>| {
        let values: Vec<_> = per_image.iter().filter_map(of).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let mean_over_images = MeanOverImages {
        images: per_image.iter().filter(|image| image.pixel_accuracy.is_some()).count(),
        pixel_accuracy: mean(|image| image.pixel_accuracy),
        mean_iou: mean(|image| image.mean_iou),
        mean_f1: mean(|image| image.mean_f1),
    };
    Ok(FolderScores { pooled: Report::new(&pooled, classes), mean_over_images, per_image })
}

impl std::fmt::Display for FolderScores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.per_image.iter().map(|image| image.name.chars().count()).max().unwrap_or(0).max(16);
        let line = |name: &str, scores: [Option<f64>; 3]| {
            let cells = scores.map(|score| score.map_or("-".into(), |score| format!("{score:.4}")));
            format!("{name:width$}  {:>14} {:>9} {:>9}", cells[0], cells[1], cells[2])
        };
        writeln!(f, "{:width$}  {:>14} {:>9} {:>9}", "image", "pixel accuracy", "mean IoU", "mean F1")?;
        for image in &self.per_image {
            writeln!(f, "{}", line(&image.name, [image.pixel_accuracy, image.mean_iou, image.mean_f1]))?;
        }
        let mean = &self.mean_over_images;
        let averages = [mean.pixel_accuracy, mean.mean_iou, mean.mean_f1].map(Some);
        writeln!(f, "{}\n\nAll pixels pooled:\n\n{}", line("mean over images", averages), self.pooled)
    }
}

type Pairs = BTreeMap<String, (PathBuf, PathBuf)>;

/// The files of two folders by stem; each must have its partner.
fn pairs(predictions: &Path, targets: &Path) -> Result<Pairs> {
    let (mut predicted, truths) = (label_maps(predictions)?, label_maps(targets)?);
    let alone = |path: &Path, folder: &Path| {
        let reason = format!("{} has no partner of the same name in {}", path.display(), folder.display());
        Err(Error::input("prediction", reason))
    };
    let mut pairs = Pairs::new();
    for (stem, target) in truths {
        let Some(prediction) = predicted.remove(&stem) else { return alone(&target, predictions) };
        pairs.insert(stem, (prediction, target));
    }
    match predicted.values().next() {
        Some(path) => alone(path, targets),
        None => Ok(pairs),
    }
}

/// The label maps of a folder by stem.
fn label_maps(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let files = image_files(folder)?;
    if files.is_empty() {
        return Err(Error::input("folder", format!("{} holds no PNG, BMP or TIFF file", folder.display())));
    }
    Ok(files)
}

fn to_json(scores: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(scores).map_err(|error| Error::input("scores", error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, write};

    use coral_core::image::GrayImage;
    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;

    fn save(folder: &Path, name: &str, width: u32, ids: &[u8]) -> PathBuf {
        let path = folder.join(name);
        let map = GrayImage::from_raw(width, ids.len() as u32 / width, ids.to_vec()).unwrap();
        map.save(&path).unwrap();
        path
    }

    fn evaluate(prediction: &Path, target: &Path, more: &[&str]) -> Result<String> {
        let paths = ["evaluate", "--prediction", prediction.to_str().unwrap(), "--target", target.to_str().unwrap()];
        run(&Arguments::try_parse_from(paths.iter().chain(more)).unwrap())
    }

    fn json(text: Result<String>) -> Value {
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    fn folders() -> (TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (predictions, targets) = (root.path().join("predictions"), root.path().join("targets"));
        create_dir(&predictions).unwrap();
        create_dir(&targets).unwrap();
        (root, predictions, targets)
    }

    #[test]
    fn ignored_targets_are_left_out_but_predictions_of_them_are_wrong() {
        let (_root, predictions, targets) = folders();
        let prediction = save(&predictions, "a.png", 3, &[1, 1, 34, 2, 0, 255]);
        let target = save(&targets, "b.png", 3, &[1, 34, 1, 2, 255, 2]);
        let scores = json(evaluate(&prediction, &target, &["--ignore", "34", "--json"]));
        assert_eq!(scores["pixel_accuracy"], 0.5);
        assert_eq!(scores["mean_iou"], 0.5);
        assert_eq!(scores["per_class"]["34"]["predicted_pixels"], 1);
        assert_eq!(scores["per_class"]["2"]["recall"], 0.5);
        assert_eq!(scores["unpredicted_pixels"], 1);
        let table = evaluate(&prediction, &target, &[]).unwrap();
        assert!(table.contains("pixel accuracy") && table.contains("5 pixels scored"), "{table}");
        let error = evaluate(&prediction, &target, &["--ignore", "34", "--ignore", "1", "--ignore", "2"]).unwrap_err();
        assert!(error.to_string().contains("b.png: nothing to score, every pixel is ignored (id 34, 1, 2, 255)"));
    }

    #[test]
    fn folders_are_pooled_and_averaged() {
        let (_root, predictions, targets) = folders();
        save(&predictions, "a.png", 2, &[0, 0]);
        save(&targets, "a.png", 2, &[0, 1]);
        save(&predictions, "b.png", 3, &[1; 6]);
        save(&targets, "b.png", 3, &[1; 6]);
        save(&predictions, "c.png", 1, &[1]);
        save(&targets, "c.png", 1, &[255]);
        write(predictions.join("notes.txt"), "not a label map").unwrap();
        let scores = json(evaluate(&predictions, &targets, &["--json"]));
        assert_eq!(scores["pixel_accuracy"], 7.0 / 8.0);
        assert_eq!(scores["mean_over_images"]["pixel_accuracy"], 0.75);
        assert_eq!(scores["mean_over_images"]["mean_iou"], (0.25 + 1.0) / 2.0);
        assert_eq!(scores["mean_over_images"]["images"], 2);
        assert_eq!(scores["per_image"][1]["name"], "b");
        assert!(scores["per_image"][2]["mean_iou"].is_null());
        let text = evaluate(&predictions, &targets, &[]).unwrap();
        assert!(text.contains("mean over images          0.7500    0.6250"), "{text}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (_root, predictions, targets) = folders();
        let error = |prediction: &Path, target: &Path| evaluate(prediction, target, &[]).unwrap_err().to_string();
        assert!(error(&predictions, &targets).contains("predictions holds no PNG"));
        let small = save(&predictions, "a.png", 2, &[0, 0]);
        let large = save(&targets, "a.png", 2, &[0, 0, 0, 0]);
        let text = error(&small, &large);
        assert!(text.contains("predictions/a.png: expected shape 2x2 (the size of ") && text.ends_with("got 2x1"));
        assert!(text.contains("targets/a.png"), "{text}");
        assert!(error(&small, &targets).contains("a.png is a file, but "));
        let alone = save(&targets, "z.png", 1, &[0]);
        assert!(error(&predictions, &targets).contains("z.png has no partner of the same name in "));
        std::fs::rename(&alone, predictions.join("y.png")).unwrap();
        assert!(error(&predictions, &targets).contains("y.png has no partner of the same name in "));
        let gone = predictions.join("gone");
        for (prediction, target) in [(&gone, &large), (&gone, &targets), (&predictions, &gone)] {
            assert!(error(prediction, target).starts_with(&format!("{}: No such file", gone.display())));
        }
    }

    #[test]
    fn names_come_from_the_table() {
        let (root, predictions, _) = folders();
        let map = save(&predictions, "a.png", 2, &[0, 1]);
        let table = root.path().join("classes.json");
        let classes = ClassSet::from_names(["sand", "coral"]).unwrap();
        write(&table, serde_json::to_string(&classes).unwrap()).unwrap();
        let scores = json(evaluate(&map, &map, &["--json", "--classes", table.to_str().unwrap()]));
        assert_eq!(scores["per_class"]["1"]["name"], "coral");
    }
}
