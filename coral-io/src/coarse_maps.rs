use std::path::Path;

use coral_core::{ClassId, ClassSet, CoarseMap, Result, write_atomically};

/// Writes a coarse map as CSV: a line per patch with its row and column, its box in pixels, the most probable class, its
/// name and probability, and the probability of every class in a column `p_NAME`.
///
/// The file appears whole or not at all. The cover of the classes comes from [`write_cover`](crate::write_cover) and
/// [`CoarseMap::label_map`].
///
/// # Errors
/// [`Error::Io`](coral_core::Error::Io) when the file cannot be written.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, CoarseMap, PatchGrid, Size, ndarray::arr3};
/// use coral_io::{write_coarse_map, write_cover};
/// let size = Size { width: 6, height: 2 };
/// let patches = PatchGrid::Split { rows: 1, columns: 2 }.patches(size)?;
/// let map = CoarseMap::new(arr3(&[[[0.9, 0.25]], [[0.1, 0.75]]]), patches, size)?;
/// let classes = ClassSet::from_names(["sand", "seagrass"])?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("coarse.csv");
/// write_coarse_map(&path, &map, &classes)?;
/// let lines = "row,column,x,y,width,height,class,name,confidence,p_sand,p_seagrass\n\
///              0,0,0,0,3,2,0,sand,0.9,0.9,0.1\n\
///              0,1,3,0,3,2,1,seagrass,0.75,0.25,0.75\n";
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), lines);
/// write_cover(folder.path().join("cover.csv"), &map.label_map(&map.classes())?, &classes)?;
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_coarse_map(path: impl AsRef<Path>, map: &CoarseMap, classes: &ClassSet) -> Result<()> {
    let (count, _, columns) = map.probabilities.dim();
    let (best, confidence) = (map.classes(), map.confidence());
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        for name in ["row", "column", "x", "y", "width", "height", "class", "name", "confidence"] {
            csv.write_field(name)?;
        }
        let names = (0..count).map(|class| format!("p_{}", classes.name(class as ClassId)));
        csv.write_record(names)?;
        for (cell, patch) in map.patches.iter().enumerate() {
            let at = [cell / columns, cell % columns];
            let numbers = [at[0] as u32, at[1] as u32, patch.x, patch.y, patch.width, patch.height];
            for number in numbers.into_iter().chain([u32::from(best[at])]) {
                csv.write_field(number.to_string())?;
            }
            csv.write_field(classes.name(best[at]))?;
            csv.write_field(confidence[at].to_string())?;
            csv.write_record((0..count).map(|class| map.probabilities[[class, at[0], at[1]]].to_string()))?;
        }
        csv.flush()
    })
}
