use std::path::{Path, PathBuf};

use candle_core::Device;
use coral_core::image::RgbImage;
use coral_core::{AnnotatedImage, Dataset, Error, InstanceMask, Progress, Result, Size};

use super::config::ENCODER;
use super::trainer::SamTrainer;
use crate::Embedding;
use crate::fingerprint::Fingerprint;
use crate::sam::predictor::Predictor;

/// A photograph after the image encoder, with the masks of its objects.
#[derive(Debug, Clone)]
pub struct EmbeddedImage {
    /// What the image encoder gave.
    pub embedding: Embedding,
    /// The objects, each of the photograph's size.
    pub masks: Vec<InstanceMask>,
}

/// Photographs that went through the image encoder once, for [`SamTrainer::fit_epoch_embedded`].
///
/// Embeddings are in memory (4 MiB each at the published sizes) or in files of a folder, which serve later trainings too. A file
/// is known by the encoder's weights and by the photograph's pixels and size; one that is damaged is made anew.
#[derive(Debug, Clone)]
pub struct EmbeddedImages {
    names: Vec<String>,
    masks: Vec<Vec<InstanceMask>>,
    store: Store,
}

#[derive(Debug, Clone)]
enum Store {
    Memory(Vec<Embedding>),
    Files(Vec<PathBuf>),
}

impl EmbeddedImages {
    /// Encodes the photographs, or those of them that `folder` does not have yet, with the weights that the training has now:
    /// after [`SamTrainer::resume`], which may bring others, not before.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the training changes the encoder or augments photographs; [`Error::Io`] when the
    /// folder cannot be made or written; those of loading and of [`Predictor::embed`].
    pub fn new(
        trainer: &SamTrainer,
        images: &dyn Dataset<Item = AnnotatedImage>,
        folder: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        trainer.expect_fixed_embeddings()?;
        let predictor = trainer.predictor()?;
        let encoder = encoder_fingerprint(trainer)?;
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
        }
        let (mut embeddings, mut files) = (Vec::new(), Vec::new());
        let (mut names, mut masks) = (Vec::new(), Vec::new());
        progress.start(images.len() as u64, "images to embed");
        for index in 0..images.len() {
            let AnnotatedImage { image, masks: objects } = images.get(index)?;
            names.push(images.name(index)?);
            masks.push(objects);
            match folder {
                Some(folder) => files.push(kept(&predictor, &image, (folder, &encoder))?),
                None => embeddings.push(predictor.embed(&image)?),
            }
            progress.advance(1);
        }
        progress.finish();
        let store = if folder.is_some() { Store::Files(files) } else { Store::Memory(embeddings) };
        Ok(Self { names, masks, store })
    }
}

/// The file of a photograph's embedding, made unless it is there.
fn kept(predictor: &Predictor, image: &RgbImage, (folder, encoder): (&Path, &str)) -> Result<PathBuf> {
    let mut pixels = Fingerprint::default();
    pixels.add_bytes(Size::of(image).to_string().as_bytes());
    pixels.add_bytes(image.as_raw());
    let path = folder.join(format!("{encoder}-{}.safetensors", pixels.finish()));
    let sound =
        |embedding: Embedding| embedding.original_size() == Size::of(image) && predictor.upsampler(&embedding).is_ok();
    if !path.exists() || !Embedding::load(&path, &Device::Cpu).is_ok_and(sound) {
        predictor.embed(image)?.save(&path)?;
    }
    Ok(path)
}

/// What tells the image encoders of networks apart: their weights and the size of their input.
fn encoder_fingerprint(trainer: &SamTrainer) -> Result<String> {
    let mut fingerprint = Fingerprint::default();
    fingerprint.add_bytes(format!("{:?}", trainer.config().network.encoder).as_bytes());
    fingerprint.add_bytes(trainer.config().network.image_size.to_string().as_bytes());
    let parameters = trainer.trainer().parameters();
    for name in parameters.names().filter(|name| name.starts_with(ENCODER)) {
        fingerprint.add_bytes(name.as_bytes());
        parameters.get(name).map_or(Ok(()), |weight| fingerprint.add_tensor(weight))?;
    }
    Ok(fingerprint.finish())
}

impl Dataset for EmbeddedImages {
    type Item = EmbeddedImage;

    fn len(&self) -> usize {
        self.names.len()
    }

    fn get(&self, index: usize) -> Result<EmbeddedImage> {
        let masks = self.masks.get(index).ok_or_else(|| self.past_the_end(index))?.clone();
        let embedding = match &self.store {
            Store::Memory(embeddings) => embeddings.get(index).cloned(),
            Store::Files(files) => files.get(index).map(|path| Embedding::load(path, &Device::Cpu)).transpose()?,
        };
        Ok(EmbeddedImage { embedding: embedding.ok_or_else(|| self.past_the_end(index))?, masks })
    }

    fn name(&self, index: usize) -> Result<String> {
        self.names.get(index).cloned().ok_or_else(|| self.past_the_end(index))
    }
}

impl EmbeddedImages {
    fn past_the_end(&self, index: usize) -> Error {
        Error::IndexOutOfRange { what: "embedded images".to_owned(), index, len: self.names.len() }
    }
}
