use coral_core::{ClassId, Error, Result, Size};
use serde::{Deserialize, Serialize};

use super::classes;
use super::water::{Tilt, Water};

/// How a coral colony grows; each form is a class of the synthetic reef.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GrowthForm {
    /// Clusters of fingers or thickets of forked branches.
    Branching,
    /// Boulders: smooth, honeycombed, or with a brain coral's meandering ridges.
    Massive,
    /// Flat plates on a stalk, with growth rings and a pale rim.
    Tabular,
    /// Thin crusts of very irregular outline.
    Encrusting,
    /// Folded, fuzzy soft corals.
    Soft,
}

impl GrowthForm {
    /// Every form, in the order of the class ids.
    pub const ALL: [Self; 5] = [Self::Branching, Self::Massive, Self::Tabular, Self::Encrusting, Self::Soft];

    /// The id of this form's class in [`SyntheticReef::class_set`](super::SyntheticReef::class_set).
    pub fn class(self) -> ClassId {
        match self {
            Self::Branching => classes::BRANCHING,
            Self::Massive => classes::MASSIVE,
            Self::Tabular => classes::TABULAR,
            Self::Encrusting => classes::ENCRUSTING,
            Self::Soft => classes::SOFT,
        }
    }
}

/// What a [`SyntheticReef`](super::SyntheticReef) shows.
///
/// # Examples
/// ```
/// use coral_core::Size;
/// use coral_io::{SyntheticReef, SyntheticReefConfig};
/// let config = SyntheticReefConfig { size: Size { width: 64, height: 48 }, ..Default::default() };
/// assert!(SyntheticReef::new(config.clone()).is_ok());
/// let error = SyntheticReef::new(SyntheticReefConfig { coral_cover: 1.5, ..config }).unwrap_err();
/// assert_eq!(error.to_string(), "invalid parameter `coral_cover`: expected a number in 0..=0.9, got 1.5");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticReefConfig {
    /// The picture's size in pixels.
    pub size: Size,
    /// The side, in metres, of a square as large as the area shown, 0.2..=10. Objects keep their size in metres, so that
    /// pictures of one seed and shape show about the same scene at any number of pixels. The camera hangs about as high
    /// above the reef, so that wide views are hazier.
    pub extent_m: f32,
    /// The share of the picture that corals should cover, 0..=0.9; hit within a few percent where there is room.
    pub coral_cover: f32,
    /// The share of the picture that seagrass should cover, 0..=0.9.
    pub seagrass_cover: f32,
    /// The share of the ground that is rock (under turf and coralline algae) rather than sand or rubble, 0..=1.
    pub hard_bottom: f32,
    /// The coral growth forms that occur; repetition makes a form more common.
    pub growth_forms: Vec<GrowthForm>,
    /// Whether every colony has the colour of its species, of which there are twenty
    /// ([`SyntheticReef::taxa`](super::SyntheticReef::taxa)). If not, colonies of all forms share all colours, and have a
    /// genus only. It changes colours alone.
    pub species: bool,
    /// Depth of water above the reef in metres, 0..=40: the deeper, the less red and the weaker the caustics.
    pub depth_m: f32,
    /// Strength of the blue-green veil between camera and reef, 0 (clear) ..=1 (murky).
    pub turbidity: f32,
    /// Standard deviation of the defocus blur in pixels, 0..=20.
    pub blur: f32,
    /// Standard deviation of the camera's noise in 8-bit levels, 0..=60.
    pub noise: f32,
}

impl Default for SyntheticReefConfig {
    fn default() -> Self {
        Self {
            size: Size { width: 512, height: 512 },
            extent_m: 1.2,
            coral_cover: 0.4,
            seagrass_cover: 0.08,
            hard_bottom: 0.55,
            growth_forms: GrowthForm::ALL.to_vec(),
            species: false,
            depth_m: 6.0,
            turbidity: 0.25,
            blur: 0.6,
            noise: 3.0,
        }
    }
}

impl SyntheticReefConfig {
    pub(crate) fn water(&self) -> Water {
        let Self { extent_m, depth_m, turbidity, blur, noise, .. } = *self;
        Water { extent_m, depth_m, turbidity, blur, noise, view: Tilt::NONE, gain: [1.0; 3] }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        within("extent_m", self.extent_m, 0.2, 10.0)?;
        within("coral_cover", self.coral_cover, 0.0, 0.9)?;
        within("seagrass_cover", self.seagrass_cover, 0.0, 0.9)?;
        within("hard_bottom", self.hard_bottom, 0.0, 1.0)?;
        within("depth_m", self.depth_m, 0.0, 40.0)?;
        within("turbidity", self.turbidity, 0.0, 1.0)?;
        within("blur", self.blur, 0.0, 20.0)?;
        within("noise", self.noise, 0.0, 60.0)?;
        can_be_drawn(self.size)?;
        if self.growth_forms.is_empty() && self.coral_cover > 0.0 {
            return Err(Error::parameter(
                "growth_forms",
                "expected at least one growth form where coral_cover is above 0",
            ));
        }
        Ok(())
    }
}

/// Checks that a setting lies in its range.
pub(super) fn within(name: &str, value: f32, low: f32, high: f32) -> Result<()> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(Error::parameter(name, format!("expected a number in {low}..={high}, got {value}")))
    }
}

/// Checks that a picture of this size has pixels, and not too many.
pub(super) fn can_be_drawn(size: Size) -> Result<()> {
    let pixels = u64::from(size.width) * u64::from(size.height);
    if pixels == 0 || pixels > 1 << 26 {
        return Err(Error::parameter("size", format!("expected 1 to {} pixels, got {size}", 1 << 26)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_value_is_named() {
        let text = |change: fn(&mut SyntheticReefConfig)| {
            let mut config = SyntheticReefConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(text(|c| c.size.width = 0), "invalid parameter `size`: expected 1 to 67108864 pixels, got 0x512");
        assert!(text(|c| c.size = Size { width: u32::MAX, height: u32::MAX }).contains("`size`"));
        assert!(text(|c| c.extent_m = 0.0).contains("`extent_m`: expected a number in 0.2..=10, got 0"));
        assert!(text(|c| c.coral_cover = -0.1).contains("`coral_cover`"));
        assert!(text(|c| c.seagrass_cover = 0.95).contains("`seagrass_cover`"));
        assert!(text(|c| c.hard_bottom = f32::NAN).contains("`hard_bottom`: expected a number in 0..=1, got NaN"));
        assert!(text(|c| c.depth_m = f32::INFINITY).contains("`depth_m`"));
        assert!(text(|c| c.turbidity = 2.0).contains("`turbidity`"));
        assert!(text(|c| c.blur = -1.0).contains("`blur`"));
        assert!(text(|c| c.noise = 61.0).contains("`noise`"));
        assert!(text(|c| c.growth_forms.clear()).contains("`growth_forms`"));
    }

    #[test]
    fn configs_are_read_with_defaults_and_without_unknown_fields() {
        let config: SyntheticReefConfig =
            serde_json::from_str(r#"{"depth_m": 12.0, "growth_forms": ["massive", "soft"]}"#).unwrap();
        assert_eq!(config.growth_forms, [GrowthForm::Massive, GrowthForm::Soft]);
        assert_eq!((config.depth_m, config.blur), (12.0, SyntheticReefConfig::default().blur));
        let error = serde_json::from_str::<SyntheticReefConfig>(r#"{"depht_m": 12.0}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `depht_m`"));
    }
}
