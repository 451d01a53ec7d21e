use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How deep a pixel lies in a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskDistance {
    /// The Euclidean distance to the nearest pixel outside, exact. A mask of the whole image is measured against the
    /// edges of the image.
    #[default]
    Euclidean,
    /// The published program's two raster scans in 32-bit floats with steps of 1 and √2, up to a few per cent more than
    /// the Euclidean distance. A mask of the whole image is 10¹⁰ deep everywhere.
    Chamfer,
}

/// Where the background click may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NegativeSearch {
    /// In the mask's tight box; without background there, there is no such click.
    #[default]
    Box,
    /// As in the published program: in the tight box without its last row and column; without background there, on the
    /// image's first pixel, even where that belongs to the mask.
    HalfOpenBox,
}

/// The squares that a network of the Segment Anything family puts an image and a mask prompt into: the longer side
/// fills the square, the rest lies at its right or bottom and is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskFrame {
    /// Side of the square that the image is scaled to, in pixels.
    pub image_side: u32,
    /// Side of the mask prompt.
    pub mask_side: u32,
}

impl MaskFrame {
    /// The frame of the published networks, 1024 and 256.
    pub const SAM: Self = Self { image_side: 1024, mask_side: 256 };

    /// Checks that both sides are sensible.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a side of 0 or more than 65536.
    pub fn validate(&self) -> Result<()> {
        for (name, side) in [("frame.image_side", self.image_side), ("frame.mask_side", self.mask_side)] {
            if !(1..=1 << 16).contains(&side) {
                return Err(Error::parameter(name, format!("expected 1 to 65536 pixels, got {side}")));
            }
        }
        Ok(())
    }
}

/// Settings of [`SamRefiner`](crate::SamRefiner).
///
/// # Examples
/// ```
/// use coral_weak::SamRefinerConfig;
/// assert!(SamRefinerConfig::default().validate().is_ok());
/// let error = SamRefinerConfig { gamma: 0.0, ..Default::default() }.validate().unwrap_err();
/// assert_eq!(error.to_string(), "invalid parameter `gamma`: expected a number above 0, got 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamRefinerConfig {
    /// How often the mask is refined, at least 1; it ends sooner once a mask stays as it is.
    pub iterations: usize,
    /// Click on the pixel deepest inside the mask.
    pub use_points: bool,
    /// Also click on the background pixel of the mask's box that is farthest from the mask.
    pub negative_point: bool,
    /// Give the mask's box.
    pub use_box: bool,
    /// Give the mask itself, as logits that are highest where it is deepest.
    pub use_mask: bool,
    /// A side of the box grows by a tenth (at most 10 pixels) when more than this share of the pixels added looks like
    /// the mask, 0..=1. At 0 no box grows; above, [`with_context`](crate::SamRefiner::with_context) is needed.
    pub margin: f32,
    /// How fast the mask's logits fall from its deepest pixel: to 1/e at √(area / gamma) pixels less depth.
    pub gamma: f32,
    /// The largest logit of the mask prompt; outside it is minus that.
    pub strength: f32,
    /// How depth is measured.
    pub distance: MaskDistance,
    /// Where the background click may lie.
    pub negative_search: NegativeSearch,
    /// The squares of the segmenter. With `None`, the side of its mask prompt is that of the logits it answers with,
    /// and the side of its image four times that, as in all networks of the family.
    pub frame: Option<MaskFrame>,
}

impl Default for SamRefinerConfig {
    /// The paper's values, without the quirks of its program.
    fn default() -> Self {
        Self {
            iterations: 5,
            use_points: true,
            negative_point: true,
            use_box: true,
            use_mask: true,
            margin: 0.0,
            gamma: 4.0,
            strength: 30.0,
            distance: MaskDistance::default(),
            negative_search: NegativeSearch::default(),
            frame: None,
        }
    }
}

impl SamRefinerConfig {
    /// The published program with its quirks: chamfer distances, a background click in any case, and the frame of the
    /// networks with 1024 pixels whatever the segmenter is.
    pub fn published() -> Self {
        Self {
            distance: MaskDistance::Chamfer,
            negative_search: NegativeSearch::HalfOpenBox,
            frame: Some(MaskFrame::SAM),
            ..Self::default()
        }
    }

    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.iterations == 0 {
            return Err(Error::parameter("iterations", "expected at least 1, got 0"));
        }
        if !(self.use_points || self.use_box || self.use_mask) {
            return Err(Error::parameter("use_points", "expected points, box or mask, got no prompt at all"));
        }
        if !(0.0..=1.0).contains(&self.margin) {
            return Err(Error::parameter("margin", format!("expected a number in 0..=1, got {}", self.margin)));
        }
        for (name, value) in [("gamma", self.gamma), ("strength", self.strength)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::parameter(name, format!("expected a number above 0, got {value}")));
            }
        }
        self.frame.map_or(Ok(()), |frame| frame.validate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_checked() {
        let text = |config: SamRefinerConfig| config.validate().unwrap_err().to_string();
        let default = SamRefinerConfig::default();
        assert!(text(SamRefinerConfig { iterations: 0, ..default }).contains("`iterations`"));
        assert!(text(SamRefinerConfig { margin: f32::NAN, ..default }).contains("`margin`"));
        assert!(text(SamRefinerConfig { strength: f32::INFINITY, ..default }).contains("`strength`"));
        let silent = SamRefinerConfig { use_points: false, use_box: false, use_mask: false, ..default };
        assert!(text(silent).contains("no prompt at all"));
        let frame = Some(MaskFrame { image_side: 1024, mask_side: 0 });
        assert!(text(SamRefinerConfig { frame, ..default }).contains("`frame.mask_side`: expected 1 to 65536"));
        assert!(SamRefinerConfig::published().validate().is_ok());
    }
}
