//! Masks of what is no object, to teach a segmenter not to take it for one.

mod config;
mod dataset;
mod regions;

use coral_core::{AnnotatedImage, ClassId, InstanceMask, Result, RleMask, SeededRng, Size};
use ndarray::{Array2, Array3, ArrayViewMut1, s};

use crate::{SlicConfig, blur::gaussian_blur, lab_image, slic_lab};
pub use config::NegativeConfig;
pub use dataset::WithNegatives;
use regions::Regions;

/// Superpixels that a region of the objects' usual size is made of.
const SUPERPIXELS_PER_REGION: f64 = 8.0;

/// Standard deviation of the blur before the image is split, in sides of a superpixel.
const SMOOTHING: f32 = 0.15;

/// Draws negatives for one image: connected regions of about even colour beside all of its objects, with the class
/// of the background.
///
/// The image is split into superpixels; those beside the objects are joined, from random ones on, with neighbours of
/// like colour until the region is as large as one of the objects. No negative has a pixel within
/// `margin` of an object, and none overlaps another or a mask that has the class of the background already; such masks
/// count towards the number wanted. There are fewer where the image has no more room. The same image and seed give the
/// same regions, in random order.
///
/// Whatever lies in no mask is taken for background, and a colony that nobody annotated becomes a negative. Where
/// a part of the image is not annotated, pass it as a mask without class: negatives keep away from such masks as from
/// objects, but these are neither counted nor measured.
///
/// # Errors
/// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) naming the field that is out of its range;
/// [`Error::ShapeMismatch`](coral_core::Error::ShapeMismatch) naming a mask that is not of the image's size;
/// [`Error::InvalidInput`](coral_core::Error::InvalidInput) for an image without pixels.
///
/// # Examples
/// ```
/// use coral_core::{AnnotatedImage, ClassId, InstanceMask, RleMask, Size, image::{Rgb, RgbImage}};
/// use coral_weak::{NegativeConfig, negative_masks};
/// // A coral on sand, and beside it a stone that looks like one.
/// let near = |x: u32, y: u32, at: u32| x.abs_diff(at).pow(2) + y.abs_diff(20).pow(2) < 100;
/// let image = RgbImage::from_fn(80, 40, |x, y| Rgb(match (near(x, y, 20), near(x, y, 60)) {
///     (true, _) => [120, 60, 90],
///     (_, true) => [90, 80, 70],
///     _ => [210, 200, 170],
/// }));
/// let coral = InstanceMask { class: Some(1), ..InstanceMask::new(RleMask::from_fn(Size::of(&image), |x, y| near(x, y, 20))) };
/// let reef = AnnotatedImage { image, masks: vec![coral.clone()] };
///
/// let config = NegativeConfig { per_positive: 3.0, ..Default::default() };
/// let negatives = negative_masks(&reef, &config, 5)?;
/// assert_eq!(negatives.len(), 3);
/// for negative in &negatives {
///     assert_eq!((negative.class, negative.mask.intersection_area(&coral.mask)?), (Some(0), 0));
/// }
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Zheng et al., *CoralSCOP: Segment any COral Image on this Planet*, CVPR 2024, trains with negatives against false
/// positives. How theirs were drawn is not published; this is a way of our own.
pub fn negative_masks(annotated: &AnnotatedImage, config: &NegativeConfig, seed: u64) -> Result<Vec<InstanceMask>> {
    config.validate()?;
    let size = Size::of(&annotated.image);
    for (at, one) in annotated.masks.iter().enumerate() {
        size.expect(&format!("masks[{at}]"), one.mask.size())?;
    }
    let masks = |wanted: fn(Option<ClassId>, ClassId) -> bool| -> Vec<&RleMask> {
        let of_kind = annotated.masks.iter().filter(|one| wanted(one.class, config.class) && !one.mask.is_empty());
        of_kind.map(|one| &one.mask).collect()
    };
    let positives = masks(|class, background| class.is_some_and(|class| class != background));
    let negatives = masks(|class, background| class == Some(background));
    let near = masks(|class, background| class != Some(background));
    let wanted = config.count(positives.len()).saturating_sub(negatives.len());
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let free = free_pixels(size, &near, &negatives, config.margin)?;
    let sizes = Sizes::new(size, &positives, config);
    let slic = SlicConfig {
        segments: sizes.superpixels(),
        compactness: config.compactness,
        // Regions need no exact seams, and splitting the image is most of the work.
        max_iterations: 5,
        ..Default::default()
    };
    let lab = smoothed(&lab_image(&annotated.image), size, slic.segments);
    let superpixels = slic_lab(&lab, &slic)?;
    let mut regions = Regions::new(&superpixels, &lab, &free)?;
    let mut rng = SeededRng::new(seed);
    let mut found = Vec::new();
    for start in regions.starts(config.max_overlap, &mut rng) {
        if found.len() == wanted {
            break;
        }
        let area = sizes.draw(&mut rng);
        let Some(mask) = regions.grow(start, (area, sizes.largest), config.color_tolerance)? else { continue };
        if mask.area() as f64 >= sizes.smallest {
            found.push(InstanceMask { class: Some(config.class), ..InstanceMask::new(mask) });
        }
    }
    Ok(found)
}

