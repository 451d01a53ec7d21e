//! The channels, one group at a time.

use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut2, Axis, Zip};

use crate::blur::gaussian_blur;

/// Channels that are computed together; scales as in the configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Group {
    Color { scale: f32 },
    Deviation { scale: f32 },
    Band { fine: f32, coarse: f32 },
    Gradient { scale: f32 },
    Position { weight: f32 },
}

impl Group {
    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Color { .. } => 3,
            Self::Band { .. } => 1,
            Self::Deviation { .. } | Self::Gradient { .. } | Self::Position { .. } => 2,
        }
    }

    /// The standard deviation that the channels are given.
    pub(super) fn weight(&self) -> f32 {
        if let Self::Position { weight } = self { *weight } else { 1.0 }
    }
}

/// What the channels are computed from.
#[derive(Debug)]
pub(super) struct Planes {
    /// 3×H×W.
    lab: Array3<f32>,
    /// Pixels per unit of scale.
    unit: f32,
}

impl Planes {
    pub(super) fn new(lab: Array3<f32>, unit: f32) -> Self {
        Self { lab, unit }
    }

    fn plane(&self, channel: usize) -> ArrayView2<'_, f32> {
        self.lab.index_axis(Axis(0), channel)
    }

    fn smooth(&self, plane: ArrayView2<'_, f32>, scale: f32) -> Array2<f32> {
        gaussian_blur(plane, scale * self.unit)
    }

    /// The group's H×W channels, not yet standardised.
    pub(super) fn compute(&self, group: Group) -> Vec<Array2<f32>> {
        match group {
            Group::Color { scale } => (0..3).map(|channel| self.smooth(self.plane(channel), scale)).collect(),
            Group::Deviation { scale } => self.deviations(scale),
            Group::Band { fine, coarse } => vec![self.band(fine, coarse)],
            Group::Gradient { scale } => self.gradients(scale),
            Group::Position { .. } => {
                let shape = self.plane(0).dim();
                vec![Array2::from_shape_fn(shape, |(_, x)| x as f32), Array2::from_shape_fn(shape, |(y, _)| y as f32)]
            }
        }
    }

    fn variance(&self, channel: usize, scale: f32) -> Array2<f32> {
        // About the mean colour: squares of small numbers keep their precision when subtracted.
        let plane = self.plane(channel);
        let centre = plane.mean().unwrap_or(0.0);
        let centred = plane.mapv(|value| value - centre);
        let mean = self.smooth(centred.view(), scale);
        let mut variance = self.smooth(centred.mapv(|value| value * value).view(), scale);
        variance.zip_mut_with(&mean, |variance, &mean| *variance = (*variance - mean * mean).max(0.0));
        variance
    }

    fn deviations(&self, scale: f32) -> Vec<Array2<f32>> {
        let log = |mut variance: Array2<f32>| {
            variance.mapv_inplace(|variance| variance.sqrt().ln_1p());
            variance
        };
        vec![log(self.variance(0, scale)), log(self.variance(1, scale) + &self.variance(2, scale))]
    }

    fn band(&self, fine: f32, coarse: f32) -> Array2<f32> {
        let mut band = self.smooth(self.plane(0), fine);
        band.zip_mut_with(&self.smooth(self.plane(0), coarse), |fine, coarse| *fine = (*fine - coarse).abs());
        let mut energy = self.smooth(band.view(), 2.0 * coarse);
        // The offset keeps smooth regions alike, whose energy is all noise.
        energy.mapv_inplace(|energy| (0.1 + energy).ln());
        energy
    }

    fn gradients(&self, scale: f32) -> Vec<Array2<f32>> {
        let (across, down) = derivatives(self.smooth(self.plane(0), 1.0).view());
        let tensor = |a: &Array2<f32>, b: &Array2<f32>| self.smooth((a * b).view(), scale);
        let (mut xx, mut yy, xy) = (tensor(&across, &across), tensor(&down, &down), tensor(&across, &down));
        Zip::from(&mut xx).and(&mut yy).and(&xy).for_each(|xx, yy, &xy| {
            let (trace, difference) = (*xx + *yy, *xx - *yy);
            let spread = (difference * difference + 4.0 * xy * xy).sqrt();
            *xx = trace.max(0.0).sqrt().ln_1p();
            // Gradients below about a tenth of a level have no direction worth the name.
            *yy = spread / (trace + 0.01);
        });
        vec![xx, yy]
    }
}

/// Central differences along x and along y, one-sided at the edges.
fn derivatives(plane: ArrayView2<'_, f32>) -> (Array2<f32>, Array2<f32>) {
    let (rows, columns) = plane.dim();
    let slope = |before: f32, after: f32| (after - before) / 2.0;
    let across = Array2::from_shape_fn((rows, columns), |(y, x)| {
        slope(plane[[y, x.saturating_sub(1)]], plane[[y, (x + 1).min(columns - 1)]])
    });
    let down = Array2::from_shape_fn((rows, columns), |(y, x)| {
        slope(plane[[y.saturating_sub(1), x]], plane[[(y + 1).min(rows - 1), x]])
    });
    (across, down)
}

/// Mean 0 and standard deviation `weight`; all 0 for a plane that does not vary.
pub(super) fn standardize(mut plane: ArrayViewMut2<'_, f32>, weight: f32) {
    let count = plane.len() as f64;
    let mean = plane.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = plane.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    // Rounding gives a flat plane a deviation of up to 1e-6 of its level.
    if variance.sqrt() <= 1e-4 * (1.0 + mean.abs()) {
        return plane.fill(0.0);
    }
    let (mean, scale) = (mean as f32, (f64::from(weight) / variance.sqrt()) as f32);
    plane.mapv_inplace(|value| (value - mean) * scale);
}
