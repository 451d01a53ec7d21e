use coral_core::{AnnotatedImage, Dataset, InstanceMask, Result, RleMask, Size};
use serde::{Deserialize, Serialize};

use super::{SyntheticReefDataset, SyntheticScene};

impl SyntheticScene {
    /// What is seen of every instance, in their order, with its narrowest class in
    /// [`SyntheticReef::taxa`](super::SyntheticReef::taxa). Masks do not overlap; a colony that another one grows over may
    /// have several parts.
    ///
    /// # Errors
    /// None for a scene that was generated; [`Error::InvalidInput`](coral_core::Error::InvalidInput) for one whose
    /// `instances` have numbers without a class.
    pub fn instance_masks(&self) -> Result<Vec<InstanceMask>> {
        let size = Size::of_map(&self.instances);
        // Background and foreground in turn, in the order of columns, and where the last of it ends.
        let mut runs = vec![(Vec::new(), 0u32); self.taxa.len()];
        for (at, &number) in (0u32..).zip(self.instances.t().iter()).filter(|(_, number)| **number > 0) {
            let run = runs.get_mut(number as usize - 1);
            let (counts, end) = run.ok_or_else(|| {
                let reason = format!("instance {number} has no class: there are {}", self.taxa.len());
                coral_core::Error::input("instances", reason)
            })?;
            match counts.last_mut() {
                Some(length) if *end == at => *length += 1,
                _ => counts.extend([at - *end, 1]),
            }
            *end = at + 1;
        }
        let masks = runs.into_iter().zip(&self.taxa).map(|((mut counts, end), &class)| {
            counts.push(size.pixels() as u32 - end);
            Ok(InstanceMask { class: Some(class), ..InstanceMask::new(RleMask::from_counts(size, &counts)?) })
        });
        masks.collect()
    }
}

/// A survey of synthetic reefs with the mask of every colony, seagrass clump and loose stone.
///
/// Classes are those of [`SyntheticReef::taxa`](super::SyntheticReef::taxa): a colony's species where the configuration
/// has `species` set, else its genus; clumps and stones are seagrass and rubble, true negatives for a segmenter of
/// corals. [`RemappedMasks`](crate::RemappedMasks) brings them to a level of the hierarchy.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, Size};
/// use coral_io::{RemappedMasks, SyntheticColonies, SyntheticReef, SyntheticReefConfig, SyntheticReefDataset};
/// let config = SyntheticReefConfig { size: Size { width: 96, height: 72 }, species: true, ..Default::default() };
/// let survey = SyntheticColonies { reefs: SyntheticReefDataset { config, len: 3, seed: 10 }, min_area: 30 };
/// let taxa = SyntheticReef::taxa();
/// let first = survey.get(0)?;
/// assert!(first.masks.iter().any(|one| one.class.is_some_and(|class| taxa.ancestors(class).len() == 3)));
///
/// // The genera, numbered from 1; seagrass and rubble become 0, the background.
/// let (genera, remapping) = taxa.objects_at_level(taxa.parse("coral")?, 2)?;
/// let by_genus = RemappedMasks::new(survey, remapping);
/// assert!(by_genus.get(0)?.masks.iter().all(|one| one.class.is_some_and(|class| genera.get(class).is_some())));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticColonies {
    /// The pictures.
    pub reefs: SyntheticReefDataset,
    /// Objects of which fewer pixels are seen have no mask. Negatives and sentences that are drawn beside the masks take
    /// such pixels for background: 1 spares them.
    pub min_area: u64,
}

impl Dataset for SyntheticColonies {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        self.reefs.len
    }

    /// # Errors
    /// Also [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) when the configuration is out of range.
    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        let scene = self.reefs.scene(index)?;
        let mut masks = scene.instance_masks()?;
        masks.retain(|one| one.area() >= self.min_area);
        Ok(AnnotatedImage { image: scene.image, masks })
    }

    fn name(&self, index: usize) -> Result<String> {
        self.reefs.name(index)
    }
}

