use coral_core::ndarray::{Array2, ArrayView2};
use coral_core::{ClassId, ClassSet, Dataset, Error, Result, SeededRng};
use coral_models::{DecodedMask, EmbeddedImage, EmbeddedImages, Predictor, PromptConfig};
use coral_weak::{TemplateBundler, Templates};

/// What a network says of one prompt, a click or a box, for every mask that has a class.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// The masks' classes.
    pub truth: Vec<ClassId>,
    /// The classes that the network gives; none where it knows no classes.
    pub classes: Vec<Option<ClassId>>,
    /// The semantic features, N×D; N×0 where it has none.
    pub features: Array2<f32>,
}

impl Answers {
    /// Asks a network about every mask, so many times, with prompts drawn from `seed`. Of three answers the one counts that the
    /// network is surest of.
    ///
    /// # Errors
    /// When an embedding cannot be read or is of another network.
    pub fn of(predictor: &Predictor, images: &EmbeddedImages, (times, seed): (usize, u64)) -> Result<Self> {
        let config = PromptConfig::single();
        let (mut answers, mut features) = (Self::default(), Vec::new());
        for index in 0..images.len() {
            let EmbeddedImage { embedding, masks } = images.get(index)?;
            let mut random = SeededRng::stream(seed, index as u64);
            let (mut prompts, mut truth) = (Vec::new(), Vec::new());
            let classed = masks.iter().filter_map(|one| Some((&one.mask, one.class?)));
            for (mask, class) in classed.filter(|(mask, _)| !mask.is_empty()) {
                for _ in 0..times {
                    prompts.push(config.first_prompt(mask, embedding.image_size(), random.bits())?);
                    truth.push(class);
                }
            }
            // Masks are not needed, only what they are: nothing is brought to the size of the photograph.
            let mut best: Vec<Option<DecodedMask>> = vec![None; prompts.len()];
            predictor.decode(&embedding, &prompts, true, |batch| {
                for one in batch {
                    let best = &mut best[one.prompt];
                    if best.as_ref().is_none_or(|former| one.predicted_iou > former.predicted_iou) {
                        *best = Some(one);
                    }
                }
                Ok(())
            })?;
            for (answer, class) in best.into_iter().zip(truth).filter_map(|(answer, class)| Some((answer?, class))) {
                answers.truth.push(class);
                answers.classes.push(answer.class());
                features.extend(answer.features);
            }
        }
        let count = answers.truth.len();
        let width = features.len() / count.max(1);
        answers.features = Array2::from_shape_vec((count, width), features).map_err(Error::model)?;
        Ok(answers)
    }

    /// The mean of the features of every class, each scaled to length 1; `None` without features.
    ///
    /// # Errors
    /// When a feature is not finite.
    pub fn templates(&self, classes: &ClassSet) -> Result<Option<Templates>> {
        if self.features.is_empty() {
            return Ok(None);
        }
        let mut bundler = TemplateBundler::new(classes.num_ids(), self.features.ncols())?;
        for (row, &class) in self.features.rows().into_iter().zip(&self.truth) {
            bundler.add_vectors(row.insert_axis(coral_core::ndarray::Axis(0)), class)?;
        }
        bundler.finish().map(Some)
    }
}

/// How many masks get their class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassScores {
    /// The method.
    pub name: &'static str,
    /// Masks of every class that get it, and masks of the class.
    pub right: Vec<(u64, u64)>,
}

impl ClassScores {
    /// Of classes that were found, against the truth.
    pub fn new(
        name: &'static str,
        found: impl IntoIterator<Item = Option<ClassId>>,
        truth: &[ClassId],
        classes: &ClassSet,
    ) -> Self {
        let mut right = vec![(0, 0); classes.num_ids()];
        for (found, &truth) in found.into_iter().zip(truth) {
            if let Some((right, all)) = right.get_mut(usize::from(truth)) {
                *all += 1;
                *right += u64::from(found == Some(truth));
            }
        }
        Self { name, right }
    }

