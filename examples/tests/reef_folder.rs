use std::fs;
use std::path::Path;

use coral_core::{AnnotatedImage, Dataset, LabelMap};
use coral_examples::colony_survey::SyntheticSurvey;
use coral_io::{SyntheticReef, write_class_set, write_image, write_label_map};

/// How many photographs there are.
pub(super) const PHOTOGRAPHS: usize = 5;

/// Photographs with label maps of species in the layout of folders, and a table of the classes.
pub(super) fn write_reefs(folder: &Path) {
    let survey = SyntheticSurvey::new(5, PHOTOGRAPHS).unwrap();
    ["images", "labels"].iter().for_each(|name| fs::create_dir_all(folder.join(name)).unwrap());
    for index in 0..PHOTOGRAPHS {
        let AnnotatedImage { image, masks } = survey.train.get(index).unwrap();
        write_image(folder.join(format!("images/reef_{index}.png")), &image).unwrap();
        let mut labels = LabelMap::zeros((64, 64));
        for one in &masks {
            labels.zip_mut_with(&one.mask.decode(), |to, inside| *to = if *inside { one.class.unwrap() } else { *to });
        }
        write_label_map(folder.join(format!("labels/reef_{index}.png")), &labels).unwrap();
    }
    write_class_set(folder.join("classes.csv"), &SyntheticReef::taxa()).unwrap();
}
