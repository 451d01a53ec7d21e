use std::fmt;
use std::path::{Path, PathBuf};

use coral_core::{ClassId, ClassSet, Error, Result};
use coral_models::{SegFormerConfig, SegFormerFitConfig};
use coral_weak::{
    ClassRefinementConfig, ColorSegmenterConfig, FrameRasterConfig, MissingClasses, RasterMapConfig, SamRefinerConfig,
    TileRules,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// What a survey is made of and how it is mapped; a TOML file. What is left out has the published values, but for
/// `coarse.raster.metric` and `evaluation.published_means` (slips there).
///
/// Relative paths start from the file's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurveyConfig {
    /// The classes by id, named as in the predictions.
    pub classes: Vec<String>,
    /// The orthophoto, a GeoTIFF.
    pub orthophoto: PathBuf,
    /// The underwater surveys.
    pub sessions: Vec<SessionConfig>,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// A folder with DinoVdeau's `model.safetensors`, `config.json` and `threshold.json`; needed where a session has no
    /// predictions.
    #[serde(default)]
    pub classifier: Option<PathBuf>,
    /// How frames become the coarse map.
    #[serde(default)]
    pub coarse: CoarseConfig,
    /// Which tiles of the coarse map are trained on.
    #[serde(default)]
    pub tiles: TileRules,
    /// Which tiles of the refined map are trained on; those of `tiles` without their hull when left out.
    #[serde(default)]
    pub refined_tiles: Option<TileRules>,
    /// The segmenter and its training.
    #[serde(default)]
    pub training: TrainingConfig,
    /// How the orthophoto is mapped.
    #[serde(default)]
    pub map: RasterMapConfig,
    /// How the first map is refined.
    #[serde(default)]
    pub refinement: RefinementConfig,
    /// What the maps are scored on.
    #[serde(default)]
    pub evaluation: Option<EvaluationConfig>,
}

/// One underwater survey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionConfig {
    /// A name for its files.
    pub name: String,
    /// A table of the frames' positions, or a folder of JPEGs with GPS positions.
    pub positions: PathBuf,
    /// A table of the frames' class probabilities.
    #[serde(default)]
    pub predictions: Option<PathBuf>,
    /// The folder of the frames, where they are to be classified.
    #[serde(default)]
    pub frames: Option<PathBuf>,
}

/// How frames become the coarse map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoarseConfig {
    /// How rasters are made of the frames of a session.
    pub raster: FrameRasterConfig,
    /// The quantiles between which each class is stretched.
    pub quantiles: [f64; 2],
    /// What becomes of cells where some classes have no value.
    pub missing: MissingClasses,
}

impl Default for CoarseConfig {
    fn default() -> Self {
        Self { raster: FrameRasterConfig::default(), quantiles: [0.01, 0.99], missing: MissingClasses::default() }
    }
}

/// A SegFormer by its published name or by its shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "a survey has one")]
pub enum NetworkChoice {
    /// `mit-b0` to `mit-b5`.
    Published(String),
    /// Any other; the number of labels is that of the classes.
    Custom(SegFormerConfig),
}

/// By hand, so that a wrong field is named; derived, it would only be said that nothing fits.
impl<'de> Deserialize<'de> for NetworkChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = NetworkChoice;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a name from mit-b0 to mit-b5 or a table of sizes")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<NetworkChoice, E> {
                Ok(NetworkChoice::Published(name.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<NetworkChoice, A::Error> {
                SegFormerConfig::deserialize(MapAccessDeserializer::new(map)).map(NetworkChoice::Custom)
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl NetworkChoice {
    /// The network's shape for this number of classes.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name that is none.
    pub fn config(&self, num_labels: usize) -> Result<SegFormerConfig> {
        Ok(match self {
            Self::Custom(config) => SegFormerConfig { num_labels, ..*config },
            Self::Published(name) => match name.as_str() {
                "mit-b0" => SegFormerConfig::mit_b0(num_labels),
                "mit-b1" => SegFormerConfig::mit_b1(num_labels),
                "mit-b2" => SegFormerConfig::mit_b2(num_labels),
                "mit-b3" => SegFormerConfig::mit_b3(num_labels),
                "mit-b4" => SegFormerConfig::mit_b4(num_labels),
                "mit-b5" => SegFormerConfig::mit_b5(num_labels),
                _ => {
                    return Err(Error::parameter(
                        "training.network",
                        format!("expected mit-b0 to mit-b5, got `{name}`"),
                    ));
                }
            },
        })
    }
}

/// The segmenter and its training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// The network.
    pub network: NetworkChoice,
    /// A checkpoint that both trainings start from, such as `nvidia/mit-b0`'s; fresh weights when left out.
    pub weights: Option<PathBuf>,
    /// Epochs, at most.
    pub epochs: usize,
    /// The share of the tiles that is not trained on but tells when to stop.
    pub validation: f64,
    /// Optimiser, batch, loss and augmentation.
    pub fit: SegFormerFitConfig,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            network: NetworkChoice::Published("mit-b0".into()),
            weights: None,
            epochs: 100,
            validation: 0.3,
            fit: SegFormerFitConfig::default(),
        }
    }
}

/// How the first map is refined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefinementConfig {
    /// The classes to refine, by name, in this order; none leaves the first map as it is.
    pub classes: Vec<String>,
    /// The weights of Segment Anything or CoralSCOP; a stand-in that knows colours when left out.
    pub sam: Option<PathBuf>,
    /// The stand-in's settings.
    pub colors: ColorSegmenterConfig,
    /// The refiner's settings.
    pub refiner: SamRefinerConfig,
    /// The coarse mask is kept when the refined one's predicted IoU is below this.
    pub min_predicted_iou: Option<f32>,
    /// The coarse mask is kept when its IoU with the refined one is below this.
    pub min_agreement: Option<f32>,
}

