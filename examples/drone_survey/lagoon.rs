use std::path::{Path, PathBuf};

use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, Axis};
use coral_core::{
    ClassId, Crs, Error, FeatureExtractor, ImageRaster, LabelMap, LabelRaster, NoProgress, Rect, Result, SeededRng,
    Size, UNLABELED,
};
use coral_io::geo::{
    ClassPolygon, ClassPolygons, FrameReadings, FrameRecord, FrameTrack, GeoJsonCrs, LineString, MultiPolygon,
    OrthophotoWriter, Polygon, PolygonizeConfig, Projection, TiffLayout, polygonize, write_frame_table, write_geojson,
    write_probabilities,
};
use coral_io::{LagoonFrame, LagoonSurvey, SyntheticLagoon, SyntheticLagoonConfig, write_image};
use coral_models::{
    CosineConfig, FrameHead, FrameHeadFit, FrameSamples, Interval, Monitor, OptimizerConfig, ScheduleConfig,
    SegFormerConfig, SegFormerFitConfig, SegmentationLoss, TrainerConfig,
};
use coral_weak::{ClassicalFeatures, ClassicalFeaturesConfig, RasterMapConfig, TileRules};

use super::{
    CoarseConfig, EvaluationConfig, NetworkChoice, RefinementConfig, SessionConfig, SurveyConfig, TrainingConfig,
};

/// Rows of the orthophoto that are drawn at a time.
const ROWS: u32 = 256;

/// What the synthetic survey consists of.
#[derive(Debug, Clone)]
pub struct LagoonPlan {
    /// The lagoon.
    pub lagoon: SyntheticLagoonConfig,
    /// The boat's frames.
    pub survey: LagoonSurvey,
    /// Frames of another lagoon, in which people have marked the classes, that the frame classifier is trained on.
    pub labeled_frames: usize,
    /// A class is marked when it covers this share of a frame.
    pub presence: f32,
    /// Corners of the annotated zones in pixels, and their side.
    pub zones: (Vec<(u32, u32)>, u32),
    /// Epochs of each training.
    pub epochs: usize,
    /// Seed of everything.
    pub seed: u64,
}

impl LagoonPlan {
    /// A survey that is mapped in minutes.
    pub fn small(seed: u64) -> Self {
        Self {
            lagoon: SyntheticLagoonConfig::default(),
            survey: LagoonSurvey::default(),
            labeled_frames: 500,
            presence: 0.15,
            zones: (vec![(130, 130), (706, 66), (450, 322), (130, 514), (770, 450)], 188),
            epochs: 24,
            seed,
        }
    }

    /// The settings of the mapping: those of the paper but for what takes hours or pre-trained weights.
    fn config(&self, steps: u64) -> SurveyConfig {
        let tile = Size { width: 64, height: 64 };
        let network = SegFormerConfig {
            hidden_sizes: [16, 32, 48, 64],
            num_attention_heads: [1, 2, 3, 4],
            depths: [1; 4],
            decoder_hidden_size: 48,
            drop_path_rate: 0.0,
            ..SegFormerConfig::default()
        };
        let trainer = TrainerConfig {
            optimizer: OptimizerConfig::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 },
            learning_rate: 2e-3,
            schedule: ScheduleConfig::Cosine(CosineConfig::new(Interval::Step, steps)),
            early_stopping: None,
            monitor: Monitor::TrainingLoss,
            ..TrainerConfig::default()
        };
        let loss = SegmentationLoss { cross_entropy_weight: 1.0, ..SegmentationLoss::default() };
        let fit = SegFormerFitConfig { trainer, batch: 8, loss, ..SegFormerFitConfig::default() };
        SurveyConfig {
            classes: SyntheticLagoonConfig::class_set().iter().map(|class| class.name.clone()).collect(),
            orthophoto: "orthophoto.tif".into(),
            sessions: vec![SessionConfig {
                name: "boat".into(),
                positions: "frames.csv".into(),
                predictions: Some("predictions.csv".into()),
                frames: None,
            }],
            seed: self.seed,
            classifier: None,
            coarse: CoarseConfig::default(),
            tiles: TileRules { tile, ..TileRules::default() },
            refined_tiles: None,
            training: TrainingConfig {
                network: NetworkChoice::Custom(network),
                epochs: self.epochs,
                validation: 0.15,
                fit,
                ..TrainingConfig::default()
            },
            map: RasterMapConfig { tile, stride: Size { width: 32, height: 32 }, ..RasterMapConfig::default() },
            refinement: RefinementConfig::default(),
            evaluation: Some(EvaluationConfig {
                zones: "zones.geojson".into(),
                truth: "annotation.geojson".into(),
                attribute: "name".into(),
                first_id: 0,
                buffer_m: 0.0,
                published_means: false,
            }),
        }
    }
}

