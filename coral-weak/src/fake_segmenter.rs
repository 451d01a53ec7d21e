//! The promptable segmenter of the tests.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use coral_core::image::RgbImage;
use coral_core::{Prompt, PromptableSegmenter, Result, ScoredMask, Size};
use ndarray::Array2;

/// Answers with what a function of the image's size and the prompt says, and remembers what it was asked.
pub(crate) struct FakeSegmenter<F> {
    answer: F,
    asked: Mutex<Vec<Prompt>>,
    embedded: AtomicUsize,
}

impl<F: Fn(Size, &Prompt) -> Vec<ScoredMask> + Send + Sync> FakeSegmenter<F> {
    pub(crate) fn new(answer: F) -> Self {
        Self { answer, asked: Mutex::default(), embedded: AtomicUsize::new(0) }
    }

    /// All prompts so far.
    pub(crate) fn asked(&self) -> Vec<Prompt> {
        self.asked.lock().unwrap().clone()
    }

    /// How many images were embedded.
    pub(crate) fn embedded(&self) -> usize {
        self.embedded.load(Ordering::Relaxed)
    }
}

impl<F: Fn(Size, &Prompt) -> Vec<ScoredMask> + Send + Sync> PromptableSegmenter for FakeSegmenter<F> {
    type Embedding = Size;

    fn embed(&self, image: &RgbImage) -> Result<Size> {
        self.embedded.fetch_add(1, Ordering::Relaxed);
        Ok(Size::of(image))
    }

    fn predict(&self, size: &Size, prompt: &Prompt) -> Result<Vec<ScoredMask>> {
        self.asked.lock().unwrap().push(prompt.clone());
        Ok((self.answer)(*size, prompt))
    }
}

/// A mask without logits.
pub(crate) fn scored(mask: Array2<bool>, predicted_iou: f32) -> ScoredMask {
    ScoredMask { mask, predicted_iou, class: None, mask_logits: Array2::zeros((0, 0)), features: Vec::new() }
}

/// All pixels of some columns.
pub(crate) fn columns(size: Size, columns: Range<usize>) -> Array2<bool> {
    Array2::from_shape_fn(size.shape(), |(_, x)| columns.contains(&x))
}
