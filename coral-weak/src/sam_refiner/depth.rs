//! How deep every pixel of a mask lies inside it.

use coral_core::{Error, Result, Size};
use ndarray::{Array2, Array3, ArrayView2};

use super::config::MaskDistance;
use crate::geodesic::geodesic_raster_scan;
use crate::nearest::nearest_of;
use crate::nearest_fill::edge_points;

/// The distance from every pixel of a mask to the nearest pixel outside, H×W, in pixels; 0 outside.
///
/// The edge of the image is no outside, but for a mask of all its pixels, see [`MaskDistance`].
///
/// # Errors
/// [`Error::InvalidInput`] for a mask without pixels or with more than 2³² − 1.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::{MaskDistance, mask_depth};
/// let mask = array![[true, true, false, true]];
/// assert_eq!(mask_depth(mask.view(), MaskDistance::Euclidean)?, array![[2.0, 1.0, 0.0, 1.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// [`MaskDistance::Chamfer`] agrees with FastGeodis 1.0.5 as SAMRefiner calls it within 1e-3 (golden case
/// `samrefiner`).
pub fn mask_depth(mask: ArrayView2<'_, bool>, distance: MaskDistance) -> Result<Array2<f32>> {
    check_size(mask)?;
    match distance {
        MaskDistance::Euclidean => Ok(euclidean(mask)),
        MaskDistance::Chamfer => chamfer(mask),
    }
}

/// Checks that there are pixels, and no more than can be numbered.
pub(super) fn check_size(mask: ArrayView2<'_, bool>) -> Result<()> {
    if (1..=u32::MAX as usize).contains(&mask.len()) {
        return Ok(());
    }
    Err(Error::input("mask", format!("expected 1 to 2^32 - 1 pixels, got {}", size_of(mask))))
}

/// The size of a view, which [`Size::of_map`] does not take.
pub(super) fn size_of(mask: ArrayView2<'_, bool>) -> Size {
    Size { width: mask.ncols() as u32, height: mask.nrows() as u32 }
}

fn chamfer(mask: ArrayView2<'_, bool>) -> Result<Array2<f32>> {
    const SCANS: usize = 2;
    let start = mask.mapv(|inside| if inside { 1e10 } else { 0.0 });
    // Without channels: only lengths count.
    let no_image = Array3::zeros((0, mask.nrows(), mask.ncols()));
    geodesic_raster_scan(no_image.view(), start.view(), 0.0, SCANS)
}

fn euclidean(mask: ArrayView2<'_, bool>) -> Array2<f32> {
    let (height, width) = mask.dim();
    let size = size_of(mask);
    let outside = edge_points(size, |y, x| (!mask[[y, x]]).then_some(0));
    if outside.is_empty() {
        let to_edge = |at: usize, length: usize| (at + 1).min(length - at);
        let depth = |(y, x): (usize, usize)| to_edge(y, height).min(to_edge(x, width)) as f32;
        let all = mask.iter().all(|&inside| inside);
        return if all { Array2::from_shape_fn((height, width), depth) } else { Array2::zeros((height, width)) };
    }
    let nearest = nearest_of(&outside, size, |i| i as u32);
    Array2::from_shape_fn((height, width), |(y, x)| {
        let p = outside[nearest[[y, x]] as usize];
        let (dx, dy) = (x as f64 - f64::from(p.x), y as f64 - f64::from(p.y));
        if mask[[y, x]] { (dx * dx + dy * dy).sqrt() as f32 } else { 0.0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    fn naive(mask: &Array2<bool>) -> Array2<f32> {
        let outside: Vec<_> = mask.indexed_iter().filter(|(_, inside)| !**inside).map(|(at, _)| at).collect();
        Array2::from_shape_fn(mask.dim(), |(y, x)| {
            let square = outside.iter().map(|&(v, u)| y.abs_diff(v).pow(2) + x.abs_diff(u).pow(2)).min();
            if mask[[y, x]] { (square.unwrap() as f64).sqrt() as f32 } else { 0.0 }
        })
    }

    #[test]
    fn masks_without_an_outside_are_measured_against_the_image() {
        let full = Array2::from_elem((3, 5), true);
        let depth = mask_depth(full.view(), MaskDistance::Euclidean).unwrap();
        assert_eq!(depth, array![[1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]]);
        assert!(mask_depth(full.view(), MaskDistance::Chamfer).unwrap().iter().all(|&d| d == 1e10));
        let empty = Array2::from_elem((3, 5), false);
        for distance in [MaskDistance::Euclidean, MaskDistance::Chamfer] {
            assert!(mask_depth(empty.view(), distance).unwrap().iter().all(|&d| d == 0.0));
            let error = mask_depth(Array2::default((0, 4)).view(), distance).unwrap_err().to_string();
            assert_eq!(error, "invalid input `mask`: expected 1 to 2^32 - 1 pixels, got 4x0");
        }
    }

    proptest! {
        #[test]
        fn depths_are_those_of_the_definition(width in 1usize..14, bits in prop::collection::vec(0u8..8, 1..150)) {
            let height = bits.len().div_ceil(width);
            let inside = |at: usize| bits.get(at).is_some_and(|bit| *bit > 0);
            let mut mask = Array2::from_shape_fn((height, width), |(y, x)| inside(y * width + x));
            mask[[height / 2, 0]] = false;
            let exact = mask_depth(mask.view(), MaskDistance::Euclidean).unwrap();
            prop_assert_eq!(&exact, &naive(&mask));
            let chamfer = mask_depth(mask.view(), MaskDistance::Chamfer).unwrap();
            for ((at, &exact), &chamfer) in exact.indexed_iter().zip(&chamfer) {
                prop_assert!(chamfer >= exact - 1e-3, "{:?}: {} < {}", at, chamfer, exact);
                prop_assert_eq!(exact == 0.0, chamfer == 0.0);
            }
        }
    }
}
