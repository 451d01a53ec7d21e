use std::path::Path;

use coral_core::{ClassSet, PointLabel, Result, write_atomically};

/// Writes point labels as CSV with columns `x`, `y` and `class` (the class's name), whole or not at all.
///
/// # Errors
/// [`Error::Io`](coral_core::Error::Io) when the file cannot be written.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, PointLabel, Size};
/// use coral_io::{read_points, write_points};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("points.csv");
/// let classes = ClassSet::from_names(["sand", "coral, branching"])?;
/// let points = [PointLabel { x: 3, y: 0, class: 1 }];
/// write_points(&path, &points, &classes)?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "x,y,class\n3,0,\"coral, branching\"\n");
/// assert_eq!(read_points(&path, Size { width: 4, height: 1 }, None)?.to_labels(&classes)?, points);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_points(path: impl AsRef<Path>, points: &[PointLabel], classes: &ClassSet) -> Result<()> {
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(["x", "y", "class"])?;
        for point in points {
            csv.write_record([point.x.to_string(), point.y.to_string(), classes.name(point.class)])?;
        }
        csv.flush()
    })
}
