use coral_core::image::{Rgb, RgbImage};
use coral_core::{ClassId, Error, Result, SeededRng, Size};
use serde::{Deserialize, Serialize};

use super::SyntheticLagoon;
use super::skin::Light;
use crate::parallel;
use crate::synthetic::geometry::P2;

/// How a boat crosses a lagoon and takes frames.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LagoonSurvey {
    /// Metres between neighbouring transects.
    pub transect_m: f32,
    /// Metres between frames of a transect.
    pub step_m: f32,
    /// Metres that the boat is off its course, about.
    pub drift_m: f32,
    /// Metres at the lagoon's edges that the boat does not reach.
    pub margin_m: f32,
    /// A frame's pixels.
    pub frame: Size,
    /// Side of a frame's pixel on the ground in metres.
    pub frame_pixel_m: f32,
}

impl Default for LagoonSurvey {
    /// Frames of about 2 m by 1.5 m, every 2 m on transects 3 m apart.
    fn default() -> Self {
        Self {
            transect_m: 3.0,
            step_m: 2.0,
            drift_m: 0.3,
            margin_m: 2.0,
            frame: Size { width: 96, height: 72 },
            frame_pixel_m: 0.02,
        }
    }
}

/// A frame that looks straight down.
#[derive(Debug, Clone, PartialEq)]
pub struct LagoonFrame {
    /// The picture.
    pub image: RgbImage,
    /// Where its middle lies, in the lagoon's coordinates.
    pub position: (f64, f64),
    /// The share of its pixels that each class covers.
    pub cover: Vec<f32>,
}

impl LagoonSurvey {
    /// Positions of the frames in the lagoon's coordinates, in the order of the track: transects there and back.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for distances that are not over 0 or leave no room for a frame.
    pub fn track(&self, lagoon: &SyntheticLagoon, seed: u64) -> Result<Vec<(f64, f64)>> {
        let steps = [("transect_m", self.transect_m), ("step_m", self.step_m), ("frame_pixel_m", self.frame_pixel_m)];
        if let Some((name, value)) = steps.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(Error::parameter(name, format!("expected metres over 0, got {value}")));
        }
        let grid = lagoon.grid();
        let side = f64::from(lagoon.config.pixel_m);
        let (width, height) = (f64::from(grid.size.width) * side, f64::from(grid.size.height) * side);
        let [margin, drift] = [self.margin_m, self.drift_m].map(f64::from);
        let stops = |length: f64, step: f32| {
            let room = length - 2.0 * margin;
            let count = (room / f64::from(step)).floor();
            (count >= 1.0).then(|| (0..=count as u32).map(move |i| margin + f64::from(i) * room / count))
        };
        let (Some(lines), Some(along)) = (stops(width, self.transect_m), stops(height, self.step_m)) else {
            return Err(Error::parameter("margin_m", format!("no transect fits {width:.0} m by {height:.0} m")));
        };
        let along: Vec<f64> = along.collect();
        let mut random = SeededRng::new(seed);
        let mut track = Vec::new();
        for (line, x) in lines.enumerate() {
            let mut stops = along.clone();
            if line % 2 == 1 {
                stops.reverse();
            }
            for y in stops {
                let (dx, dy) = (random.range(-drift, drift), random.range(-drift, drift));
                track.push(grid.transform.world((x + dx) / side, (y + dy) / side));
            }
        }
        Ok(track)
    }

    /// The frames at `positions`, each with its own heading, light and murk.
    pub fn frames(&self, lagoon: &SyntheticLagoon, positions: &[(f64, f64)], seed: u64) -> Vec<LagoonFrame> {
        let indices: Vec<usize> = (0..positions.len()).collect();
        parallel::map(&indices, |&i| self.frame_at(lagoon, positions[i], &mut SeededRng::stream(seed, i as u64)))
    }

    fn frame_at(&self, lagoon: &SyntheticLagoon, position: (f64, f64), random: &mut SeededRng) -> LagoonFrame {
        let difficulty = f64::from(lagoon.config.difficulty);
        let (axis_x, axis_y) = (random.range(-1.0, 1.0), random.range(-1.0, 1.0));
        let length = axis_x.hypot(axis_y).max(1e-6);
        let axis = P2 { x: (axis_x / length) as f32, y: (axis_y / length) as f32 };
        let gain = (1.0 + 0.4 * difficulty * random.range(-1.0, 1.0)) as f32;
        let light = Light { gain, veil: (difficulty * random.range(0.1, 0.5)) as f32 };
        let skin = lagoon.skin(1.0 / self.frame_pixel_m);
        let (middle, salt) = (lagoon.local(position.0, position.1), random.bits() as u32);
        let mut cover = vec![0.0; super::SyntheticLagoonConfig::class_set().len()];
        let Size { width, height } = self.frame;
        let image = RgbImage::from_fn(width, height, |x, y| {
            let offset = P2 { x: x as f32 + 0.5 - width as f32 / 2.0, y: y as f32 + 0.5 - height as f32 / 2.0 };
            let place = middle.add(offset.along(axis).scale(self.frame_pixel_m));
            let what = lagoon.cover(place);
            cover[usize::from(what.class)] += 1.0 / self.frame.pixels() as f32;
            Rgb(skin.frame(place, what, (x.wrapping_add(salt), y), light))
        });
        LagoonFrame { image, position, cover }
    }
}

impl LagoonFrame {
    /// The classes that cover at least `share` of the frame.
    pub fn present(&self, share: f32) -> Vec<ClassId> {
        (0..).zip(&self.cover).filter(|(_, cover)| **cover >= share).map(|(class, _)| class).collect()
    }
}
