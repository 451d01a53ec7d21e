use std::path::Path;

use coral_core::{ClassId, ClassSet, LabelMap, Result, UNLABELED, write_atomically};

/// How many pixels each id of a label map has, indexed by id.
pub(crate) fn count_pixels(labels: &LabelMap) -> [u64; 256] {
    let mut counts = [0; 256];
    labels.iter().for_each(|&id| counts[usize::from(id)] += 1);
    counts
}

/// Writes the cover of a label map as CSV: `class`, `name`, `pixels` and `percent` of the labelled pixels.
///
/// Every class of the set has a line, absent ones with 0; so has every other id in the map. Pixels
/// without a label, if any, come last, without a percentage. The file appears whole or not at all.
///
/// # Errors
/// [`Error::Io`](coral_core::Error::Io) when the file cannot be written.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, ndarray::array};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("cover.csv");
/// let classes = ClassSet::from_names(["sand", "coral", "rubble"])?;
/// coral_io::write_cover(&path, &array![[0, 0, 1], [0, 255, 255]], &classes)?;
/// let lines = "class,name,pixels,percent\n0,sand,3,75.0000\n1,coral,1,25.0000\n2,rubble,0,0.0000\n255,unlabelled,2,\n";
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), lines);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_cover(path: impl AsRef<Path>, labels: &LabelMap, classes: &ClassSet) -> Result<()> {
    let counts = count_pixels(labels);
    let labeled: u64 = counts[..usize::from(UNLABELED)].iter().sum();
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(["class", "name", "pixels", "percent"])?;
        for id in 0..=ClassId::MAX {
            let pixels = counts[usize::from(id)];
            if pixels == 0 && classes.get(id).is_none() {
                continue;
            }
            let percent = match id {
                UNLABELED => String::new(),
                _ if labeled == 0 => String::new(),
                _ => format!("{:.4}", 100.0 * pixels as f64 / labeled as f64),
            };
            csv.write_record([id.to_string(), classes.name(id), pixels.to_string(), percent])?;
        }
        csv.flush()
    })
}
