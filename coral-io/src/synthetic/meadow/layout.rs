//! Where seagrass grows in a photograph. All choices are made in metres, so that the number of pixels changes nothing.

use coral_core::SeededRng;

use crate::synthetic::{
    geometry::{P2, View},
    noise::{Fractal, cos_turns, sin_turns},
};

/// Cover is counted on this many places along each side of the picture.
const SAMPLES: usize = 64;

/// Clumps of a meadow: seagrass grows where a smooth random relief exceeds a threshold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meadow {
    seed: u32,
    clump_m: f32,
    middle: P2,
    /// Rise of the relief per metre: a meadow often ends towards one side of a photograph.
    slope: P2,
    threshold: f32,
}

impl Meadow {
    /// Clumps of about this width at random places.
    pub(super) fn new(view: &View, clump_m: f32, rng: &mut SeededRng) -> Self {
        let turn = rng.uniform() as f32;
        let rise = rng.range(0.0, 0.5) as f32 / view.extent().norm();
        let slope = P2 { x: cos_turns(turn), y: sin_turns(turn) }.scale(rise);
        let middle = view.extent().scale(0.5);
        Self { seed: rng.bits() as u32, clump_m, middle, slope, threshold: 0.0 }
    }

    /// The same clumps, grown or shrunk so that they cover `cover` of the places that `counts` holds for.
    pub(super) fn covering(mut self, view: &View, cover: f32, counts: impl Fn(P2) -> bool) -> Self {
        let extent = view.extent();
        let along = |i: usize, length: f32| (i as f32 + 0.5) / SAMPLES as f32 * length;
        let place = |i: usize| P2 { x: along(i % SAMPLES, extent.x), y: along(i / SAMPLES, extent.y) };
        self.threshold = 0.0;
        let places = (0..SAMPLES * SAMPLES).map(place).filter(|&p| counts(p));
        let mut relief: Vec<f32> = places.map(|p| self.depth(p)).collect();
        relief.sort_by(|a, b| b.total_cmp(a));
        let wanted = (cover.clamp(0.0, 1.0) * relief.len() as f32) as usize;
        self.threshold = match relief.get(wanted) {
            Some(&level) => level,
            None => relief.last().map_or(0.0, |level| level - 0.1),
        };
        self
    }

    /// How deep inside a clump a place lies: 0 at the edge, negative outside; about 0.5 in the middle of a large one.
    pub(super) fn depth(&self, p: P2) -> f32 {
        let relief = Fractal { frequency: 0.5 / self.clump_m, octaves: 4, ppm: f32::MAX }.at(p, self.seed);
        relief + self.slope.dot(p.sub(self.middle)) - self.threshold
    }
}

#[cfg(test)]
mod tests {
    use coral_core::Size;

    use super::*;

    #[test]
    fn clumps_cover_what_they_should() {
        let view = View::new(Size { width: 320, height: 200 }, 0.55);
        let extent = view.extent();
        for (seed, cover) in [(1, 0.0), (2, 0.3), (3, 0.75), (4, 1.0)] {
            let meadow = Meadow::new(&view, 0.15, &mut SeededRng::new(seed));
            let lower = |p: P2| p.y > 0.25 * extent.y;
            let meadow = meadow.covering(&view, cover, lower);
            let places = (0..90 * 90).map(|i| P2 { x: (i % 90) as f32 / 90.0, y: (i / 90) as f32 / 90.0 });
            let places = places.map(|p| P2 { x: p.x * extent.x, y: p.y * extent.y }).filter(|&p| lower(p));
            let inside: Vec<bool> = places.map(|p| meadow.depth(p) > 0.0).collect();
            let share = inside.iter().filter(|&&inside| inside).count() as f32 / inside.len() as f32;
            assert!((share - cover).abs() < 0.03, "wanted {cover}, got {share}");
        }
    }
}
