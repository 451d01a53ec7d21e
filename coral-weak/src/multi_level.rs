use coral_core::image::RgbImage;
use coral_core::{ClassId, Error, LabelMap, PointLabel, PointPropagator, Result, Size, UNLABELED};
use ndarray::Array3;
use serde::{Deserialize, Serialize};

use crate::points::CanonicalPoints;
use crate::superpixel_propagator::majority_of;
use crate::{SlicConfig, lab_image, parallel, slic_lab};

/// How the levels of [`multi_level_labels`] become one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// Every pixel takes the class of the finest level that has one there.
    #[default]
    FineToCoarse,
    /// Every pixel takes the class that most levels give it (a tie to the smallest id);
    /// levels without one do not count.
    Mode,
}

/// Settings of [`MultiLevelPropagator`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiLevelConfig {
    /// About how many superpixels the finest level has, at least `coarsest`.
    pub finest: u32,
    /// About how many superpixels the coarsest level has, at least 1.
    pub coarsest: u32,
    /// How many levels there are, 1–100; their numbers of superpixels fall geometrically.
    pub levels: u32,
    /// [`SlicConfig::compactness`] of every level.
    pub compactness: f32,
    /// [`SlicConfig::max_iterations`] of every level.
    pub max_iterations: u32,
    /// How the levels become one map.
    pub fill: Fill,
}

impl Default for MultiLevelConfig {
    /// CoralSeg: 15 levels from 3000 to 30, filled from fine to coarse.
    fn default() -> Self {
        Self { finest: 3000, coarsest: 30, levels: 15, compactness: 10.0, max_iterations: 5, fill: Fill::FineToCoarse }
    }
}

impl MultiLevelConfig {
    /// Fast-MSS: levels from 7500 to 80, compactness 25, the mode across levels. The number of levels is
    /// not published; 15 here.
    pub fn fast_mss() -> Self {
        Self { finest: 7500, coarsest: 80, compactness: 25.0, fill: Fill::Mode, ..Self::default() }
    }

    /// The numbers of superpixels asked of the levels, finest first.
    ///
    /// # Examples
    /// ```
    /// use coral_weak::MultiLevelConfig;
    /// let config = MultiLevelConfig { levels: 3, ..Default::default() };
    /// assert_eq!(config.segments(), [3000, 300, 30]);
    /// ```
    pub fn segments(&self) -> Vec<u32> {
        let ratio = f64::from(self.coarsest) / f64::from(self.finest.max(1));
        let steps = f64::from(self.levels.saturating_sub(1).max(1));
        let level = |l: u32| (f64::from(self.finest) * ratio.powf(f64::from(l) / steps)).round() as u32;
        (0..self.levels).map(level).collect()
    }

    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.coarsest == 0 || self.coarsest > self.finest {
            let reason = format!("expected 1 to `finest` = {}, got {}", self.finest, self.coarsest);
            return Err(Error::parameter("coarsest", reason));
        }
        if !(1..=100).contains(&self.levels) {
            return Err(Error::parameter("levels", format!("expected 1 to 100, got {}", self.levels)));
        }
        self.slic(self.finest).validate()
    }

    fn slic(&self, segments: u32) -> SlicConfig {
        SlicConfig {
            segments,
            compactness: self.compactness,
            max_iterations: self.max_iterations,
            ..SlicConfig::default()
        }
    }
}

/// Spreads points over superpixels of many sizes: in every level each superpixel takes the majority of
/// its points, and [`Fill`] says how the levels become one map. Pixels that no level reaches take the class of
/// the nearest point.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points), and [`Error::InvalidParameter`].
///
/// # Examples
/// ```
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_core::PointLabel;
/// use coral_weak::{MultiLevelConfig, multi_level_labels};
/// let image = RgbImage::from_fn(60, 40, |x, _| Rgb(if x < 25 { [30, 60, 90] } else { [200, 180, 90] }));
/// let points = [PointLabel { x: 3, y: 9, class: 1 }, PointLabel { x: 31, y: 12, class: 6 }];
/// let labels = multi_level_labels(&image, &points, &MultiLevelConfig::default())?;
/// assert_eq!((labels[[9, 4]], labels[[12, 25]]), (1, 6));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Alonso et al., *CoralSeg: Learning coral segmentation from sparse annotations*, Journal of Field Robotics
/// 2019; Pierce et al., *Reducing annotation times: semantic segmentation of coral reef survey images* (Fast-MSS), OCEANS 2020.
pub fn multi_level_labels(image: &RgbImage, points: &[PointLabel], config: &MultiLevelConfig) -> Result<LabelMap> {
    config.validate()?;
    let canonical = CanonicalPoints::new(points, Size::of(image))?;
    let points = &canonical.points;
    let lab = lab_image(image);
    let mut labels = match config.fill {
        Fill::FineToCoarse => fine_to_coarse(&lab, points, config)?,
        Fill::Mode => mode(&levels(&lab, points, config)?),
    };
    canonical.complete(&mut labels);
    Ok(labels)
}

/// Images up to this size work on several levels at once; larger ones only inside a level, to save memory.
const PARALLEL_PIXELS: usize = 1 << 21;

