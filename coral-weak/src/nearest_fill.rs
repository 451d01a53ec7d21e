use coral_core::{ClassId, Error, LabelMap, PointLabel, Result, Size, UNLABELED};
use ndarray::Array2;

use crate::nearest::nearest_of;

/// The map with every pixel of `class` given the class of the nearest pixel of another class (Euclidean, exact).
///
/// Unlabelled pixels stay and lend their label to none. Of several pixels equally near the topmost counts, and among
/// those of one row the leftmost. A map without another class comes back as it is.
///
/// # Errors
/// [`Error::InvalidInput`] for a map of more than 2³² − 1 pixels.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::fill_class;
/// assert_eq!(fill_class(&array![[1, 6, 6, 6, 2, 255, 6]], 6)?, array![[1, 1, 1, 2, 2, 255, 2]]);
/// assert_eq!(fill_class(&array![[6, 255, 6]], 6)?, array![[6, 255, 6]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// How *The point is the mask* (ICCV Workshops 2025) fills the pixels that a refinement has freed; equal to it but for
/// pixels equally near to two classes (golden case `coarse_map`).
pub fn fill_class(labels: &LabelMap, class: ClassId) -> Result<LabelMap> {
    if labels.len() > u32::MAX as usize {
        let size = Size::of_map(labels);
        return Err(Error::input("labels", format!("{size} pixels are too many, tile it: at most 2^32 - 1 fit")));
    }
    let mut filled = labels.clone();
    if let Some(nearest) = nearest_other_class(labels, class) {
        filled.zip_mut_with(&nearest, |label, &nearest| {
            if *label == class {
                *label = nearest;
            }
        });
    }
    Ok(filled)
}

/// For every pixel of `class` the class of the nearest labelled pixel that has another, for other pixels any class;
/// `None` when there is no such pixel, or none of `class`.
pub(crate) fn nearest_other_class(labels: &LabelMap, class: ClassId) -> Option<LabelMap> {
    let is_source = |label: ClassId| label != class && label != UNLABELED;
    let sources = edge_points(Size::of_map(labels), |y, x| Some(labels[[y, x]]).filter(|&label| is_source(label)));
    (!sources.is_empty()).then(|| nearest_of(&sources, Size::of_map(labels), |i| sources[i].class))
}

/// The sources (pixels with a class) that have a neighbour in their row or column that is none, in canonical order. Of
/// the sources nearest to a pixel that is none, all are among them: a step towards that pixel gets nearer.
pub(crate) fn edge_points(size: Size, class: impl Fn(usize, usize) -> Option<ClassId>) -> Vec<PointLabel> {
    let (height, width) = size.shape();
    let is_source = Array2::from_shape_fn((height, width), |(y, x)| class(y, x).is_some());
    let row = |y: usize| (y < height).then(|| is_source.row(y));
    let mut points = Vec::new();
    for (y, sources) in is_source.outer_iter().enumerate() {
        let beside = [row(y.wrapping_sub(1)), row(y + 1)];
        for (x, _) in sources.iter().enumerate().filter(|(_, source)| **source) {
            let touches = (x > 0 && !sources[x - 1])
                || (x + 1 < width && !sources[x + 1])
                || beside.iter().flatten().any(|row| !row[x]);
            if let Some(class) = class(y, x).filter(|_| touches) {
                points.push(PointLabel { x: x as u32, y: y as u32, class });
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_class_is_that_of_the_nearest_other(
            width in 1usize..12,
            labels in prop::collection::vec(prop::sample::select(vec![1u8, 2, 6, 6, 6, UNLABELED]), 1..120),
        ) {
            let height = labels.len() / width;
            let map = LabelMap::from_shape_vec((height, width), labels[..height * width].to_vec()).unwrap();
            let filled = fill_class(&map, 6).unwrap();
            for ((y, x), &label) in map.indexed_iter() {
                // The first of the nearest, row by row.
                let others = map.indexed_iter().filter(|(_, other)| ![6, UNLABELED].contains(*other));
                let nearest = others.min_by_key(|((v, u), _)| v.abs_diff(y).pow(2) + u.abs_diff(x).pow(2));
                let expected = nearest.filter(|_| label == 6).map_or(label, |(_, &other)| other);
                prop_assert_eq!(filled[[y, x]], expected, "at ({}, {})", x, y);
            }
        }
    }
}
