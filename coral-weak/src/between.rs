//! Where the pixels of one grid lie on another: the table of bilinear interpolation along one axis.

/// Two neighbouring cells and the share of the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Between {
    pub(crate) first: usize,
    pub(crate) second: usize,
    pub(crate) share: f32,
}

/// The cells around the centres of `pixels` pixels on a line of `cells` (at least one) cells of the same length; beyond
/// the outermost centres the outermost cell.
pub(crate) fn betweens(cells: usize, pixels: usize) -> Vec<Between> {
    let between = |pixel: usize| {
        let place = ((pixel as f64 + 0.5) * cells as f64 / pixels as f64 - 0.5).clamp(0.0, (cells - 1) as f64);
        let first = place as usize;
        Between { first, second: (first + 1).min(cells - 1), share: place.fract() as f32 }
    };
    (0..pixels).map(between).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_lie_between_the_centres_of_cells() {
        let at = |first, second, share| Between { first, second, share };
        assert_eq!(betweens(2, 4), [at(0, 1, 0.0), at(0, 1, 0.25), at(0, 1, 0.75), at(1, 1, 0.0)]);
        assert_eq!(betweens(4, 2), [at(0, 1, 0.5), at(2, 3, 0.5)]);
        assert_eq!(betweens(1, 2), [at(0, 0, 0.0); 2]);
        for cells in [1, 7, 640, 4001] {
            assert!(betweens(cells, cells).iter().enumerate().all(|(i, b)| (b.first, b.share) == (i, 0.0)));
        }
    }
}
