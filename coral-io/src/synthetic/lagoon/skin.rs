use super::scene::{BRANCHED, Cover, MASSIVE, SAND, SUB_MASSIVE, TABULAR};
use crate::synthetic::geometry::P2;
use crate::synthetic::noise::{Fractal, cells, gradient, hash, sin_turns, smoothstep, unit, visibility};

/// How the ground looks at a number of pixels per metre.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skin {
    pub(super) seed: u32,
    pub(super) ppm: f32,
    pub(super) difficulty: f32,
}

/// Reflectance or light per colour channel.
type Color = [f32; 3];

/// Light and water of one frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Light {
    /// Brightness of the frame.
    pub(super) gain: f32,
    /// Share of the water's own colour.
    pub(super) veil: f32,
}

impl Skin {
    /// As an orthophoto shows it: through some metres of water, lit unevenly.
    pub(super) fn drone(&self, place: P2, cover: Cover, pixel: (u32, u32)) -> [u8; 3] {
        let noise = |wavelength: f32, part: u32| gradient(place.scale(1.0 / wavelength), self.seed.wrapping_add(part));
        let d = self.difficulty;
        let depth = (0.25 + 0.55 * d * noise(48.0, 41)).clamp(0.05, 0.8);
        let glitter = 1.0 + 0.22 * d * noise(17.0, 42) + 0.10 * d * noise(2.3, 43);
        let ground = self.ground(place, cover);
        let transmitted = [1.0 - 0.75 * depth, 1.0 - 0.3 * depth, 1.0 - 0.2 * depth];
        let water = [0.10, 0.36, 0.42];
        let color = [0, 1, 2].map(|c| glitter * ground[c] * transmitted[c] + 0.35 * depth * water[c]);
        self.expose(color, pixel, 3.0 + 6.0 * d)
    }

    /// As a camera two metres above the ground shows it.
    pub(super) fn frame(&self, place: P2, cover: Cover, pixel: (u32, u32), light: Light) -> [u8; 3] {
        let ground = self.ground(place, cover);
        let caustics = 1.0 + 0.2 * gradient(place.scale(2.1), self.seed.wrapping_add(51));
        let water = [0.12, 0.40, 0.44];
        let color = [0, 1, 2].map(|c| light.gain * caustics * ground[c] * (1.0 - light.veil) + light.veil * water[c]);
        self.expose(color, pixel, 5.0)
    }

    /// Levels with the camera's noise of this standard deviation, about.
    fn expose(&self, color: Color, (x, y): (u32, u32), noise: f32) -> [u8; 3] {
        let h = hash(x as i32, y as i32, self.seed.wrapping_add(61));
        let grain = noise * 1.7 * (unit(h, 0) + unit(h, 1) - 1.0);
        color.map(|value| (255.0 * value + grain).clamp(1.0, 254.0) as u8)
    }

    fn ground(&self, p: P2, cover: Cover) -> Color {
        let at = |frequency: f32, octaves: u32, part: u32| {
            Fractal { frequency, octaves, ppm: self.ppm }.at(p, self.seed.wrapping_add(part))
        };
        let (base, relief): (Color, f32) = match cover.class {
            BRANCHED => ([0.47, 0.38, 0.25], 0.30 * at(2.4, 5, 71) + 0.34 * self.twigs(p)),
            TABULAR => ([0.62, 0.54, 0.38], 0.10 * at(5.0, 3, 72) + 0.24 * smoothstep(0.7, 1.0, cover.rim) - 0.02),
            MASSIVE => ([0.40, 0.45, 0.27], 0.26 * at(0.9, 2, 73) + 0.10 * at(9.0, 2, 74)),
            SUB_MASSIVE => ([0.39, 0.32, 0.35], 0.20 * at(3.6, 2, 75) + 0.22 * self.knobs(p)),
            _ => ([0.72, 0.68, 0.55], 0.08 * at(0.6, 3, 76) + 0.10 * self.ripples(p)),
        };
        // Algae, rubble and depth of light make corals of all forms alike.
        let shared = [0.46, 0.41, 0.30];
        let mix = if cover.class == SAND { 0.0 } else { 0.55 * self.difficulty };
        let patch = 0.16 * self.difficulty * at(0.35, 2, 77);
        [0, 1, 2].map(|c| (base[c] * (1.0 - mix) + shared[c] * mix) * (1.0 + relief + patch))
    }

    /// Branches' tips, 8 cm apart.
    fn twigs(&self, p: P2) -> f32 {
        let frequency = 12.0;
        let cell = cells(p.scale(frequency), self.seed.wrapping_add(81));
        visibility(1.0 / frequency, self.ppm) * (0.6 - 1.6 * cell.nearest)
    }

    /// Knobs, 30 cm apart, with dark seams.
    fn knobs(&self, p: P2) -> f32 {
        let frequency = 3.3;
        let cell = cells(p.scale(frequency), self.seed.wrapping_add(82));
        visibility(1.0 / frequency, self.ppm) * (smoothstep(0.0, 0.25, cell.second - cell.nearest) - 0.7)
    }

    /// Ripples of 45 cm that bend.
    fn ripples(&self, p: P2) -> f32 {
        let bend = 0.8 * gradient(p.scale(0.25), self.seed.wrapping_add(83));
        visibility(0.45, self.ppm) * sin_turns(p.x * 1.9 + p.y * 1.1 + bend)
    }
}
