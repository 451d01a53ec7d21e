//! Every public trait of the coral crates.
//!
//! Inference takes `&self`; every trait is `Send + Sync` and object-safe. References and boxes of an
//! implementation implement it too, but for [`Metric`] and training, which need `&mut self`. Pre-processing belongs to the
//! implementation: images come as they are, results are in the image's pixels.

use image::RgbImage;
use ndarray::{Array2, Array3};

use crate::{
    ClassId, EpochReport, FeatureMap, ImageWindow, LabelMap, LabeledImage, LabeledPatch, LabeledPhotograph, PointLabel,
    ProbMap, Prompt, PseudoLabel, Rect, Result, ScoredMask, Size,
};

/// A list of samples that are loaded one at a time.
pub trait Dataset: Send + Sync {
    /// What one sample is.
    type Item;

    /// How many samples there are.
    fn len(&self) -> usize;

    /// Loads sample `index`; the same index always gives the same sample.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`](crate::Error::IndexOutOfRange) past the end; the reader's error when a file is bad.
    fn get(&self, index: usize) -> Result<Self::Item>;

    /// A name for sample `index`, unique in the dataset and fit for a file name.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`](crate::Error::IndexOutOfRange) past the end.
    fn name(&self, index: usize) -> Result<String>;

    /// Whether there is no sample at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Dense features of an image.
pub trait FeatureExtractor: Send + Sync {
    /// Values per grid cell, D.
    fn dim(&self) -> usize;

    /// Computes the D×h×w features of `image`.
    ///
    /// # Errors
    /// When the image is too small for the extractor, or the model fails.
    fn extract(&self, image: &RgbImage) -> Result<FeatureMap>;
}

/// Images to embeddings.
pub trait ImageEncoder: Send + Sync {
    /// Embeds N images as N×D unit rows.
    ///
    /// # Errors
    /// When the model fails.
    fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>>;
}

/// Texts to embeddings.
pub trait TextEncoder: Send + Sync {
    /// Embeds N texts as N×D unit rows.
    ///
    /// # Errors
    /// When a text cannot be tokenised or the model fails.
    fn encode_texts(&self, texts: &[&str]) -> Result<Array2<f32>>;
}

/// Patches to class probabilities.
pub trait PatchClassifier: Send + Sync {
    /// How many classes there are, C.
    fn num_classes(&self) -> usize;

    /// Classifies N patches: N×C probabilities, rows sum to 1.
    ///
    /// # Errors
    /// When the model fails.
    fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>>;
}

/// Images to the probabilities of classes of which each image may show several, or none.
pub trait MultiLabelClassifier: Send + Sync {
    /// How many classes there are, C.
    fn num_classes(&self) -> usize;

    /// The probability that each class is present in each of N images, N×C; rows need not sum to 1.
    ///
    /// # Errors
    /// When an image cannot be used, or the model fails.
    fn probabilities(&self, images: &[RgbImage]) -> Result<Array2<f32>>;
}

/// Whole photographs to class probabilities on the grid of [`FeatureExtractor::extract`].
pub trait GridClassifier: FeatureExtractor {
    /// How many classes there are, C.
    fn num_classes(&self) -> usize;

    /// C×h×w probabilities, those of a cell sum to 1; h×w is the grid of the features.
    ///
    /// # Errors
    /// When the image is too small for one cell, or the model fails.
    fn classify_grid(&self, image: &RgbImage) -> Result<Array3<f32>>;
}

/// Labels the cells of a photograph from their features and the photograph's one label.
pub trait CellLabeler: Send + Sync {
    /// An h×w class for D×h×w `features`; [`UNLABELED`](crate::UNLABELED) leaves a cell out.
    ///
    /// # Errors
    /// When the features or the class do not fit the labeller.
    fn label_cells(&self, features: &FeatureMap, class: ClassId) -> Result<LabelMap>;
}

/// Labels patches without a person, and may abstain.
pub trait PseudoLabeler: Send + Sync {
    /// One label per patch, `None` where the labeller abstains.
    ///
    /// # Errors
    /// When the underlying model fails.
    fn label(&self, patches: &[RgbImage]) -> Result<Vec<Option<PseudoLabel>>>;
}

/// Spreads a few labelled points over the whole image.
///
/// Labelled pixels keep their class, only classes among the points occur, the order of the points does not
/// matter and equal input gives equal output: `testing::check_point_propagator` (feature `testing`) checks it.
pub trait PointPropagator: Send + Sync {
    /// The dense H×W label map of `image`.
    ///
    /// # Errors
    /// The errors of [`validate_points`](crate::validate_points).
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap>;
}

/// Images to class probabilities per pixel.
pub trait Segmenter: Send + Sync {
    /// How many classes there are, C.
    fn num_classes(&self) -> usize;