#[cfg(test)]
mod tests {
    use coral_core::ndarray::Array2;
    use coral_core::testing::check_dataset;

    use super::*;
    use crate::synthetic::{GrowthForm, SyntheticReef, SyntheticReefConfig};

    fn survey(species: bool) -> SyntheticColonies {
        let config = SyntheticReefConfig { size: Size { width: 120, height: 90 }, species, ..Default::default() };
        SyntheticColonies { reefs: SyntheticReefDataset { config, len: 3, seed: 5 }, min_area: 1 }
    }

    #[test]
    fn it_is_a_dataset() {
        check_dataset(&survey(true), |a, b| a == b).unwrap();
        check_dataset(&SyntheticColonies { min_area: 40, ..survey(false) }, |a, b| a == b).unwrap();
    }

    #[test]
    fn masks_are_the_instances() {
        let scene = survey(true).reefs.scene(1).unwrap();
        let masks = scene.instance_masks().unwrap();
        assert_eq!(masks.len(), scene.instance_classes.len());
        let mut painted = Array2::zeros(scene.instances.dim());
        for (number, one) in (1..).zip(&masks) {
            assert!(!one.mask.is_empty());
            let pixels = one.mask.decode();
            painted.zip_mut_with(&pixels, |to, &inside| *to = if inside { number } else { *to });
        }
        assert_eq!(painted, scene.instances);
        let large = SyntheticColonies { min_area: 50, ..survey(true) }.get(1).unwrap().masks;
        assert!(large.len() < masks.len() && large.iter().all(|one| one.area() >= 50));
        let odd = SyntheticScene { taxa: vec![5], ..scene };
        assert!(odd.instance_masks().unwrap_err().to_string().contains("has no class: there are 1"));
    }

    #[test]
    fn taxa_lie_below_the_classes() {
        let taxa = SyntheticReef::taxa();
        for (species, depth) in [(false, 2), (true, 3)] {
            let scene = survey(species).reefs.scene(0).unwrap();
            for (&class, &narrow) in scene.instance_classes.iter().zip(&scene.taxa) {
                let is_coral = GrowthForm::ALL.iter().any(|form| form.class() == class);
                let above = taxa.ancestors(narrow);
                assert!(if is_coral { above.len() == depth && above.contains(&class) } else { narrow == class });
            }
        }
    }

    #[test]
    fn species_change_colours_alone_and_can_be_told_apart() {
        let (plain, dressed) = (survey(false).reefs.scene(2).unwrap(), survey(true).reefs.scene(2).unwrap());
        assert_eq!((&plain.labels, &plain.instances), (&dressed.labels, &dressed.instances));
        assert_ne!(plain.image, dressed.image);
        // Leave one colony out: the colony of most similar mean colour is mostly of its species, of twenty.
        let mut means = Vec::new();
        let config = SyntheticReefConfig { size: Size { width: 200, height: 200 }, ..survey(true).reefs.config };
        for seed in 0..8 {
            let scene = SyntheticReef::new(config.clone()).unwrap().generate(seed);
            for one in scene.instance_masks().unwrap().iter().filter(|one| one.area() > 150 && one.class >= Some(23)) {
                let mut sum = [0.0; 3];
                for run in one.mask.column_runs() {
                    for y in run.y..run.y + run.length {
                        let pixel = scene.image.get_pixel(run.x, y).0;
                        sum.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += f64::from(level));
                    }
                }
                means.push((one.class, sum.map(|sum| sum / one.area() as f64)));
            }
        }
        let distance = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let right = means.iter().enumerate().filter(|(at, (class, mean))| {
            let others = means.iter().enumerate().filter(|(other, _)| other != at);
            let nearest = others.min_by(|a, b| distance(&a.1.1, mean).total_cmp(&distance(&b.1.1, mean)));
            nearest.is_some_and(|(_, (found, _))| found == class)
        });
        let accuracy = right.count() as f64 / means.len() as f64;
        assert!(means.len() > 60 && accuracy > 0.4, "{accuracy} of {}", means.len());
    }
}
