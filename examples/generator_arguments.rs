use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use coral_core::{ClassId, Error, Result, UNLABELED};
use coral_models::{AreaLimit, GeneratorConfig, GridPoint, SamConfig};

/// Published settings of the mask generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// One mask per click, one layer of crops, background dropped, small regions removed.
    #[value(name = "coralscop")]
    CoralScop,
    /// Three masks per click, no crops, stricter thresholds.
    Sam,
}

/// Every setting of the mask generator under its published name; the preset has the others.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Mask generation")]
pub struct GeneratorArguments {
    /// Settings without a flag; by default those published with the kind of network.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Clicks along each side of the image.
    #[arg(long, value_name = "N")]
    points_per_side: Option<u32>,
    /// Clicks that the mask decoder handles at once.
    #[arg(long, value_name = "N")]
    points_per_batch: Option<usize>,
    /// Keep masks whose predicted IoU is above this; 0 keeps all.
    #[arg(long, value_name = "IOU")]
    pred_iou_thresh: Option<f64>,
    /// Keep masks whose stability score is at least this; 0 keeps all.
    #[arg(long, value_name = "SCORE")]
    stability_score_thresh: Option<f64>,
    /// How far the stability score moves the threshold up and down, in logits.
    #[arg(long, value_name = "LOGITS")]
    stability_score_offset: Option<f64>,
    /// Logits above this are inside the mask.
    #[arg(long, value_name = "LOGITS")]
    mask_threshold: Option<f64>,
    /// Boxes of a crop that overlap by more than this IoU are duplicates.
    #[arg(long, value_name = "IOU")]
    box_nms_thresh: Option<f64>,
    /// Layers of crops after the whole image; layer i has 2^i × 2^i crops.
    #[arg(long, value_name = "N")]
    crop_n_layers: Option<u32>,
    /// Boxes of different crops that overlap by more than this IoU are duplicates.
    #[arg(long, value_name = "IOU")]
    crop_nms_thresh: Option<f64>,
    /// Overlap of the first layer's crops, as a share of the image's shorter side.
    #[arg(long, value_name = "SHARE")]
    crop_overlap_ratio: Option<f64>,
    /// Layer i has the clicks along each side divided by this to the power of i.
    #[arg(long, value_name = "N")]
    crop_n_points_downscale_factor: Option<u32>,
    /// Clicks instead of even grids: a JSON file with a list of `[x, y]` (0 to 1) for each layer.
    #[arg(long, value_name = "FILE")]
    point_grids: Option<PathBuf>,
    /// Three masks (whole, part, sub-part) per click instead of one.
    #[arg(long, value_name = "BOOL")]
    multimask_output: Option<bool>,
    /// Drop masks of this class, or of `none`.
    #[arg(long, value_name = "CLASS")]
    background_class: Option<Background>,
    /// Sets both --min-hole-area and --min-island-area.
    #[arg(long, value_name = "PIXELS")]
    min_mask_region_area: Option<u32>,
    /// Fill holes of fewer pixels.
    #[arg(long, value_name = "PIXELS")]
    min_hole_area: Option<u32>,
    /// Remove separate pieces of fewer pixels.
    #[arg(long, value_name = "PIXELS")]
    min_island_area: Option<u32>,
    /// Drop smaller masks: pixels, or a share of the image (with --tile, of the tile) like `5%`.
    #[arg(long, value_name = "AREA", value_parser = area_limit)]
    min_mask_area: Option<AreaLimit>,
    /// Drop larger masks: pixels, or a share of the image (with --tile, of the tile) like `5%`.
    #[arg(long, value_name = "AREA", value_parser = area_limit)]
    max_mask_area: Option<AreaLimit>,
    /// Drop masks that come this close to the edge of their crop, unless the image ends there.
    #[arg(long, value_name = "PIXELS")]
    crop_edge_tolerance: Option<u32>,
}

/// A class to drop, or none.
#[derive(Debug, Clone, Copy)]
struct Background(Option<ClassId>);

