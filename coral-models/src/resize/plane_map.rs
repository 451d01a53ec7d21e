use coral_core::{Result, Size};

use super::arithmetic::{Floats, PlaneValue};
use super::axis::Axis;
use super::image::check_sizes;
use super::passes::Passes;
use super::plane::{Interpolation, each_plane};

/// A resize of planes as a linear map, with the map that brings gradients back.
#[derive(Debug, Clone)]
pub(crate) struct PlaneMap {
    columns: Axis<f64>,
    rows: Axis<f64>,
}

impl PlaneMap {
    /// The map from planes of size `from` to planes of size `to`.
    pub(crate) fn new(from: Size, to: Size, interpolation: Interpolation) -> Result<Self> {
        check_sizes(from, to)?;
        let axis = |input: u32, output: u32| interpolation.axis(input as usize, output as usize, None);
        Ok(Self { columns: axis(from.width, to.width), rows: axis(from.height, to.height) })
    }

    /// The map from gradients of the output to gradients of the input.
    pub(crate) fn transposed(&self) -> Self {
        Self { columns: self.columns.transposed(), rows: self.rows.transposed() }
    }

    /// Maps planes that lie one after the other; a rest that fills no plane is left out.
    pub(crate) fn apply<T: PlaneValue>(&self, planes: &[T]) -> Vec<T> {
        if self.columns.is_identity() && self.rows.is_identity() {
            return planes.to_vec();
        }
        let (columns, rows) = (self.columns.map(T::from_weight), self.rows.map(T::from_weight));
        let (from, to) = (columns.input() * rows.input(), columns.len() * rows.len());
        let mut output = vec![T::default(); planes.len() / from * to];
        each_plane((planes, from), (&mut output, to), |input, output| {
            Passes::<_, 1> { columns: &columns, rows: &rows }.run::<Floats<T>>(input, output);
        });
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlaneResampler;
    use coral_core::SeededRng;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_transpose_belongs_to_the_map(
            (width, height) in (1u32..30, 1u32..30), (to_width, to_height) in (1u32..30, 1u32..30), which in 0usize..5,
        ) {
            use Interpolation::{Area, Bicubic, Bilinear, BilinearAntialias, Nearest};
            let how = [Nearest, Bilinear, BilinearAntialias, Bicubic, Area][which];
            let (from, to) = (Size { width, height }, Size { width: to_width, height: to_height });
            let map = PlaneMap::new(from, to, how).unwrap();
            let mut random = SeededRng::new(1);
            let mut planes = |size: Size| (0..2 * size.pixels()).map(|_| random.range(-1.0, 1.0)).collect::<Vec<f64>>();
            let (x, y) = (planes(from), planes(to));
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            // ⟨M x, y⟩ = ⟨x, Mᵀ y⟩
            let (forward, back) = (product(&map.apply(&x), &y), product(&x, &map.transposed().apply(&y)));
            prop_assert!((forward - back).abs() < 1e-9, "{how:?}: {forward} against {back}");
            let single: Vec<f32> = x.iter().map(|&v| v as f32).collect();
            prop_assert_eq!(map.apply(&single), PlaneResampler::new(from, to, how).unwrap().resize(&single).unwrap());
        }
    }
}
