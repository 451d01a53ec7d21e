use coral_core::{Class, ClassSet, Error, Result, Size};
use serde::{Deserialize, Serialize};

use crate::synthetic::config::within;

/// What a [`SyntheticLagoon`](super::SyntheticLagoon) shows, and how hard it is to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticLagoonConfig {
    /// The orthophoto's size in pixels.
    pub size: Size,
    /// Side of an orthophoto's pixel in metres, 0.01..=1.
    pub pixel_m: f32,
    /// Width of the zones of reef and sand in metres, 4..=200.
    pub zone_m: f32,
    /// Share of the lagoon that is sand, about, 0.1..=0.9.
    pub sand: f32,
    /// How much depth, light and neighbours blur the classes' colours, 0..=1.
    pub difficulty: f32,
}

impl Default for SyntheticLagoonConfig {
    /// About 100 m by 77 m at 10 cm.
    fn default() -> Self {
        Self { size: Size { width: 1024, height: 768 }, pixel_m: 0.1, zone_m: 22.0, sand: 0.55, difficulty: 0.5 }
    }
}

impl SyntheticLagoonConfig {
    /// The five classes of *The point is the mask*, ids from 0.
    pub fn class_set() -> ClassSet {
        let names = [
            ("Acropore_branched", [214, 126, 44]),
            ("Acropore_tabular", [232, 198, 88]),
            ("No_acropore_massive", [92, 158, 86]),
            ("No_acropore_sub_massive", [122, 82, 150]),
            ("Sand", [226, 218, 196]),
        ];
        let class = |(id, (name, color)): (u8, (&str, [u8; 3]))| Class { id, name: name.into(), color, parent: None };
        ClassSet::new((0..).zip(names).map(class)).unwrap_or_default()
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.size.pixels() == 0 {
            return Err(Error::parameter("size", format!("an orthophoto of {} has no pixel", self.size)));
        }
        within("pixel_m", self.pixel_m, 0.01, 1.0)?;
        within("zone_m", self.zone_m, 4.0, 200.0)?;
        within("sand", self.sand, 0.1, 0.9)?;
        within("difficulty", self.difficulty, 0.0, 1.0)
    }
}