/// The map of every level, finest first.
fn levels(lab: &Array3<f32>, points: &[PointLabel], config: &MultiLevelConfig) -> Result<Vec<LabelMap>> {
    let level = |segments| level_map(lab, points, &config.slic(segments));
    if lab.len() / 3 <= PARALLEL_PIXELS {
        parallel::map(config.segments(), level).into_iter().collect()
    } else {
        config.segments().into_iter().map(level).collect()
    }
}

fn level_map(lab: &Array3<f32>, points: &[PointLabel], config: &SlicConfig) -> Result<LabelMap> {
    let superpixels = slic_lab(lab, config)?;
    let classes = majority_of(&superpixels, points);
    Ok(superpixels.labels().mapv(|label| classes[label as usize]))
}

fn fine_to_coarse(lab: &Array3<f32>, points: &[PointLabel], config: &MultiLevelConfig) -> Result<LabelMap> {
    let mut filled = LabelMap::from_elem((lab.dim().1, lab.dim().2), UNLABELED);
    let mut fill = |level: LabelMap| {
        filled.zip_mut_with(&level, |pixel, &class| *pixel = if *pixel == UNLABELED { class } else { *pixel });
        filled.iter().any(|&class| class == UNLABELED)
    };
    if lab.len() / 3 <= PARALLEL_PIXELS {
        levels(lab, points, config)?.into_iter().for_each(|level| _ = fill(level));
    } else {
        for segments in config.segments() {
            if !fill(level_map(lab, points, &config.slic(segments))?) {
                break;
            }
        }
    }
    Ok(filled)
}

/// The most frequent class of every pixel; levels are of one size.
fn mode(levels: &[LabelMap]) -> LabelMap {
    let Some(first) = levels.first() else { return LabelMap::default((0, 0)) };
    let width = first.ncols().max(1);
    let mut result = first.clone();
    let rows = result.as_slice_mut().map(|pixels| pixels.chunks_mut(width).enumerate().collect());
    parallel::map(rows.unwrap_or_default(), |(y, row): (usize, &mut [ClassId])| {
        let levels: Vec<_> = levels.iter().map(|level| level.row(y)).collect();
        let mut counts = [0u8; 256];
        for (x, pixel) in row.iter_mut().enumerate() {
            let classes = || levels.iter().map(|level| level[x]).filter(|&class| class != UNLABELED);
            classes().for_each(|class| counts[usize::from(class)] += 1);
            let rank = |class: &ClassId| (counts[usize::from(*class)], std::cmp::Reverse(*class));
            *pixel = classes().max_by_key(rank).unwrap_or(UNLABELED);
            classes().for_each(|class| counts[usize::from(class)] = 0);
        }
    });
    result
}

/// Point labels to dense labels over superpixels of many sizes ([`multi_level_labels`]).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, PointPropagator, image::RgbImage};
/// use coral_weak::{MultiLevelConfig, MultiLevelPropagator};
/// let propagator = MultiLevelPropagator::new(MultiLevelConfig::fast_mss())?;
/// let labels = propagator.propagate(&RgbImage::new(8, 6), &[PointLabel { x: 2, y: 2, class: 3 }])?;
/// assert_eq!((labels.dim(), labels[[5, 7]]), ((6, 8), 3));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MultiLevelPropagator {
    config: MultiLevelConfig,
}

impl MultiLevelPropagator {
    /// A propagator with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn new(config: MultiLevelConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }
}

impl PointPropagator for MultiLevelPropagator {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        multi_level_labels(image, points, &self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::ndarray::array;
    use coral_core::testing::check_point_propagator;

    #[test]
    fn the_contract_holds() {
        let short = MultiLevelConfig { finest: 40, coarsest: 2, levels: 4, ..Default::default() };
        let one = MultiLevelConfig { levels: 1, ..Default::default() };
        for config in [MultiLevelConfig::default(), MultiLevelConfig::fast_mss(), short, one] {
            check_point_propagator(&MultiLevelPropagator::new(config).unwrap()).unwrap();
        }
    }

    #[test]
    fn levels_fall_geometrically() {
        let segments = MultiLevelConfig::default().segments();
        assert_eq!((segments.len(), segments[0], segments[7], segments[14]), (15, 3000, 300, 30));
        assert_eq!(MultiLevelConfig { levels: 1, ..Default::default() }.segments(), [3000]);
    }

    #[test]
    fn the_mode_ignores_missing_labels() {
        let levels = [array![[9, 255, 5, 255]], array![[9, 255, 2, 255]], array![[1, 8, 255, 255]]];
        assert_eq!(mode(&levels), array![[9, 8, 2, 255]]);
    }

    #[test]
    fn bad_settings_are_refused() {
        let refuse = |config: MultiLevelConfig| MultiLevelPropagator::new(config).unwrap_err().to_string();
        let base = MultiLevelConfig::default;
        let text = refuse(MultiLevelConfig { coarsest: 4000, ..base() });
        assert_eq!(text, "invalid parameter `coarsest`: expected 1 to `finest` = 3000, got 4000");
        assert!(refuse(MultiLevelConfig { coarsest: 0, ..base() }).contains("got 0"));
        assert!(refuse(MultiLevelConfig { levels: 0, ..base() }).contains("`levels`: expected 1 to 100, got 0"));
        assert!(refuse(MultiLevelConfig { compactness: -1.0, ..base() }).contains("`compactness`"));
        assert!(refuse(MultiLevelConfig { max_iterations: 0, ..base() }).contains("`max_iterations`"));
    }
}
