//! One coral colony: its outline, its profile and where it stands.

use coral_core::SeededRng;

use super::{
    config::GrowthForm,
    geometry::P2,
    noise::{Labyrinth, cells, cos_turns, gradient, sin_turns, smoothstep},
};

/// A rounded part of a colony's outline, in colony radii.
#[derive(Debug, Clone, Copy)]
struct Lobe {
    centre: P2,
    radius: f32,
}

/// A colony of irregular outline.
#[derive(Debug, Clone)]
pub(crate) struct Colony {
    pub(crate) form: GrowthForm,
    pub(crate) centre: P2,
    /// Mean radius in metres.
    pub(crate) radius: f32,
    pub(crate) seed: u32,
    /// Which texture of its form it has, 0, 1 or 2.
    pub(crate) variant: u32,
    /// Size of its branches, corallites or folds in metres.
    pub(crate) grain: f32,
    pub(crate) labyrinth: Labyrinth,
    /// Tissue colour as displayed in air, 0..1.
    pub(crate) color: [f32; 3],
    /// Colour of its blotches.
    pub(crate) second_color: [f32; 3],
    /// How high it stands for its radius, about 1.
    rise: f32,
    axis: P2,
    stretch: f32,
    lobes: Vec<Lobe>,
}

/// The colours of all forms: they alone do not tell the forms apart.
const PALETTE: [[f32; 3]; 10] = [
    [0.70, 0.54, 0.38],
    [0.54, 0.39, 0.28],
    [0.52, 0.47, 0.31],
    [0.73, 0.58, 0.34],
    [0.49, 0.52, 0.38],
    [0.60, 0.48, 0.52],
    [0.53, 0.52, 0.55],
    [0.80, 0.72, 0.60],
    [0.73, 0.51, 0.46],
    [0.42, 0.35, 0.30],
];

impl Colony {
    /// A colony of the given form and mean radius (metres).
    pub(crate) fn new(form: GrowthForm, centre: P2, radius: f32, rng: &mut SeededRng) -> Self {
        let turn = rng.uniform() as f32;
        let seed = rng.bits() as u32;
        let variant = rng.below(3) as u32;
        let low_grain = [0.013, 0.008, 0.009, 0.006, 0.024];
        let grain = low_grain[usize::from(form.class() - GrowthForm::Branching.class())] * rng.range(1.0, 1.9) as f32;
        let (a, b) = (PALETTE[rng.below(10)], PALETTE[rng.below(10)]);
        let (mix, light) = (rng.range(0.0, 0.5) as f32, rng.range(0.8, 1.15) as f32);
        let blend = |mix: f32| std::array::from_fn(|c| (a[c] * (1.0 - mix) + b[c] * mix) * light);
        Self {
            form,
            centre,
            radius,
            seed,
            variant,
            grain,
            labyrinth: Labyrinth::new(seed ^ 0x0B),
            color: blend(mix),
            second_color: blend(mix + 0.35),
            rise: rng.range(0.65, 1.35) as f32,
            axis: P2 { x: cos_turns(turn), y: sin_turns(turn) },
            stretch: rng.range(1.0, 1.35) as f32,
            lobes: lobes(form, rng),
        }
    }

    /// The radius in metres of a circle that holds the colony.
    pub(crate) fn reach(&self) -> f32 {
        1.9 * self.radius
    }

    /// How deep inside the outline a place is: 0 at the edge, about 1 in the middle, negative outside.
    pub(crate) fn inside(&self, p: P2) -> f32 {
        let local = p.sub(self.centre).along(self.axis).scale(1.0 / self.radius);
        let local = P2 { x: local.x / self.stretch, y: local.y * self.stretch };
        if local.dot(local) > 2.6 {
            return -1.0;
        }
        let (broad, fine, hollows) = match self.form {
            GrowthForm::Branching => (0.16, 0.07, 0.10),
            GrowthForm::Massive => (0.14, 0.03, 0.0),
            GrowthForm::Tabular => (0.22, 0.05, 0.16),
            GrowthForm::Encrusting => (0.40, 0.13, 0.45),
            GrowthForm::Soft => (0.20, 0.08, 0.05),
        };
        let sway = P2 { x: gradient(local.scale(1.4), self.seed), y: gradient(local.scale(1.4), self.seed ^ 0xF0) };
        let warped = local.add(sway.scale(broad));
        let mut depth = -1.0_f32;
        for lobe in &self.lobes {
            depth = smooth_max(depth, lobe.radius - warped.sub(lobe.centre).norm());
        }
        depth += fine * gradient(local.scale(5.5), self.seed ^ 0x0F);
        if hollows > 0.0 {
            depth -= hollows * smoothstep(0.1, 0.7, gradient(local.scale(2.3), self.seed ^ 0xFF));
        }
        if self.form == GrowthForm::Branching {
            // The tips of the outer branches notch the outline.
            depth -= 0.9 * self.grain / self.radius * (self.branch(p).nearest - 0.35);
        }
        depth / 0.75
    }

