use coral_core::Result;
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis};

use crate::blur::gaussian_blur;
use crate::{Superpixels, parallel};

/// Standard deviations of the Gaussians between which the bands of lightness lie, in units of 1/512 of the long side.
const BANDS: [f32; 5] = [0.7, 1.4, 2.8, 5.6, 11.2];

/// A map of one value per pixel.
#[derive(Debug, Clone, Copy)]
enum Map {
    /// Lab channel, blurred.
    Color { channel: usize, sigma: f32 },
    /// Logarithm of the mean absolute value of a band of lightness within a blur.
    Energy { band: usize, sigma: f32 },
}

/// The maps and the weight of each in a squared distance. The weights sum to 1: every group of maps counts 1 but the
/// fine band energies, which are noisier, a half.
fn maps() -> Vec<(Map, f32)> {
    let mut maps = Vec::new();
    for sigma in [5.0, 14.0] {
        maps.extend((0..3).map(|channel| (Map::Color { channel, sigma }, 1.0 / 3.0)));
    }
    for (sigma, group) in [(12.0, 1.0), (5.0, 0.5)] {
        let energies = (0..BANDS.len()).map(|band| Map::Energy { band, sigma: f32::max(sigma, 2.0 * BANDS[band]) });
        maps.extend(energies.map(|map| (map, group / BANDS.len() as f32)));
    }
    let total: f32 = maps.iter().map(|(_, weight)| weight).sum();
    maps.iter_mut().for_each(|(_, weight)| *weight /= total);
    maps
}

/// Colour and texture of S superpixels, S×D: local and surrounding Lab colour and the energies of five bands of lightness at two ranges,
/// each standardised over the image and weighted so that the squared distance of two rows is a weighted mean.
///
/// `unit` is the length, in pixels, that scales count in.
pub(super) fn appearance(lab: &Array3<f32>, segments: &Superpixels, unit: f32) -> Result<Array2<f32>> {
    let lightness = lab.index_axis(Axis(0), 0);
    let levels = parallel::map(BANDS.to_vec(), |sigma| gaussian_blur(lightness, sigma * unit));
    let plane = |map: Map| match map {
        Map::Color { channel, sigma } => gaussian_blur(lab.index_axis(Axis(0), channel), sigma * unit),
        Map::Energy { band, sigma } => {
            let finer = if band == 0 { lightness } else { levels[band - 1].view() };
            let mut band = &finer - &levels[band];
            band.mapv_inplace(f32::abs);
            let mut energy = gaussian_blur(band.view(), sigma * unit);
            // The offset keeps smooth regions, whose energy is all noise, alike.
            energy.mapv_inplace(|energy| (energy + 0.1).ln());
            energy
        }
    };
    let areas = segments.sizes();
    let columns = parallel::map(maps(), |(map, weight)| {
        let means = segments.means(plane(map).view().insert_axis(Axis(0)))?;
        Ok(standardized(means.column(0).to_owned(), &areas) * weight.sqrt())
    });
    let mut features = Array2::zeros((areas.len(), columns.len()));
    for (mut column, values) in features.columns_mut().into_iter().zip(columns) {
        column.assign(&values?);
    }
    Ok(features)
}

/// Mean Lab colour of S superpixels, S×3, each channel standardised over the image.
pub(super) fn segment_colors(lab: &Array3<f32>, segments: &Superpixels) -> Result<Array2<f32>> {
    let mut means = segments.means(lab.view())?;
    let areas = segments.sizes();
    for mut column in means.columns_mut() {
        let values = standardized(column.to_owned(), &areas);
        column.assign(&values);
    }
    Ok(means)
}

/// Mean 0 and standard deviation 1 over the area; 0 everywhere for a channel without variation.
fn standardized(values: Array1<f32>, areas: &[u32]) -> Array1<f32> {
    let total: f64 = areas.iter().map(|&area| f64::from(area)).sum();
    let mean_of = |f: &dyn Fn(f64) -> f64| {
        values.iter().zip(areas).map(|(&value, &area)| f(f64::from(value)) * f64::from(area)).sum::<f64>() / total
    };
    let mean = mean_of(&|value| value);
    let deviation = mean_of(&|value| (value - mean) * (value - mean)).sqrt();
    // Rounding alone gives a flat channel a deviation of about 1e-6 of its level.
    if deviation <= 1e-4 {
        return Array1::zeros(values.len());
    }
    values.mapv(|value| ((f64::from(value) - mean) / deviation) as f32)
}

/// The values of one class painted onto its superpixels, H×W.
pub(super) fn painted(segments: &Superpixels, scores: ArrayView2<'_, f64>, class: usize) -> Array2<f32> {
    let column: Vec<f32> = scores.column(class).iter().map(|&score| score as f32).collect();
    segments.labels().mapv(|segment| column[segment as usize])
}
