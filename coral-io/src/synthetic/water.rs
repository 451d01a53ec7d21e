//! What water and camera make of a lit scene: lost red, veil, vignetting, blur, exposure and noise.

use coral_core::image::{Rgb, RgbImage};
use ndarray::Array2;

use super::{
    geometry::{P2, View},
    noise::{exp_neg, gradient, hash, smoothstep, unit},
    shading::{Lit, blur, caustic},
};

/// Loss of sunlight per metre of depth, as left over after the camera's white balance.
const DEPTH_LOSS: [f32; 3] = [0.068, 0.021, 0.006];
/// Loss per metre between reef and camera in murky water.
const PATH_LOSS: [f32; 3] = [0.30, 0.12, 0.06];
const GREEN_WATER: [f32; 3] = [0.08, 0.19, 0.20];
const BLUE_WATER: [f32; 3] = [0.07, 0.17, 0.26];

/// The water between camera and sea floor, and the camera.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Water {
    pub(crate) extent_m: f32,
    pub(crate) depth_m: f32,
    pub(crate) turbidity: f32,
    /// Standard deviation of the defocus blur in pixels.
    pub(crate) blur: f32,
    /// Standard deviation of the camera's noise in 8-bit levels.
    pub(crate) noise: f32,
    pub(crate) view: Tilt,
    /// Brightness and white balance: factors of the linear channels.
    pub(crate) gain: [f32; 3],
}

/// How far the camera looks forward instead of down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tilt {
    /// Metres of water that the top edge is further away than the bottom edge.
    pub(crate) far_m: f32,
    /// Down to this share of the picture's height there is only water.
    pub(crate) horizon: f32,
}

impl Tilt {
    /// Straight down.
    pub(crate) const NONE: Self = Self { far_m: 0.0, horizon: -1.0 };

    /// Metres that a place is further away for the tilt; `down` is its share of the picture's height.
    fn further(self, down: f32) -> f32 {
        let up = (1.0 - down).max(0.0);
        self.far_m * up * up
    }

    /// How strongly open water hides a place (optical depth): from a quarter of the picture below the horizon on.
    fn open_water(self, down: f32) -> f32 {
        let into = ((self.horizon + 0.25 - down) / 0.4).max(0.0);
        (6.0 * into * into).min(40.0)
    }
}

/// The share of a place's light that the water lets through.
pub(crate) fn transmission(view: &View, water: &Water, p: P2, height: f32) -> f32 {
    exp_neg(VEIL * water.turbidity * path(view, water, p, height) + water.view.open_water(p.y / view.extent().y))
}

/// How fast murky water hides things, per metre.
const VEIL: f32 = 0.75;

/// The scene as it would look in air and even light.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) view: View,
    /// Displayed colours, 0..1.
    pub(crate) colors: Array2<[f32; 3]>,
    pub(crate) heights: &'a Array2<f32>,
    pub(crate) lit: Lit,
}

/// Takes the photograph.
pub(crate) fn photograph(scene: &Scene<'_>, water: &Water, seed: u32) -> RgbImage {
    let mut channels = radiance(scene, water, seed);
    expose(&mut channels);
    add_veil(&mut channels, scene, water, seed);
    for (channel, gain) in channels.iter_mut().zip(water.gain) {
        channel.mapv_inplace(|light| light * gain);
    }
    if water.blur > 0.0 {
        channels.iter_mut().for_each(|channel| *channel = blur(channel, water.blur));
    }
    let view = &scene.view;
    RgbImage::from_fn(view.size.width, view.size.height, |x, y| {
        let grain = [0, 1, 2, 3].map(|part| normal(hash(x as i32, y as i32, seed ^ (0x700 + part))));
        let level = |c: usize| {
            // Displays square what the file holds, near enough; then the contrast curve of a camera.
            let v = channels[c][[y as usize, x as usize]].max(0.0).sqrt().min(1.0);
            let v = 0.65 * v + 0.35 * smoothstep(0.0, 1.0, v);
            255.0 * v + water.noise * (0.8 * grain[c] + 0.6 * grain[3])
        };
        Rgb([0, 1, 2].map(|c| (level(c) + 0.5).clamp(0.0, 255.0) as u8))
    })
}

/// About standard normal, from the four bytes of a hash.
fn normal(hash: u32) -> f32 {
    let bytes = hash.to_le_bytes().map(f32::from);
    (bytes.iter().sum::<f32>() - 510.0) / 147.8
}

/// Distance from the picture's middle, 1 in the corners, squared.
fn eccentricity(view: &View, p: P2) -> f32 {
    let half = view.extent().scale(0.5);
    let offset = p.sub(half);
    offset.dot(offset) / half.dot(half)
}

/// Metres of water between the camera, which is about as high as the picture is wide, and a place.
fn path(view: &View, water: &Water, p: P2, height: f32) -> f32 {
    let down = (0.9 * water.extent_m * (1.0 + 0.35 * eccentricity(view, p)) - height).max(0.05);
    down + water.view.further(p.y / view.extent().y)
}

