use coral_core::Result;

use crate::Checkpoint;

/// A weight that every SegFormer has.
pub(super) const FIRST: &str = "segformer.encoder.patch_embeddings.0.proj.weight";
/// How the names of the encoder's weights begin.
pub(super) const ENCODER: &str = "segformer.encoder.";
/// How those of the head begin.
pub(super) const HEAD: &str = "decode_head.";
/// How those of its last layer begin.
pub(super) const CLASSIFIER: &str = "decode_head.classifier.";
/// What files of encoders that were trained on ImageNet hold beside.
pub(super) const IMAGENET_CLASSIFIER: &str = "classifier.";

impl Checkpoint {
    /// Gives an encoder that was saved without a model around it (`encoder.block.0.…`) the names that it has in one
    /// (`segformer.encoder.block.0.…`). Other checkpoints stay as they are.
    ///
    /// # Errors
    /// [`coral_core::Error::Format`] when two tensors would get the same name.
    pub fn with_segformer_names(self) -> Result<Self> {
        if self.contains(FIRST) || !self.contains(&FIRST["segformer.".len()..]) {
            return Ok(self);
        }
        self.rename(|name| {
            let inner = name.strip_prefix("encoder.");
            Some(inner.map_or_else(|| name.to_owned(), |inner| format!("{ENCODER}{inner}")))
        })
    }
}