    /// C×H×W probabilities for an H×W image.
    ///
    /// # Errors
    /// When the model fails.
    fn segment(&self, image: &RgbImage) -> Result<ProbMap>;
}

/// Masks on request: points, boxes, masks in; masks out.
pub trait PromptableSegmenter: Send + Sync {
    /// An image after the expensive part of the network; serves any number of prompts.
    type Embedding;

    /// Runs the image encoder.
    ///
    /// # Errors
    /// When the model fails.
    fn embed(&self, image: &RgbImage) -> Result<Self::Embedding>;

    /// Masks for one prompt, best first.
    ///
    /// # Errors
    /// When the prompt is empty or lies outside the image, or the model fails.
    fn predict(&self, embedding: &Self::Embedding, prompt: &Prompt) -> Result<Vec<ScoredMask>>;
}

/// A picture that may be larger than memory, read by windows: an orthophoto on disk, or an image.
pub trait ImageRaster: Send + Sync {
    /// Pixels of the whole raster.
    fn size(&self) -> Size;

    /// The pixels of `window`, and which of them hold data.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) for a window without pixels or beyond the raster; the reader's
    /// error when the file is bad.
    fn read_image(&self, window: Rect) -> Result<ImageWindow>;
}

/// A label map that may be larger than memory, read by windows.
pub trait LabelRaster: Send + Sync {
    /// Pixels of the whole raster.
    fn size(&self) -> Size;

    /// The classes of `window`; [`UNLABELED`](crate::UNLABELED) where there is no data.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) for a window without pixels or beyond the raster; the reader's
    /// error when the file is bad.
    fn read_labels(&self, window: Rect) -> Result<LabelMap>;
}

/// Takes a label map that may be larger than memory, from the top row to the bottom row.
pub trait LabelSink {
    /// How many rows it holds already: a job that was interrupted goes on with the next.
    fn rows_written(&self) -> u32;

    /// Takes the next rows: n×W for any n.
    ///
    /// # Errors
    /// When the rows have another width than the map or are too many, or cannot be stored.
    fn write_rows(&mut self, rows: &LabelMap) -> Result<()>;
}

/// A measure that accumulates over many images.
///
/// Merging two accumulators equals updating one with both inputs:
/// `testing::check_metric` (feature `testing`) checks it.
pub trait Metric: Send + Sync {
    /// What is scored, e.g. a label map.
    type Prediction: ?Sized;
    /// What it is scored against.
    type Target: ?Sized;
    /// The result.
    type Output;

    /// Adds one prediction and its target. On an error nothing was added.
    ///
    /// # Errors
    /// When shapes differ or a class is outside the metric's range.
    fn update(&mut self, prediction: &Self::Prediction, target: &Self::Target) -> Result<()>;

    /// Adds everything that `other` has seen.
    ///
    /// # Errors
    /// When `other` was built with other settings.
    fn merge(&mut self, other: &Self) -> Result<()>
    where
        Self: Sized;

    /// The measure of everything seen so far.
    fn compute(&self) -> Self::Output;

