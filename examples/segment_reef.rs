//! From photographs to masks of every colony, percent cover and pictures, with CoralSCOP or Segment Anything.
//!
//! ```text
//! cargo run --release --example segment_reef -- --weights vit_b_coralscop.pth --image reef.jpg --out out/reef
//! cargo run --release --example segment_reef -- --weights vit_b_coralscop.pth --image photos/ --out out/survey
//! ```
//!
//! Written for an image `NAME.*` are `NAME.json` (the masks in CoralSCOP's layout), `NAME_overlay.png`, `NAME_labels.png`
//! (8-bit grey, a class id per pixel) and, with `--group-threshold`, `NAME_groups.csv`; for the run `cover.csv`,
//! `colonies.csv` and, with `--standard-coco`, `coco.json`. Images that have their files are not segmented again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use coral_core::image::RgbImage;
use coral_core::ndarray::Array2;
use coral_core::{
    ClassId, ClassSet, Error, InstanceMask, LabelMap, NoProgress, OverlapConfig, OverlapPolicy, Progress, Result,
    RleMask, Size, UNLABELED, resolve_overlaps, write_atomically,
};
use coral_examples::{
    Bar, CoverTable, GeneratorArguments, NetworkArguments, about_photograph, finish, make_folder, outline_width,
    photographs,
};
use coral_io::{
    CocoDataset, ColoredMask, SamAnnotations, draw_contours, overlay_masks, read_image, read_sam_annotations,
    write_coco, write_image, write_label_map, write_sam_annotations, write_survey_colonies,
};
use coral_models::{MaskGenerator, TileConfig, feature_similarity, group_by_similarity};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as PolicyError, StrDeserializer};

/// How much of the overlay is the masks' colours.
const OPACITY: f32 = 0.4;

/// Finds every colony in photographs.
#[derive(Debug, Parser)]
#[command(allow_negative_numbers = true)]
struct Arguments {
    #[command(flatten)]
    network: NetworkArguments,
    /// A photograph (PNG, JPEG, TIFF or BMP), or a folder of them.
    #[arg(long)]
    image: PathBuf,
    /// The folder for the results.
    #[arg(long)]
    out: PathBuf,
    /// A class table (names, ids, colours). Without it: background and coral, or object for Segment Anything.
    #[arg(long, value_name = "TABLE")]
    classes: Option<PathBuf>,
    /// Which mask keeps a pixel of several: smallest-first, largest-first, highest-iou, highest-stability, highest-score.
    #[arg(long, value_name = "POLICY", default_value = "smallest-first", value_parser = overlap_policy)]
    overlaps: OverlapPolicy,
    /// The side of a pixel on the sea floor in cm: areas are then in cm², too.
    #[arg(long, value_name = "CM")]
    cm_per_pixel: Option<f64>,
    /// Cut images larger than this into tiles; objects across tiles stay in one piece.
    #[arg(long, value_name = "PIXELS")]
    tile: Option<u32>,
    /// Least overlap of neighbouring tiles; a quarter of a tile by default.
    #[arg(long, value_name = "PIXELS", requires = "tile")]
    tile_overlap: Option<u32>,
    /// Group masks whose semantic features have at least this cosine similarity (-1 to 1).
    #[arg(long, value_name = "COSINE")]
    group_threshold: Option<f32>,
    /// Also write one standard COCO file for all images.
    #[arg(long)]
    standard_coco: bool,
    /// Segment images again that have their files, e.g. with other settings.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    generator: GeneratorArguments,
}

fn overlap_policy(text: &str) -> std::result::Result<OverlapPolicy, PolicyError> {
    let name = text.replace('-', "_");
    let name: StrDeserializer<'_, PolicyError> = name.as_str().into_deserializer();
    OverlapPolicy::deserialize(name)
}

fn main() -> ExitCode {
    let (result, failures) = match run(&Arguments::parse()) {
        Ok(outcome) => (Ok(outcome.report), outcome.failures),
        Err(error) => (Err(error), Vec::new()),
    };
    let code = finish(result);
    failures.iter().for_each(|failure| eprintln!("error: {failure}"));
    if failures.is_empty() { code } else { ExitCode::FAILURE }
}

/// What a run has done.
#[derive(Debug)]
struct Outcome {
    report: String,
    /// One text for each image without result, naming it.
    failures: Vec<String>,
}

