use std::fs;
use std::path::Path;

use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::{Array2, s};
use coral_core::{Crs, GeoTransform, ImageWindow, LabelMap, RasterGrid};
use coral_io::geo::{OrthophotoWriter, TiffLayout, read_polygons};
use coral_models::{SegFormerConfig, SegFormerSegmenterConfig};
use tempfile::TempDir;

use super::*;

const SIZE: Size = Size { width: 70, height: 50 };

/// A folder with a segmenter and an orthophoto, whose last ten columns hold no data.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.model("model.safetensors", &["coral", "rubble", "sand"]);
        folder.raster("reef.tif", Crs { epsg: 32740 }, GeoTransform::north_up(322_000.0, 7_658_000.0, 0.5, 0.5));
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn model(&self, name: &str, classes: &[&str]) {
        let network = SegFormerConfig {
            hidden_sizes: [4, 8, 8, 8],
            num_attention_heads: [1; 4],
            depths: [1; 4],
            decoder_hidden_size: 8,
            ..SegFormerConfig::mit_b0(3)
        };
        let class_names = classes.iter().map(|name| (*name).to_owned()).collect();
        let config = SegFormerSegmenterConfig { class_names, ..SegFormerSegmenterConfig::new(network) };
        SegFormerSegmenter::new(config, 3, &Device::Cpu).unwrap().save(self.at(name)).unwrap();
    }

    fn raster(&self, name: &str, crs: Crs, transform: GeoTransform) {
        let image = RgbImage::from_fn(SIZE.width, SIZE.height, |x, y| Rgb([(x * 3) as u8, (y * 5) as u8, 90]));
        let valid = Array2::from_shape_fn(SIZE.shape(), |(_, x)| x < 60);
        let grid = RasterGrid { size: SIZE, transform, crs };
        let mut writer = OrthophotoWriter::create_with_alpha(self.at(name), grid, TiffLayout::default()).unwrap();
        writer.write_window(&ImageWindow { image, valid }).unwrap();
        writer.finish().unwrap();
    }

    /// Maps with these flags; `@` stands for the folder.
    fn map(&self, flags: &str) -> Result<String> {
        let flags = format!("map_orthophoto --model @model.safetensors --raster @reef.tif --out @map.tif {flags}");
        let place = format!("{}/", self.0.path().display());
        let mut words: Vec<String> = Vec::new();
        for word in flags.split_whitespace().map(|word| word.replace('@', &place)) {
            // A flag that is given again replaces the earlier one.
            if let Some(at) = words.iter().position(|earlier| word.starts_with("--") && *earlier == word) {
                words.drain(at..at + 2);
            }
            words.push(word);
        }
        run(&Arguments::try_parse_from(words).map_err(|error| Error::parameter("flags", error.to_string()))?)
    }

    fn refuse(&self, flags: &str) -> String {
        self.map(flags).unwrap_err().to_string()
    }

    fn labels(&self, name: &str) -> LabelMap {
        let map = LabelGeoTiff::open(self.at(name), &[]).unwrap();
        map.read_labels(Rect::whole(map.size())).unwrap()
    }
}

fn shares(text: &str) -> Vec<(String, f64, f64)> {
    let numbers = text.lines().filter(|line| line.ends_with("m²")).map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        (words[0].to_owned(), words[1].parse().unwrap(), words[3].parse().unwrap())
    });
    numbers.collect()
}

#[test]
fn an_orthophoto_becomes_map_picture_and_polygons() {
    let folder = Folder::new();
    let text = folder.map("--tile 32 --picture @map.png --polygons @map.geojson").unwrap();
    assert!(text.ends_with("map.tif is written"), "{text}");
    let labels = folder.labels("map.tif");
    assert_eq!(Size::of_map(&labels), SIZE);
    assert!(labels.slice(s![.., ..60]).iter().all(|&class| class < 3));
    assert!(labels.slice(s![.., 60..]).iter().all(|&class| class == UNLABELED));
    let rows = shares(&text);
    assert_eq!(rows.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["coral", "rubble", "sand"]);
    assert!((rows.iter().map(|row| row.1).sum::<f64>() - 100.0).abs() < 0.2, "{text}");
    // 60 by 50 pixels of half a metre.
    assert!((rows.iter().map(|row| row.2).sum::<f64>() - 750.0).abs() < 0.2, "{text}");
    let polygons = read_polygons(folder.at("map.geojson")).unwrap();
    assert_eq!((polygons.crs, polygons.is_empty()), (Crs::WGS84, false));
    assert!(coral_io::image_size(folder.at("map.png")).unwrap().width > 0);
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 5, "nothing else is left");
}

