//! Larger boxes where the surroundings look like the mask.

use coral_core::{Error, FeatureMap, Rect, Result};
use ndarray::{ArrayView1, ArrayView2, s};

use super::depth::size_of;
use crate::between::{Between, betweens};

/// Cosines above it look like the mask.
const ALIKE: f32 = 0.5;
/// The most that a side moves, and the most in units of the box.
const MOST_PIXELS: f64 = 10.0;
const MOST_SHARE: f64 = 0.1;

/// The mask's tight box `rect`, each side moved outwards by a tenth of the box (at most 10 pixels) when more than
/// `margin` of the pixels in between have features that look like the mean of the mask's.
///
/// As in the published program a side stays that would reach the image's edge or beyond; so does a box of a
/// single row or column. Features are interpolated between the cells; they look alike when their cosine is above 0.5.
///
/// # Errors
/// [`Error::InvalidInput`] for features without cells or with values that are not finite, or a box that leaves the
/// mask, [`Error::ShapeMismatch`] for features of another image, [`Error::InvalidParameter`] for a margin outside 0..=1.
///
/// # References
/// The context-aware elastic box of SAMRefiner (Lin et al., ICLR 2025); equals the published program's (golden case
/// `samrefiner`).
pub fn expand_box(mask: ArrayView2<'_, bool>, rect: Rect, features: &FeatureMap, margin: f32) -> Result<Rect> {
    check(mask, rect, features, margin)?;
    let edges = |start: u32, length: u32| (start as usize, (start + length) as usize - 1);
    let ((left, right), (top, bottom)) = (edges(rect.x, rect.width), edges(rect.y, rect.height));
    let Some(mean) = mean_feature(mask, features) else { return Ok(rect) };
    if margin == 0.0 || left == right || top == bottom {
        return Ok(rect);
    }
    let likeness = Likeness::new(features, mean);
    let reach = |length: usize| (length as f64 * MOST_SHARE).min(MOST_PIXELS);
    let before = |edge: usize, length: usize| {
        let moved = edge as f64 - reach(length);
        if moved >= 1.0 { moved as usize } else { edge }
    };
    let after = |edge: usize, length: usize, end: usize| {
        let moved = (edge as f64 + reach(length)) as usize;
        if moved < end { moved } else { edge }
    };
    let grown = |columns: (usize, usize), rows: (usize, usize)| {
        let area = (columns.1 - columns.0) * (rows.1 - rows.0);
        let places = (rows.0..rows.1).flat_map(|y| (columns.0..columns.1).map(move |x| (y, x)));
        let alike = places.filter(|&(y, x)| likeness.cosine(y, x) > ALIKE).count();
        alike as f32 / area.max(1) as f32 > margin
    };
    let (width, height) = (right - left, bottom - top);
    let new_left = Some(before(left, width)).filter(|&x| grown((x, left), (top, bottom))).unwrap_or(left);
    let new_right = after(right, width, mask.ncols());
    let new_right = Some(new_right).filter(|&x| grown((right, x), (top, bottom))).unwrap_or(right);
    let new_top = Some(before(top, height)).filter(|&y| grown((left, right), (y, top))).unwrap_or(top);
    let new_bottom = after(bottom, height, mask.nrows());
    let new_bottom = Some(new_bottom).filter(|&y| grown((left, right), (bottom, y))).unwrap_or(bottom);
    let length = |from: usize, to: usize| (to - from + 1) as u32;
    let (x, y) = (new_left as u32, new_top as u32);
    Ok(Rect { x, y, width: length(new_left, new_right), height: length(new_top, new_bottom) })
}

fn check(mask: ArrayView2<'_, bool>, rect: Rect, features: &FeatureMap, margin: f32) -> Result<()> {
    if !(0.0..=1.0).contains(&margin) {
        return Err(Error::parameter("margin", format!("expected a number in 0..=1, got {margin}")));
    }
    let size = size_of(mask);
    features.image_size.expect("mask", size)?;
    if rect.area() == 0 || Rect::whole(size).intersection(rect) != Some(rect) {
        return Err(Error::input("rect", format!("{rect:?} is empty or leaves the {size} mask")));
    }
    if features.data.is_empty() || features.data.iter().any(|value| !value.is_finite()) {
        return Err(Error::input("features", "expected at least one cell and finite values"));
    }
    Ok(())
}