impl FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.parse() {
            _ if text == "none" => Ok(Self(None)),
            Ok(UNLABELED) | Err(_) => Err("expected a class of 0–254 or `none`".into()),
            Ok(class) => Ok(Self(Some(class))),
        }
    }
}

fn area_limit(text: &str) -> std::result::Result<AreaLimit, String> {
    let limit = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().ok().map(|percent: f64| AreaLimit::ImageFraction(percent / 100.0)),
        None => text.parse().ok().map(AreaLimit::Pixels),
    };
    limit.ok_or_else(|| "expected whole pixels or a percentage like `5%`".into())
}

impl GeneratorArguments {
    /// The settings for a network, checked.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field; [`Error::Io`] or [`Error::Format`] naming the file of clicks.
    pub fn config(&self, network: &SamConfig) -> Result<GeneratorConfig> {
        let config = self.with_flags(self.preset_config(network))?;
        config.validate()?;
        if let (Some(Background(Some(class))), classes) = (self.background_class, network.semantic.map(|s| s.classes))
            && usize::from(class) >= classes.unwrap_or(0)
        {
            let known = classes.map_or("no classes".into(), |classes| format!("classes 0 to {}", classes - 1));
            return Err(Error::parameter("background_class", format!("the network knows {known}, got {class}")));
        }
        Ok(config)
    }

    fn preset_config(&self, network: &SamConfig) -> GeneratorConfig {
        let published = if network.semantic.is_some() { Preset::CoralScop } else { Preset::Sam };
        match self.preset.unwrap_or(published) {
            Preset::CoralScop => GeneratorConfig::coralscop(),
            Preset::Sam => GeneratorConfig::sam(),
        }
    }

    fn with_flags(&self, mut config: GeneratorConfig) -> Result<GeneratorConfig> {
        fn set<T: Copy>(field: &mut T, flag: Option<T>) {
            *field = flag.unwrap_or(*field);
        }
        if let Some(area) = self.min_mask_region_area {
            config = config.with_min_mask_region_area(area);
        }
        set(&mut config.points_per_side, self.points_per_side);
        set(&mut config.points_per_batch, self.points_per_batch);
        set(&mut config.pred_iou_thresh, self.pred_iou_thresh);
        set(&mut config.stability_score_thresh, self.stability_score_thresh);
        set(&mut config.stability_score_offset, self.stability_score_offset);
        set(&mut config.mask_threshold, self.mask_threshold);
        set(&mut config.box_nms_thresh, self.box_nms_thresh);
        set(&mut config.crop_n_layers, self.crop_n_layers);
        set(&mut config.crop_nms_thresh, self.crop_nms_thresh);
        set(&mut config.crop_overlap_ratio, self.crop_overlap_ratio);
        set(&mut config.crop_n_points_downscale_factor, self.crop_n_points_downscale_factor);
        set(&mut config.multimask_output, self.multimask_output);
        set(&mut config.background_class, self.background_class.map(|background| background.0));
        set(&mut config.min_hole_area, self.min_hole_area);
        set(&mut config.min_island_area, self.min_island_area);
        set(&mut config.min_mask_area, self.min_mask_area.map(Some));
        set(&mut config.max_mask_area, self.max_mask_area.map(Some));
        set(&mut config.crop_edge_tolerance, self.crop_edge_tolerance);
        config.point_grids = self.point_grids.as_deref().map(read_point_grids).transpose()?;
        Ok(config)
    }
}

