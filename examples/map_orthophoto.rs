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
use coral_core::{Crs, Error, LabelRaster, Rect, Result, Size};
use coral_examples::drone_survey::{Stage, map_orthophoto};
use coral_examples::{Bar, finish};
use coral_io::geo::{
    GeoJsonCrs, LabelGeoTiff, MapPicture, MapPictureConfig, Orthophoto, PolygonizeConfig, Projection, polygonize,
    write_geojson,
};
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
    #[arg(long, default_value_t = 512)]
    tile: u32,
    /// From one tile to the next; half a tile when left out.
    #[arg(long)]
    stride: Option<u32>,
    /// Overlapping tiles vote, instead of averaging their logits.
    #[arg(long)]
    votes: bool,
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
    if arguments.out.exists() && !arguments.overwrite {
        let reason = format!("{} is there; pass --overwrite to replace it", arguments.out.display());
        return Err(Error::parameter("out", reason));
    }
    let segmenter = SegFormerSegmenter::open(&arguments.model, &Device::Cpu)?;
    let classes = segmenter.config().class_set()?;
    let orthophoto = Orthophoto::open(&arguments.raster)?;
    let square = |side| Size { width: side, height: side };
    let stride = square(arguments.stride.unwrap_or((arguments.tile / 2).max(1)));
    let fusion = if arguments.votes { Fusion::Votes } else { Fusion::Logits };
    let config = RasterMapConfig { tile: square(arguments.tile), stride, fusion, ..RasterMapConfig::default() };
    let inputs = vec![arguments.model.clone(), arguments.raster.clone()];
    let stage = Stage { name: "map".into(), settings: json!(config), inputs, outputs: Vec::new() };
    map_orthophoto(&orthophoto, &segmenter, &config, (&arguments.out, &classes, &stage.key()?), &Bar::new())?;

    let map = LabelGeoTiff::open(&arguments.out, &[])?;
    let grid = map.grid();
    if let Some(path) = &arguments.picture {
        let picture = MapPicture::new(grid, &classes, MapPictureConfig::default())?;
        coral_io::write_image(path, &picture.draw(&map)?)?;
    }
    if let Some(path) = &arguments.polygons {
        let min_pixels = (0.25 / grid.transform.pixel_area()).ceil() as u64;
        let regions = polygonize(&map, &grid, &classes, &PolygonizeConfig { min_pixels, ..Default::default() })?;
        let projection = Projection::new(grid.crs, Crs::WGS84)?;
        let regions = regions.map_positions(Crs::WGS84, |x, y| projection.transform(x, y))?;
        write_geojson(path, &regions, GeoJsonCrs::default())?;
    }
    let mut counts = vec![0u64; 256];
    for y in (0..grid.size.height).step_by(512) {
        let window = Rect { x: 0, y, width: grid.size.width, height: 512.min(grid.size.height - y) };
        map.read_labels(window)?.iter().for_each(|&class| counts[usize::from(class)] += 1);
    }
    let known: u64 = counts[..255].iter().sum();
    let mut text = String::new();
    for class in classes.iter() {
        let count = counts[usize::from(class.id)];
        let square_metres = count as f64 * grid.transform.pixel_area();
        let area = if grid.crs == Crs::WGS84 { String::new() } else { format!("{square_metres:12.1} m²") };
        text += &format!("{:24} {:5.1} % {area}\n", class.name, 100.0 * count as f64 / known.max(1) as f64);
    }
    Ok(format!("{text}{} is written", arguments.out.display()))
}
