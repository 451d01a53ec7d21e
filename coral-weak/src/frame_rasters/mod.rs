//! From positions and class probabilities of underwater frames to rasters of the sea floor.

mod classes;
mod coverage;
mod footprint;
mod interpolate;
mod sphere;
mod stretch;
mod track;

use coral_core::{Crs, Error, RasterGrid, Result};
use ndarray::{Array2, Array3};

pub use classes::{MissingClasses, coarse_classes};
pub use coverage::{FootprintConfig, aggregate_footprints};
pub use footprint::{Camera, Footprint};
pub use interpolate::{FrameInterpolation, FrameRasterConfig, interpolate_frames};
pub use sphere::{destination, haversine};
pub use stretch::QuantileStretch;
pub use track::{track_cell, track_grid};

/// Where frames were taken and what a classifier saw on them, in the order of the track.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameProbabilities {
    /// What the positions are: [`Crs::WGS84`], or a system in metres ([`Crs::is_metric`]).
    pub crs: Crs,
    /// N×2: x and y, or longitude and latitude.
    pub positions: Array2<f64>,
    /// N×C probabilities in 0..=1; not a distribution, a frame may show several classes.
    pub probabilities: Array2<f64>,
}

impl FrameProbabilities {
    /// Checks that the arrays fit together and hold usable numbers.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] or [`Error::InvalidInput`] naming the array, the frame and what was expected; a system
    /// that is neither WGS 84 nor known to be in metres.
    pub fn validate(&self) -> Result<()> {
        let (frames, classes) = self.probabilities.dim();
        if self.positions.dim() != (frames, 2) {
            return Err(Error::shape("positions", format!("{frames}x2"), format!("{:?}", self.positions.dim())));
        }
        if frames == 0 || classes == 0 {
            return Err(Error::input("frames", format!("{frames} frames of {classes} classes make no raster")));
        }
        if self.crs != Crs::WGS84 && !self.crs.is_metric() {
            let reason = format!("expected {} or coordinates in metres (e.g. UTM), got {}", Crs::WGS84, self.crs);
            return Err(Error::input("crs", reason));
        }
        for (frame, (position, row)) in self.positions.outer_iter().zip(self.probabilities.outer_iter()).enumerate() {
            let (x, y) = (position[0], position[1]);
            let placed = match self.crs {
                Crs::WGS84 => x.abs() <= 180.0 && y.abs() < 90.0,
                _ => x.is_finite() && y.is_finite(),
            };
            if !placed {
                return Err(Error::input(
                    "positions",
                    format!("frame {frame} at ({x}, {y}) has no place in {}", self.crs),
                ));
            }
            if let Some(value) = row.iter().find(|value| !(0.0..=1.0).contains(*value)) {
                return Err(Error::input("probabilities", format!("frame {frame}: expected 0 to 1, got {value}")));
            }
        }
        Ok(())
    }
}

/// Class probabilities of the sea floor, one value per class and cell.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbabilityRaster {
    /// Where the cells lie; H×W of them.
    pub grid: RasterGrid,
    /// C×H×W; NaN where nothing is known.
    pub values: Array3<f64>,
}
