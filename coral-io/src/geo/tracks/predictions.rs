use std::collections::HashMap;
use std::path::Path;

use coral_core::{ClassSet, Crs, Error, Result, write_atomically};
use ndarray::{Array2, Axis};

use super::FrameTrack;
use crate::MultiLabelTable;
use crate::geo::raster::Projection;
use crate::points::file_name;

/// Photographs with their positions and class probabilities, and those that lack one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct FramePredictions {
    /// The photographs' files as the track names them, N, in its order.
    pub files: Vec<String>,
    /// N×2 longitudes and latitudes in degrees.
    pub positions: Array2<f64>,
    /// N×C probabilities; column `j` is the `j`-th class by ascending id.
    pub probabilities: Array2<f32>,
    /// The classes.
    pub classes: ClassSet,
    /// Photographs of the track of which there is no prediction, or several.
    pub without_prediction: Vec<String>,
    /// Photographs of the predictions that the track does not hold.
    pub without_position: Vec<String>,
}

impl FramePredictions {
    /// The N×2 positions in another system.
    ///
    /// # Errors
    /// Those of [`FrameTrack::positions_in`].
    pub fn positions_in(&self, crs: Crs) -> Result<Array2<f64>> {
        Projection::new(Crs::WGS84, crs)?.transform_all(self.positions.view())
    }
}

impl FrameTrack {
    /// Joins the positions with predictions, which [`read_multi_labels`](crate::read_multi_labels) reads from a table of
    /// file names and a probability per class.
    ///
    /// Names are compared as they are and, where that finds none, without folders and case, as long as one photograph alone
    /// has such a name on either side.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when no photograph is in both.
    ///
    /// # Examples
    /// ```
    /// use coral_core::ndarray::array;
    /// use coral_io::geo::{FrameTrack, read_frame_table};
    /// use coral_io::{MultiLabelConfig, read_multi_labels};
    /// let folder = tempfile::tempdir().unwrap();
    /// let at = |name: &str| folder.path().join(name);
    /// std::fs::write(at("metadata.csv"), "FileName,lat,lon\na.jpg,-21,55\nb.jpg,-21,56\n").unwrap();
    /// std::fs::write(at("scores.csv"), "FileName,coral,sand\nframes/B.JPG,0.25,1\nc.jpg,0,1\n").unwrap();
    /// let scores = read_multi_labels(at("scores.csv"), &MultiLabelConfig::default())?;
    /// let joined = FrameTrack::new(read_frame_table(at("metadata.csv"))?)?.join(&scores)?;
    /// assert_eq!((joined.positions, joined.probabilities), (array![[56.0, -21.0]], array![[0.25, 1.0]]));
    /// assert_eq!((joined.without_prediction, joined.without_position), (vec!["a.jpg".into()], vec!["c.jpg".into()]));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn join(&self, predictions: &MultiLabelTable) -> Result<FramePredictions> {
        let exact: HashMap<&str, usize> =
            predictions.files.iter().enumerate().map(|(at, file)| (file.as_str(), at)).collect();
        let loose = loose_names(predictions.files.iter());
        let own = loose_names(self.frames.iter().map(|frame| &frame.file));
        let mut taken = vec![false; predictions.files.len()];
        let (mut rows, mut found, mut without_prediction) = (Vec::new(), Vec::new(), Vec::new());
        for (row, frame) in self.frames.iter().enumerate() {
            let name = loose_name(&frame.file);
            let alone = own.get(&name).is_some_and(Option::is_some);
            let by_loose = || loose.get(&name).copied().flatten().filter(|_| alone);
            match exact.get(frame.file.as_str()).copied().or_else(by_loose) {
                Some(at) => {
                    taken[at] = true;
                    rows.push(row);
                    found.push(at);
                }
                None => without_prediction.push(frame.file.clone()),
            }
        }
        let lost = predictions.files.iter().zip(taken).filter(|(_, taken)| !taken);
        let without_position: Vec<_> = lost.map(|(file, _)| file.clone()).collect();
        if rows.is_empty() {
            let first = |names: &[String]| names.first().cloned().unwrap_or_default();
            let (ours, theirs) = (first(&without_prediction), first(&without_position));
            let reason = format!("no photograph of the track is in the table: names are like `{ours}` and `{theirs}`");
            return Err(Error::input("predictions", reason));
        }
        Ok(FramePredictions {
            files: rows.iter().map(|&row| self.frames[row].file.clone()).collect(),
            positions: self.positions().select(Axis(0), &rows),
            probabilities: predictions.targets.select(Axis(0), &found),
            classes: predictions.classes.clone(),
            without_prediction,
            without_position,
        })
    }
}

/// Where each name without folders and case stands; none where it stands several times.
fn loose_names<'a>(names: impl Iterator<Item = &'a String>) -> HashMap<String, Option<usize>> {
    let mut found = HashMap::new();
    for (at, name) in names.enumerate() {
        found.entry(loose_name(name)).and_modify(|at| *at = None).or_insert(Some(at));
    }
    found
}

fn loose_name(name: &str) -> String {
    file_name(name).to_lowercase()
}

/// Writes class probabilities of photographs as CSV: `FileName` and a column per class by ascending id, as
/// [`read_multi_labels`](crate::read_multi_labels) reads it. The file appears whole or not at all.
///
/// # Errors
/// [`Error::ShapeMismatch`] when there is not a row for each file and a column for each class,
/// [`Error::Io`] when the file cannot be written.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, ndarray::array};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("scores.csv");
/// let classes = ClassSet::from_names(["coral", "sand"])?;
/// coral_io::geo::write_probabilities(&path, &["a.jpg".into()], &classes, &array![[0.25, 1.0]])?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "FileName,coral,sand\na.jpg,0.25,1\n");
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_probabilities(
    path: impl AsRef<Path>,
    files: &[String],
    classes: &ClassSet,
    probabilities: &Array2<f32>,
) -> Result<()> {
    let text = |(rows, columns): (usize, usize)| format!("{rows}x{columns}");
    let expected = (files.len(), classes.len());
    if probabilities.dim() != expected {
        return Err(Error::shape("probabilities", text(expected), text(probabilities.dim())));
    }
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(std::iter::once("FileName").chain(classes.iter().map(|class| class.name.as_str())))?;
        for (file, row) in files.iter().zip(probabilities.rows()) {
            csv.write_record(std::iter::once(file.clone()).chain(row.iter().map(f32::to_string)))?;
        }
        csv.flush()
    })
}
