use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use coral_core::{ClassId, ClassSet, Error, Result};
use serde::{Deserialize, Serialize};

use super::config::{SEMANTIC, SamPart};
use super::trainer::SamTrainer;
use crate::fingerprint::Fingerprint;
use crate::sam::config::SamConfig;
use crate::sam::model::{Sam, ignored};
use crate::train::STATE_PREFIXES;
use crate::weights::{description, expect_finite, shape_text, write_described};
use crate::{Checkpoint, load};

/// What a tuning has changed of a network, with the user's classes: a small file beside the large one of the weights that it
/// was tuned on.
///
/// The class of a mask that the network gives is an id of [`classes`](Self::classes); that of
/// [`background`](Self::background) means that there is no object, which
/// [`GeneratorConfig::background_class`](crate::GeneratorConfig::background_class) has to be told.
///
/// # Examples
/// ```no_run
/// use coral_models::candle_core::Device;
/// use coral_models::{Checkpoint, GeneratorConfig, MaskGenerator, Predictor, TunedHead};
/// let head = TunedHead::open("reef-2024.safetensors")?;
/// let sam = head.load_onto(&Checkpoint::open("vit_b_coralscop.pth")?, &Device::Cpu)?;
/// let config = GeneratorConfig { background_class: Some(head.background()), ..GeneratorConfig::coralscop() };
/// let generator = MaskGenerator::new(Predictor::new(sam), config)?;
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TunedHead {
    tensors: BTreeMap<String, Tensor>,
    about: About,
    /// For errors.
    path: PathBuf,
}

/// What the file says beside tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct About {
    /// Of the weights that stay: 64 bits that tell networks apart.
    base: String,
    network: SamConfig,
    classes: ClassSet,
    background: ClassId,
}

/// The key of the description in the file's metadata.
const KEY: &str = "coral_tuned_head";

impl TunedHead {
    /// What a training has changed so far.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when it trains the whole network, which is no head: use [`SamTrainer::save`].
    pub fn of(trainer: &SamTrainer) -> Result<Self> {
        let config = trainer.config();
        if config.training.part == SamPart::Whole {
            let reason = "the whole network is trained, of which no part stays; save it as a whole";
            return Err(Error::parameter("training.part", reason));
        }
        let parameters = trainer.trainer().parameters();
        let mut tensors = trainer.trainer().best_tensors()?;
        tensors.retain(|name, _| parameters.get(name).is_some() && config.training.part.contains(name));
        let base = fingerprint(parameters.names().filter(|name| !tensors.contains_key(*name)), |name| {
            let missing = || Error::input(name, "is no weight of the network");
            parameters.get(name).map(|variable| variable.as_detached_tensor()).ok_or_else(missing)
        })?;
        // Copies: the training goes on in the memory of its weights.
        let copies = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.copy()?)));
        let tensors = copies.collect::<candle_core::Result<_>>().map_err(Error::model)?;
        let about = About {
            base,
            network: config.network.clone(),
            classes: config.classes.clone(),
            background: config.background,
        };
        Ok(Self { tensors, about, path: PathBuf::from("the tuned head") })
    }

    /// Writes the head to a `safetensors` file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the name does not end in `.safetensors`; [`Error::Io`] when it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_described(path.as_ref(), &self.tensors, (KEY, &self.about))
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read, is damaged, is no tuned head or holds a value that is
    /// not finite.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let about: About = description(&checkpoint, (KEY, "expected a tuned head"))?;
        let wrong = |reason: String| Error::format(checkpoint.path(), None, reason);
        about.network.validate().map_err(|error| wrong(format!("field `{KEY}` of its metadata: {error}")))?;
        let mut tensors = BTreeMap::new();
        for name in checkpoint.names() {
            let tensor = checkpoint.tensor(name, &Device::Cpu)?;
            expect_finite(&tensor, name).map_err(&wrong)?;
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Self { tensors, about, path: checkpoint.path().to_owned() })
    }

    /// The user's classes with names, colours and parents, by the ids that masks get.
    pub fn classes(&self) -> &ClassSet {
        &self.about.classes
    }

    /// The class of what is no object.
    pub fn background(&self) -> ClassId {
        self.about.background
    }

    /// The network that the head belongs to, with as many classes as the head has.
    pub fn network(&self) -> &SamConfig {
        &self.about.network
    }

    /// The fingerprint of the weights that the head was tuned on.
    pub fn base(&self) -> &str {
        &self.about.base
    }

    /// The weights by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The network of a checkpoint, under the names of the original program or of `transformers`, with this head.
    ///
    /// # Errors
    /// [`Error::Format`] naming both fingerprints when the head was tuned on other weights; [`Error::Weights`] when the head has
    /// tensors of other shapes, or the checkpoint is of another network.
    pub fn load_onto(&self, base: &Checkpoint, device: &Device) -> Result<Sam> {
        let base = base.clone().with_original_sam_names()?;
        let mut ignore: Vec<&str> = STATE_PREFIXES.to_vec();
        ignore.extend(ignored(&self.about.network));
        if self.about.network.semantic.is_none() {
            ignore.push(SEMANTIC);
        }
        let stays = |name: &&str| {
            let counter = name.ends_with("num_batches_tracked");
            !counter && !self.tensors.contains_key(*name) && !ignore.iter().any(|prefix| name.starts_with(prefix))
        };
        let found = fingerprint(base.names().filter(stays), |name| base.tensor(name, &Device::Cpu))?;
        if found != self.about.base {
            let (path, expected) = (base.path().display(), &self.about.base);
            let reason =
                format!("was tuned on weights of fingerprint {expected}, but {path} has {found}; load it onto those");
            return Err(Error::format(&self.path, None, reason));
        }
        ignore.extend(self.tensors.keys().map(String::as_str));
        let misfits = Mutex::default();
        let sam = load(&base, device, &ignore, |stored| {
            let dtype = stored.dtype();
            let overlay = Overlay { stored, head: &self.tensors, misfits: &misfits };
            Sam::build(self.about.network.clone(), &VarBuilder::from_backend(Box::new(overlay), dtype, device.clone()))
        });
        let misfits: Misfits = misfits.into_inner().unwrap_or_else(PoisonError::into_inner);
        let unexpected = self.tensors.keys().filter(|name| !misfits.asked.contains(name)).cloned().collect::<Vec<_>>();
        if !misfits.shapes.is_empty() || (sam.is_ok() && !unexpected.is_empty()) {
            let (path, mismatched) = (self.path.clone(), misfits.shapes);
            return Err(Error::Weights { path, missing: Vec::new(), unexpected, mismatched, cause: None });
        }
        sam
    }
}

