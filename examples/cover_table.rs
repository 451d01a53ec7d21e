use std::fmt;
use std::path::Path;

use coral_core::{ClassId, ClassSet, Result, write_atomically};
use coral_io::SamAnnotations;
use coral_metrics::{ClassColonies, ColonyConfig, ColonyStatistics, ColonySurvey};

/// Cover, number and sizes of the colonies of every image and of all together.
#[derive(Debug, Clone)]
pub struct CoverTable {
    config: ColonyConfig,
    /// The classes that have a line even where they are absent.
    listed: Vec<ClassId>,
    classes: ClassSet,
    images: Vec<(String, ColonyStatistics)>,
    all: ColonySurvey,
}

/// What stands in the column of the image in the lines of the whole survey.
const ALL: &str = "all images";

impl CoverTable {
    /// A table without images; every class but `background` gets a line for each image.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) when the scale is not positive and finite.
    pub fn new(classes: &ClassSet, background: Option<ClassId>, cm_per_pixel: Option<f64>) -> Result<Self> {
        let config = ColonyConfig { cm_per_pixel, ..ColonyConfig::default() };
        let listed = classes.iter().map(|class| class.id).filter(|&id| Some(id) != background).collect();
        let all = ColonySurvey::new(config.clone())?;
        Ok(Self { config, listed, classes: classes.clone(), images: Vec::new(), all })
    }

    /// Adds an image; each mask is a colony.
    ///
    /// # Errors
    /// Those of [`ColonySurvey::add`].
    pub fn add(&mut self, image: &SamAnnotations) -> Result<()> {
        let mut survey = ColonySurvey::new(self.config.clone())?;
        survey.add(image.size, &image.masks)?;
        self.all.merge(&survey)?;
        self.images.push((image.file_name.clone(), survey.statistics()));
        Ok(())
    }

    /// Writes CSV: a line for each image and class, then one for each class in all images. Cover is in percent of all
    /// pixels, pixels in several masks of a class counting once; `cut` colonies touch the border of their image. Areas
    /// are in pixels or, with a scale, in cm².
    ///
    /// # Errors
    /// [`Error::Io`](coral_core::Error::Io) naming the file.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let unit = if self.config.cm_per_pixel.is_some() { "cm2" } else { "px" };
        let sizes = ["min", "lower_quartile", "median", "upper_quartile", "max", "mean", "geometric_mean"];
        let header = ["image", "class", "name", "colonies", "cut", "cover_percent"].map(str::to_owned);
        write_atomically(path, |out| {
            let mut csv = csv::Writer::from_writer(out);
            csv.write_record(header.into_iter().chain(sizes.map(|size| format!("{size}_{unit}"))))?;
            for (image, statistics) in self.rows() {
                for (class, colonies) in self.classes_of(&statistics) {
                    csv.write_record(self.record(image, class, colonies))?;
                }
            }
            csv.flush()
        })
    }

    fn rows(&self) -> impl Iterator<Item = (&str, ColonyStatistics)> {
        let images = self.images.iter().map(|(name, statistics)| (name.as_str(), statistics.clone()));
        images.chain([(ALL, self.all.statistics())])
    }

    /// The listed classes and those that occur without being listed.
    fn classes_of<'a>(&self, statistics: &'a ColonyStatistics) -> Vec<(ClassId, Option<&'a ClassColonies>)> {
        let found = |id: ClassId| statistics.per_class.iter().find(|one| one.class == Some(id));
        let mut ids = self.listed.clone();
        ids.extend(statistics.per_class.iter().filter_map(|one| one.class));
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(|id| (id, found(id))).collect()
    }

    fn record(&self, image: &str, class: ClassId, colonies: Option<&ClassColonies>) -> Vec<String> {
        let mut fields = vec![image.to_owned(), class.to_string(), self.classes.name(class)];
        let (count, cut) = colonies.map_or((0, 0), |one| (one.count, one.touching_border));
        let cover = colonies.and_then(|one| one.cover_percent).unwrap_or(0.0);
        fields.extend([count.to_string(), cut.to_string(), format!("{cover:.4}")]);
        let sizes = colonies.and_then(|one| one.sizes.as_ref()).map(|s| {
            [s.min, s.lower_quartile, s.median, s.upper_quartile, s.max, s.mean, s.geometric_mean]
                .map(|size| format!("{size:.4}"))
        });
        fields.extend(sizes.unwrap_or_default());
        fields
    }
}

impl fmt::Display for CoverTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.all.statistics().unit;
        let chars = |text: &str| text.chars().count();
        let wide = self.images.iter().map(|(name, _)| chars(name)).chain([ALL.len()]).max().unwrap_or_default();
        let names = self.listed.iter().map(|&id| chars(&self.classes.name(id))).max().unwrap_or_default().max(5);
        let median = format!("median {unit}");
        writeln!(
            f,
            "{:wide$}  {:names$}  {:>8} {:>5} {:>8} {median:>12}",
            "image", "class", "colonies", "cut", "cover"
        )?;
        for (image, statistics) in self.rows() {
            for (class, colonies) in self.classes_of(&statistics) {
                let (count, cut) = colonies.map_or((0, 0), |one| (one.count, one.touching_border));
                let cover = colonies.and_then(|one| one.cover_percent).unwrap_or(0.0);
                let median = colonies.and_then(|one| one.sizes.as_ref()).map(|sizes| format!("{:.1}", sizes.median));
                let (name, median) = (self.classes.name(class), median.unwrap_or_else(|| "-".into()));
                writeln!(f, "{image:wide$}  {name:names$}  {count:>8} {cut:>5} {cover:>6.2} % {median:>12}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coral_core::{InstanceMask, RleMask, Size};

    use super::*;

    #[test]
    fn images_without_colonies_have_their_lines() {
        let size = Size { width: 10, height: 4 };
        let colony = |from: u32, to: u32| {
            let mask = RleMask::from_fn(size, |x, y| (from..to).contains(&x) && (1..3).contains(&y));
            InstanceMask { class: Some(1), ..InstanceMask::new(mask) }
        };
        let image = |file_name: &str, masks| SamAnnotations { image_id: 0, file_name: file_name.into(), size, masks };
        let classes = ClassSet::from_names(["background", "coral"]).unwrap();
        let mut table = CoverTable::new(&classes, Some(0), Some(2.0)).unwrap();
        table.add(&image("a, b.png", vec![colony(0, 4), colony(3, 6)])).unwrap();
        table.add(&image("c.png", vec![])).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cover.csv");
        table.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let sizes = "24.0000,26.0000,28.0000,30.0000,32.0000,28.0000,27.7128";
        assert_eq!(
            lines[0],
            "image,class,name,colonies,cut,cover_percent,min_cm2,lower_quartile_cm2,median_cm2,\
             upper_quartile_cm2,max_cm2,mean_cm2,geometric_mean_cm2"
        );
        assert_eq!(lines[1], format!("\"a, b.png\",1,coral,2,1,30.0000,{sizes}"));
        assert_eq!(lines[2], "c.png,1,coral,0,0,0.0000,,,,,,,");
        assert_eq!(lines[3..], [format!("all images,1,coral,2,1,15.0000,{sizes}")]);
        let shown = table.to_string();
        assert!(shown.contains("c.png       coral         0     0   0.00 %            -\n"), "{shown}");
        assert!(CoverTable::new(&classes, None, Some(0.0)).is_err());
    }
}
