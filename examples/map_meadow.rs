//! Coarse seagrass maps of photographs, by one or several trained classifiers.
//!
//! ```text
//! cargo run --release --example map_meadow -- --model seaclip.safetensors --photographs photos/ --out out/meadow
//! cargo run --release --example map_meadow -- --model seaclip.safetensors --model seafeats.safetensors \
//!     --photographs photos/ --out out/sure --confidence 0.6 --patch 578x520 --stride 289x260 --dense
//! ```
//!
//! Written for a photograph `NAME.*` are `NAME_map.csv` (a line per patch with its class and the probabilities of all),
//! `NAME_map.png` (the map over the photograph) and, with `--dense`, `NAME_labels.png` (a class per pixel); for the run
//! `cover.csv` and `settings.json`. Photographs that have their files are not classified again. Patches and pixels are
//! those of the photograph; the picture is as small as `--max-side` makes what is classified.
//!
//! Several classifiers vote with standardised logits, so that none drowns out the others; probabilities, and with them
//! `--confidence`, are lower then.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use coral_core::image::RgbImage;
use coral_core::{
    ClassSet, CoarseMap, Error, LabelMap, PatchClassifier, PatchGrid, Progress, Rect, Result, Segmenter, Size,
};
use coral_examples::{
    Bar, CoarseCover, EarlierSettings, ModelFile, about_photograph, finish, make_folder, photographs, write_settings,
};
use coral_io::{
    CoarseStyle, Resize, image_size, overlay_coarse_map, read_class_set, read_coarse_map, read_image, read_label_map,
    with_legend, write_coarse_map, write_image, write_palette_label_map,
};
use coral_models::ResNetClassifier;
use coral_models::candle_core::Device;
use coral_weak::{
    PatchEnsemble, SlidingWindow, SlidingWindowConfig, Standardization, Weighting, classify_patches, ensemble_map,
    grid_map, probable_labels,
};
use serde::Serialize;

/// Patches that are classified at a time.
const BATCH: usize = 16;

/// What a finished photograph's map is called, after its name.
const MAP: &str = "_map.csv";

/// What its class per pixel is called.
const LABELS: &str = "_labels.png";

/// Maps the seagrass in photographs.
#[derive(Debug, Parser)]
#[command(allow_negative_numbers = true)]
struct Arguments {
    /// A classifier that `ResNetClassifier::save` wrote, as `seagrass` does; several form an ensemble.
    #[arg(long, value_name = "FILE", required = true)]
    model: Vec<PathBuf>,
    /// A photograph (PNG, JPEG, TIFF or BMP), or a folder of them.
    #[arg(long)]
    photographs: PathBuf,
    /// The folder for the results.
    #[arg(long)]
    out: PathBuf,
    /// Cut each photograph into so many rows and columns of patches; 5x8 unless told otherwise.
    #[arg(long, value_name = "ROWSxCOLUMNS", value_parser = pair, conflicts_with_all = ["patch", "cells"])]
    grid: Option<(u32, u32)>,
    /// Cut each photograph into patches of this size.
    #[arg(long, value_name = "WxH", value_parser = pair, conflicts_with = "cells")]
    patch: Option<(u32, u32)>,
    /// From one patch to the next; the size of a patch unless told otherwise.
    #[arg(long, value_name = "WxH", value_parser = pair, requires = "patch")]
    stride: Option<(u32, u32)>,
    /// Classify whole photographs on the classifier's own grid.
    #[arg(long)]
    cells: bool,
    /// Patches and pixels whose probability is lower stay unlabelled, 0 to 1.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0)]
    confidence: f32,
    /// A class table, or names divided by commas, in the order of the classifier's classes. Its own names by default.
    #[arg(long, value_name = "TABLE|NAMES")]
    classes: Option<String>,
    /// Also classify overlapping patches for a class per pixel.
    #[arg(long)]
    dense: bool,
    /// Shrink photographs whose longer side has more pixels, as in training.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    max_side: Option<u32>,
    /// List photographs that cannot be read in `cover.csv`, and go on.
    #[arg(long)]
    skip_corrupt: bool,
    /// Make the maps anew, e.g. with other settings.
    #[arg(long)]
    overwrite: bool,
}

