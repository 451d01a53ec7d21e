use std::fmt;
use std::path::Path;

use coral_core::{ClassId, ClassSet, CoarseMap, Error, LabelMap, Result, UNLABELED, write_atomically};
use coral_metrics::CoverCounts;

/// Cover of the classes in the coarse maps of every photograph and of all together.
#[derive(Debug, Clone)]
pub struct CoarseCover {
    classes: ClassSet,
    confidence: f32,
    photographs: Vec<(String, std::result::Result<Tally, String>)>,
    all: Tally,
}

/// What stands in the column of the photograph in the lines of all together.
const ALL: &str = "all photographs";

/// Counts of some maps.
#[derive(Debug, Clone)]
struct Tally {
    /// Patches and the sum of their confidences, for each class.
    patches: Vec<(u64, f64)>,
    unlabelled: u64,
    area: CoverCounts,
    /// Of dense maps, where there are any.
    dense: Option<CoverCounts>,
}

impl Tally {
    fn new(classes: usize) -> Result<Self> {
        Ok(Self { patches: vec![(0, 0.0); classes], unlabelled: 0, area: CoverCounts::new(classes)?, dense: None })
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        for ((count, confidence), (other_count, other_confidence)) in self.patches.iter_mut().zip(&other.patches) {
            *count += other_count;
            *confidence += other_confidence;
        }
        self.unlabelled += other.unlabelled;
        self.area.merge(&other.area)?;
        match (&mut self.dense, &other.dense) {
            (Some(dense), Some(other)) => dense.merge(other)?,
            (none @ None, Some(other)) => *none = Some(other.clone()),
            (_, None) => {}
        }
        Ok(())
    }

    fn labelled(&self) -> u64 {
        self.patches.iter().map(|(count, _)| count).sum()
    }

    /// Share of patches without a label.
    fn unlabelled_percent(&self) -> Option<f64> {
        percent(self.unlabelled, self.labelled() + self.unlabelled)
    }

    fn patches_percent(&self, class: usize) -> Option<f64> {
        percent(self.patches[class].0, self.labelled())
    }

    fn mean_confidence(&self, class: usize) -> Option<f64> {
        let (count, sum) = self.patches[class];
        (count > 0).then(|| sum / count as f64)
    }
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}

fn of_class(counts: Option<&CoverCounts>, class: usize) -> Option<f64> {
    counts?.percent()?.get(class).copied()
}

impl CoarseCover {
    /// A table without photographs, for patches that are unlabelled below `confidence`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there is no class, or the confidence is not in 0..=1.
    pub fn new(classes: &ClassSet, confidence: f32) -> Result<Self> {
        if !(0.0..=1.0).contains(&confidence) {
            return Err(Error::parameter("confidence", format!("expected 0..=1, got {confidence}")));
        }
        let all = Tally::new(classes.num_ids())?;
        Ok(Self { classes: classes.clone(), confidence, photographs: Vec::new(), all })
    }

    /// Adds the map of a photograph and, where there is one, its dense map.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the map has other classes or another size than the dense one;
    /// [`Error::InvalidInput`] when the dense map has an unknown class. Nothing was added then.
    pub fn add(&mut self, photograph: &str, map: &CoarseMap, dense: Option<&LabelMap>) -> Result<()> {
        let known = self.classes.num_ids();
        let found = map.probabilities.dim().0;
        if found != known {
            return Err(Error::shape("coarse map", format!("{known} classes"), found.to_string()));
        }
        let labels = map.confident_classes(self.confidence);
        let mut tally = Tally::new(known)?;
        for (&class, &confidence) in labels.iter().zip(&map.confidence()) {
            match class {
                UNLABELED => tally.unlabelled += 1,
                class => {
                    let (count, sum) = &mut tally.patches[usize::from(class)];
                    (*count, *sum) = (*count + 1, *sum + f64::from(confidence));
                }
            }
        }
        tally.area.add(&map.label_map(&labels)?)?;
        if let Some(dense) = dense {
            map.image_size.expect("dense map", coral_core::Size::of_map(dense))?;
            let mut counts = CoverCounts::new(known)?;
            counts.add(dense)?;
            tally.dense = Some(counts);
        }
        self.all.merge(&tally)?;
        self.photographs.push((photograph.to_owned(), Ok(tally)));
        Ok(())
    }

    /// Lists a photograph that has no map, and why.
    pub fn skip(&mut self, photograph: &str, problem: &str) {
        self.photographs.push((photograph.to_owned(), Err(problem.to_owned())));
    }

    /// How many photographs have a map.
    pub fn mapped(&self) -> usize {
        self.photographs.iter().filter(|(_, result)| result.is_ok()).count()
    }

