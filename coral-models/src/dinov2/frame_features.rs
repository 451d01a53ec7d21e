use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use candle_core::{Device, Tensor};
use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, ArrayView1};
use coral_core::{Error, Progress, Result};
use serde::{Deserialize, Serialize};

use super::encoder::DinoV2Encoder;
use crate::weights::{description, write_described};
use crate::{BatchPlan, Checkpoint, LoaderConfig, for_each_batch, tensor_to_rows};

/// What tells a photograph's file from others: when it changes, so does this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct FrameKey {
    /// The name without folders, so that a moved folder keeps its features.
    name: String,
    bytes: u64,
    /// Time of the last change, in nanoseconds since 1970.
    modified: u64,
}

impl FrameKey {
    fn of(path: &Path) -> Result<Self> {
        let about = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
        let modified = about.modified().map_err(|source| Error::io(path, source))?;
        let modified = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, bytes: about.len(), modified: u64::try_from(modified).unwrap_or(u64::MAX) })
    }
}

/// Features of photographs in a file, so that each goes through the encoder once.
///
/// A photograph is known by its file's name, size and time of change, the encoder by its
/// [`fingerprint`](DinoV2Encoder::fingerprint).
///
/// # Examples
/// ```no_run
/// use coral_core::{NoProgress, image::RgbImage};
/// use coral_models::{DinoV2Encoder, FrameFeatures};
/// # fn read_image(path: &std::path::Path) -> coral_core::Result<RgbImage> { Ok(RgbImage::new(1, 1)) }
/// let encoder = DinoV2Encoder::open("dinov2-large")?;
/// let mut cache = FrameFeatures::open_for("features.safetensors", &encoder)?;
/// let frames = ["a.jpg".into(), "b.jpg".into()];
/// cache.extend(&encoder, &frames, &read_image, &NoProgress)?; // the slow part, the first time
/// assert_eq!(cache.matrix(&frames)?.dim(), (2, 2048));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FrameFeatures {
    path: PathBuf,
    encoder: String,
    width: usize,
    rows: BTreeMap<FrameKey, Vec<f32>>,
    /// Rows that the file does not have yet.
    unsaved: usize,
}

/// The key of the description in the file's metadata.
const KEY: &str = "coral_frame_features";
/// The name of the tensor, N×width.
const TENSOR: &str = "features";

#[derive(Serialize, Deserialize)]
struct Header {
    encoder: String,
    /// Of the rows, in their order.
    frames: Vec<FrameKey>,
}

