use std::fmt;

use coral_core::{AnnotatedImage, Result, RleMask, Size};
use coral_models::{GeneratorConfig, MaskGenerator, Predictor};

use super::Images;
use super::synthetic::MIN_AREA;

/// What a network calls coral in pictures of which all corals are known, without any prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proposals {
    /// Masks that it calls coral.
    pub masks: u64,
    /// Those of which less than half is coral.
    pub false_masks: u64,
    /// Colonies that are more than slivers.
    pub colonies: u64,
    /// Those that a mask shows with an IoU of at least 0.5.
    pub found: u64,
}

impl Proposals {
    /// The settings of the mask generator for the small network.
    pub fn settings() -> GeneratorConfig {
        GeneratorConfig {
            points_per_side: 12,
            crop_n_layers: 0,
            pred_iou_thresh: 0.5,
            min_hole_area: 8,
            min_island_area: 8,
            ..GeneratorConfig::coralscop()
        }
    }

    /// Masks of a grid of clicks on pictures of which the masks are all corals, however small.
    ///
    /// # Errors
    /// When a picture cannot be loaded or the network fails.
    pub fn of(predictor: &Predictor, pictures: Images<'_>) -> Result<Self> {
        let generator = MaskGenerator::new(predictor.clone(), Self::settings())?;
        let mut counts = Self::default();
        for index in 0..pictures.len() {
            let AnnotatedImage { image, masks: colonies } = pictures.get(index)?;
            let corals = RleMask::union_of(Size::of(&image), colonies.iter().map(|one| &one.mask))?;
            let proposed = generator.generate(&image)?;
            for one in &proposed {
                counts.masks += 1;
                counts.false_masks += u64::from(2 * one.mask.intersection_area(&corals)? < one.mask.area());
            }
            for colony in colonies.iter().filter(|one| one.area() >= MIN_AREA) {
                let ious = proposed.iter().map(|one| one.mask.iou(&colony.mask)).collect::<Result<Vec<_>>>()?;
                counts.colonies += 1;
                counts.found += u64::from(ious.iter().any(|&iou| iou >= 0.5));
            }
        }
        Ok(counts)
    }
}

impl fmt::Display for Proposals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { masks, false_masks, colonies, found } = self;
        if *colonies > 0 {
            write!(out, "{found} of {colonies} colonies found, ")?;
        }
        write!(out, "{masks} masks called coral, {false_masks} of them beside corals")
    }
}