fn run(arguments: &Arguments) -> Result<Outcome> {
    let images = images(arguments)?;
    let task = Task::new(arguments)?;
    let mut cover = CoverTable::new(&task.classes, task.generator.config().background_class, arguments.cm_per_pixel)?;
    // A folder that cannot be made is better known before the work than after it.
    make_folder(&arguments.out)?;
    let (mut done, mut failures, mut skipped) = (Vec::new(), Vec::new(), 0);
    let bar = Bar::new();
    let in_image: &dyn Progress = if images.len() == 1 { &bar } else { &NoProgress };
    if images.len() > 1 {
        bar.start(images.len() as u64, "segmenting");
    }
    for (name, path) in &images {
        let finished = !arguments.overwrite && task.outputs(name).iter().all(|file| file.exists());
        skipped += usize::from(finished);
        let result = if finished { task.read(name) } else { task.segment(name, path, in_image) };
        match result.and_then(|image| cover.add(&image).map(|()| image)) {
            Ok(image) => done.push(image),
            Err(error) => failures.push(about_photograph(path, error).to_string()),
        }
        if images.len() > 1 {
            bar.advance(1);
        }
    }
    bar.finish();
    if done.is_empty() {
        return Ok(Outcome { report: String::new(), failures });
    }
    cover.write(arguments.out.join("cover.csv"))?;
    write_survey_colonies(arguments.out.join("colonies.csv"), &done, &task.classes, arguments.cm_per_pixel)?;
    if arguments.standard_coco {
        task.write_standard_coco(&done)?;
    }
    let again = format!("{skipped} had their files already (--overwrite segments them again). ");
    let again = if skipped > 0 { again } else { String::new() };
    let count = format!("{} image{}", done.len(), if done.len() == 1 { "" } else { "s" });
    let report = format!("{cover}\n{count}. {again}Results are in {}\n", arguments.out.display());
    Ok(Outcome { report, failures })
}

/// The photographs by name.
fn images(arguments: &Arguments) -> Result<Vec<(String, PathBuf)>> {
    let images = photographs(&arguments.image, &arguments.out, "image")?;
    if arguments.standard_coco && images.iter().any(|(name, _)| name == "coco") {
        return Err(Error::input("image", "results of an image named `coco` and --standard-coco have the same name"));
    }
    Ok(images)
}

/// What is done with every image.
struct Task {
    generator: MaskGenerator,
    classes: ClassSet,
    tiles: Option<TileConfig>,
    overlaps: OverlapConfig,
    group_threshold: Option<f32>,
    out: PathBuf,
}

impl Task {
    fn new(arguments: &Arguments) -> Result<Self> {
        let predictor = arguments.network.open()?;
        let network = predictor.sam().config().clone();
        let config = arguments.generator.config(&network)?;
        let classes = arguments.network.classes(&network, arguments.classes.as_deref())?;
        let tiles = arguments.tile.map(|tile| {
            let overlap = arguments.tile_overlap.unwrap_or((tile / 4).max(1));
            TileConfig { tile, overlap, ..TileConfig::default() }
        });
        tiles.as_ref().map_or(Ok(()), TileConfig::validate)?;
        if let Some(threshold) = arguments.group_threshold {
            group_by_similarity(Array2::zeros((0, 0)).view(), threshold)?;
            if network.semantic.is_none() {
                let reason = "the network gives no semantic features to group masks by; CoralSCOP does";
                return Err(Error::parameter("group_threshold", reason));
            }
        }
        // Where class 0 is dropped as background, the pixels in no mask are background; else nothing is known of them.
        let background = config.background_class.filter(|_| network.semantic.is_some()).unwrap_or(UNLABELED);
        let overlaps = OverlapConfig { policy: arguments.overlaps, default_class: Some(0), background };
        Ok(Self {
            generator: MaskGenerator::new(predictor, config)?,
            classes,
            tiles,
            overlaps,
            group_threshold: arguments.group_threshold,
            out: arguments.out.clone(),
        })
    }

    fn output(&self, name: &str, ending: &str) -> PathBuf {
        self.out.join(format!("{name}{ending}"))
    }