/// The fingerprint of named tensors, in the order of their names.
fn fingerprint<'a>(names: impl Iterator<Item = &'a str>, tensor: impl Fn(&str) -> Result<Tensor>) -> Result<String> {
    let mut fingerprint = Fingerprint::default();
    for name in names.filter(|name| !name.ends_with("num_batches_tracked")) {
        fingerprint.add_bytes(name.as_bytes());
        fingerprint.add_tensor(&tensor(name)?)?;
    }
    Ok(fingerprint.finish())
}

/// What a network asked of a head, and what of it has another shape.
#[derive(Debug, Default)]
struct Misfits {
    asked: Vec<String>,
    shapes: Vec<String>,
}

/// Gives a network the tensors of a head, and others from a checkpoint.
struct Overlay<'a> {
    stored: VarBuilder<'a>,
    head: &'a BTreeMap<String, Tensor>,
    misfits: &'a Mutex<Misfits>,
}

impl SimpleBackend for Overlay<'_> {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let Some(tensor) = self.head.get(name) else {
            return self.stored.get_with_hints_dtype(shape, name, init, dtype);
        };
        let mut misfits = self.misfits.lock().unwrap_or_else(PoisonError::into_inner);
        misfits.asked.push(name.to_owned());
        if tensor.shape() != &shape {
            let (expected, actual) = (shape_text(shape.dims()), shape_text(tensor.dims()));
            misfits.shapes.push(format!("{name}: expected {expected}, got {actual}"));
            candle_core::bail!("`{name}` has another shape");
        }
        tensor.to_dtype(dtype)?.to_device(device)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        match self.head.get(name) {
            Some(tensor) => tensor.to_dtype(dtype)?.to_device(device),
            None => self.stored.get_unchecked_dtype(name, dtype),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.head.contains_key(name) || self.stored.contains_tensor(name)
    }
}