impl FrameFeatures {
    /// Reads a file that was written earlier.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when it cannot be read or holds something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let checkpoint = Checkpoint::open(path)?;
        let wrong = |reason: String| Error::format(path, None, reason);
        let Header { encoder, frames } = description(&checkpoint, (KEY, "expected features of photographs"))?;
        let features = tensor_to_rows(&checkpoint.tensor(TENSOR, &Device::Cpu)?)
            .map_err(|error| wrong(format!("tensor `{TENSOR}`: {error}")))?;
        let (count, width) = features.dim();
        if count != frames.len() {
            return Err(wrong(format!("{count} rows of features for {} photographs", frames.len())));
        }
        if features.iter().any(|value| !value.is_finite()) {
            return Err(wrong("holds features that are no finite numbers".to_owned()));
        }
        let rows = frames.into_iter().zip(features.rows().into_iter().map(|row| row.to_vec())).collect();
        Ok(Self { path: path.to_owned(), encoder, width, rows, unsaved: 0 })
    }

    /// Reads the file, or starts one for the features of `encoder` where there is none.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`Error::Format`] when it holds the features of another encoder.
    pub fn open_for(path: impl AsRef<Path>, encoder: &DinoV2Encoder) -> Result<Self> {
        let path = path.as_ref();
        let width = 2 * encoder.network().config().width;
        if !path.exists() {
            let encoder = encoder.fingerprint()?;
            return Ok(Self { path: path.to_owned(), encoder, width, rows: BTreeMap::new(), unsaved: 0 });
        }
        let features = Self::open(path)?;
        features.expect(encoder)?;
        Ok(features)
    }

    fn expect(&self, encoder: &DinoV2Encoder) -> Result<()> {
        let (theirs, width) = (encoder.fingerprint()?, 2 * encoder.network().config().width);
        if self.encoder == theirs && self.width == width {
            return Ok(());
        }
        let reason = format!(
            "holds {} features of encoder {}, expected {width} of encoder {theirs}: choose another file for it",
            self.width, self.encoder
        );
        Err(Error::format(&self.path, None, reason))
    }

    /// The fingerprint of the encoder.
    pub fn encoder(&self) -> &str {
        &self.encoder
    }

    /// How many photographs are known.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Encodes those of `frames` that are not known yet, and writes the file now and then and at the end. `read` decodes
    /// a photograph; it is called from several threads. What was encoded before an error is kept.
    ///
    /// # Errors
    /// Those of `read` and of the encoder, [`Error::Io`] when a file cannot be looked at or written, [`Error::Format`]
    /// when the features are those of another encoder, and [`Error::InvalidInput`] when a feature is not finite.
    pub fn extend(
        &mut self,
        encoder: &DinoV2Encoder,
        frames: &[PathBuf],
        read: &(dyn Fn(&Path) -> Result<RgbImage> + Sync),
        progress: &dyn Progress,
    ) -> Result<()> {
        self.expect(encoder)?;
        let mut missing = BTreeMap::new();
        for frame in frames {
            let key = FrameKey::of(frame)?;
            if !self.rows.contains_key(&key) {
                missing.insert(key, frame);
            }
        }
        let missing: Vec<_> = missing.into_iter().collect();
        let places: Vec<usize> = (0..missing.len()).collect();
        let batches = places.chunks(encoder.config().batch).map(<[_]>::to_vec).collect();
        progress.start(missing.len() as u64, "frames encoded");
        let encoded = for_each_batch(
            &BatchPlan { batches, seed: 0 },
            LoaderConfig::default(),
            &|place, _| {
                let path = missing[place].1;
                let resized = encoder.resized(&read(path)?).map_err(|error| about(path, error))?;
                Ok((place, resized))
            },
            |batch| {
                let (places, images): (Vec<usize>, Vec<RgbImage>) = batch.into_iter().unzip();
                let rows = encoder.linear_input_of_resized(&images)?;
                for (&place, row) in places.iter().zip(rows.rows()) {
                    self.insert(&missing[place], row)?;
                }
                progress.advance(places.len() as u64);
                self.save_now_and_then()
            },
        );
        // What is encoded is kept, whatever went wrong after it.
        let saved = if self.unsaved > 0 { self.save() } else { Ok(()) };
        progress.finish();
        encoded.and(saved)
    }

    fn insert(&mut self, (key, path): &(FrameKey, &PathBuf), row: ArrayView1<'_, f32>) -> Result<()> {
        if row.iter().any(|value| !value.is_finite()) {
            let reason = "the encoder gives features that are no finite numbers";
            return Err(Error::input(path.display().to_string(), reason));
        }
        self.rows.insert(key.clone(), row.to_vec());
        self.unsaved += 1;
        Ok(())
    }

    /// Writes the file when a good part of it is new, so that all writing together takes time in proportion to its length.
    fn save_now_and_then(&mut self) -> Result<()> {
        const LEAST: usize = 32;
        if self.unsaved < LEAST.max(self.rows.len() / 8) { Ok(()) } else { self.save() }
    }

    /// Writes the file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when its name does not end in `.safetensors`; [`Error::Io`] when it cannot be written.
    pub fn save(&mut self) -> Result<()> {
        let frames = self.rows.keys().cloned().collect();
        let header = Header { encoder: self.encoder.clone(), frames };
        let values: Vec<f32> = self.rows.values().flatten().copied().collect();
        let features = Tensor::from_vec(values, (self.rows.len(), self.width), &Device::Cpu).map_err(Error::model)?;
        let tensors = BTreeMap::from([(TENSOR.to_owned(), features)]);
        write_described(&self.path, &tensors, (KEY, &header))?;
        self.unsaved = 0;
        Ok(())
    }

    /// The features of `frames`, a row each.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first that is not known, or was changed since; [`Error::Io`] when a file
    /// cannot be looked at.
    pub fn matrix(&self, frames: &[PathBuf]) -> Result<Array2<f32>> {
        let mut matrix = Array2::zeros((frames.len(), self.width));
        for (frame, mut row) in frames.iter().zip(matrix.rows_mut()) {
            let Some(features) = self.rows.get(&FrameKey::of(frame)?) else {
                let reason = format!("no features of it in {}, or of another version of it", self.path.display());
                return Err(Error::input(frame.display().to_string(), reason));
            };
            row.assign(&ArrayView1::from(features));
        }
        Ok(matrix)
    }
}

/// An error about an image, with the image's file.
fn about(path: &Path, error: Error) -> Error {
    match error {
        Error::InvalidInput { reason, .. } => Error::input(path.display().to_string(), reason),
        other => other,
    }
}