    /// The files of an image.
    fn outputs(&self, name: &str) -> Vec<PathBuf> {
        let groups = self.group_threshold.map(|_| "_groups.csv");
        [".json", "_overlay.png", "_labels.png"].into_iter().chain(groups).map(|end| self.output(name, end)).collect()
    }

    /// The masks of an earlier run.
    fn read(&self, name: &str) -> Result<SamAnnotations> {
        Ok(self.classified(read_sam_annotations(self.output(name, ".json"))?))
    }

    /// Gives masks of a network without classes the only one.
    fn classified(&self, mut image: SamAnnotations) -> SamAnnotations {
        image.masks.iter_mut().for_each(|mask| mask.class = mask.class.or(self.overlaps.default_class));
        image
    }

    /// Finds the masks and writes the files of an image.
    fn segment(&self, name: &str, path: &Path, progress: &dyn Progress) -> Result<SamAnnotations> {
        let image = read_image(path)?;
        let size = Size::of(&image);
        let tiles = self.tiles.as_ref().filter(|tiles| size.width.max(size.height) > tiles.tile);
        let mut masks = match tiles {
            Some(tiles) => self.generator.generate_tiled(&image, tiles, progress)?,
            None => self.generator.generate_with_progress(&image, progress)?,
        };
        let map = resolve_overlaps(&masks, size, &self.overlaps)?;
        if let Some(threshold) = self.group_threshold {
            write_groups(&self.output(name, "_groups.csv"), &masks, threshold)?;
        }
        masks.iter_mut().for_each(|mask| mask.features = Vec::new());
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let annotations = SamAnnotations { image_id: 0, file_name, size, masks };
        let classified = self.classified(annotations.clone());
        write_label_map(self.output(name, "_labels.png"), &map.labels)?;
        let picture = picture(&image, &classified.masks, &map.labels, &self.classes)?;
        write_image(self.output(name, "_overlay.png"), &picture)?;
        write_sam_annotations(self.output(name, ".json"), &annotations)?;
        Ok(classified)
    }

    fn write_standard_coco(&self, images: &[SamAnnotations]) -> Result<()> {
        let mut dataset = CocoDataset::new(&self.classes);
        for image in images {
            dataset.add_image(&image.file_name, image.size, &image.masks)?;
        }
        write_coco(self.out.join("coco.json"), &dataset)
    }
}

/// The label map's colours on the photograph, and every mask outlined in a colour of its own, small ones on large ones.
fn picture(image: &RgbImage, masks: &[InstanceMask], labels: &LabelMap, classes: &ClassSet) -> Result<RgbImage> {
    let found: BTreeSet<ClassId> = masks.iter().filter_map(|mask| mask.class).collect();
    let pixels = |class| RleMask::from_fn(Size::of(image), |x, y| labels[[y as usize, x as usize]] == class);
    let areas: Vec<_> = found.into_iter().map(|class| (pixels(class), classes.color(class))).collect();
    let areas: Vec<_> = areas.iter().map(|&(ref mask, color)| ColoredMask { mask, color }).collect();
    let mut masks = masks.to_vec();
    masks.sort_by_key(|mask| std::cmp::Reverse(mask.area()));
    let width = outline_width(Size::of(image));
    draw_contours(&overlay_masks(image, &areas, OPACITY)?, &ColoredMask::by_instance(&masks), width)
}

/// CSV of the colonies' numbers, as in `colonies.csv`, and of the groups they are in.
fn write_groups(path: &Path, masks: &[InstanceMask], threshold: f32) -> Result<()> {
    let width = masks.first().map_or(0, |mask| mask.features.len());
    let features: Vec<f32> = masks.iter().flat_map(|mask| mask.features.iter().copied()).collect();
    let features = Array2::from_shape_vec((masks.len(), width), features).map_err(Error::model)?;
    let groups = group_by_similarity(feature_similarity(features.view()).view(), threshold)?;
    let mut group_of = vec![0; masks.len()];
    for (group, members) in (1..).zip(&groups) {
        members.iter().for_each(|&mask| group_of[mask] = group);
    }
    write_atomically(path, |out| {
        writeln!(out, "colony,group")?;
        (1..).zip(&group_of).try_for_each(|(colony, group): (usize, &usize)| writeln!(out, "{colony},{group}"))
    })
}

#[cfg(test)]
#[path = "tests/segment_reef.rs"]
mod tests;
