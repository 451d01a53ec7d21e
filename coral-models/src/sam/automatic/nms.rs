use coral_core::{Error, Rect, Result};

/// Which boxes stay when of any two whose IoU is above `threshold` the one with the lower score goes, and in equal
/// scores the later one. The result is sorted by falling score; NaN scores come first.
///
/// As published, a box spans from the centre of its first pixel to the centre of its last one: a box of n pixels
/// is n − 1 wide, and two boxes one pixel wide never suppress each other.
///
/// # Errors
/// [`Error::ShapeMismatch`] when there are not as many scores as boxes.
///
/// # Examples
/// ```
/// use coral_core::Rect;
/// use coral_models::box_nms;
/// let at = |x| Rect { x, y: 0, width: 11, height: 5 };
/// assert_eq!(box_nms(&[at(0), at(1), at(20)], &[0.5, 0.9, 0.7], 0.7)?, [1, 2]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Equal to `batched_nms` of torchvision 0.29 with one category.
pub fn box_nms(boxes: &[Rect], scores: &[f32], threshold: f64) -> Result<Vec<usize>> {
    if boxes.len() != scores.len() {
        return Err(Error::shape("scores", boxes.len().to_string(), scores.len().to_string()));
    }
    let spans: Vec<_> = boxes.iter().map(|&rect| Span::of(rect)).collect();
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    // A stable sort: of equal scores, the earlier comes first.
    order.sort_by(|&a, &b| rank(scores[b]).total_cmp(&rank(scores[a])));
    let mut kept: Vec<usize> = Vec::new();
    for candidate in order {
        // The published comparison is of an IoU in f32 with a threshold in f64.
        let suppressed = |&better: &usize| f64::from(spans[better].iou(&spans[candidate])) > threshold;
        if !kept.iter().any(suppressed) {
            kept.push(candidate);
        }
    }
    Ok(kept)
}

/// The score with one zero and one NaN, so that `total_cmp` sees no difference where there is none.
fn rank(score: f32) -> f32 {
    if score.is_nan() { f32::NAN } else { score + 0.0 }
}

struct Span {
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
}

impl Span {
    fn of(Rect { x, y, width, height }: Rect) -> Self {
        let last = |start: u32, length: u32| (u64::from(start) + u64::from(length)).saturating_sub(1) as f32;
        Self { left: x as f32, top: y as f32, right: last(x, width), bottom: last(y, height) }
    }

    fn area(&self) -> f32 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    /// NaN for two boxes without area.
    fn iou(&self, other: &Self) -> f32 {
        let width = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let height = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        let shared = width * height;
        shared / (self.area() + other.area() - shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(x: u32, side: u32) -> Rect {
        Rect { x, y: 3, width: side, height: side }
    }

    #[test]
    fn equal_scores_keep_their_order() {
        let boxes = [square(0, 9), square(40, 9), square(0, 9), square(80, 9)];
        assert_eq!(box_nms(&boxes, &[0.0, -0.0, 0.0, 0.0], 0.5).unwrap(), [0, 1, 3]);
        assert_eq!(box_nms(&boxes, &[0.0, 0.1, 0.1, 0.1], 0.5).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_suppressed_box_suppresses_nothing() {
        // 0 hides 1, 1 would hide 2, 0 does not.
        let boxes = [square(0, 11), square(3, 11), square(6, 11)];
        assert_eq!(box_nms(&boxes, &[0.9, 0.8, 0.7], 0.5).unwrap(), [0, 2]);
    }

    #[test]
    fn only_an_iou_above_the_threshold_suppresses() {
        // Spans of 10 and 6 in x: IoU 0.6, which f32 rounds up.
        let boxes = [Rect { x: 0, y: 0, width: 11, height: 2 }, Rect { x: 0, y: 0, width: 7, height: 2 }];
        assert_eq!(box_nms(&boxes, &[1.0, 0.5], 0.5).unwrap(), [0]);
        assert_eq!(box_nms(&boxes, &[1.0, 0.5], 0.6).unwrap(), [0]);
        assert_eq!(box_nms(&boxes, &[1.0, 0.5], f64::from(0.6f32)).unwrap(), [0, 1]);
    }

    #[test]
    fn boxes_without_area_stay() {
        let line = Rect { x: 4, y: 0, width: 1, height: 30 };
        let none = Rect { x: 0, y: 0, width: 0, height: 0 };
        assert_eq!(box_nms(&[line, line, none, none], &[0.1; 4], 0.0).unwrap(), [0, 1, 2, 3]);
        assert_eq!(box_nms(&[], &[], 0.5).unwrap(), [0usize; 0]);
        assert!(box_nms(&[line], &[], 0.5).unwrap_err().to_string().contains("expected shape 1, got 0"));
    }
}