    /// Of the class whose template is nearest.
    ///
    /// # Errors
    /// When the features are not those of the templates.
    pub fn of_templates(templates: &Templates, answers: &Answers, classes: &ClassSet) -> Result<Self> {
        let similarities = templates.cosine_similarities(ArrayView2::from(&answers.features))?;
        let nearest = similarities.rows().into_iter().map(|row| {
            let first = |best: usize, class: usize| if row[class] > row[best] { class } else { best };
            Some((0..row.len()).fold(0, first) as ClassId)
        });
        Ok(Self::new("nearest template", nearest, &answers.truth, classes))
    }

    /// The share of the objects, all but the background, that get their class; `None` without objects.
    pub fn accuracy(&self) -> Option<f64> {
        let objects = || self.right.iter().skip(1);
        let all = objects().map(|(_, all)| all).sum::<u64>();
        (all > 0).then(|| objects().map(|(right, _)| right).sum::<u64>() as f64 / all as f64)
    }

    /// The mean of the shares of all classes that occur, with the background.
    pub fn mean_recall(&self) -> Option<f64> {
        let shares = self.right.iter().filter(|(_, all)| *all > 0).map(|&(right, all)| right as f64 / all as f64);
        let shares: Vec<f64> = shares.collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }

    /// A line per class, with its masks and the share that each method gives the class, in percent; then that of all objects, and
    /// the mean over classes.
    pub fn table(scores: &[Self], classes: &ClassSet) -> String {
        let line = |name: &str, masks: String, cells: &dyn Fn(&Self) -> Option<f64>| {
            let cell = |one| cells(one).map_or(format!(" {:>16}", "-"), |share| format!(" {:>16.1}", 100.0 * share));
            format!("{name:24} {masks:>6}{}\n", scores.iter().map(cell).collect::<String>())
        };
        let names = scores.iter().map(|one| format!(" {:>16}", one.name)).collect::<String>();
        let mut text = format!("{:24} {:>6}{names}\n", "", "masks");
        let of = |one: &Self, class: usize| one.right.get(class).copied().unwrap_or_default();
        let masks = |class: usize| scores.first().map_or(0, |one| of(one, class).1);
        for class in classes.iter() {
            let id = usize::from(class.id);
            let share = |one: &Self| {
                Some(of(one, id)).filter(|(_, all)| *all > 0).map(|(right, all)| right as f64 / all as f64)
            };
            text += &line(&class.name, masks(id).to_string(), &share);
        }
        let objects = (1..classes.num_ids()).map(masks).sum::<u64>().to_string();
        text += &line("all objects", objects, &Self::accuracy);
        text + &line("mean of the classes", String::new(), &Self::mean_recall)
    }
}

#[cfg(test)]
mod tests {
    use coral_core::ndarray::array;

    use super::*;

    #[test]
    fn shares_are_counted_by_class() {
        let classes = ClassSet::from_names(["background", "branching", "massive"]).unwrap();
        let scores = ClassScores::new("some", [Some(0), Some(1), None, Some(0)], &[0, 1, 1, 1], &classes);
        assert_eq!(scores.right, [(1, 1), (1, 3), (0, 0)]);
        assert_eq!((scores.accuracy(), scores.mean_recall()), (Some(1.0 / 3.0), Some((1.0 + 1.0 / 3.0) / 2.0)));
        let table = ClassScores::table(&[scores], &classes);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["branching", "3", "33.3"]);
        assert_eq!(lines[3], ["massive", "0", "-"]);
        assert_eq!(lines[4], ["all", "objects", "3", "33.3"]);
        assert_eq!(lines[5], ["mean", "of", "the", "classes", "66.7"]);
        let nothing = ClassScores::new("none", [], &[], &classes);
        assert_eq!((nothing.accuracy(), nothing.mean_recall()), (None, None));
    }

    #[test]
    fn the_nearest_template_names_the_class() {
        let classes = ClassSet::from_names(["background", "branching"]).unwrap();
        let answers = Answers {
            truth: vec![0, 1, 1],
            classes: vec![None; 3],
            features: array![[2.0, 0.0], [0.0, 1.0], [0.1, 1.0]],
        };
        let templates = answers.templates(&classes).unwrap().unwrap();
        let scores = ClassScores::of_templates(&templates, &answers, &classes).unwrap();
        assert_eq!(scores.right, [(1, 1), (2, 2)]);
        let blind = Answers { features: Array2::zeros((3, 0)), ..answers };
        assert!(blind.templates(&classes).unwrap().is_none());
    }
}