    /// Forgets everything seen so far.
    fn reset(&mut self);
}

/// A patch classifier that can be trained.
pub trait TrainPatchClassifier: PatchClassifier {
    /// One pass over `patches`, in an order drawn from `seed`.
    ///
    /// # Errors
    /// When a patch cannot be loaded, or a trainable variable gets no gradient.
    fn fit_epoch(&mut self, patches: &dyn Dataset<Item = LabeledPatch>, seed: u64) -> Result<EpochReport>;
}

/// A grid classifier that can be trained.
pub trait TrainGridClassifier: GridClassifier {
    /// One pass over `photographs`, in an order drawn from `seed`, on `labels`: the classes of the h×w cells of each
    /// photograph, in the grid that [`FeatureExtractor::extract`] gives for it. Cells that are
    /// [`UNLABELED`](crate::UNLABELED) do not count for the loss; the photographs' own classes are not looked at.
    ///
    /// # Errors
    /// When there is not one map for each photograph, one has another grid or a class past the last, a photograph cannot
    /// be loaded, or a trainable variable gets no gradient.
    fn fit_epoch(
        &mut self,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        labels: &[LabelMap],
        seed: u64,
    ) -> Result<EpochReport>;
}

/// A segmenter that can be trained.
pub trait TrainSegmenter: Segmenter {
    /// One pass over `images`, in an order drawn from `seed`.
    ///
    /// # Errors
    /// When an image cannot be loaded, or a trainable variable gets no gradient.
    fn fit_epoch(&mut self, images: &dyn Dataset<Item = LabeledImage>, seed: u64) -> Result<EpochReport>;
}

/// Where a long job reports how far it is. Libraries never print; an application
/// implements this with a progress bar, a log line or nothing ([`NoProgress`](crate::NoProgress)).
///
/// # Examples
/// ```
/// use coral_core::{CountingProgress, Progress};
/// fn long_job(progress: &dyn Progress) {
///     progress.start(3, "frames");
///     (0..3).for_each(|_| progress.advance(1));
///     progress.finish();
/// }
/// let counter = CountingProgress::default();
/// long_job(&counter);
/// assert_eq!(counter.done(), 3);
/// ```
pub trait Progress: Send + Sync {
    /// A stage of `total` steps begins; `stage` says what a step is.
    fn start(&self, total: u64, stage: &str);

    /// `steps` more are done. May be called from several threads.
    fn advance(&self, steps: u64);

    /// The stage is over.
    fn finish(&self);
}

/// Implements traits with `&self` methods for `&T` and `Box<T>`.
macro_rules! forward {
    ($($trait:ident $({ type $assoc:ident; })? {
        $(fn $method:ident(&self $(, $arg:ident: $ty:ty)*) -> $out:ty;)*
    })*) => {$(
        forward!(@one &T, $trait $($assoc)? { $(fn $method($($arg: $ty),*) -> $out;)* });
        forward!(@one Box<T>, $trait $($assoc)? { $(fn $method($($arg: $ty),*) -> $out;)* });
    )*};
    (@one $wrapper:ty, $trait:ident $($assoc:ident)? { $(fn $method:ident($($arg:ident: $ty:ty),*) -> $out:ty;)* }) => {
        impl<T: $trait + ?Sized> $trait for $wrapper {
            $(type $assoc = T::$assoc;)?
            $(fn $method(&self $(, $arg: $ty)*) -> $out { (**self).$method($($arg),*) })*
        }
    };
}

forward! {
    Progress {
        fn start(&self, total: u64, stage: &str) -> ();
        fn advance(&self, steps: u64) -> ();
        fn finish(&self) -> ();
    }
    Dataset { type Item; } {
        fn len(&self) -> usize;
        fn get(&self, index: usize) -> Result<T::Item>;
        fn name(&self, index: usize) -> Result<String>;
        fn is_empty(&self) -> bool;
    }
    ImageRaster {
        fn size(&self) -> Size;
        fn read_image(&self, window: Rect) -> Result<ImageWindow>;
    }
    LabelRaster {
        fn size(&self) -> Size;
        fn read_labels(&self, window: Rect) -> Result<LabelMap>;
    }
    FeatureExtractor {
        fn dim(&self) -> usize;
        fn extract(&self, image: &RgbImage) -> Result<FeatureMap>;
    }
    ImageEncoder { fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>>; }
    TextEncoder { fn encode_texts(&self, texts: &[&str]) -> Result<Array2<f32>>; }
    PatchClassifier {
        fn num_classes(&self) -> usize;
        fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>>;
    }
    MultiLabelClassifier {
        fn num_classes(&self) -> usize;
        fn probabilities(&self, images: &[RgbImage]) -> Result<Array2<f32>>;
    }
    GridClassifier {
        fn num_classes(&self) -> usize;
        fn classify_grid(&self, image: &RgbImage) -> Result<Array3<f32>>;
    }
    CellLabeler { fn label_cells(&self, features: &FeatureMap, class: ClassId) -> Result<LabelMap>; }
    PseudoLabeler { fn label(&self, patches: &[RgbImage]) -> Result<Vec<Option<PseudoLabel>>>; }
    PointPropagator { fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap>; }
    Segmenter {
        fn num_classes(&self) -> usize;
        fn segment(&self, image: &RgbImage) -> Result<ProbMap>;
    }
    PromptableSegmenter { type Embedding; } {
        fn embed(&self, image: &RgbImage) -> Result<T::Embedding>;
        fn predict(&self, embedding: &T::Embedding, prompt: &Prompt) -> Result<Vec<ScoredMask>>;
    }
}