/// The direction of the mean feature of the cells whose first pixel lies in the mask; `None` without such a cell.
fn mean_feature(mask: ArrayView2<'_, bool>, features: &FeatureMap) -> Option<Vec<f32>> {
    let (dim, rows, columns) = features.data.dim();
    let mut sum = vec![0.0f64; dim];
    for row in 0..rows {
        for column in 0..columns {
            // The sampling of the published program.
            if mask[[row * mask.nrows() / rows, column * mask.ncols() / columns]] {
                let cell = features.data.slice(s![.., row, column]);
                sum.iter_mut().zip(cell).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
    }
    let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    (norm > 0.0).then(|| sum.iter().map(|value| (value / norm) as f32).collect())
}

/// How much the feature at a pixel, interpolated, looks like a direction.
struct Likeness<'a> {
    features: &'a FeatureMap,
    direction: Vec<f32>,
    columns: Vec<Between>,
    rows: Vec<Between>,
}

impl<'a> Likeness<'a> {
    fn new(features: &'a FeatureMap, direction: Vec<f32>) -> Self {
        let (_, rows, columns) = features.data.dim();
        let (height, width) = features.image_size.shape();
        Self { features, direction, columns: betweens(columns, width), rows: betweens(rows, height) }
    }

    fn cosine(&self, y: usize, x: usize) -> f32 {
        let (row, column) = (self.rows[y], self.columns[x]);
        let cell = |row: usize, column: usize| -> ArrayView1<'_, f32> { self.features.data.slice(s![.., row, column]) };
        let corners = [
            (cell(row.first, column.first), (1.0 - row.share) * (1.0 - column.share)),
            (cell(row.first, column.second), (1.0 - row.share) * column.share),
            (cell(row.second, column.first), row.share * (1.0 - column.share)),
            (cell(row.second, column.second), row.share * column.share),
        ];
        let (mut product, mut square) = (0.0, 0.0);
        for (d, direction) in self.direction.iter().enumerate() {
            let value: f32 = corners.iter().map(|(cell, share)| share * cell[d]).sum();
            product += value * direction;
            square += value * value;
        }
        if square > 0.0 { product / square.sqrt() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::Size;
    use ndarray::{Array2, Array3};

    /// Columns up to 29 look like the mask, the others do not.
    fn scene() -> (Array2<bool>, FeatureMap) {
        let mask = Array2::from_shape_fn((20, 40), |(y, x)| (5..15).contains(&y) && (4..24).contains(&x));
        let data = Array3::from_shape_fn((2, 20, 40), |(d, _, x)| f32::from((d == 0) == (x < 30)));
        (mask, FeatureMap { data, image_size: Size { width: 40, height: 20 } })
    }

    const TIGHT: Rect = Rect { x: 4, y: 5, width: 20, height: 10 };

    #[test]
    fn boxes_grow_where_it_looks_alike() {
        let (mask, features) = scene();
        let grow = |rect, margin| expand_box(mask.view(), rect, &features, margin).unwrap();
        // Sides of 19 and 9: steps of 1.9 and 0.9, cut to whole pixels.
        assert_eq!(grow(TIGHT, 0.5), Rect { x: 2, y: 4, width: 23, height: 11 });
        assert_eq!(grow(TIGHT, 1.0), TIGHT);
        assert_eq!(grow(TIGHT, 0.0), TIGHT);
        let single = Rect { height: 1, ..TIGHT };
        assert_eq!(grow(single, 0.5), single);
        let mut other = features.clone();
        other.data.slice_mut(s![.., .., 24..]).mapv_inplace(|v| 1.0 - v);
        assert_eq!(expand_box(mask.view(), TIGHT, &other, 0.9).unwrap().x, 2);
        let nothing = FeatureMap { data: Array3::zeros((2, 20, 40)), ..features.clone() };
        assert_eq!(expand_box(mask.view(), TIGHT, &nothing, 0.1).unwrap(), TIGHT);
    }

    #[test]
    fn unusable_features_are_named() {
        let (mask, mut features) = scene();
        let text = |features: &FeatureMap, rect| expand_box(mask.view(), rect, features, 0.5).unwrap_err().to_string();
        assert!(text(&features, Rect { x: 30, ..TIGHT }).contains("`rect`"));
        assert!(text(&features, Rect { width: 0, ..TIGHT }).contains("is empty or leaves the 40x20 mask"));
        assert!(expand_box(mask.view(), TIGHT, &features, f32::NAN).is_err());
        features.data[[0, 3, 3]] = f32::NAN;
        assert!(text(&features, TIGHT).contains("`features`: expected at least one cell and finite values"));
        features.image_size.width = 41;
        assert_eq!(text(&features, TIGHT), "mask: expected shape 41x20, got 40x20");
    }
}
