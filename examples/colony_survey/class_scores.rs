use coral_core::ndarray::{Array2, ArrayView2};
use coral_core::{ClassId, ClassSet, Dataset, Error, Result, SeededRng};
use coral_models::{EmbeddedImage, EmbeddedImages, Predictor, PromptConfig};
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
    /// Asks a network, with prompts drawn from `seed`.
    ///
    /// # Errors
    /// When an embedding cannot be read or is of another network.
    pub fn of(predictor: &Predictor, images: &EmbeddedImages, seed: u64) -> Result<Self> {
        let prompts = PromptConfig::single();
        let (mut answers, mut features) = (Self::default(), Vec::new());
        for index in 0..images.len() {
            let EmbeddedImage { embedding, masks } = images.get(index)?;
            let mut random = SeededRng::stream(seed, index as u64);
            let classed = masks.iter().filter_map(|one| Some((&one.mask, one.class?)));
            for (mask, class) in classed.filter(|(mask, _)| !mask.is_empty()) {
                let prompt = prompts.first_prompt(mask, embedding.image_size(), random.bits())?;
                let Some(answer) = predictor.predict(&embedding, &prompt)?.into_iter().next() else { continue };
                answers.truth.push(class);
                answers.classes.push(answer.class);
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

    /// The share of masks that get their class; `None` without masks.
    pub fn accuracy(&self) -> Option<f64> {
        let sum = |of: fn(&(u64, u64)) -> u64| self.right.iter().map(of).sum::<u64>();
        let all = sum(|(_, all)| *all);
        (all > 0).then(|| sum(|(right, _)| *right) as f64 / all as f64)
    }

    /// The mean of the classes' shares, of the classes that occur.
    pub fn mean_recall(&self) -> Option<f64> {
        let shares = self.right.iter().filter(|(_, all)| *all > 0).map(|&(right, all)| right as f64 / all as f64);
        let shares: Vec<f64> = shares.collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }

    /// A line per method: the share of masks that get their class, of each class and of all, and the mean over classes, in
    /// percent.
    pub fn table(scores: &[Self], classes: &ClassSet) -> String {
        let cell = |value: Option<f64>| value.map_or(format!(" {:>10}", "-"), |v| format!(" {:>10.1}", 100.0 * v));
        let names = classes.iter().map(|class| format!(" {:>10.10}", class.name)).collect::<String>();
        let mut text = format!("{:18}{names} {:>10} {:>10}\n", "", "all masks", "mean");
        for one in scores {
            let share = |&(right, all): &(u64, u64)| cell((all > 0).then(|| right as f64 / all as f64));
            let shares = classes.iter().map(|class| share(&one.right[usize::from(class.id)])).collect::<String>();
            text += &format!("{:18}{shares}{}{}\n", one.name, cell(one.accuracy()), cell(one.mean_recall()));
        }
        text
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
        assert_eq!((scores.accuracy(), scores.mean_recall()), (Some(0.5), Some((1.0 + 1.0 / 3.0) / 2.0)));
        let table = ClassScores::table(&[scores], &classes);
        assert!(
            table.lines().nth(1).unwrap().ends_with("100.0       33.3          -       50.0       66.7"),
            "{table}"
        );
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