#[test]
fn tiles_may_be_larger_than_the_raster() {
    let folder = Folder::new();
    folder.map("").unwrap();
    folder.map("--tile 70 --stride 70 --out @whole.tif").unwrap();
    assert_eq!(folder.labels("map.tif"), folder.labels("whole.tif"));
    folder.map("--tile 32 --stride 20 --logits --out @logits.tif").unwrap();
    assert_eq!(folder.labels("logits.tif").iter().filter(|&&class| class < 3).count(), 3000);
    assert!(folder.refuse("--tile 32 --stride 33 --out @other.tif").contains("`stride`"));
    assert!(folder.refuse("--tile 0 --out @other.tif").contains("--tile"));
    assert!(!folder.at("other.tif").exists());
}

#[test]
fn degrees_have_square_metres_too() {
    let folder = Folder::new();
    let half = 0.5 / 111_194.9;
    folder.raster("degrees.tif", Crs::WGS84, GeoTransform::north_up(55.0, 0.0, half, half));
    let text = folder.map("--raster @degrees.tif --polygons @map.geojson").unwrap();
    assert!((shares(&text).iter().map(|row| row.2).sum::<f64>() - 750.0).abs() < 0.5, "{text}");
    assert!(!read_polygons(folder.at("map.geojson")).unwrap().is_empty());
}

#[test]
fn classes_without_names_are_numbers() {
    let folder = Folder::new();
    folder.model("model.safetensors", &[]);
    let text = folder.map("").unwrap();
    assert_eq!(shares(&text).len(), 3, "{text}");
}

#[test]
fn nothing_is_written_over_by_chance() {
    let folder = Folder::new();
    folder.map("").unwrap();
    let (map, raster) = (fs::read(folder.at("map.tif")).unwrap(), fs::read(folder.at("reef.tif")).unwrap());
    assert!(folder.refuse("--tile 32").contains("pass --overwrite"));
    assert_eq!(fs::read(folder.at("map.tif")).unwrap(), map);
    folder.map("--tile 32 --overwrite").unwrap();
    let another = |flags: &str, name: &str| {
        let text = folder.refuse(flags);
        assert!(text.contains(&format!("`{name}`")) && text.contains("expected another file"), "{text}");
    };
    another("--out @reef.tif --overwrite", "out");
    another("--out @model.safetensors --overwrite", "out");
    another("--overwrite --picture @reef.tif", "picture");
    another("--overwrite --polygons @map.tif", "polygons");
    another("--overwrite --polygons @other --picture @other", "picture");
    assert_eq!(fs::read(folder.at("reef.tif")).unwrap(), raster);
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = Folder::new();
    RgbImage::new(20, 20).save(folder.at("plain.tif")).unwrap();
    fs::write(folder.at("broken.tif"), &fs::read(folder.at("reef.tif")).unwrap()[..300]).unwrap();
    for (flags, name) in [
        ("--raster @gone.tif", "gone.tif"),
        ("--raster @plain.tif", "plain.tif"),
        ("--raster @broken.tif", "broken.tif"),
        ("--model @gone.safetensors", "gone.safetensors"),
        ("--model @reef.tif --raster @reef.tif", "reef.tif"),
        ("--out @nowhere/map.tif", "nowhere"),
    ] {
        let text = folder.refuse(flags);
        assert!(text.contains(name), "{flags}: {text}");
        assert!(!folder.at("map.tif").exists() && !Path::new(&folder.at("nowhere")).exists());
    }
}
