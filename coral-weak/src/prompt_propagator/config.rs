use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of [`PromptPropagator`](crate::PromptPropagator) and [`point_masks`](crate::point_masks).
///
/// # Examples
/// ```
/// use coral_weak::PromptPropagatorConfig;
/// assert!(PromptPropagatorConfig::default().validate().is_ok());
/// let error = PromptPropagatorConfig { min_purity: 1.5, ..Default::default() }.validate().unwrap_err();
/// assert_eq!(error.to_string(), "invalid parameter `min_purity`: expected a number in 0..=1, got 1.5");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptPropagatorConfig {
    /// How many points of other classes, the nearest ones, are given as background with each prompt. A handful tells the
    /// segmenter where to stop; hundreds are far from anything it was trained on.
    pub background_points: usize,
    /// With how many further points of its class, the nearest ones that the first mask covers, a point asks a second
    /// time; 0 asks once. The second mask counts only if it is at least as good.
    pub foreground_points: usize,
    /// The least predicted IoU of an acceptable mask, 0..=1.
    pub min_predicted_iou: f32,
    /// The least share of the image that an acceptable mask covers, after it was cut, 0..=1.
    pub min_area: f32,
    /// The largest share of the image that an acceptable mask covers, before it was cut, 0..=1. A mask of nearly
    /// everything is what a segmenter answers that saw no object.
    pub max_area: f32,
    /// The least share of the labelled points in an acceptable mask, its own among them, that have its class, 0..=1.
    /// At 1 a mask with a wrong point is dropped; below, masks lose the pixels that are nearer to a wrong point in
    /// them than to a right one.
    pub min_purity: f32,
    /// The [`reliability`](crate::PointMask::reliability) that always suffices, 0..=1. Less is accepted only if it is
    /// at least the share of points whose nearest neighbour has their class: masks that know the points no better
    /// than that are worse than the fill. 0 turns the rule off.
    pub sufficient_reliability: f32,
    /// Points that an earlier point's mask covers ask for no mask of their own if that mask's predicted IoU × purity
    /// is at least this, 0..=1; with `None` every point asks. Points go from top to bottom, left to right in a row.
    /// It saves time where many points share an object, and costs some accuracy where masks are imperfect and could
    /// make up for each other.
    pub skip_covered: Option<f32>,
    /// Of a regular grid of about this many pixels over the image, those with a mask are handed to the fill as
    /// further points; 0 for none. [`DefaultPropagator`](crate::DefaultPropagator), which reaches as far as its
    /// points are apart, does better without.
    pub fill_points: usize,
}

impl Default for PromptPropagatorConfig {
    /// Careful with masks: those that points contradict are dropped.
    fn default() -> Self {
        Self {
            background_points: 5,
            foreground_points: 0,
            min_predicted_iou: 0.7,
            min_area: 1e-4,
            max_area: 0.6,
            min_purity: 1.0,
            sufficient_reliability: 0.9,
            skip_covered: None,
            fill_points: 0,
        }
    }
}

impl PromptPropagatorConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("min_predicted_iou", self.min_predicted_iou),
            ("min_area", self.min_area),
            ("max_area", self.max_area),
            ("min_purity", self.min_purity),
            ("sufficient_reliability", self.sufficient_reliability),
            ("skip_covered", self.skip_covered.unwrap_or(1.0)),
        ] {
            check_share(name, value)?;
        }
        if self.min_area > self.max_area {
            let reason = format!("expected at most max_area ({}), got {}", self.max_area, self.min_area);
            return Err(Error::parameter("min_area", reason));
        }
        Ok(())
    }
}

/// Checks that `value` lies in 0..=1.
pub(super) fn check_share(name: &str, value: f32) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::parameter(name, format!("expected a number in 0..=1, got {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_checked() {
        let text = |config: PromptPropagatorConfig| config.validate().unwrap_err().to_string();
        let default = PromptPropagatorConfig::default();
        assert!(
            text(PromptPropagatorConfig { min_predicted_iou: f32::NAN, ..default.clone() })
                .contains("min_predicted_iou")
        );
        assert!(text(PromptPropagatorConfig { skip_covered: Some(-0.1), ..default.clone() }).contains("skip_covered"));
        let crossed = PromptPropagatorConfig { min_area: 0.5, max_area: 0.4, ..default };
        assert_eq!(text(crossed), "invalid parameter `min_area`: expected at most max_area (0.4), got 0.5");
    }
}