/// Draws the survey into `folder`: orthophoto, positions and predictions of the frames (some frames as pictures), annotated
/// zones, and `survey.toml`, whose path is the answer.
///
/// The frame classifier is trained on frames of another lagoon; it is a multi-label head on colours and textures, where the
/// published one has DINOv2's features.
///
/// # Errors
/// [`Error::InvalidParameter`] for a plan that cannot be drawn, [`Error::Io`].
pub fn write_lagoon(plan: &LagoonPlan, folder: &Path) -> Result<PathBuf> {
    let lagoon = SyntheticLagoon::new(plan.lagoon.clone(), plan.seed)?;
    write_orthophoto(&lagoon, &folder.join("orthophoto.tif"))?;
    write_zones(plan, &lagoon, folder)?;
    write_frames(plan, &lagoon, folder)?;
    // One step for each batch of tiles; how many tiles there are is not known yet, but about.
    let tiles = plan.lagoon.size.pixels() / (64 * 64);
    let steps = (plan.epochs * tiles.div_ceil(16)) as u64;
    let path = folder.join("survey.toml");
    let text = plan.config(steps).to_toml()?;
    coral_core::write_atomically(&path, |out| write!(out, "{text}"))?;
    Ok(path)
}

fn write_orthophoto(lagoon: &SyntheticLagoon, path: &Path) -> Result<()> {
    let grid = lagoon.grid();
    let mut writer = OrthophotoWriter::create(path, grid, TiffLayout::default())?;
    for y in (0..grid.size.height).step_by(ROWS as usize) {
        let window = Rect { x: 0, y, width: grid.size.width, height: ROWS.min(grid.size.height - y) };
        writer.write_rows(&lagoon.read_image(window)?.image)?;
    }
    writer.finish()
}

/// The zones as polygons, and what grows in them as polygons of classes.
fn write_zones(plan: &LagoonPlan, lagoon: &SyntheticLagoon, folder: &Path) -> Result<()> {
    let (grid, side) = (lagoon.grid(), plan.zones.1);
    let mut annotation = LabelMap::from_elem(grid.size.shape(), UNLABELED);
    let mut zones = Vec::new();
    for &(x, y) in &plan.zones.0 {
        let window = Rect { x, y, width: side, height: side };
        let rows = y as usize..(y + side) as usize;
        annotation
            .slice_mut(coral_core::ndarray::s![rows, x as usize..(x + side) as usize])
            .assign(&lagoon.read_labels(window)?);
        let corners = grid.window(window).corners();
        let ring: Vec<(f64, f64)> = corners.into_iter().chain([corners[0]]).collect();
        let geometry = MultiPolygon(vec![Polygon::new(LineString::from(ring), Vec::new())]);
        zones.push(ClassPolygon { class: None, attributes: Default::default(), geometry });
    }
    let projection = Projection::new(grid.crs, Crs::WGS84)?;
    let classes = SyntheticLagoonConfig::class_set();
    let regions = polygonize(&annotation, &grid, &classes, &PolygonizeConfig::default())?;
    for (polygons, name) in [(ClassPolygons::new(grid.crs, zones)?, "zones"), (regions, "annotation")] {
        let polygons = polygons.map_positions(Crs::WGS84, |x, y| projection.transform(x, y))?;
        write_geojson(folder.join(format!("{name}.geojson")), &polygons, GeoJsonCrs::default())?;
    }
    Ok(())
}