impl Default for RefinementConfig {
    fn default() -> Self {
        Self {
            classes: vec!["Sand".into()],
            sam: None,
            colors: ColorSegmenterConfig::default(),
            refiner: SamRefinerConfig::default(),
            min_predicted_iou: None,
            min_agreement: None,
        }
    }
}

/// What the maps are scored on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Polygons around what was annotated; tiles that touch them are not trained on.
    pub zones: PathBuf,
    /// The annotation: a GeoTIFF of class ids, or polygons with a class each.
    pub truth: PathBuf,
    /// The attribute of the polygons that names their class.
    #[serde(default = "default_attribute")]
    pub attribute: String,
    /// What is subtracted from the ids of a GeoTIFF; the published masks count from 1 and have 0 for nothing.
    #[serde(default)]
    pub first_id: ClassId,
    /// Metres around the zones that are not trained on either.
    #[serde(default = "default_buffer")]
    pub buffer_m: f64,
    /// Whether means leave out classes that score exactly 0, as the published program's do.
    #[serde(default)]
    pub published_means: bool,
}

fn default_attribute() -> String {
    "class".into()
}

fn default_buffer() -> f64 {
    2.0
}

impl SurveyConfig {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Format`] naming line and field when it is no such file,
    /// [`Error::InvalidParameter`] naming the field that is out of range.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let breaks = |end: usize| text.bytes().take(end).filter(|&byte| byte == b'\n').count() as u64;
            let line = error.span().map(|span| 1 + breaks(span.start));
            Error::format(path, line, error.message())
        })?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        config.validate()?;
        Ok(config)
    }

    /// The TOML text that [`read`](Self::read) reads.
    ///
    /// # Errors
    /// [`Error::Model`] when a number has no place in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(Error::model)
    }

    fn resolve(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
        resolve(&mut self.orthophoto);
        for session in &mut self.sessions {
            resolve(&mut session.positions);
            session.predictions.iter_mut().chain(&mut session.frames).for_each(resolve);
        }
        let optional = [&mut self.classifier, &mut self.training.weights, &mut self.refinement.sam];
        optional.into_iter().flatten().for_each(resolve);
        if let Some(evaluation) = &mut self.evaluation {
            resolve(&mut evaluation.zones);
            resolve(&mut evaluation.truth);
        }
    }

    /// Checks every field that does not need a file.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let classes = self.class_set()?;
        if !(2..=254).contains(&classes.len()) {
            return Err(Error::parameter("classes", format!("expected 2 to 254, got {}", classes.len())));
        }
        if self.sessions.is_empty() {
            return Err(Error::parameter("sessions", "expected at least one, got none"));
        }
        for (at, session) in self.sessions.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            let repeated = self.sessions[..at].iter().any(|other| other.name == session.name);
            if session.name.is_empty() || !session.name.chars().all(plain) || repeated {
                let reason = format!("expected distinct names of letters, digits, - and _, got `{}`", session.name);
                return Err(Error::parameter("sessions.name", reason));
            }
            if session.predictions.is_none() && (session.frames.is_none() || self.classifier.is_none()) {
                let reason = format!("session `{}` needs `predictions`, or `frames` and a `classifier`", session.name);
                return Err(Error::parameter("sessions.predictions", reason));
            }
        }
        self.coarse.raster.validate()?;
        let [low, high] = self.coarse.quantiles;
        if !(0.0 <= low && low < high && high <= 1.0) {
            let reason = format!("expected 0 <= low < high <= 1, got {low} and {high}");
            return Err(Error::parameter("coarse.quantiles", reason));
        }
        self.tiles.validate()?;
        self.refined_tiles.map_or(Ok(()), |tiles| tiles.validate())?;
        self.map.validate()?;
        self.training.network.config(classes.len())?.validate()?;
        if !(self.training.validation > 0.0 && self.training.validation < 1.0) {
            let reason = format!("expected a share between 0 and 1, got {}", self.training.validation);
            return Err(Error::parameter("training.validation", reason));
        }
        if self.training.epochs == 0 {
            return Err(Error::parameter("training.epochs", "expected at least 1, got 0"));
        }
        self.refinement.refiner.validate()?;
        self.refinement.colors.validate()?;
        self.class_refinement()?.validate()?;
        let buffer = self.evaluation.as_ref().map_or(0.0, |evaluation| evaluation.buffer_m);
        if !(buffer.is_finite() && buffer >= 0.0) {
            return Err(Error::parameter("evaluation.buffer_m", format!("expected metres from 0, got {buffer}")));
        }
        Ok(())
    }

    /// The classes with their ids.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when names repeat or are empty.
    pub fn class_set(&self) -> Result<ClassSet> {
        ClassSet::from_names(self.classes.iter().cloned())
    }

    /// The classes to refine by their ids, and when the result is believed.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] for one that is not among the classes.
    pub fn class_refinement(&self) -> Result<ClassRefinementConfig> {
        let classes = self.class_set()?;
        let ids: Vec<ClassId> =
            self.refinement.classes.iter().map(|name| classes.parse(name)).collect::<Result<_>>()?;
        let RefinementConfig { min_predicted_iou, min_agreement, .. } = self.refinement;
        Ok(ClassRefinementConfig { min_predicted_iou, min_agreement, ..ClassRefinementConfig::of(ids) })
    }

    /// The rules of the tiles of the second training.
    pub fn second_tiles(&self) -> TileRules {
        self.refined_tiles.unwrap_or(TileRules { inside_hull: false, ..self.tiles })
    }
}
