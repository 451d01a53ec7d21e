//! Colours of seagrass and of what lies between it.

use coral_core::SeededRng;

use super::{
    config::Seagrass,
    plants::{BED, DEAD, PLANT},
};
use crate::synthetic::{
    canvas::Texel,
    classes::{RUBBLE, SAND},
    geometry::P2,
    ground_skin::GroundSkin,
    noise::{Fractal, smoothstep},
    skin::{Skin, mix, scaled},
};

/// Colours that leaves of any species can have, as displayed in air.
const LEAVES: [[f32; 3]; 5] =
    [[0.38, 0.45, 0.27], [0.46, 0.50, 0.32], [0.45, 0.42, 0.27], [0.34, 0.40, 0.29], [0.50, 0.48, 0.36]];
const EPIPHYTES: [f32; 3] = [0.60, 0.56, 0.45];
const WITHERED: [[f32; 3]; 2] = [[0.52, 0.43, 0.31], [0.36, 0.31, 0.24]];
const SHADE: [f32; 3] = [0.27, 0.27, 0.20];

/// A colour of its own for each species.
fn own_color(species: Seagrass) -> [f32; 3] {
    match species {
        Seagrass::Ferny => [0.50, 0.44, 0.24],
        Seagrass::Rounded => [0.34, 0.49, 0.28],
        Seagrass::Strappy => [0.43, 0.46, 0.38],
    }
}

/// Sand of the reef's painter.
const SAND_TEXEL: Texel = Texel { class: SAND, object: 0, height: 0.0, depth: 0.0, across: 0.0, tone: 0.0 };

/// Colours a meadow; every photograph has its own colours.
#[derive(Debug)]
pub(super) struct MeadowSkin {
    pub(super) ground: GroundSkin,
    species: Seagrass,
    /// Young and old leaves.
    leaves: [[f32; 3]; 2],
    /// How much of the sand has shells on it, 0..1.
    shells: f32,
    /// How overgrown the leaves are, 0..1.
    overgrown: f32,
    seed: u32,
}

impl MeadowSkin {
    /// Colours that, for an `overlap` of 1, do not depend on the species.
    pub(super) fn new(species: Seagrass, overlap: f32, ground: GroundSkin, rng: &mut SeededRng) -> Self {
        let mut drawn = || {
            let (a, b) = (LEAVES[rng.below(LEAVES.len())], LEAVES[rng.below(LEAVES.len())]);
            mix(a, b, rng.uniform() as f32)
        };
        let shared = [drawn(), drawn()];
        let leaves = shared.map(|color| mix(own_color(species), color, overlap));
        let shells = rng.uniform() as f32;
        Self { ground, species, leaves, shells, overgrown: rng.range(0.1, 1.0) as f32, seed: rng.bits() as u32 }
    }

    /// Colour and relief of a texel.
    pub(super) fn at(&self, texel: &Texel, p: P2) -> Skin {
        match texel.class {
            PLANT => self.leaf(texel, p),
            DEAD => {
                let color = mix(WITHERED[0], WITHERED[1], texel.tone);
                Skin { color: scaled(color, 1.0 - 0.2 * texel.across), relief: 0.0 }
            }
            BED => {
                let sand = self.sand(p);
                let stain = Fractal { frequency: 50.0, octaves: 2, ppm: self.ground.ppm }.at(p, self.seed);
                let shaded = smoothstep(0.0, 0.16, texel.depth) * (0.5 + 0.3 * stain);
                Skin { color: mix(sand.color, SHADE, shaded), ..sand }
            }
            SAND => self.sand(p),
            _ => {
                // Coarse shell, where a reef would have overgrown rubble.
                let shell = self.ground.at(&Texel { class: RUBBLE, object: 0, ..*texel }, p);
                let grey = shell.color.iter().sum::<f32>() / 3.0;
                Skin { color: mix(shell.color, scaled(self.ground.sand_bed(p).color, 0.45 + grey), 0.65), ..shell }
            }
        }
    }

    /// Sand with shells on some of it.
    fn sand(&self, p: P2) -> Skin {
        let bare = self.ground.sand_bed(p);
        let shelly = Fractal { frequency: 3.5, octaves: 2, ppm: f32::MAX }.at(p, self.seed ^ 3);
        let share = smoothstep(0.0, 0.25, shelly + self.shells - 0.35);
        let with_shells = self.ground.at(&SAND_TEXEL, p);
        let relief = bare.relief + (with_shells.relief - bare.relief) * share;
        Skin { color: mix(bare.color, with_shells.color, share), relief }
    }

    fn leaf(&self, texel: &Texel, p: P2) -> Skin {
        let (along, across) = (texel.depth, texel.across.clamp(-1.0, 1.0));
        let stain = Fractal { frequency: 45.0, octaves: 3, ppm: self.ground.ppm }.at(p, self.seed ^ 7);
        let fresh = scaled(mix(self.leaves[0], self.leaves[1], texel.tone), 0.78 + 0.5 * texel.tone);
        // Epiphytes whiten the older, outer part of a leaf.
        let age = smoothstep(0.35, 1.15, along + 0.5 * stain) * self.overgrown;
        let color = mix(fresh, EPIPHYTES, 0.75 * age);
        let light = match self.species {
            // A pale midrib and margin, and fine cross veins between them.
            Seagrass::Rounded if along > 0.09 => {
                let rib = 0.35 * smoothstep(0.22, 0.05, across.abs());
                let margin = 0.20 * smoothstep(0.7, 0.95, across.abs());
                0.86 + rib + margin - 0.1 * (across + 0.3).max(0.0)
            }
            // Stems and stalks are dark.
            Seagrass::Ferny | Seagrass::Rounded if along <= 0.1 => 0.62,
            Seagrass::Ferny => 0.75 + 0.5 * along - 0.22 * across.abs(),
            _ => (1.0 + 0.20 * (1.0 - across.abs()) - 0.25 * (across + 0.4).max(0.0)) * (0.66 + 0.44 * along),
        };
        Skin { color: scaled(color, light), relief: 0.0004 * stain }
    }
}