    /// Writes CSV: a line for each photograph and class, then one for each class in all photographs. `patches_percent` is
    /// of the labelled patches and `area_percent` of their pixels, a pixel of several patches counting once;
    /// `unlabelled_percent` is the share of patches without a label, the same in all lines of a photograph;
    /// `dense_percent` is of the labelled pixels of dense maps. A photograph without map has one line that tells the
    /// `problem`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let header = [
            "photograph",
            "class",
            "name",
            "patches",
            "patches_percent",
            "area_percent",
            "mean_confidence",
            "unlabelled_percent",
            "dense_percent",
            "problem",
        ];
        write_atomically(path, |out| {
            let mut csv = csv::Writer::from_writer(out);
            csv.write_record(header)?;
            for (photograph, result) in &self.photographs {
                match result {
                    Ok(tally) => self.write_lines(&mut csv, photograph, tally)?,
                    Err(problem) => csv.write_record([photograph, "", "", "", "", "", "", "", "", problem])?,
                }
            }
            self.write_lines(&mut csv, ALL, &self.all)?;
            csv.flush()
        })
    }

    fn write_lines<W: std::io::Write>(
        &self,
        csv: &mut csv::Writer<W>,
        photograph: &str,
        tally: &Tally,
    ) -> std::io::Result<()> {
        let number = |value: Option<f64>| value.map(|value| format!("{value:.4}")).unwrap_or_default();
        for (class, (patches, _)) in tally.patches.iter().enumerate() {
            let values = [
                tally.patches_percent(class),
                of_class(Some(&tally.area), class),
                tally.mean_confidence(class),
                tally.unlabelled_percent(),
                of_class(tally.dense.as_ref(), class),
            ];
            let name = self.classes.name(class as ClassId);
            let first = [photograph.to_owned(), class.to_string(), name, patches.to_string()];
            csv.write_record(first.into_iter().chain(values.map(number)).chain([String::new()]))?;
        }
        Ok(())
    }
}

impl fmt::Display for CoarseCover {
    /// A line for each class in all photographs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |class: usize| self.classes.name(class as ClassId);
        let wide = (0..self.all.patches.len()).map(|class| name(class).chars().count()).max().unwrap_or(0).max(5);
        writeln!(f, "{:wide$} {:>8} {:>9} {:>9} {:>10}", "class", "patches", "patches", "area", "confidence")?;
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2} %"));
        for (class, (patches, _)) in self.all.patches.iter().enumerate() {
            let (share, area) = (self.all.patches_percent(class), of_class(Some(&self.all.area), class));
            let sure = self.all.mean_confidence(class).map_or("-".to_owned(), |value| format!("{value:.3}"));
            let name = name(class);
            writeln!(f, "{name:wide$} {patches:>8} {:>9} {:>9} {sure:>10}", shown(share), shown(area))?;
        }
        if let Some(percent) = self.all.unlabelled_percent().filter(|&percent| percent > 0.0) {
            writeln!(f, "{:wide$} {:>8} {:>9}", "none", self.all.unlabelled, format!("{percent:.2} %"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coral_core::ndarray::{arr3, array};
    use coral_core::{PatchGrid, Size};

    use super::*;

    #[test]
    fn shares_are_of_labelled_patches_and_pixels() {
        let size = Size { width: 10, height: 2 };
        let patches = PatchGrid::Split { rows: 1, columns: 4 }.patches(size).unwrap();
        let probabilities = arr3(&[[[0.9, 0.2, 0.5, 0.7]], [[0.1, 0.8, 0.5, 0.3]]]);
        let map = CoarseMap::new(probabilities, patches, size).unwrap();
        let classes = ClassSet::from_names(["sand", "sea, grass"]).unwrap();
        let mut cover = CoarseCover::new(&classes, 0.6).unwrap();
        let dense = array![[0, 0, 0, 1, 1, 1, 1, 1, 1, 255], [0, 0, 0, 1, 1, 1, 1, 1, 1, 255]];
        cover.add("a", &map, Some(&dense)).unwrap();
        cover.skip("b", "b.png: truncated");
        let none = CoarseMap { probabilities: map.probabilities.mapv(|_| 0.5), ..map.clone() };
        cover.add("c", &none, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cover.csv");
        cover.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        // Columns of 3, 3, 2 and 2 pixels; the third patch is unsure.
        assert_eq!(lines[0], "a,0,sand,2,66.6667,62.5000,0.8000,25.0000,33.3333,");
        assert_eq!(lines[1], "a,1,\"sea, grass\",1,33.3333,37.5000,0.8000,25.0000,66.6667,");
        assert_eq!(lines[2], "b,,,,,,,,,b.png: truncated");
        assert_eq!(lines[3], "c,0,sand,0,,,,100.0000,,");
        assert_eq!(lines[5], "all photographs,0,sand,2,66.6667,62.5000,0.8000,62.5000,33.3333,");
        assert_eq!((lines.len(), cover.mapped()), (7, 2));
        let shown = cover.to_string();
        assert!(shown.contains("sand              2   66.67 %   62.50 %      0.800\n"), "{shown}");
        assert!(shown.ends_with("none              5   62.50 %\n"), "{shown}");
    }

    #[test]
    fn misfits_are_named() {
        let classes = ClassSet::from_names(["sand", "seagrass"]).unwrap();
        assert!(CoarseCover::new(&classes, f32::NAN).unwrap_err().to_string().contains("`confidence`: expected 0..=1"));
        assert!(CoarseCover::new(&ClassSet::default(), 0.5).is_err());
        let mut cover = CoarseCover::new(&classes, 0.0).unwrap();
        let size = Size { width: 2, height: 1 };
        let patches = PatchGrid::Split { rows: 1, columns: 1 }.patches(size).unwrap();
        let map = |classes| CoarseMap::new(coral_core::ndarray::Array3::ones((classes, 1, 1)), patches.clone(), size);
        let text = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(text(cover.add("a", &map(3).unwrap(), None)), "coarse map: expected shape 2 classes, got 3");
        assert!(text(cover.add("a", &map(2).unwrap(), Some(&array![[0], [0]]))).contains("dense map"));
        assert!(cover.add("a", &map(2).unwrap(), Some(&array![[0, 9]])).is_err());
        assert_eq!(cover.mapped(), 0);
    }
}
