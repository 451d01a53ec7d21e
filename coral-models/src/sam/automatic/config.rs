use coral_core::{ClassId, Error, Result, Size};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::GridPoint;

/// How large a mask may or must be.
///
/// # Examples
/// ```
/// use coral_core::Size;
/// use coral_models::AreaLimit;
/// let image = Size { width: 200, height: 100 };
/// assert_eq!(AreaLimit::Pixels(50).pixels(image), 50.0);
/// assert_eq!(AreaLimit::ImageFraction(0.25).pixels(image), 5000.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AreaLimit {
    /// A number of pixels.
    Pixels(u64),
    /// A share of the image that the generator is given, 0..=1.
    ImageFraction(f64),
}

impl AreaLimit {
    /// The limit in pixels for an image of this size.
    pub fn pixels(self, image: Size) -> f64 {
        match self {
            Self::Pixels(pixels) => pixels as f64,
            Self::ImageFraction(fraction) => fraction * image.pixels() as f64,
        }
    }

    fn validate(self, name: &str) -> Result<()> {
        match self {
            Self::ImageFraction(f) if !(0.0..=1.0).contains(&f) => {
                Err(Error::parameter(name, format!("expected a fraction of the image from 0 to 1, got {f}")))
            }
            _ => Ok(()),
        }
    }
}

/// Settings of the automatic mask generator, under their published names. Lengths and areas are in pixels.
///
/// The published `min_mask_region_area` is split into [`min_hole_area`](Self::min_hole_area) and
/// [`min_island_area`](Self::min_island_area); where settings are deserialised, its name stands for both.
///
/// # Examples
/// ```
/// use coral_models::GeneratorConfig;
/// let config = GeneratorConfig { points_per_side: 16, ..GeneratorConfig::coralscop() };
/// assert!(config.validate().is_ok());
/// let tidy = GeneratorConfig::sam().with_min_mask_region_area(100);
/// assert_eq!((tidy.min_hole_area, tidy.min_island_area), (100, 100));
/// ```
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023; Zheng et al., *CoralSCOP: Segment any COral Image on this Planet*,
/// CVPR 2024.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Clicks along each side of the whole image, 1–1024.
    pub points_per_side: u32,
    /// Clicks that are decoded and filtered together, at least 1; does not change results.
    pub points_per_batch: usize,
    /// Masks stay whose predicted IoU is **above** this; 0 or less keeps all.
    pub pred_iou_thresh: f64,
    /// Masks stay whose stability score is **at least** this; 0 or less keeps all.
    pub stability_score_thresh: f64,
    /// How far [`stability_score`](super::stability_score) moves the threshold up and down, in logits, at least 0.
    pub stability_score_offset: f64,
    /// Logits above this are inside the mask.
    pub mask_threshold: f64,
    /// Of two masks of a crop whose boxes' IoU is above this, the one with the lower predicted IoU goes; 0–1.
    pub box_nms_thresh: f64,
    /// Layers of crops after the whole image; layer i has 2^i × 2^i crops. At most 6.
    pub crop_n_layers: u32,
    /// Of two masks of different crops whose boxes' IoU is above this, the one of the larger crop goes; 0–1.
    pub crop_nms_thresh: f64,
    /// Overlap of the first layer's crops as a share of the image's shorter side, from 0 to below 1; halved in each
    /// further layer.
    pub crop_overlap_ratio: f64,
    /// Layer i has `points_per_side` / this^i clicks along each side of a crop, at least 1.
    pub crop_n_points_downscale_factor: u32,
    /// The clicks of each layer instead of even grids: `crop_n_layers` + 1 lists.
    pub point_grids: Option<Vec<Vec<GridPoint>>>,
    /// Whether a click gives three masks (whole, part, sub-part) or one.
    pub multimask_output: bool,
    /// Masks of this class are dropped before any other filter, where the model knows classes.
    pub background_class: Option<ClassId>,
    /// Holes below this many pixels are filled; 0 leaves all.
    pub min_hole_area: u32,
    /// Separate pieces below this many pixels are dropped, but for the largest; 0 leaves all.
    pub min_island_area: u32,
    /// Smaller masks are dropped.
    pub min_mask_area: Option<AreaLimit>,
    /// Larger masks are dropped, before they can suppress others.
    pub max_mask_area: Option<AreaLimit>,
    /// A mask that reaches this close to the edge of its crop is taken for cut and dropped, unless the image's
    /// own edge is as close.
    pub crop_edge_tolerance: u32,
}

impl Serialize for GeneratorConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for GeneratorConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut fields = Map::<String, Value>::deserialize(deserializer)?;
        if let Some(area) = fields.remove("min_mask_region_area") {
            for name in ["min_hole_area", "min_island_area"] {
                fields.entry(name).or_insert_with(|| area.clone());
            }
        }
        Self::deserialize(Value::Object(fields)).map_err(D::Error::custom)
    }
}

