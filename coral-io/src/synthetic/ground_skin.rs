//! Colour and fine relief of everything that is not coral.

use super::{
    canvas::Texel,
    classes::{CORALLINE, RUBBLE, SAND, SEAGRASS},
    geometry::P2,
    noise::{Fractal, cells, cos_turns, hash, sin_turns, smoothstep, unit, visibility},
    skin::{Skin, mix, scaled},
};

/// Colours as displayed in air, 0..1.
const PALE_SAND: [f32; 3] = [0.88, 0.83, 0.73];
const DARK_SAND: [f32; 3] = [0.66, 0.60, 0.50];
const LIMESTONE: [f32; 3] = [0.66, 0.62, 0.55];
const OLD_STONE: [f32; 3] = [0.40, 0.36, 0.31];
const TURF_BROWN: [f32; 3] = [0.45, 0.38, 0.28];
const TURF_GREEN: [f32; 3] = [0.42, 0.42, 0.29];
const PINK: [f32; 3] = [0.68, 0.50, 0.55];
const LILAC: [f32; 3] = [0.62, 0.53, 0.61];
const MAROON: [f32; 3] = [0.46, 0.30, 0.32];
const BLADE: [f32; 3] = [0.38, 0.44, 0.28];
const YOUNG_BLADE: [f32; 3] = [0.52, 0.55, 0.38];
const OLD_BLADE: [f32; 3] = [0.56, 0.50, 0.40];
const LITTER: [f32; 3] = [0.38, 0.38, 0.27];

/// The ground's painter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroundSkin {
    pub(crate) seed: u32,
    pub(crate) ppm: f32,
}

impl GroundSkin {
    /// Colour and relief of a texel that shows no coral.
    pub(crate) fn at(&self, texel: &Texel, p: P2) -> Skin {
        match texel.class {
            SAND => self.sand(p),
            RUBBLE => self.rubble(texel, p),
            CORALLINE => self.rock(p, 0.24),
            SEAGRASS => self.seagrass(texel, p),
            _ => self.rock(p, -0.34),
        }
    }

    fn fractal(&self, frequency: f32, octaves: u32) -> Fractal {
        Fractal { frequency, octaves, ppm: self.ppm }
    }

    fn sand(&self, p: P2) -> Skin {
        let mut skin = self.sand_bed(p);
        for (layer, size) in [(5, 0.011), (6, 0.026)] {
            self.scatter_shards(&mut skin, p, (size, 0.09), self.seed ^ layer);
        }
        skin
    }

    /// Bare sand, without the shards and shells on it.
    pub(crate) fn sand_bed(&self, p: P2) -> Skin {
        let seed = self.seed ^ 0x5A;
        let stain = self.fractal(3.0, 3).at(p, seed);
        let grain = self.fractal(90.0, 3).at(p, seed ^ 1);
        let color = scaled(mix(PALE_SAND, DARK_SAND, 0.35 + 0.6 * stain), 1.0 + 0.14 * grain);
        // Shell fragments and dark grains.
        let size = 0.011;
        let speck = cells(p.scale(1.0 / size), seed ^ 2);
        let radius = 0.45 * unit(speck.id >> 11, 0);
        let shows = smoothstep(radius, 0.5 * radius - 0.02, speck.nearest) * visibility(0.6 * size, self.ppm);
        let bright = if unit(speck.id, 1) > 0.6 { [0.92, 0.88, 0.80] } else { [0.35, 0.29, 0.25] };
        let rare = if unit(speck.id >> 7, 0) > 0.6 { shows } else { 0.0 };
        // Films of algae on older sand.
        let film = 0.35 * smoothstep(0.15, 0.6, self.fractal(4.0, 4).at(p, seed ^ 3));
        Skin { color: mix(mix(color, TURF_BROWN, film), bright, 0.7 * rare), relief: 0.0012 * grain + 0.003 * rare }
    }

    fn rubble(&self, texel: &Texel, p: P2) -> Skin {
        let seed = self.seed ^ 0xAB;
        let rough = self.fractal(40.0, 3).at(p, seed);
        if texel.object > 0 {
            return self.stone(texel, p, rough);
        }
        // Shards and sticks of dead coral in three sizes, the larger ones on top, on coarse sand.
        let bed = self.sand_bed(p);
        let mut skin = Skin { color: scaled(mix(bed.color, OLD_STONE, 0.4), 0.9 + 0.2 * rough), relief: 0.0 };
        let warped = p.add(P2 { x: rough, y: -rough }.scale(0.0025));
        for (layer, size) in [(2, 0.013), (3, 0.025), (4, 0.046)] {
            self.scatter_shards(&mut skin, warped, (size, 0.72), seed ^ layer);
        }
        Skin { color: scaled(skin.color, 1.0 + 0.25 * rough), relief: skin.relief + 0.002 * rough }
    }

