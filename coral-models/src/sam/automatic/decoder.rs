use coral_core::Result;
use coral_core::image::RgbImage;
use ndarray::{Array2, Array3, ArrayView2};

/// What the generator asks of a promptable network. Pixels before scores would waste most of the work: the generator
/// first looks at the scores of all masks and then asks for the pixels of the promising ones.
pub(crate) trait PointDecoder: Sync {
    /// An image after the image encoder.
    type Embedding: Sync;
    /// The masks of a batch of points before their pixels are computed.
    type Decoded;

    /// Runs the image encoder on an image or a crop of one.
    fn embed(&self, image: &RgbImage) -> Result<Self::Embedding>;

    /// Decodes each point, an (x, y) in pixels of the embedded image, as a prompt of its own: M masks per point,
    /// three with `multimask` and else one, those of the first point first.
    fn decode_points(
        &self,
        embedding: &Self::Embedding,
        points: &[[f32; 2]],
        multimask: bool,
    ) -> Result<(Self::Decoded, MaskScores)>;

    /// The low-resolution logits of the masks at these positions, which rise: N×h×w.
    fn masks(&self, decoded: &Self::Decoded, positions: &[usize]) -> Result<Array3<f32>>;

    /// One mask's logits, h×w, at the resolution of the embedded image.
    fn upsample(&self, embedding: &Self::Embedding, low_res: ArrayView2<'_, f32>) -> Result<Array2<f32>>;
}

/// What is known of N masks before their pixels.
#[derive(Debug, Clone)]
pub(crate) struct MaskScores {
    /// N predicted IoUs.
    pub(crate) predicted_iou: Vec<f32>,
    /// N×K class logits, where the network knows classes.
    pub(crate) class_logits: Option<Array2<f32>>,
    /// N×D semantic features, where the network has them.
    pub(crate) features: Option<Array2<f32>>,
}