impl Default for GeneratorConfig {
    /// [`coralscop`](Self::coralscop).
    fn default() -> Self {
        Self::coralscop()
    }
}

impl GeneratorConfig {
    /// CoralSCOP's published settings: one layer of crops, one mask per click, class 0 is background.
    pub fn coralscop() -> Self {
        Self {
            pred_iou_thresh: 0.72,
            stability_score_thresh: 0.62,
            crop_n_layers: 1,
            crop_n_points_downscale_factor: 2,
            multimask_output: false,
            background_class: Some(0),
            min_hole_area: 100,
            min_island_area: 100,
            ..Self::sam()
        }
    }

    /// Segment Anything's published settings: no crops, three masks per click, no classes, small regions stay.
    pub fn sam() -> Self {
        Self {
            points_per_side: 32,
            points_per_batch: 64,
            pred_iou_thresh: 0.88,
            stability_score_thresh: 0.95,
            stability_score_offset: 1.0,
            mask_threshold: 0.0,
            box_nms_thresh: 0.7,
            crop_n_layers: 0,
            crop_nms_thresh: 0.7,
            crop_overlap_ratio: 512.0 / 1500.0,
            crop_n_points_downscale_factor: 1,
            point_grids: None,
            multimask_output: true,
            background_class: None,
            min_hole_area: 0,
            min_island_area: 0,
            min_mask_area: None,
            max_mask_area: None,
            crop_edge_tolerance: 20,
        }
    }

    /// The published setting of this name: both [`min_hole_area`](Self::min_hole_area) and
    /// [`min_island_area`](Self::min_island_area).
    pub fn with_min_mask_region_area(self, area: u32) -> Self {
        Self { min_hole_area: area, min_island_area: area, ..self }
    }