    /// The branch whose tip is nearest to `p`; branches lean outwards, so that tips look stretched there.
    pub(crate) fn branch(&self, p: P2) -> super::noise::Cell {
        let local = p.sub(self.centre);
        let lean = 1.0 - 0.3 * smoothstep(0.3, 1.2, local.norm() / self.radius);
        cells(local.scale(lean / self.grain), self.seed ^ 0xB7)
    }

    /// A soft coral's folds at a place relative to its middle: 1 on a crest, −1 in a furrow.
    pub(crate) fn fold(&self, local: P2) -> f32 {
        self.meander(local, 2.1 * self.grain).clamp(-0.8, 0.8) / 0.8
    }

    /// A labyrinth of the given wavelength (metres) that bends from place to place, in about −1..1.
    pub(crate) fn meander(&self, local: P2, wavelength: f32) -> f32 {
        let waves = local.scale(1.0 / wavelength);
        let q = waves.scale(0.3);
        let sway = P2 { x: gradient(q, self.seed), y: gradient(q, !self.seed) };
        self.labyrinth.at(waves.add(sway.scale(1.2)))
    }

    /// Height in metres above the ground under the colony, for a place `depth` inside.
    pub(crate) fn profile(&self, p: P2, depth: f32) -> f32 {
        let d = depth.clamp(0.0, 1.0);
        let dome = (d * (2.0 - d)).sqrt();
        let lump = gradient(p.scale(1.7 / self.radius), self.seed ^ 0x3C);
        match self.form {
            GrowthForm::Branching => {
                let tip = self.branch(p).nearest;
                self.rise * self.radius * (0.12 + 0.42 * dome) + 1.1 * self.grain * (0.55 - 1.3 * tip * tip)
            }
            GrowthForm::Massive => {
                let knobs = gradient(p.scale(4.5 / self.radius), self.seed ^ 0x3D);
                self.rise
                    * self.radius
                    * dome
                    * (0.55 + 0.16 * lump + [0.07, 0.02, 0.03][self.variant as usize] * knobs)
            }
            GrowthForm::Tabular => {
                0.03 + self.radius * (0.34 * self.rise + 0.10 * (1.0 - d) * lump.abs() + 0.06 * lump)
            }
            GrowthForm::Encrusting => 0.012 * smoothstep(0.0, 0.12, depth) + 0.008 * lump,
            GrowthForm::Soft => {
                let fold = self.fold(p.sub(self.centre));
                self.radius * 0.35 * self.rise * dome + 0.35 * self.grain * fold * (0.3 + 0.7 * dome)
            }
        }
    }
}

fn lobes(form: GrowthForm, rng: &mut SeededRng) -> Vec<Lobe> {
    let main = Lobe { centre: P2 { x: 0.0, y: 0.0 }, radius: 0.75 };
    let extra = match form {
        GrowthForm::Encrusting => 3 + rng.below(3),
        GrowthForm::Soft | GrowthForm::Massive => 1 + rng.below(4),
        GrowthForm::Tabular => 1 + rng.below(4),
        GrowthForm::Branching => rng.below(4),
    };
    let more = (0..extra).map(|_| {
        let (turn, far) = (rng.uniform() as f32, rng.range(0.4, 0.85) as f32);
        let centre = P2 { x: cos_turns(turn) * far, y: sin_turns(turn) * far };
        Lobe { centre, radius: rng.range(0.25, 0.55) as f32 }
    });
    std::iter::once(main).chain(more).collect()
}

fn smooth_max(a: f32, b: f32) -> f32 {
    let blend = (0.08 - (a - b).abs()).max(0.0);
    a.max(b) + blend * blend / 0.32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colonies_fit_their_circle_and_are_irregular() {
        let mut rng = SeededRng::new(4);
        for i in 0..40 {
            let colony = Colony::new(GrowthForm::ALL[i % 5], P2 { x: 0.4, y: -0.2 }, 0.15, &mut rng);
            let steps = 120;
            let (mut inside, mut far, mut near) = (0, 0.0_f32, f32::MAX);
            for k in 0..steps * steps {
                let at = |k: usize| (k as f32 / steps as f32 - 0.5) * 5.0 * colony.radius;
                let offset = P2 { x: at(k % steps), y: at(k / steps) };
                if colony.inside(colony.centre.add(offset)) > 0.0 {
                    inside += 1;
                    far = far.max(offset.norm());
                } else {
                    near = near.min(offset.norm());
                }
            }
            let area = inside as f32 * (5.0 * colony.radius / steps as f32).powi(2);
            let ratio = area / (std::f32::consts::PI * colony.radius * colony.radius);
            assert!(far <= colony.reach(), "{:?} reaches {far}", colony.form);
            assert!((0.2..2.0).contains(&ratio), "{:?} covers {ratio} of its circle", colony.form);
            assert!(far > 1.1 * near, "{:?} is a plain disc", colony.form);
        }
    }
}
