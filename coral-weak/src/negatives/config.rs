use coral_core::{ClassId, Error, Result, UNLABELED};
use serde::{Deserialize, Serialize};

/// Settings of [`negative_masks`](crate::negative_masks). The paper that trains with negatives gives none; these are our
/// own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NegativeConfig {
    /// The class of negatives, that of the background; masks of any other class are objects. Default: 0.
    pub class: ClassId,
    /// Negatives for each object of the image, 0..=1000; the number is rounded. Default: 1.
    pub per_positive: f64,
    /// Negatives for an image without objects. Default: 8.
    pub without_positives: usize,
    /// At most so many for an image. Default: 32.
    pub max_count: usize,
    /// Pixels around every object that no negative has, because outlines are drawn by hand. Default: 4.
    pub margin: u32,
    /// Superpixels of which a larger share lies in the objects and their margins are left out as a whole: they are part
    /// of an object, or its rim. 0..=1, default 0.5.
    pub max_overlap: f32,
    /// The smallest negative, as a share of the image. Above 0, at most `max_area`; default 0.0005.
    pub min_area: f32,
    /// The largest negative, as a share of the image. At most 1, and well above `min_area`, because negatives are made of
    /// whole superpixels; default 0.2.
    pub max_area: f32,
    /// How much a superpixel may differ in colour from the mean of the region that it joins, in Lab units (ΔE 1976).
    /// From 0; default 12.
    pub color_tolerance: f32,
    /// How square superpixels are, as in [`SlicConfig`](crate::SlicConfig). Above 0; default 10.
    pub compactness: f32,
}

impl Default for NegativeConfig {
    fn default() -> Self {
        Self {
            class: 0,
            per_positive: 1.0,
            without_positives: 8,
            max_count: 32,
            margin: 4,
            max_overlap: 0.5,
            min_area: 0.0005,
            max_area: 0.2,
            color_tolerance: 12.0,
            compactness: 10.0,
        }
    }
}

impl NegativeConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    ///
    /// # Examples
    /// ```
    /// use coral_weak::NegativeConfig;
    /// let error = NegativeConfig { max_overlap: 1.5, ..Default::default() }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "invalid parameter `max_overlap`: expected a number in 0..=1, got 1.5");
    /// ```
    pub fn validate(&self) -> Result<()> {
        let fail = |name: &str, expected: String, got: String| {
            Err(Error::parameter(name, format!("expected {expected}, got {got}")))
        };
        if self.class == UNLABELED {
            return fail("class", "a class of 0–254".into(), UNLABELED.to_string());
        }
        if !(0.0..=1000.0).contains(&self.per_positive) {
            return fail("per_positive", "a number in 0..=1000".into(), self.per_positive.to_string());
        }
        if !(0.0..=1.0).contains(&self.max_overlap) {
            return fail("max_overlap", "a number in 0..=1".into(), self.max_overlap.to_string());
        }
        if !(self.max_area > 0.0 && self.max_area <= 1.0) {
            return fail("max_area", "a share above 0 and up to 1".into(), self.max_area.to_string());
        }
        if !(self.min_area > 0.0 && self.min_area <= self.max_area) {
            return fail("min_area", format!("a share above 0 and up to {}", self.max_area), self.min_area.to_string());
        }
        if !(self.color_tolerance >= 0.0 && self.color_tolerance.is_finite()) {
            return fail("color_tolerance", "a number from 0".into(), self.color_tolerance.to_string());
        }
        if !(self.compactness > 0.0 && self.compactness.is_finite()) {
            return fail("compactness", "a number above 0".into(), self.compactness.to_string());
        }
        Ok(())
    }

    /// How many negatives an image with so many objects should have.
    pub(super) fn count(&self, positives: usize) -> usize {
        let wanted = match positives {
            0 => self.without_positives,
            positives => (positives as f64 * self.per_positive).round() as usize,
        };
        wanted.min(self.max_count)
    }
}