/// Linear light that reaches the camera from the reef itself, per channel.
fn radiance(scene: &Scene<'_>, water: &Water, seed: u32) -> [Array2<f32>; 3] {
    let view = &scene.view;
    let sun: [f32; 3] = DEPTH_LOSS.map(|loss| exp_neg(loss * water.depth_m));
    let murk = 0.4 + 1.4 * water.turbidity;
    let ripple = 0.45 * exp_neg(water.depth_m / 7.0);
    let mut channels = [(); 3].map(|()| Array2::zeros(view.size.shape()));
    for ((y, x), color) in scene.colors.indexed_iter() {
        let p = view.place(x, y);
        let (direct, ambient) = (scene.lit.direct[[y, x]], scene.lit.ambient[[y, x]]);
        let focus = if ripple > 0.01 { 1.0 + ripple * caustic(p, seed ^ 0xCA) } else { 1.0 };
        let distance = path(view, water, p, scene.heights[[y, x]]);
        let vignette = 1.0 - 0.42 * eccentricity(view, p);
        for c in 0..3 {
            // Light from all sides has come a longer way through the water: it is bluer.
            let light = 0.80 * direct * focus * ambient.min(1.1) + [0.21, 0.27, 0.30][c] * ambient * ambient;
            let albedo = color[c].clamp(0.02, 1.0);
            let seen = 1.0 - murk * PATH_LOSS[c] * distance * 0.5;
            channels[c][[y, x]] = albedo * albedo * light * sun[c] * seen.max(0.1) * vignette;
        }
    }
    channels
}

/// Scales to the mean brightness that an automatic exposure aims at.
fn expose(channels: &mut [Array2<f32>; 3]) {
    let sum = |channel: &Array2<f32>| channel.iter().map(|&v| f64::from(v)).sum::<f64>();
    let [red, green, blue] = [0, 1, 2].map(|c| sum(&channels[c]) / channels[c].len().max(1) as f64);
    let mean = 0.2 * red + 0.5 * green + 0.3 * blue;
    let gain = (0.235 / mean.max(1e-4)) as f32;
    channels.iter_mut().for_each(|channel| *channel *= gain);
}

/// Adds the light that the water itself scatters into the camera: more of it over longer paths.
fn add_veil(channels: &mut [Array2<f32>; 3], scene: &Scene<'_>, water: &Water, seed: u32) {
    let tint = unit(hash(3, 1, seed), 0);
    let extent = water.extent_m;
    for ((y, x), &height) in scene.heights.indexed_iter() {
        let p = scene.view.place(x, y);
        let cloud = 1.0 + 0.5 * gradient(p.scale(1.3 / extent), seed ^ 0xFE);
        let murk = VEIL * water.turbidity * cloud * path(&scene.view, water, p, height);
        let down = p.y / scene.view.extent().y;
        let open = water.view.open_water(down);
        let veil = 1.0 - exp_neg(murk + open);
        // Open water is brighter towards the surface.
        let glow = 1.0 + (0.5 * (0.5 - down) + 0.2 * (cloud - 1.0)) * (1.0 - exp_neg(open));
        for (c, channel) in channels.iter_mut().enumerate() {
            let scattered = GREEN_WATER[c] + (BLUE_WATER[c] - GREEN_WATER[c]) * tint;
            let value = &mut channel[[y, x]];
            *value += (scattered * glow - *value) * veil;
        }
    }
}

#[cfg(test)]
mod tests {
    use coral_core::Size;

    use super::*;
    use crate::synthetic::SyntheticReefConfig;

    fn mean_color(water: &Water) -> [f64; 3] {
        let view = View::new(Size { width: 40, height: 30 }, water.extent_m);
        let shape = view.size.shape();
        let heights = Array2::zeros(shape);
        let lit = Lit { direct: Array2::ones(shape), ambient: Array2::ones(shape) };
        let scene = Scene { view, colors: Array2::from_elem(shape, [0.5; 3]), heights: &heights, lit };
        let image = photograph(&scene, water, 1);
        [0, 1, 2].map(|c| image.pixels().map(|p| f64::from(p[c])).sum::<f64>() / 1200.0)
    }

    #[test]
    fn depth_takes_the_red_and_turbidity_the_contrast() {
        let config = |depth_m, turbidity| SyntheticReefConfig { depth_m, turbidity, ..Default::default() };
        let mean_color = |config: SyntheticReefConfig| mean_color(&config.water());
        let (shallow, deep) = (mean_color(config(1.0, 0.2)), mean_color(config(20.0, 0.2)));
        assert!(deep[0] / deep[2] < 0.6 * shallow[0] / shallow[2], "{shallow:?} {deep:?}");
        let murky = mean_color(config(1.0, 1.0));
        assert!(murky[0] < shallow[0], "{shallow:?} {murky:?}");
    }

    #[test]
    fn grain_has_the_wanted_strength() {
        let values: Vec<f32> = (0..20_000).map(|i| normal(hash(i, 5, 9))).collect();
        let mean = values.iter().sum::<f32>() / 20_000.0;
        let spread = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 20_000.0).sqrt();
        assert!(mean.abs() < 0.03 && (spread - 1.0).abs() < 0.03, "{mean} {spread}");
    }
}
