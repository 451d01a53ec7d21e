use coral_core::{Class, ClassId, ClassSet, Error, Result, Size};
use serde::{Deserialize, Serialize};

use crate::photographs::deep_seagrass_classes;
use crate::synthetic::config::{can_be_drawn, within};

/// The shape of a seagrass, as DeepSeagrass tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seagrass {
    /// Fronds with two rows of leaflets, as *Halophila spinulosa*.
    Ferny,
    /// Pairs of oval leaves on stalks, as *Halophila ovalis*.
    Rounded,
    /// Long ribbons, as *Zostera*.
    Strappy,
}

impl Seagrass {
    /// Every shape, in the order of the class ids of DeepSeagrass.
    pub const ALL: [Self; 3] = [Self::Ferny, Self::Rounded, Self::Strappy];

    /// The name of its class.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ferny => "Ferny",
            Self::Rounded => "Rounded",
            Self::Strappy => "Strappy",
        }
    }
}

/// What a [`SyntheticMeadow`](super::SyntheticMeadow) shows, and how hard it is to tell.
///
/// Settings of two numbers are ranges: each photograph draws its own value, evenly, between the first and the second.
///
/// # Examples
/// ```
/// use coral_io::{Seagrass, SyntheticMeadow, SyntheticMeadowConfig};
/// let config = SyntheticMeadowConfig { species: vec![Seagrass::Strappy], ..Default::default() };
/// let names: Vec<_> = config.class_set()?.iter().map(|class| class.name.clone()).collect();
/// assert_eq!(names, ["Background", "Strappy"]);
/// let error = SyntheticMeadow::new(SyntheticMeadowConfig { bare: [0.5, 0.2], ..config }).unwrap_err();
/// assert_eq!(error.to_string(), "invalid parameter `bare`: expected a range within 0..=0.95, got 0.5 to 0.2");
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticMeadowConfig {
    /// The picture's size in pixels. At the default of 320×200 a patch of 40 pixels shows single leaves.
    pub size: Size,
    /// The side, in metres, of a square as large as the area shown, 0.2..=3. Plants keep their size in metres.
    pub extent_m: f32,
    /// The seagrasses, each once; the first is class 1. Class 0 is the background.
    pub species: Vec<Seagrass>,
    /// The share of a photograph of seagrass that shows none, but sand or water, within 0..=0.95: this is how much of the
    /// photograph its label is wrong about.
    pub bare: [f32; 2],
    /// The width of clumps in metres, 0.02..=2: small ones leave more patches with both.
    pub clump_m: f32,
    /// How much the species share their colours, 0 (each has its own) ..=1 (colour tells nothing).
    pub color_overlap: f32,
    /// How much brightness and white balance vary from photograph to photograph, 0..=1.
    pub light_spread: f32,
    /// Strength of the blue-green veil between camera and ground, within 0 (clear) ..=1 (murky).
    pub turbidity: [f32; 2],
    /// Standard deviation of the defocus blur in pixels, within 0..=20.
    pub blur: [f32; 2],
    /// Dead leaves, shells and rubble on the ground, 0..=1.
    pub litter: f32,
    /// The share of photographs that look forward, with open water at the top, 0..=1.
    pub open_water: f32,
    /// Standard deviation of the camera's noise in 8-bit levels, 0..=60.
    pub noise: f32,
}

impl Default for SyntheticMeadowConfig {
    fn default() -> Self {
        Self::with_difficulty(0.5)
    }
}

impl SyntheticMeadowConfig {
    /// Settings from easy (0: clear water, even light, a colour per species, large clumps) to hard (1); numbers outside
    /// 0..=1 count as the nearer end. The default is 0.5.
    pub fn with_difficulty(difficulty: f32) -> Self {
        let d = if difficulty.is_nan() { 0.5 } else { difficulty.clamp(0.0, 1.0) };
        Self {
            size: Size { width: 320, height: 200 },
            extent_m: 0.55,
            species: Seagrass::ALL.to_vec(),
            bare: [0.25, 0.6],
            clump_m: 0.3 - 0.16 * d,
            color_overlap: (1.6 * d).min(1.0),
            light_spread: d,
            turbidity: [0.06, 0.08 + 0.6 * d],
            blur: [0.3, 0.4 + 0.9 * d],
            litter: d,
            open_water: 0.4 * d,
            noise: 1.5 + 4.0 * d,
        }
    }

