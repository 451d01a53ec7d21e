//! What water and camera make of a lit scene: lost red, veil, vignetting, blur, exposure and noise.

use coral_core::image::{Rgb, RgbImage};
use ndarray::Array2;

use super::{
    config::SyntheticReefConfig,
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
pub(crate) fn photograph(scene: &Scene<'_>, config: &SyntheticReefConfig, seed: u32) -> RgbImage {
    let mut channels = radiance(scene, config, seed);
    expose(&mut channels);
    add_veil(&mut channels, scene, config, seed);
    if config.blur > 0.0 {
        channels.iter_mut().for_each(|channel| *channel = blur(channel, config.blur));
    }
    let view = &scene.view;
    RgbImage::from_fn(view.size.width, view.size.height, |x, y| {
        let grain = [0, 1, 2, 3].map(|part| normal(hash(x as i32, y as i32, seed ^ (0x700 + part))));
        let level = |c: usize| {
            // Displays square what the file holds, near enough; then the contrast curve of a camera.
            let v = channels[c][[y as usize, x as usize]].max(0.0).sqrt().min(1.0);
            let v = 0.65 * v + 0.35 * smoothstep(0.0, 1.0, v);
            255.0 * v + config.noise * (0.8 * grain[c] + 0.6 * grain[3])
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
fn path(view: &View, config: &SyntheticReefConfig, p: P2, height: f32) -> f32 {
    (0.9 * config.extent_m * (1.0 + 0.35 * eccentricity(view, p)) - height).max(0.05)
}

/// Linear light that reaches the camera from the reef itself, per channel.
fn radiance(scene: &Scene<'_>, config: &SyntheticReefConfig, seed: u32) -> [Array2<f32>; 3] {
    let view = &scene.view;
    let sun: [f32; 3] = DEPTH_LOSS.map(|loss| exp_neg(loss * config.depth_m));
    let murk = 0.4 + 1.4 * config.turbidity;
    let ripple = 0.45 * exp_neg(config.depth_m / 7.0);
    let mut channels = [(); 3].map(|()| Array2::zeros(view.size.shape()));
    for ((y, x), color) in scene.colors.indexed_iter() {
        let p = view.place(x, y);
        let (direct, ambient) = (scene.lit.direct[[y, x]], scene.lit.ambient[[y, x]]);
        let focus = if ripple > 0.01 { 1.0 + ripple * caustic(p, seed ^ 0xCA) } else { 1.0 };
        let distance = path(view, config, p, scene.heights[[y, x]]);
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
fn add_veil(channels: &mut [Array2<f32>; 3], scene: &Scene<'_>, config: &SyntheticReefConfig, seed: u32) {
    let tint = unit(hash(3, 1, seed), 0);
    let extent = config.extent_m;
    for ((y, x), &height) in scene.heights.indexed_iter() {
        let p = scene.view.place(x, y);
        let cloud = 1.0 + 0.5 * gradient(p.scale(1.3 / extent), seed ^ 0xFE);
        let veil = 1.0 - exp_neg(0.75 * config.turbidity * cloud * path(&scene.view, config, p, height));
        for (c, channel) in channels.iter_mut().enumerate() {
            let water = GREEN_WATER[c] + (BLUE_WATER[c] - GREEN_WATER[c]) * tint;
            let value = &mut channel[[y, x]];
            *value += (water - *value) * veil;
        }
    }
}

#[cfg(test)]
mod tests {
    use coral_core::Size;

    use super::*;

    fn mean_color(config: &SyntheticReefConfig) -> [f64; 3] {
        let view = View::new(Size { width: 40, height: 30 }, config.extent_m);
        let shape = view.size.shape();
        let heights = Array2::zeros(shape);
        let lit = Lit { direct: Array2::ones(shape), ambient: Array2::ones(shape) };
        let scene = Scene { view, colors: Array2::from_elem(shape, [0.5; 3]), heights: &heights, lit };
        let image = photograph(&scene, config, 1);
        [0, 1, 2].map(|c| image.pixels().map(|p| f64::from(p[c])).sum::<f64>() / 1200.0)
    }

    #[test]
    fn depth_takes_the_red_and_turbidity_the_contrast() {
        let config = |depth_m, turbidity| SyntheticReefConfig { depth_m, turbidity, ..Default::default() };
        let (shallow, deep) = (mean_color(&config(1.0, 0.2)), mean_color(&config(20.0, 0.2)));
        assert!(deep[0] / deep[2] < 0.6 * shallow[0] / shallow[2], "{shallow:?} {deep:?}");
        let murky = mean_color(&config(1.0, 1.0));
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
