//! The class map of an orthophoto by a trained segmenter.
//!
//! ```text
//! cargo run --release --example map_orthophoto -- --model second.safetensors --raster orthophoto.tif --out map.tif
//! ```
//!
//! The map is a GeoTIFF on the orthophoto's pixels with the classes' names and colours. `--polygons` also writes its regions
//! as GeoJSON with their areas, `--picture` a picture with legend and scale bar. A killed run goes on with the rows that are
//! missing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use coral_core::{Class, ClassSet, Error, LabelRaster, Rect, Result, Size, UNLABELED};
use coral_examples::drone_survey::{Mapping, Stage, pixel_square_metres, write_regions};
use coral_examples::{Bar, finish};
use coral_io::geo::{LabelGeoTiff, MapPicture, MapPictureConfig, Orthophoto};
use coral_models::SegFormerSegmenter;
use coral_models::candle_core::Device;
use coral_weak::{Fusion, RasterMapConfig};
use serde_json::json;

/// Maps an orthophoto.
#[derive(Debug, Parser)]
struct Arguments {
    /// A segmenter that `drone_map` trained.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The orthophoto, a GeoTIFF.
    #[arg(long, value_name = "FILE")]
    raster: PathBuf,
    /// The map, a GeoTIFF.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Side of the tiles in pixels, best that of the training.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    tile: u32,
    /// From one tile to the next; half a tile when left out.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    stride: Option<u32>,
    /// Averages the logits of overlapping tiles; otherwise tiles vote, as published.
    #[arg(long)]
    logits: bool,
    /// Also writes the map's regions of at least a quarter of a square metre as GeoJSON.
    #[arg(long, value_name = "FILE")]
    polygons: Option<PathBuf>,
    /// Also draws the map.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Replaces the map where there is one.
    #[arg(long)]
    overwrite: bool,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<String> {
    expect_apart(arguments)?;
    if arguments.out.exists() && !arguments.overwrite {
        let reason = format!("{} is there; pass --overwrite to replace it", arguments.out.display());
        return Err(Error::parameter("out", reason));
    }
    let segmenter = SegFormerSegmenter::open(&arguments.model, &Device::Cpu)?;
    let classes = segmenter.config().class_set()?;
    let orthophoto = Orthophoto::open(&arguments.raster)?;
    let square = |side| Size { width: side, height: side };
    let stride = square(arguments.stride.unwrap_or((arguments.tile / 2).max(1)));
    let fusion = if arguments.logits { Fusion::Logits } else { Fusion::Votes };
    let config = RasterMapConfig { tile: square(arguments.tile), stride, fusion, ..RasterMapConfig::default() };
    let inputs = vec![arguments.model.clone(), arguments.raster.clone()];
    let stage = Stage { name: "map".into(), settings: json!(config), inputs, outputs: Vec::new() };
    let mapping = Mapping { orthophoto: &orthophoto, config: &config, classes: &classes, progress: &Bar::new() };
    mapping.write(&segmenter, (&arguments.out, &stage.key()?))?;

    let map = LabelGeoTiff::open(&arguments.out, &[])?;
    if let Some(path) = &arguments.picture {
        let picture = MapPicture::new(map.grid(), &classes, MapPictureConfig::default())?;
        coral_io::write_image(path, &picture.draw(&map)?)?;
    }
    if let Some(path) = &arguments.polygons {
        write_regions(path, &map, &classes)?;
    }
    Ok(format!("{}{} is written", cover(&map, &classes)?, arguments.out.display()))
}

/// Refuses to write over what is read, and two results into one file.
fn expect_apart(arguments: &Arguments) -> Result<()> {
    let place = |path: &PathBuf| path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or(path.clone());
    let mut taken = vec![place(&arguments.model), place(&arguments.raster)];
    let results = [("out", Some(&arguments.out)), ("polygons", arguments.polygons.as_ref())];
    for (name, path) in results.into_iter().chain([("picture", arguments.picture.as_ref())]) {
        let Some(path) = path else { continue };
        if taken.contains(&place(path)) {
            return Err(Error::parameter(name, format!("{} has another use, expected another file", path.display())));
        }
        taken.push(place(path));
    }
    Ok(())
}

/// Share and area of every class.
fn cover(map: &LabelGeoTiff, classes: &ClassSet) -> Result<String> {
    const ROWS: u32 = 512;
    let Size { width, height } = map.size();
    let mut counts = vec![0u64; 256];
    for y in (0..height).step_by(ROWS as usize) {
        let window = Rect { x: 0, y, width, height: ROWS.min(height - y) };
        map.read_labels(window)?.iter().for_each(|&class| counts[usize::from(class)] += 1);
    }
    let known: u64 = counts[..usize::from(UNLABELED)].iter().sum();
    let pixel = pixel_square_metres(&map.grid());
    let line = |class: &Class| {
        let count = counts[usize::from(class.id)] as f64;
        let percent = 100.0 * count / known.max(1) as f64;
        format!("{:24} {percent:5.1} % {:12.1} m²\n", class.name, count * pixel)
    };
    Ok(classes.iter().map(line).collect())
}

#[cfg(test)]
#[path = "tests/map_orthophoto.rs"]
mod tests;
