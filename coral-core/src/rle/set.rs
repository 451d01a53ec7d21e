use super::runs::{RunWriter, foreground, walk_both};
use crate::{Result, RleMask, Size};

/// Sets of pixels: every operation walks the runs of both masks once and never decodes them.
impl RleMask {
    /// The pixels in either mask.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless both masks have one size.
    pub fn union(&self, other: &Self) -> Result<Self> {
        self.combine(other, |a, b| a || b)
    }

    /// The pixels in both masks.
    ///
    /// # Errors
    /// As [`union`](Self::union).
    pub fn intersection(&self, other: &Self) -> Result<Self> {
        self.combine(other, |a, b| a && b)
    }

    /// The pixels of this mask that are not in `other`.
    ///
    /// # Errors
    /// As [`union`](Self::union).
    ///
    /// # Examples
    /// ```
    /// use coral_core::{RleMask, Size};
    /// let size = Size { width: 6, height: 1 };
    /// let (a, b) = (RleMask::from_fn(size, |x, _| x < 4), RleMask::from_fn(size, |x, _| x > 1));
    /// assert_eq!(a.difference(&b)?, RleMask::from_fn(size, |x, _| x < 2));
    /// assert_eq!(a.union(&b)?.area(), 6);
    /// assert_eq!(a.intersection(&b)?.counts(), [2, 2, 2]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn difference(&self, other: &Self) -> Result<Self> {
        self.combine(other, |a, b| a && !b)
    }

    /// The pixels in any of `masks`, all of which have size `size`; in one pass over all runs.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) naming the first mask of another size.
    pub fn union_of<'a>(size: Size, masks: impl IntoIterator<Item = &'a Self>) -> Result<Self> {
        let mut runs = Vec::new();
        for (at, mask) in masks.into_iter().enumerate() {
            size.expect(&format!("masks[{at}]"), mask.size)?;
            runs.extend(foreground(&mask.counts));
        }
        runs.sort_unstable();
        let mut out = RunWriter::new(size);
        runs.into_iter().for_each(|(start, length)| out.push_foreground(start, length));
        Ok(out.finish())
    }

    /// Pixels in both masks.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless both masks have one size.
    pub fn intersection_area(&self, other: &Self) -> Result<u64> {
        self.size.expect("other", other.size)?;
        let mut area = 0;
        walk_both(&self.counts, &other.counts, |a, b, length| area += if a && b { length } else { 0 });
        Ok(area)
    }

    /// Intersection over union, 0..=1; 0 for two empty masks, as in COCO.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless both masks have one size.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{RleMask, Size};
    /// let size = Size { width: 6, height: 1 };
    /// let (a, b) = (RleMask::from_fn(size, |x, _| x < 4), RleMask::from_fn(size, |x, _| x > 1));
    /// assert_eq!(a.iou(&b)?, 2.0 / 6.0);
    /// assert_eq!(a.crowd_iou(&b)?, 2.0 / 4.0);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn iou(&self, other: &Self) -> Result<f64> {
        let both = self.intersection_area(other)?;
        Ok(ratio(both, self.area() + other.area() - both))
    }

    /// The measure that COCO uses against a crowd region: the share of this mask (the detection) inside `crowd`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless both masks have one size.
    pub fn crowd_iou(&self, crowd: &Self) -> Result<f64> {
        Ok(ratio(self.intersection_area(crowd)?, self.area()))
    }

    fn combine(&self, other: &Self, keep: impl Fn(bool, bool) -> bool) -> Result<Self> {
        self.size.expect("other", other.size)?;
        let mut out = RunWriter::new(self.size);
        walk_both(&self.counts, &other.counts, |a, b, length| out.push(keep(a, b), length));
        Ok(out.finish())
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if part == 0 { 0.0 } else { part as f64 / whole as f64 }
}