fn write_frames(plan: &LagoonPlan, lagoon: &SyntheticLagoon, folder: &Path) -> Result<()> {
    let track = plan.survey.track(lagoon, plan.seed)?;
    let frames = plan.survey.frames(lagoon, &track, plan.seed);
    let head = train_classifier(plan)?;
    let probabilities = head.probabilities(features(&frames)?.view())?;
    let projection = Projection::new(lagoon.grid().crs, Crs::WGS84)?;
    let names: Vec<String> = (0..frames.len()).map(|i| format!("frame_{i:05}.jpg")).collect();
    let record = |(file, &(x, y)): (&String, &(f64, f64))| {
        let position = Some(projection.transform(x, y)?);
        Ok(FrameRecord { file: file.clone(), position, readings: FrameReadings::default(), problem: None })
    };
    let records = names.iter().zip(&track).map(record).collect::<Result<Vec<_>>>()?;
    write_frame_table(folder.join("frames.csv"), &FrameTrack::new(records)?)?;
    write_probabilities(folder.join("predictions.csv"), &names, &SyntheticLagoonConfig::class_set(), &probabilities)?;
    for i in (0..frames.len()).step_by((frames.len() / 12).max(1)) {
        write_image(folder.join(format!("frame_{i:05}.png")), &frames[i].image)?;
    }
    Ok(())
}

/// A multi-label head trained on frames of another lagoon in which every class is marked or not.
fn train_classifier(plan: &LagoonPlan) -> Result<FrameHead> {
    let seed = plan.seed.wrapping_add(1000);
    let lagoon = SyntheticLagoon::new(plan.lagoon.clone(), seed)?;
    let (grid, mut random) = (lagoon.grid(), SeededRng::new(seed));
    let mut place = |_| {
        let (width, height) = (f64::from(grid.size.width), f64::from(grid.size.height));
        grid.transform.world(random.range(0.0, width), random.range(0.0, height))
    };
    let positions: Vec<_> = (0..plan.labeled_frames).map(&mut place).collect();
    let frames = plan.survey.frames(&lagoon, &positions, seed);
    let features = features(&frames)?;
    let classes = SyntheticLagoonConfig::class_set().len();
    let marked = |(frame, class): (usize, usize)| {
        f32::from(u8::from(frames[frame].present(plan.presence).contains(&(class as ClassId))))
    };
    let targets = Array2::from_shape_fn((frames.len(), classes), marked);
    let (features, rest) = features.view().split_at(Axis(0), frames.len() * 4 / 5);
    let (targets, rest_targets) = targets.view().split_at(Axis(0), frames.len() * 4 / 5);
    let fit = FrameHeadFit { epochs: 60, ..FrameHeadFit::default() };
    let fit = FrameHeadFit { trainer: TrainerConfig { seed, ..fit.trainer }, ..fit };
    let train = FrameSamples { features, targets };
    let validation = FrameSamples { features: rest, targets: rest_targets };
    Ok(FrameHead::fit(train, validation, &fit, &NoProgress)?.0)
}

/// Mean and standard deviation of colours and textures over each frame, N×2D.
fn features(frames: &[LagoonFrame]) -> Result<Array2<f32>> {
    let extractor = ClassicalFeatures::new(ClassicalFeaturesConfig::default())?;
    let describe = |image: &RgbImage| -> Result<Vec<f32>> {
        let map = extractor.extract(image)?.data;
        let planes = map.outer_iter().map(|plane| (plane.mean().unwrap_or(0.0), plane.std(0.0)));
        let (means, deviations): (Vec<f32>, Vec<f32>) = planes.unzip();
        Ok([means, deviations].concat())
    };
    let mut rows = Array2::zeros((frames.len(), 2 * extractor.dim()));
    for (frame, mut row) in frames.iter().zip(rows.outer_iter_mut()) {
        let values = describe(&frame.image)?;
        if values.len() != row.len() {
            return Err(Error::shape("features", row.len().to_string(), values.len().to_string()));
        }
        row.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    }
    Ok(rows)
}