/// Two numbers above 0, e.g. `5x8`.
fn pair(text: &str) -> std::result::Result<(u32, u32), String> {
    let number = |text: &str| text.parse().ok().filter(|&number| number > 0);
    let pair = text.split_once(['x', 'X']).and_then(|(first, second)| Some((number(first)?, number(second)?)));
    pair.ok_or_else(|| "expected two whole numbers above 0, as in 5x8".into())
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<String> {
    let photographs = photographs(&arguments.photographs, &arguments.out, "photographs")?;
    let task = Task::new(arguments)?;
    let mut cover = CoarseCover::new(&task.settings.classes, arguments.confidence)?;
    make_folder(&arguments.out)?;
    task.prepare(&photographs, arguments.overwrite)?;
    let (mut earlier, mut skipped) = (0, Vec::new());
    let bar = Bar::new();
    bar.start(photographs.len() as u64, "mapping");
    for (name, path) in &photographs {
        let mapped = match task.read(name, path) {
            Some(mapped) => {
                earlier += 1;
                Some(mapped)
            }
            None => match read_image(path) {
                Ok(image) => Some(task.map(name, image).map_err(|error| about_photograph(path, error))?),
                Err(error) if arguments.skip_corrupt => {
                    skipped.push(about_photograph(path, error).to_string());
                    None
                }
                Err(error) => return Err(about_photograph(path, error)),
            },
        };
        match mapped {
            Some(Mapped { map, dense }) => cover.add(name, &map, dense.as_ref())?,
            None => cover.skip(name, skipped.last().map(String::as_str).unwrap_or_default()),
        }
        bar.advance(1);
    }
    bar.finish();
    cover.write(task.out.join("cover.csv"))?;
    let count = cover.mapped();
    let again = format!("{earlier} had their files already (--overwrite makes them anew). ");
    let again = if earlier > 0 { again } else { String::new() };
    let skipped: String = skipped.iter().map(|problem| format!("skipped: {problem}\n")).collect();
    let count = format!("{count} photograph{}", if count == 1 { "" } else { "s" });
    Ok(format!("{cover}\n{skipped}{count}. {again}Results are in {}\n", task.out.display()))
}

/// What results depend on.
#[derive(Debug, Serialize)]
struct Settings {
    models: Vec<ModelFile>,
    /// None for the classifier's own grid.
    grid: Option<PatchGrid>,
    confidence: f32,
    classes: ClassSet,
    max_side: Option<u32>,
}

/// The maps of a photograph.
#[derive(Debug, PartialEq)]
struct Mapped {
    map: CoarseMap,
    dense: Option<LabelMap>,
}

/// What is done with every photograph.
struct Task {
    models: Vec<ResNetClassifier>,
    settings: Settings,
    dense: bool,
    out: PathBuf,
}

impl Task {
    fn new(arguments: &Arguments) -> Result<Self> {
        let open = |path: &PathBuf| ResNetClassifier::open(path, &Device::Cpu);
        let models = arguments.model.iter().map(open).collect::<Result<Vec<_>>>()?;
        let settings = Settings {
            models: arguments.model.iter().map(|path| ModelFile::new(path)).collect::<Result<_>>()?,
            grid: grid(arguments)?,
            confidence: arguments.confidence,
            classes: classes(arguments, &models)?,
            max_side: arguments.max_side,
        };
        Ok(Self { models, settings, dense: arguments.dense, out: arguments.out.clone() })
    }

    fn output(&self, name: &str, ending: &str) -> PathBuf {
        self.out.join(format!("{name}{ending}"))
    }

    /// Refuses results of other settings, or makes room for new ones.
    fn prepare(&self, photographs: &[(String, PathBuf)], overwrite: bool) -> Result<()> {
        let path = self.out.join("settings.json");
        let entries = std::fs::read_dir(&self.out).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries = entries.map_err(|error| Error::io(&self.out, error))?;
        let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let there: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(MAP)?.to_owned())).collect();
        let (ours, others): (Vec<_>, Vec<_>) =
            there.into_iter().partition(|name| photographs.iter().any(|(ours, _)| ours == name));
        let changed = match EarlierSettings::compare(&path, &self.settings) {
            _ if ours.is_empty() && others.is_empty() => None,
            Ok(EarlierSettings::Same) => None,
            Ok(EarlierSettings::Other(what)) => Some(what),
            Ok(EarlierSettings::Unknown) => Some("there is no settings.json".into()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(what) = changed {
            let refuse = |advice: &str| {
                let out = self.out.display();
                Err(Error::parameter("out", format!("{out} holds maps made with other settings ({what}); {advice}")))
            };
            if !overwrite {
                return refuse("--overwrite makes them anew, another folder keeps them");
            }
            if let Some(other) = others.first() {
                return refuse(&format!("one, `{other}`, is of no photograph of this run: expected another folder"));
            }
        }
        if overwrite {
            // Before the settings are replaced: a run that is cut short must leave no map that is taken for a new one, and
            // one without `--dense` no labels of former maps. Labels without a map are somebody else's.
            let names = photographs.iter().map(|(name, _)| name).filter(|name| self.output(name, MAP).exists());
            let old = names.flat_map(|name| [MAP, LABELS].map(|ending| self.output(name, ending)));
            old.chain([self.out.join("cover.csv")])
                .filter(|file| file.exists())
                .try_for_each(|file| std::fs::remove_file(&file).map_err(|error| Error::io(&file, error)))?;
        }
        write_settings(&path, &self.settings)
    }

    /// The maps of an earlier run, if they are all there and of a photograph of this size.
    fn read(&self, name: &str, path: &Path) -> Option<Mapped> {
        let size = image_size(path).ok()?;
        let map = read_coarse_map(self.output(name, MAP)).ok()?;
        let is_ours = map.image_size == size && map.probabilities.dim().0 == self.settings.classes.len();
        let labels = self.dense.then(|| read_label_map(self.output(name, LABELS)).ok());
        let dense = match labels {
            Some(labels) => Some(labels.filter(|labels| Size::of_map(labels) == size)?),
            None => None,
        };
        (is_ours && self.output(name, "_map.png").exists()).then_some(Mapped { map, dense })
    }

    /// Classifies a photograph and writes its files.
    fn map(&self, name: &str, photograph: RgbImage) -> Result<Mapped> {
        let Settings { classes, confidence, max_side, .. } = &self.settings;
        let size = Size::of(&photograph);
        let seen = match max_side {
            Some(side) => Resize::MaxSide(*side).apply(photograph)?,
            None => photograph,
        };
        let map = self.classify(&seen)?;
        let dense = self.dense.then(|| self.segment(&seen, &map)).transpose()?;
        let labels = map.label_map(&map.confident_classes(*confidence))?;
        let style = CoarseStyle { threshold: *confidence, ..CoarseStyle::default() };
        let picture = with_legend(&overlay_coarse_map(&seen, &map, classes, &style)?, &labels, classes)?;
        write_image(self.output(name, "_map.png"), &picture)?;
        let dense = dense.map(|labels| enlarged_labels(&labels, size));
        let path = self.output(name, LABELS);
        match &dense {
            Some(labels) => write_palette_label_map(path, labels, classes)?,
            // Of an earlier run on a photograph that was replaced.
            None if path.exists() && self.output(name, MAP).exists() => {
                std::fs::remove_file(&path).map_err(|error| Error::io(&path, error))?
            }
            None => {}
        }
        let map = enlarged_map(map, size)?;
        // Last, since it tells that the photograph is done.
        write_coarse_map(self.output(name, MAP), &map, classes)?;
        Ok(Mapped { map, dense })
    }

    /// The only classifier, or all as one.
    fn classifier(&self) -> Result<Box<dyn PatchClassifier + '_>> {
        Ok(match &self.models[..] {
            [model] => Box::new(model),
            models => Box::new(PatchEnsemble::new(models.iter().collect(), Standardization::PerPatch)?),
        })
    }

    fn classify(&self, image: &RgbImage) -> Result<CoarseMap> {
        if let Some(grid) = &self.settings.grid {
            return classify_patches(&self.classifier()?, image, grid, BATCH);
        }
        let mut maps = self.models.iter().map(|model| grid_map(model, image)).collect::<Result<Vec<_>>>()?;
        if maps.len() == 1 { Ok(maps.remove(0)) } else { ensemble_map(&maps, Standardization::PerPatch) }
    }

    /// A class per pixel from patches of the map's size that overlap, by half unless told otherwise.
    fn segment(&self, image: &RgbImage, map: &CoarseMap) -> Result<LabelMap> {
        let Rect { width, height, .. } = map.patches[0];
        let half = Size { width: width.div_ceil(2), height: height.div_ceil(2) };
        let patch = Size { width, height };
        let stride = match self.settings.grid {
            Some(PatchGrid::Stride { stride, .. }) if stride != patch => stride,
            _ => half,
        };
        let config = SlidingWindowConfig { patch, stride, batch: BATCH, weighting: Weighting::Tent };
        let probabilities = SlidingWindow::new(self.classifier()?, config)?.segment(image)?;
        probable_labels(&probabilities, self.settings.confidence)
    }
}