    /// Background and the species, with ids from 0.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when a species occurs twice.
    pub fn class_set(&self) -> Result<ClassSet> {
        let known = deep_seagrass_classes();
        let color = |name: &str| known.id(name).map_or([0; 3], |id| known.color(id));
        let class = |(id, name): (ClassId, &str)| Class { id, name: name.into(), color: color(name), parent: None };
        let names = std::iter::once("Background").chain(self.species.iter().map(|one| one.name()));
        // No more ids than species: a longer list repeats one.
        ClassSet::new((0..=Seagrass::ALL.len() as ClassId).zip(names).map(class))
            .ok()
            .filter(|classes| classes.len() == self.species.len() + 1)
            .ok_or_else(|| Error::parameter("species", format!("expected each once, got {:?}", self.species)))
    }

    pub(super) fn validate(&self) -> Result<()> {
        let range = |name: &str, [from, to]: [f32; 2], low: f32, high: f32| {
            if low <= from && from <= to && to <= high {
                return Ok(());
            }
            Err(Error::parameter(name, format!("expected a range within {low}..={high}, got {from} to {to}")))
        };
        can_be_drawn(self.size)?;
        within("extent_m", self.extent_m, 0.2, 3.0)?;
        if self.species.is_empty() {
            return Err(Error::parameter("species", "expected at least one, got none"));
        }
        self.class_set()?;
        range("bare", self.bare, 0.0, 0.95)?;
        within("clump_m", self.clump_m, 0.02, 2.0)?;
        within("color_overlap", self.color_overlap, 0.0, 1.0)?;
        within("light_spread", self.light_spread, 0.0, 1.0)?;
        range("turbidity", self.turbidity, 0.0, 1.0)?;
        range("blur", self.blur, 0.0, 20.0)?;
        within("litter", self.litter, 0.0, 1.0)?;
        within("open_water", self.open_water, 0.0, 1.0)?;
        within("noise", self.noise, 0.0, 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_value_is_named() {
        let text = |change: fn(&mut SyntheticMeadowConfig)| {
            let mut config = SyntheticMeadowConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(text(|c| c.size.height = 0).contains("`size`: expected 1 to 67108864 pixels, got 320x0"));
        assert!(text(|c| c.extent_m = 0.1).contains("`extent_m`: expected a number in 0.2..=3, got 0.1"));
        assert!(text(|c| c.species.clear()).contains("`species`: expected at least one, got none"));
        assert!(text(|c| c.species = vec![Seagrass::Ferny; 2]).contains("`species`: expected each once"));
        assert!(text(|c| c.species = vec![Seagrass::Ferny; 300]).contains("`species`: expected each once"));
        assert!(text(|c| c.bare = [-0.1, 0.5]).contains("`bare`"));
        assert!(
            text(|c| c.bare = [0.2, f32::NAN]).contains("`bare`: expected a range within 0..=0.95, got 0.2 to NaN")
        );
        assert!(text(|c| c.clump_m = 0.0).contains("`clump_m`"));
        assert!(text(|c| c.color_overlap = 1.1).contains("`color_overlap`"));
        assert!(text(|c| c.light_spread = f32::NAN).contains("`light_spread`"));
        assert!(text(|c| c.turbidity = [0.0, 1.5]).contains("`turbidity`"));
        assert!(text(|c| c.blur = [0.0, 21.0]).contains("`blur`"));
        assert!(text(|c| c.litter = -1.0).contains("`litter`"));
        assert!(text(|c| c.open_water = 2.0).contains("`open_water`"));
        assert!(text(|c| c.noise = 61.0).contains("`noise`"));
    }

    #[test]
    fn the_classes_are_those_of_deep_seagrass() {
        assert_eq!(SyntheticMeadowConfig::default().class_set().unwrap(), deep_seagrass_classes());
    }

    #[test]
    fn every_difficulty_is_valid() {
        for difficulty in [-1.0, 0.0, 0.3, 1.0, 9.0, f32::NAN] {
            SyntheticMeadowConfig::with_difficulty(difficulty).validate().unwrap();
        }
    }

    #[test]
    fn configs_are_read_with_defaults_and_without_unknown_fields() {
        let text = r#"{"species": ["rounded"], "bare": [0.1, 0.2]}"#;
        let config: SyntheticMeadowConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.species, config.bare, config.noise), (vec![Seagrass::Rounded], [0.1, 0.2], 3.5));
        let error = serde_json::from_str::<SyntheticMeadowConfig>(r#"{"cover": 1}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `cover`"));
    }
}
