//! The sea floor under the corals: which substrate lies where, and its relief.

use coral_core::ClassId;

use super::{
    classes::{CORALLINE, RUBBLE, SAND, TURF},
    geometry::P2,
    noise::{Fractal, cells, cos_turns, gradient, sin_turns, smoothstep, unit},
};

/// Where sand, rubble and overgrown rock lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground {
    seed: u32,
    ppm: f32,
    /// Rock is where the relief exceeds this.
    threshold: f32,
    /// The direction across the sand ripples.
    ripples: P2,
}

/// The floor at one place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    pub(crate) class: ClassId,
    /// Metres above the mean sand level.
    pub(crate) height: f32,
}

impl Ground {
    /// A floor of which about `hard_bottom` is rock.
    pub(crate) fn new(seed: u32, hard_bottom: f32, ppm: f32) -> Self {
        let turn = unit(seed, 0);
        // The relief is about normal with deviation 0.36; this is its quantile function, straightened.
        let off_centre = 0.5 - hard_bottom;
        let threshold = off_centre * (0.85 + 6.0 * off_centre * off_centre * off_centre.abs());
        Self { seed, ppm, threshold, ripples: P2 { x: cos_turns(turn), y: sin_turns(turn) } }
    }

    fn fractal(&self, frequency: f32, octaves: u32) -> Fractal {
        Fractal { frequency, octaves, ppm: self.ppm }
    }

    /// How far above the edge between sediment (negative) and rock (positive) the broad relief lies.
    pub(crate) fn rockiness(&self, p: P2) -> f32 {
        // The broad relief is not faded by the pixel size: where things lie must not depend on it.
        Fractal { ppm: f32::MAX, ..self.fractal(1.3, 4) }.at(p, self.seed ^ 0x11) - self.threshold
    }

    /// The substrate and the height at `p`.
    pub(crate) fn at(&self, p: P2) -> Floor {
        let rock = self.rockiness(p);
        let lumps = self.fractal(4.0, 4).at(p, self.seed ^ 0x22);
        let step = 0.05 * smoothstep(-0.02, 0.3, rock);
        if rock > 0.0 {
            let patches = Fractal { ppm: f32::MAX, ..self.fractal(3.6, 3) }.at(p, self.seed ^ 0x33);
            let stone = cells(p.scale(7.0).add(P2 { x: 0.3 * lumps, y: 0.2 * lumps }), self.seed ^ 0x44);
            let boulder = 0.045 * smoothstep(0.0, 0.75, stone.second - stone.nearest) - 0.02 * stone.nearest;
            let class = if patches > 0.10 { CORALLINE } else { TURF };
            let height = step + 0.02 * lumps + boulder * smoothstep(0.0, 0.12, rock);
            return Floor { class, height };
        }
        let fringe = Fractal { ppm: f32::MAX, ..self.fractal(3.0, 3) }.at(p, self.seed ^ 0x55);
        // Rubble gathers at the foot of the rock.
        if 0.75 * fringe + 0.22 > -rock {
            return Floor { class: RUBBLE, height: step + 0.02 * lumps };
        }
        let wander = gradient(p.scale(2.2), self.seed ^ 0x77);
        let strength = 0.008 * smoothstep(-0.4, 0.3, gradient(p.scale(1.7), self.seed ^ 0x88));
        let ripple = sin_turns(p.dot(self.ripples) / 0.075 + 1.1 * wander);
        Floor { class: SAND, height: step + 0.006 * lumps + strength * (ripple + 0.3 * ripple * ripple) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rock_share(hard_bottom: f32) -> f32 {
        let places = 40 * 900;
        let rock = (0..places).filter(|i| {
            let p = P2 { x: (i % 30) as f32 * 0.11, y: ((i / 30) % 30) as f32 * 0.11 };
            Ground::new(1 + i / 900, hard_bottom, 300.0).rockiness(p) > 0.0
        });
        rock.count() as f32 / places as f32
    }

    #[test]
    fn the_share_of_rock_follows_the_setting() {
        for wanted in [0.0, 0.2, 0.5, 0.8, 1.0] {
            let share = rock_share(wanted);
            assert!((share - wanted).abs() < 0.1, "wanted {wanted}, got {share}");
        }
    }
}