/// How photographs are cut; none for the classifier's own grid.
fn grid(arguments: &Arguments) -> Result<Option<PatchGrid>> {
    let size = |(width, height)| Size { width, height };
    Ok(match (arguments.cells, arguments.patch.map(size), arguments.grid) {
        (true, ..) => None,
        (_, Some(patch), _) => {
            let stride = arguments.stride.map_or(patch, size);
            if stride.width > patch.width || stride.height > patch.height {
                let reason = format!("{stride} leaves gaps between patches of {patch}; expected no more than that");
                return Err(Error::parameter("stride", reason));
            }
            Some(PatchGrid::Stride { patch, stride })
        }
        (_, _, Some((rows, columns))) => Some(PatchGrid::Split { rows, columns }),
        _ => Some(PatchGrid::SEACLIP),
    })
}

/// The classes that all classifiers know, named as asked for, else as they name them.
fn classes(arguments: &Arguments, models: &[ResNetClassifier]) -> Result<ClassSet> {
    let known = |at: usize| {
        let (path, config) = (arguments.model[at].display(), models[at].config());
        (path, config.network.classes, &config.class_names)
    };
    let named = (0..models.len()).find(|&at| !known(at).2.is_empty()).unwrap_or(0);
    let (path, count, names) = known(named);
    for (other_path, other_count, other_names) in (0..models.len()).map(known) {
        if other_count != count {
            let reason = format!("{path} knows {count} classes and {other_path} {other_count}");
            return Err(Error::parameter("model", reason));
        }
        if !other_names.is_empty() && other_names != names && arguments.classes.is_none() {
            let reason = format!("{path} names its classes {names:?} and {other_path} {other_names:?}");
            return Err(Error::parameter("model", reason));
        }
    }
    let Some(text) = &arguments.classes else { return models[named].config().class_set() };
    let classes = match text.contains(',') && !Path::new(text).exists() {
        true => ClassSet::from_names(text.split(',').map(str::trim))?,
        false => read_class_set(text)?,
    };
    // As many, and with the ids 0 to count - 1.
    if classes.len() != count || classes.num_ids() != count {
        let ids = classes.iter().map(|class| class.id.to_string()).collect::<Vec<_>>().join(", ");
        let reason = format!("{text} has {} classes (ids {ids}), but {path} knows {count} (from 0)", classes.len());
        return Err(Error::parameter("classes", reason));
    }
    Ok(classes)
}