    /// The clicks of every crop of layer `layer`, relative to the crop.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the layer has no click.
    ///
    /// # Examples
    /// ```
    /// use coral_models::GeneratorConfig;
    /// let config = GeneratorConfig::coralscop();
    /// assert_eq!(config.layer_points(0)?.len(), 32 * 32);
    /// assert_eq!(config.layer_points(1)?.len(), 16 * 16);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn layer_points(&self, layer: u32) -> Result<Vec<GridPoint>> {
        if let Some(grids) = &self.point_grids {
            return grids.get(layer as usize).filter(|grid| !grid.is_empty()).cloned().ok_or_else(|| {
                Error::parameter("point_grids", format!("expected a list of clicks for layer {layer}, got none"))
            });
        }
        let side = self.points_per_side / self.crop_n_points_downscale_factor.saturating_pow(layer).max(1);
        if side == 0 {
            let reason = format!("leaves no click in layer {layer} of {} along each side", self.points_per_side);
            return Err(Error::parameter("crop_n_points_downscale_factor", reason));
        }
        Ok(super::point_grid(side))
    }

    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let check = |holds: bool, name: &str, expected: &str, got: f64| {
            if holds { Ok(()) } else { Err(Error::parameter(name, format!("expected {expected}, got {got}"))) }
        };
        let share = |value: f64, name: &str| check((0.0..=1.0).contains(&value), name, "0 to 1", value);
        let finite = |value: f64, name: &str| check(value.is_finite(), name, "a finite number", value);
        let side = self.points_per_side;
        check((1..=1024).contains(&side), "points_per_side", "1 to 1024", side.into())?;
        check(self.points_per_batch > 0, "points_per_batch", "at least 1", 0.0)?;
        finite(self.pred_iou_thresh, "pred_iou_thresh")?;
        finite(self.stability_score_thresh, "stability_score_thresh")?;
        finite(self.mask_threshold, "mask_threshold")?;
        let offset = self.stability_score_offset;
        check(offset.is_finite() && offset >= 0.0, "stability_score_offset", "a number of at least 0", offset)?;
        share(self.box_nms_thresh, "box_nms_thresh")?;
        share(self.crop_nms_thresh, "crop_nms_thresh")?;
        check(self.crop_n_layers <= 6, "crop_n_layers", "at most 6", self.crop_n_layers.into())?;
        let overlap = self.crop_overlap_ratio;
        check((0.0..1.0).contains(&overlap), "crop_overlap_ratio", "0 to below 1", overlap)?;
        check(self.crop_n_points_downscale_factor > 0, "crop_n_points_downscale_factor", "at least 1", 0.0)?;
        self.min_mask_area.map_or(Ok(()), |limit| limit.validate("min_mask_area"))?;
        self.max_mask_area.map_or(Ok(()), |limit| limit.validate("max_mask_area"))?;
        self.validate_points()
    }

    fn validate_points(&self) -> Result<()> {
        for layer in 0..=self.crop_n_layers {
            let outside = self.layer_points(layer)?.into_iter().find(|point| !point.is_inside());
            if let Some(GridPoint { x, y }) = outside {
                let reason = format!("expected x and y from 0 to 1, got ({x}, {y}) in layer {layer}");
                return Err(Error::parameter("point_grids", reason));
            }
        }
        match &self.point_grids {
            Some(grids) if grids.len() as u64 > u64::from(self.crop_n_layers) + 1 => {
                let reason = format!("expected {} lists of clicks, got {}", self.crop_n_layers + 1, grids.len());
                Err(Error::parameter("point_grids", reason))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(change: impl FnOnce(&mut GeneratorConfig)) -> String {
        let mut config = GeneratorConfig::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn published_settings_are_valid() {
        GeneratorConfig::sam().validate().unwrap();
        GeneratorConfig::coralscop().validate().unwrap();
        assert_eq!(GeneratorConfig::default(), GeneratorConfig::coralscop());
    }

    #[test]
    fn bad_settings_are_refused() {
        assert_eq!(refuse(|c| c.points_per_side = 0), "invalid parameter `points_per_side`: expected 1 to 1024, got 0");
        assert!(refuse(|c| c.points_per_batch = 0).contains("`points_per_batch`"));
        assert!(refuse(|c| c.pred_iou_thresh = f64::NAN).contains("`pred_iou_thresh`: expected a finite number"));
        assert!(refuse(|c| c.stability_score_thresh = f64::INFINITY).contains("`stability_score_thresh`"));
        assert!(refuse(|c| c.stability_score_offset = -0.5).contains("`stability_score_offset`"));
        assert!(refuse(|c| c.mask_threshold = f64::NAN).contains("`mask_threshold`"));
        assert!(refuse(|c| c.box_nms_thresh = 1.5).contains("`box_nms_thresh`: expected 0 to 1, got 1.5"));
        assert!(refuse(|c| c.crop_nms_thresh = f64::NAN).contains("`crop_nms_thresh`"));
        assert!(refuse(|c| c.crop_n_layers = 7).contains("`crop_n_layers`: expected at most 6, got 7"));
        assert!(refuse(|c| c.crop_overlap_ratio = 1.0).contains("`crop_overlap_ratio`"));
        assert!(refuse(|c| c.crop_n_points_downscale_factor = 0).contains("`crop_n_points_downscale_factor`"));
        assert!(refuse(|c| c.crop_n_points_downscale_factor = 33).contains("leaves no click in layer 1 of 32"));
        assert!(refuse(|c| c.min_mask_area = Some(AreaLimit::ImageFraction(1.1))).contains("`min_mask_area`"));
        assert!(refuse(|c| c.max_mask_area = Some(AreaLimit::ImageFraction(f64::NAN))).contains("`max_mask_area`"));
    }

    #[test]
    fn point_grids_fit_the_layers() {
        let at = |x, y| GridPoint { x, y };
        assert!(refuse(|c| c.point_grids = Some(vec![vec![at(0.5, 0.5)]])).contains("clicks for layer 1, got none"));
        let outside = refuse(|c| c.point_grids = Some(vec![vec![at(0.5, 0.5)], vec![at(0.5, 1.2)]]));
        assert!(outside.contains("got (0.5, 1.2) in layer 1"), "{outside}");
        assert!(refuse(|c| c.point_grids = Some(vec![vec![at(0.1, 0.2)]; 3])).contains("expected 2 lists"));
        let own = GeneratorConfig {
            point_grids: Some(vec![vec![at(0.1, 0.2)], vec![at(0.3, 0.4), at(0.5, 0.6)]]),
            ..GeneratorConfig::default()
        };
        own.validate().unwrap();
        assert_eq!(own.layer_points(1).unwrap(), [at(0.3, 0.4), at(0.5, 0.6)]);
    }

    #[test]
    fn settings_are_read_by_their_published_names() {
        let text = r#"{"pred_iou_thresh": 0.8, "background_class": null, "max_mask_area": {"image_fraction": 0.5}}"#;
        let config: GeneratorConfig = serde_json::from_str(text).unwrap();
        let expected = GeneratorConfig {
            pred_iou_thresh: 0.8,
            background_class: None,
            max_mask_area: Some(AreaLimit::ImageFraction(0.5)),
            ..GeneratorConfig::coralscop()
        };
        assert_eq!(config, expected);
        let written = serde_json::to_string(&expected).unwrap();
        assert_eq!(serde_json::from_str::<GeneratorConfig>(&written).unwrap(), expected);

        let text = r#"{"min_mask_region_area": 7, "min_island_area": 9}"#;
        let config: GeneratorConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.min_hole_area, config.min_island_area), (7, 9));
        for wrong in [r#"{"pred_iou_tresh": 0.8}"#, r#"{"min_mask_region_area": -1}"#, "7"] {
            assert!(serde_json::from_str::<GeneratorConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
