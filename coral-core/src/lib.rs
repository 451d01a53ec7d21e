#![doc = include_str!("../README.md")]

mod atomic;
mod class_level;
mod class_sentences;
mod class_set;
mod crs;
mod error;
mod grid;
mod in_memory;
mod instance;
mod most_probable;
mod overlaps;
mod progress;
mod random;
mod raster;
mod rle;
#[cfg(feature = "testing")]
pub mod testing;
mod traits;
mod types;

pub use atomic::{UnfinishedFile, write_atomically};
pub use class_sentences::ClassSentences;
pub use class_set::{Class, ClassSet, Remapping, default_color};
pub use crs::Crs;
pub use error::{Error, Result};
pub use grid::{CoarseMap, PatchGrid};
pub use instance::InstanceMask;
pub use most_probable::most_probable;
pub use overlaps::{InstanceMap, OverlapConfig, OverlapPolicy, resolve_overlaps};
pub use progress::{CountingProgress, NoProgress};
pub use random::SeededRng;
pub use raster::{GeoTransform, RasterGrid};
pub use rle::{ColumnRun, RleMask};
pub use traits::{
    CellLabeler, Dataset, FeatureExtractor, GridClassifier, ImageEncoder, ImageRaster, LabelRaster, LabelSink, Metric,
    MultiLabelClassifier, PatchClassifier, PointPropagator, Progress, PromptableSegmenter, PseudoLabeler, Segmenter,
    TextEncoder, TrainGridClassifier, TrainPatchClassifier, TrainSegmenter,
};
pub use types::{
    AnnotatedImage, BoxPrompt, ClassId, EpochReport, FeatureMap, ImageWindow, LabelMap, LabeledImage, LabeledPatch,
    LabeledPhotograph, PointLabel, PointPrompt, ProbMap, Prompt, PseudoLabel, Rect, ScoredMask, Size, UNLABELED,
    validate_points,
};

pub use image;
pub use ndarray;
