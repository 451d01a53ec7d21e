use std::path::{Path, PathBuf};

use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, Axis, s};
use coral_core::{
    ClassId, Crs, Error, ImageRaster, LabelMap, LabelRaster, NoProgress, Rect, Result, SeededRng, Size, UNLABELED,
};
use coral_io::geo::{
    ClassPolygon, ClassPolygons, FrameReadings, FrameRecord, FrameTrack, GeoJsonCrs, LineString, MultiPolygon,
    OrthophotoWriter, Polygon, PolygonizeConfig, Projection, TiffLayout, polygonize, write_frame_table, write_geojson,
    write_probabilities,
};
use coral_io::{LagoonFrame, LagoonSurvey, SyntheticLagoon, SyntheticLagoonConfig, write_image};
use coral_models::{
    Augmentation, ColorJitter, CosineConfig, FrameHead, FrameHeadFit, FrameSamples, Interval, Monitor, OptimizerConfig,
    ScheduleConfig, SegFormerConfig, SegFormerFitConfig, SegmentationLoss, TrainerConfig,
};
use coral_weak::{Fusion, RasterMapConfig, TileRules, lab_image};

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
            lagoon: SyntheticLagoonConfig {
                size: Size { width: 1280, height: 960 },
                difficulty: 0.35,
                ..SyntheticLagoonConfig::default()
            },
            survey: LagoonSurvey::default(),
            labeled_frames: 500,
            presence: 0.15,
            zones: (vec![(130, 130), (834, 66), (514, 386), (130, 642), (962, 578)], 188),
            epochs: 30,
            seed,
        }
    }

    /// The settings of the mapping: those of the paper but for what takes hours or pre-trained weights.
    fn config(&self) -> SurveyConfig {
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
            clip_norm: Some(1.0),
            schedule: ScheduleConfig::Cosine(CosineConfig::new(Interval::Epoch, self.epochs as u64)),
            early_stopping: None,
            monitor: Monitor::TrainingLoss,
            ..TrainerConfig::default()
        };
        let loss = SegmentationLoss { cross_entropy_weight: 1.0, ..SegmentationLoss::default() };
        // From above there is no up and no down. The published colour jitter turns hues by up to 36 degrees: without
        // pre-trained weights that hides, on some hundred tiles, the classes that colour tells apart.
        let augmentation = Some(Augmentation {
            horizontal_flip: 0.5,
            quarter_turns: true,
            color_jitter: Some(ColorJitter::symmetric(0.1, 0.1, 0.0, 0.0)),
            ..Augmentation::default()
        });
        let fit = SegFormerFitConfig { trainer, batch: 4, loss, augmentation, ..SegFormerFitConfig::default() };
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
            map: RasterMapConfig {
                tile,
                stride: Size { width: 32, height: 32 },
                fusion: Fusion::Logits,
                ..RasterMapConfig::default()
            },
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
    let path = folder.join("survey.toml");
    let text = plan.config().to_toml()?;
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
        annotation.slice_mut(s![rows, x as usize..(x + side) as usize]).assign(&lagoon.read_labels(window)?);
        let corners = grid.window(window).corners();
        let ring: Vec<(f64, f64)> = corners.into_iter().chain([corners[0]]).collect();
        let geometry = MultiPolygon(vec![Polygon::new(LineString::from(ring), Vec::new())]);
        zones.push(ClassPolygon { class: None, attributes: Default::default(), geometry });
    }
    let classes = SyntheticLagoonConfig::class_set();
    let regions = polygonize(&annotation, &grid, &classes, &PolygonizeConfig::default())?;
    for (polygons, name) in [(ClassPolygons::new(grid.crs, zones)?, "zones"), (regions, "annotation")] {
        write_geojson(
            folder.join(format!("{name}.geojson")),
            &polygons.reprojected(Crs::WGS84)?,
            GeoJsonCrs::default(),
        )?;
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
    let fit = FrameHeadFit { epochs: 60, dropout: 0.2, ..FrameHeadFit::default() };
    let fit = FrameHeadFit { trainer: TrainerConfig { seed, early_stopping: None, ..fit.trainer }, ..fit };
    let train = FrameSamples { features, targets };
    let validation = FrameSamples { features: rest, targets: rest_targets };
    Ok(FrameHead::fit(train, validation, &fit, &NoProgress)?.0)
}

/// What describes a frame: of each Lab channel mean, deviation and quantiles, and how much lightness differs between pixels
/// some pixels apart, relative to the frame's mean lightness; N×D.
fn features(frames: &[LagoonFrame]) -> Result<Array2<f32>> {
    let rows: Vec<Vec<f32>> = frames.iter().map(|frame| describe(&frame.image)).collect();
    let shape = (rows.len(), rows.first().map_or(0, Vec::len));
    Array2::from_shape_vec(shape, rows.concat()).map_err(|error| Error::input("frames", error.to_string()))
}

fn describe(image: &RgbImage) -> Vec<f32> {
    const QUANTILES: [f32; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
    // About one standard deviation of the channels of underwater frames.
    const SPREAD: f32 = 12.0;
    let lab = lab_image(image);
    let mut values = Vec::new();
    for plane in lab.outer_iter() {
        let mut sorted: Vec<f32> = plane.iter().map(|value| value / SPREAD).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let mean = sorted.iter().sum::<f32>() / sorted.len() as f32;
        let variance = sorted.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / sorted.len() as f32;
        values.extend([mean, variance.sqrt()]);
        values.extend(QUANTILES.map(|share| sorted[(share * (sorted.len() - 1) as f32) as usize]));
    }
    let lightness = lab.index_axis(Axis(0), 0);
    let level = lightness.mean().unwrap_or(1.0).max(1.0);
    for lag in [1, 2, 4, 8, 16] {
        let (rows, columns) = lightness.dim();
        let (lag_y, lag_x) = (lag.min(rows - 1), lag.min(columns - 1));
        let down = &lightness.slice(s![lag_y.., ..]) - &lightness.slice(s![..rows - lag_y, ..]);
        let across = &lightness.slice(s![.., lag_x..]) - &lightness.slice(s![.., ..columns - lag_x]);
        let [a, b] = [down, across].map(|differences| differences.mapv(f32::abs).mean().unwrap_or(0.0));
        // The frame's heading is any: the smaller and the larger of both directions.
        values.extend([10.0 * a.min(b) / level, 10.0 * a.max(b) / level]);
    }
    values
}