    /// Lays a shard or stick of about `size` metres over a share of the cells of a grid.
    fn scatter_shards(&self, skin: &mut Skin, p: P2, (size, share): (f32, f32), seed: u32) {
        let cell = cells(p.scale(1.0 / size), seed);
        let (turn, rare) = (unit(cell.id, 0), unit(cell.id >> 7, 0));
        if rare > share {
            return;
        }
        let local = cell.offset.along(P2 { x: cos_turns(turn), y: sin_turns(turn) });
        let slender = 1.3 + 3.0 * unit(cell.id >> 3, 1);
        let radius = (local.x * local.x + local.y * local.y * slender * slender).sqrt();
        let body = smoothstep(0.56, 0.42, radius) * visibility(size, self.ppm);
        let growth = [PINK, TURF_GREEN, TURF_BROWN, LIMESTONE][(cell.id >> 20) as usize % 4];
        let bare = mix(OLD_STONE, LIMESTONE, 1.2 * unit(cell.id, 1));
        let round = (1.0 - 2.2 * radius * radius).max(0.0);
        skin.color = mix(skin.color, mix(bare, growth, rare.max(0.3)), body);
        skin.relief += (0.35 * size * (0.3 + round) / slender.max(2.0)) * body;
    }

    fn stone(&self, texel: &Texel, p: P2, rough: f32) -> Skin {
        let own = hash(texel.object as i32, 3, self.seed);
        let film = self.fractal(22.0, 3).at(p, own);
        let growth = [PINK, TURF_GREEN, TURF_BROWN, LILAC][(own >> 9) as usize % 4];
        let bare = mix(OLD_STONE, LIMESTONE, 0.2 + 0.8 * unit(own, 0));
        let color = mix(bare, growth, smoothstep(-0.3, 0.6, film + 0.7 * unit(own, 1) - 0.3));
        Skin { color: scaled(color, 1.0 + 0.25 * rough), relief: 0.003 * rough }
    }

    /// Reef rock under turf and crusts; `pink` is how much of it is coralline crust, about −0.5 (none) ..=0.5 (all).
    fn rock(&self, p: P2, pink: f32) -> Skin {
        let seed = self.seed ^ 0xC3;
        let broad = self.fractal(6.0, 3).at(p, seed);
        let lumps = self.fractal(26.0, 4).at(p, seed ^ 1);
        let knob = cells(p.scale(42.0).add(P2 { x: 0.8 * lumps, y: -0.8 * lumps }), seed ^ 2);
        let fuzz = self.fractal(130.0, 2).at(p, seed ^ 3);
        let turf = scaled(mix(TURF_BROWN, TURF_GREEN, 0.4 + 0.9 * broad), 0.95 + 0.30 * fuzz);
        let crust = mix(mix(PINK, LILAC, unit(knob.id, 0)), MAROON, smoothstep(0.0, 0.8, broad + 0.3 * lumps));
        // Ragged on all scales, so that turf is flecked with pink and crusts with turf.
        let spread = self.fractal(14.0, 4).at(p, seed ^ 4);
        let share = smoothstep(-0.12, 0.16, pink + 0.9 * spread + 0.25 * unit(knob.id >> 4, 1) - 0.12);
        let pale = 0.7 * smoothstep(0.35, 0.75, self.fractal(33.0, 3).at(p, seed ^ 5) + 0.2 * unit(knob.id, 1));
        let color = mix(mix(turf, crust, share), LIMESTONE, pale);
        let pit = smoothstep(0.75, 0.35, knob.nearest);
        let relief = 0.009 * lumps + 0.007 * pit + 0.0022 * fuzz * (1.3 - share);
        Skin { color: scaled(color, 0.66 + 0.36 * pit + 0.14 * fuzz + 0.22 * lumps), relief }
    }

    fn seagrass(&self, texel: &Texel, p: P2) -> Skin {
        let seed = self.seed ^ 0xD1;
        let stain = self.fractal(60.0, 2).at(p, seed);
        let (along, across) = (texel.depth, texel.across);
        if along <= 0.0 {
            return Skin { color: scaled(mix(LITTER, DARK_SAND, 0.25 + 0.3 * stain), 1.0), relief: 0.003 * stain };
        }
        // Epiphytes brown and whiten the older, outer half of a blade.
        let age = smoothstep(0.45, 1.1, along + 0.5 * stain);
        let rib = 1.0 + 0.22 * (1.0 - across.abs()) - 0.25 * (across + 0.4).max(0.0);
        let fresh = mix(mix(BLADE, YOUNG_BLADE, texel.tone), LITTER, 0.8 - 2.0 * texel.tone);
        let color = scaled(mix(fresh, OLD_BLADE, 0.85 * age), rib * (0.66 + 0.44 * along));
        Skin { color, relief: 0.0 }
    }
}