/// The map of a shrunken photograph on the photograph itself.
fn enlarged_map(map: CoarseMap, size: Size) -> Result<CoarseMap> {
    let from = map.image_size;
    let edge = |at: u32, from: u32, to: u32| {
        let (at, from, to) = (u64::from(at), u64::from(from), u64::from(to));
        ((2 * at * to + from) / (2 * from)) as u32
    };
    let patch = |patch: &Rect| {
        let (x, y) = (edge(patch.x, from.width, size.width), edge(patch.y, from.height, size.height));
        let width = edge(patch.x + patch.width, from.width, size.width) - x;
        Rect { x, y, width, height: edge(patch.y + patch.height, from.height, size.height) - y }
    };
    let patches = map.patches.iter().map(patch).collect();
    CoarseMap::new(map.probabilities, patches, size)
}

/// The labels of a shrunken photograph for every pixel of the photograph itself.
fn enlarged_labels(labels: &LabelMap, size: Size) -> LabelMap {
    let (rows, columns) = labels.dim();
    let (height, width) = size.shape();
    let nearest = |at: usize, from: usize, to: usize| (2 * at + 1) * from / (2 * to);
    LabelMap::from_shape_fn((height, width), |(y, x)| labels[[nearest(y, rows, height), nearest(x, columns, width)]])
}

#[cfg(test)]
#[path = "tests/map_meadow.rs"]
mod tests;
