use coral_core::Size;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};

use super::features::painted;
use crate::between::{Between, betweens};
use crate::blur::gaussian_blur;
use crate::{Superpixels, parallel};

/// Classes whose score maps are held at one time.
const CLASSES_AT_ONCE: usize = 8;
/// Rows of the result that one task fills.
const BAND: usize = 64;

/// The column of the largest of the S×C `scores` at every pixel of an image of size `target`: scores are painted onto the
/// superpixels, blurred by `sigma` pixels and interpolated bilinearly to the target. Ties go to the first column.
pub(super) fn largest_score(
    segments: &Superpixels,
    scores: ArrayView2<'_, f64>,
    sigma: f32,
    target: Size,
) -> Array2<u8> {
    let mut best = Array2::from_elem(target.shape(), f32::NEG_INFINITY);
    let mut columns = Array2::zeros(target.shape());
    let across = betweens(segments.size().width as usize, target.width as usize);
    let down = betweens(segments.size().height as usize, target.height as usize);
    let classes: Vec<usize> = (0..scores.ncols()).collect();
    for chunk in classes.chunks(CLASSES_AT_ONCE) {
        let planes =
            parallel::map(chunk.to_vec(), |class| gaussian_blur(painted(segments, scores, class).view(), sigma));
        let bands = best.axis_chunks_iter_mut(Axis(0), BAND).zip(columns.axis_chunks_iter_mut(Axis(0), BAND));
        let bands = bands.enumerate().map(|(band, (best, columns))| (band * BAND, best, columns)).collect();
        parallel::map(bands, |(top, best, columns)| {
            fill_band(Band { top, best, columns }, chunk[0], &planes, (&across, &down));
        });
    }
    columns
}

/// Some rows of the result.
struct Band<'a> {
    top: usize,
    best: ArrayViewMut2<'a, f32>,
    columns: ArrayViewMut2<'a, u8>,
}

fn fill_band(mut band: Band<'_>, first_class: usize, planes: &[Array2<f32>], (across, down): (&[Between], &[Between])) {
    let mut blend = Vec::new();
    for (row, (mut best, mut columns)) in band.best.outer_iter_mut().zip(band.columns.outer_iter_mut()).enumerate() {
        let Between { first: above, second: below, share } = down[band.top + row];
        for (index, plane) in planes.iter().enumerate() {
            blend.clear();
            let pairs = plane.row(above).into_iter().zip(plane.row(below));
            blend.extend(pairs.map(|(above, below)| above + share * (below - above)));
            let column = (first_class + index) as u8;
            for ((best, winner), at) in best.iter_mut().zip(&mut columns).zip(across) {
                let score = blend[at.first] + at.share * (blend[at.second] - blend[at.first]);
                if score > *best {
                    *best = score;
                    *winner = column;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn equal_sizes_take_each_pixels_own_superpixel() {
        let segments = Superpixels::from_labels(array![[0, 0, 1], [2, 2, 1]]).unwrap();
        let scores = array![[0.1, 0.2], [0.5, 0.5], [0.9, 0.3]];
        let columns = largest_score(&segments, scores.view(), 0.0, Size { width: 3, height: 2 });
        assert_eq!(columns, array![[1, 1, 0], [0, 0, 0]]);
    }

    #[test]
    fn edges_are_interpolated_when_the_target_is_larger() {
        let segments = Superpixels::from_labels(array![[0, 1]]).unwrap();
        // The scores cross at 3/4 of the way between the two pixel centres.
        let scores = array![[3.0, 0.0], [0.0, 1.0]];
        let columns = largest_score(&segments, scores.view(), 0.0, Size { width: 20, height: 3 });
        // Centres lie at columns 4.5 and 14.5 of 20: the crossing is at 12.
        let expected: Vec<u8> = (0..20).map(|x| u8::from(x > 12)).collect();
        assert!(
            columns
                .outer_iter()
                .all(|row| row.to_vec()[..12] == expected[..12] && row.to_vec()[13..] == expected[13..])
        );
    }

    #[test]
    fn more_classes_than_fit_at_once_compete() {
        let segments = Superpixels::from_labels(array![[0, 1]]).unwrap();
        let scores = Array2::from_shape_fn((2, 30), |(segment, class)| f64::from((class == 29 - 20 * segment) as u8));
        let columns = largest_score(&segments, scores.view(), 0.0, Size { width: 2, height: 1 });
        assert_eq!(columns, array![[29, 9]]);
    }
}