fn read_point_grids(path: &Path) -> Result<Vec<Vec<GridPoint>>> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    let grids: Vec<Vec<[f64; 2]>> = serde_json::from_slice(&bytes).map_err(|error| {
        let reason = format!("expected a list of [x, y] for each layer of crops: {error}");
        Error::format(path, Some(error.line() as u64), reason)
    })?;
    Ok(grids.into_iter().map(|grid| grid.into_iter().map(|[x, y]| GridPoint { x, y }).collect()).collect())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(allow_negative_numbers = true)]
    struct Program {
        #[command(flatten)]
        generator: GeneratorArguments,
    }

    fn config_for(network: &SamConfig, flags: &str) -> Result<GeneratorConfig> {
        let words = std::iter::once("program").chain(flags.split_whitespace());
        Program::try_parse_from(words).unwrap().generator.config(network)
    }

    fn config(flags: &str) -> Result<GeneratorConfig> {
        config_for(&SamConfig::coralscop(2), flags)
    }

    #[test]
    fn every_setting_is_a_flag() {
        let settings = serde_json::to_value(GeneratorConfig::default()).unwrap();
        let command = Program::command();
        for name in settings.as_object().unwrap().keys() {
            let flag = name.replace('_', "-");
            assert!(command.get_arguments().any(|argument| argument.get_long() == Some(&flag)), "--{flag}");
        }
    }

    #[test]
    fn flags_change_the_preset() {
        assert_eq!(config("").unwrap(), GeneratorConfig::coralscop());
        assert_eq!(config_for(&SamConfig::vit_b(), "").unwrap(), GeneratorConfig::sam());
        assert_eq!(config("--preset sam").unwrap(), GeneratorConfig::sam());
        let folder = tempfile::tempdir().unwrap();
        let grids = folder.path().join("grids.json");
        std::fs::write(&grids, "[[[0.5, 0.25]], [[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.5]]]").unwrap();
        let flags = "--points-per-side 8 --points-per-batch 5 --pred-iou-thresh 0.1 --stability-score-thresh 0.2 \
             --stability-score-offset 0.3 --mask-threshold -0.4 --box-nms-thresh 0.5 --crop-n-layers 2 \
             --crop-nms-thresh 0.6 --crop-overlap-ratio 0.25 --crop-n-points-downscale-factor 1 \
             --multimask-output true --background-class none --min-mask-region-area 7 --min-island-area 9 \
             --min-mask-area 12 --max-mask-area 5% --crop-edge-tolerance 3 --point-grids";
        let at = |x, y| GridPoint { x, y };
        let expected = GeneratorConfig {
            points_per_side: 8,
            points_per_batch: 5,
            pred_iou_thresh: 0.1,
            stability_score_thresh: 0.2,
            stability_score_offset: 0.3,
            mask_threshold: -0.4,
            box_nms_thresh: 0.5,
            crop_n_layers: 2,
            crop_nms_thresh: 0.6,
            crop_overlap_ratio: 0.25,
            crop_n_points_downscale_factor: 1,
            point_grids: Some(vec![vec![at(0.5, 0.25)], vec![at(0.1, 0.2), at(0.3, 0.4)], vec![at(0.5, 0.5)]]),
            multimask_output: true,
            background_class: None,
            min_hole_area: 7,
            min_island_area: 9,
            min_mask_area: Some(AreaLimit::Pixels(12)),
            max_mask_area: Some(AreaLimit::ImageFraction(0.05)),
            crop_edge_tolerance: 3,
        };
        assert_eq!(config(&format!("{flags} {}", grids.display())).unwrap(), expected);
        assert_eq!(config("--preset sam --background-class 1").unwrap().background_class, Some(1));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |flags: &str| config(flags).unwrap_err().to_string();
        assert!(text("--box-nms-thresh 2").contains("`box_nms_thresh`: expected 0 to 1, got 2"));
        assert!(text("--max-mask-area 120%").contains("`max_mask_area`: expected a fraction"));
        assert!(text("--background-class 2").contains("the network knows classes 0 to 1, got 2"));
        let plain = config_for(&SamConfig::vit_b(), "--background-class 0").unwrap_err().to_string();
        assert!(plain.contains("the network knows no classes, got 0"), "{plain}");
        assert!(text("--point-grids gone.json").starts_with("gone.json: "));
        let folder = tempfile::tempdir().unwrap();
        let grids = folder.path().join("grids.json");
        std::fs::write(&grids, "[\n[[0.5]]]").unwrap();
        let error = text(&format!("--point-grids {}", grids.display()));
        assert!(error.contains("grids.json:2: expected a list of [x, y]"), "{error}");
        for flags in ["--min-mask-area 5.5", "--max-mask-area x%", "--background-class 255", "--preset clip"] {
            assert!(Program::try_parse_from(["program"].into_iter().chain(flags.split(' '))).is_err(), "{flags}");
        }
    }
}
