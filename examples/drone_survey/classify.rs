use std::path::{Path, PathBuf};

use coral_core::ndarray::Array2;
use coral_core::{ClassSet, Error, LabelMap, LabelSink, MultiLabelClassifier, Progress, Result, Size};
use coral_models::FrameClassifier;

use super::RowsFile;

/// Frames that are classified at a time.
const BATCH: usize = 8;

/// Class probabilities of all frames of a folder by DinoVdeau's classifier, written as a table. After a kill it goes on with
/// the frames that are missing.
pub(super) fn classify_frames(
    frames: &Path,
    model: &Path,
    out: (&Path, &str),
    progress: &dyn Progress,
) -> Result<String> {
    let classifier = FrameClassifier::open_dinovdeau(model)?;
    let classes = ClassSet::from_names(classifier.head().info().class_names.iter().cloned())?;
    let files: Vec<_> = coral_io::image_files(frames)?.into_values().collect();
    write_predictions(&files, (&classifier, &classes), out, progress)?;
    Ok(format!("{} frames classified", files.len()))
}

fn write_predictions(
    files: &[PathBuf],
    (classifier, classes): (&dyn MultiLabelClassifier, &ClassSet),
    (out, key): (&Path, &str),
    progress: &dyn Progress,
) -> Result<()> {
    // A frame's probabilities as a row of bytes, which are found again like the rows of a map.
    let large = |_| Error::input("frames", format!("{} are too many", files.len()));
    let size = Size { width: 4 * classes.len() as u32, height: u32::try_from(files.len()).map_err(large)? };
    let mut rows = RowsFile::open(out, key, size)?;
    progress.start(files.len() as u64, "frames");
    progress.advance(rows.rows_written().into());
    for batch in files[rows.rows_written() as usize..].chunks(BATCH) {
        let images = batch.iter().map(coral_io::read_image).collect::<Result<Vec<_>>>()?;
        let probabilities = classifier.probabilities(&images)?;
        if probabilities.dim() != (batch.len(), classes.len()) {
            let expected = format!("{}x{}", batch.len(), classes.len());
            return Err(Error::shape("the classifier's probabilities", expected, format!("{:?}", probabilities.dim())));
        }
        let bytes: Vec<u8> = probabilities.iter().flat_map(|probability| probability.to_le_bytes()).collect();
        let shape = (batch.len(), size.width as usize);
        rows.write_rows(&LabelMap::from_shape_vec(shape, bytes).map_err(Error::model)?)?;
        progress.advance(batch.len() as u64);
    }
    progress.finish();
    let mut bytes = LabelMap::default((0, 0));
    rows.copy_to(&mut bytes)?;
    let number = |(row, class): (usize, usize)| f32::from_le_bytes([0, 1, 2, 3].map(|at| bytes[[row, 4 * class + at]]));
    let probabilities = Array2::from_shape_fn((files.len(), classes.len()), number);
    let name = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let names: Vec<String> = files.iter().map(name).collect();
    coral_io::geo::write_probabilities(out, &names, classes, &probabilities)?;
    rows.remove()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::NoProgress;
    use coral_core::image::RgbImage;
    use coral_io::{MultiLabelConfig, read_multi_labels, write_image};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Tells red and green, and fails after so many frames.
    struct Colors(AtomicUsize);

    impl MultiLabelClassifier for Colors {
        fn num_classes(&self) -> usize {
            2
        }

        fn probabilities(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
            if self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(images.len())).is_err() {
                return Err(Error::input("power", "went off"));
            }
            let level = |(row, class): (usize, usize)| f32::from(images[row].get_pixel(0, 0).0[class]) / 255.0;
            Ok(Array2::from_shape_fn((images.len(), 2), level))
        }
    }

    #[test]
    fn an_interrupted_classification_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = |i: usize| folder.path().join(format!("frame_{i:02}.png"));
        let files: Vec<PathBuf> = (0..20).map(file).collect();
        for (i, file) in files.iter().enumerate() {
            let image = RgbImage::from_pixel(2, 2, coral_core::image::Rgb([i as u8 * 10, 255 - i as u8, 0]));
            write_image(file, &image).unwrap();
        }
        let (out, classes) = (folder.path().join("frames.csv"), ClassSet::from_names(["red", "green"]).unwrap());
        let run = |frames| {
            let classifier = Colors(AtomicUsize::new(frames));
            write_predictions(&files, (&classifier, &classes), (&out, "key"), &NoProgress)
        };
        assert!(run(16).unwrap_err().to_string().contains("went off"));
        assert!(!out.exists());
        // Four frames are left.
        run(4).unwrap();
        let table = read_multi_labels(&out, &MultiLabelConfig::default()).unwrap();
        assert_eq!((table.files.len(), table.files[19].as_str()), (20, "frame_19.png"));
        assert!((table.targets[[19, 0]] - 190.0 / 255.0).abs() < 1e-6 && table.targets[[0, 1]] == 1.0);
        assert!(
            std::fs::read_dir(folder.path())
                .unwrap()
                .flatten()
                .all(|file| file.path().extension().is_some_and(|end| end != "rows"))
        );
    }
}