/// The pixels that a negative may have: those farther than `margin` from every mask of `near` and in no negative.
fn free_pixels(size: Size, near: &[&RleMask], negatives: &[&RleMask], margin: u32) -> Result<Array2<bool>> {
    let mut taken = RleMask::union_of(size, near.iter().copied())?.decode();
    taken.rows_mut().into_iter().for_each(|row| widen(row, margin));
    taken.columns_mut().into_iter().for_each(|column| widen(column, margin));
    let negatives = RleMask::union_of(size, negatives.iter().copied())?.decode();
    Ok(ndarray::Zip::from(&taken).and(&negatives).map_collect(|&near, &negative| !(near || negative)))
}

/// The planes of an image without what is finer than its superpixels: grains of sand and noise would fray their edges.
fn smoothed(planes: &Array3<f32>, size: Size, segments: u32) -> Array3<f32> {
    let side = (size.pixels() as f64 / f64::from(segments)).sqrt();
    let mut smooth = planes.clone();
    for (mut out, plane) in smooth.outer_iter_mut().zip(planes.outer_iter()) {
        out.assign(&gaussian_blur(plane, SMOOTHING * side as f32));
    }
    smooth
}

/// Lets what is true in a line reach `margin` pixels farther to both sides.
fn widen(mut line: ArrayViewMut1<'_, bool>, margin: u32) {
    let (old, margin) = (line.to_vec(), margin as usize);
    for at in (0..old.len()).filter(|&at| old[at]) {
        let ends_here = at == 0 || !old[at - 1] || old.get(at + 1) != Some(&true);
        if ends_here {
            let (from, to) = (at.saturating_sub(margin), at.saturating_add(margin).min(old.len() - 1));
            line.slice_mut(s![from..=to]).fill(true);
        }
    }
}

/// How large negatives are, in pixels.
struct Sizes {
    pixels: f64,
    smallest: f64,
    largest: f64,
    /// Of the objects, ascending.
    areas: Vec<f64>,
}

impl Sizes {
    fn new(size: Size, positives: &[&RleMask], config: &NegativeConfig) -> Self {
        let pixels = size.pixels() as f64;
        let (smallest, largest) = (f64::from(config.min_area) * pixels, f64::from(config.max_area) * pixels);
        // A pixel may be more than the largest share of a tiny image.
        let largest = largest.max(1.0);
        let mut areas: Vec<f64> = positives.iter().map(|mask| (mask.area() as f64).clamp(smallest, largest)).collect();
        areas.sort_by(f64::total_cmp);
        Self { pixels, smallest, largest, areas }
    }

    /// The area of one of the objects; of any size, small ones as likely as large ones, where there is none.
    fn draw(&self, rng: &mut SeededRng) -> f64 {
        match self.areas.get(rng.below(self.areas.len())) {
            Some(&area) => area,
            None => (rng.range(self.smallest.max(1.0).ln(), self.largest.max(1.0).ln())).exp(),
        }
    }

    /// How many superpixels to split the image into, so that a region of usual size has some of them.
    fn superpixels(&self) -> u32 {
        let usual = self.areas.get(self.areas.len() / 2).copied();
        let usual = usual.unwrap_or((self.smallest.max(1.0) * self.largest.max(1.0)).sqrt());
        // Many of them take long, but some have to fit into the largest region.
        let most = (4.0 * self.pixels / self.largest).clamp(2000.0, 1e6);
        (SUPERPIXELS_PER_REGION * self.pixels / usual).round().clamp(100.0, most) as u32
    }
}

#[cfg(test)]
mod tests;
