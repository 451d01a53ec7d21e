use coral_core::Rect;
use ndarray::ArrayView2;

/// The smallest box that holds all that is inside.
pub(crate) fn tight_box(mask: ArrayView2<'_, bool>) -> Option<Rect> {
    let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
    for (y, row) in mask.rows().into_iter().enumerate() {
        let Some(first) = row.iter().position(|&inside| inside) else { continue };
        let last = row.len() - 1 - row.iter().rev().position(|&inside| inside).unwrap_or(0);
        (left, right, top, bottom) = (left.min(first), right.max(last), top.min(y), y);
    }
    let length = |from: usize, to: usize| (to - from + 1) as u32;
    (top <= bottom && left <= right).then(|| Rect {
        x: left as u32,
        y: top as u32,
        width: length(left, right),
        height: length(top, bottom),
    })
}
