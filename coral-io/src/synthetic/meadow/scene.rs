use coral_core::image::RgbImage;
use coral_core::{ClassId, ClassSet, Error, LabelMap, LabeledPhotograph, PatchGrid, Result, SeededRng};
use ndarray::Array2;

use super::{
    config::{Seagrass, SyntheticMeadowConfig},
    layout::Meadow,
    plants::{BED, PLANT, Planter},
    skin::MeadowSkin,
    truth::patch_truth,
};
use crate::synthetic::{
    canvas::Canvas,
    geometry::{P2, View},
    ground::Ground,
    ground_skin::GroundSkin,
    shading::{Light, shade},
    water::{Scene, Tilt, Water, photograph, transmission},
};

/// What shows less than this share of its own light is water, in the truth too.
const HIDDEN: f32 = 0.15;

/// A made-up photograph of seagrass with its one label and the truth.
#[derive(Debug, Clone, PartialEq)]
pub struct MeadowScene {
    /// The photograph, W×H.
    pub image: RgbImage,
    /// The label of the photograph: wrong for the part of it that shows sand or water.
    pub class: ClassId,
    /// The true class of each pixel, H×W; the ground between the plants of a clump counts as seagrass.
    pub labels: LabelMap,
}

impl MeadowScene {
    /// The photograph with its label, without the truth.
    pub fn into_labeled(self) -> LabeledPhotograph {
        LabeledPhotograph { image: self.image, class: self.class }
    }

    /// The true class of every patch: [`patch_truth`] of the labels.
    ///
    /// # Errors
    /// Those of [`patch_truth`].
    pub fn patch_truth(&self, grid: PatchGrid, majority: f32) -> Result<LabelMap> {
        patch_truth(&self.labels, grid, majority)
    }
}

/// Draws photographs of seagrass meadows that do not exist, with a label for the whole and the truth for each pixel.
///
/// A photograph of seagrass shows one species, in clumps on sand; the rest of it is bare. A photograph of the background
/// shows sand, with or without rubble and dead leaves, at times out of focus, or nothing but water. The
/// species differ in the shape of their leaves. Colour, light and water differ more from
/// photograph to photograph than from species to species: see [`SyntheticMeadowConfig`] for how much.
///
/// The same class, seed and configuration give the same picture on every machine.
///
/// # Examples
/// ```
/// use coral_core::{PatchGrid, Size};
/// use coral_io::{SyntheticMeadow, SyntheticMeadowConfig};
/// let size = Size { width: 160, height: 100 };
/// let meadow = SyntheticMeadow::new(SyntheticMeadowConfig { size, ..Default::default() })?;
/// assert_eq!(meadow.class_set().name(3), "Strappy");
/// let scene = meadow.generate(3, 7)?;
/// assert_eq!((scene.image.dimensions(), scene.labels.dim(), scene.class), ((160, 100), (100, 160), 3));
/// let truth = scene.patch_truth(PatchGrid::SEACLIP, 0.5)?;
/// let wrong = truth.iter().filter(|&&class| class != scene.class).count();
/// assert!(wrong > 0 && wrong < truth.len());
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticMeadow {
    config: SyntheticMeadowConfig,
    classes: ClassSet,
}

impl SyntheticMeadow {
    /// A generator of such pictures.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field that is out of its range.
    pub fn new(config: SyntheticMeadowConfig) -> Result<Self> {
        config.validate()?;
        let classes = config.class_set()?;
        Ok(Self { config, classes })
    }

    /// What the pictures show.
    pub fn config(&self) -> &SyntheticMeadowConfig {
        &self.config
    }

    /// Background (0) and the species (1, 2, …).
    pub fn class_set(&self) -> &ClassSet {
        &self.classes
    }

    /// Draws the photograph of this class and seed.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] when `class` is not in [`SyntheticMeadow::class_set`].
    pub fn generate(&self, class: ClassId, seed: u64) -> Result<MeadowScene> {
        let species = match class.checked_sub(1).map(usize::from) {
            None => None,
            Some(nth) => Some(*self.config.species.get(nth).ok_or_else(|| Error::UnknownClass {
                class: class.to_string(),
                expected: format!("0 to {}", self.config.species.len()),
            })?),
        };
        // Each class has photographs of its own: the same seed is another place.
        let stream = |part: u64| SeededRng::stream(seed, 16 * u64::from(class) + part);
        let config = &self.config;
        let view = View::new(config.size, config.extent_m);
        let air = Conditions::draw(config, species.is_none(), &mut stream(0));
        let rocks = 0.12 * config.litter;
        let ground = Ground::new(stream(1).bits() as u32, rocks, view.ppm);
        let mut canvas = Canvas::new(view, &ground);
        let visible = |p: P2| transmission(&view, &air.water, p, 0.0) > HIDDEN;
        let mut planter = Planter { canvas: &mut canvas, ground: &ground, rng: &mut stream(2) };
        planter.scatter_litter(config.litter);
        if let Some(species) = species {
            let meadow = Meadow::new(&view, config.clump_m, &mut stream(3));
            planter.plant(species, &meadow.covering(&view, air.cover(&view), visible));
        }
        let ground_skin = GroundSkin { seed: stream(4).bits() as u32, ppm: view.ppm };
        let painted = species.unwrap_or(Seagrass::Strappy);
        let skin = MeadowSkin::new(painted, config.color_overlap, ground_skin, &mut stream(5));
        let image = develop(&canvas, &skin, &air, &mut stream(6));
        let labels = Array2::from_shape_fn(canvas.texels.dim(), |(y, x)| {
            let seagrass = matches!(canvas.texels[[y, x]].class, PLANT | BED);
            if seagrass && visible(view.place(x, y)) { class } else { 0 }
        });
        Ok(MeadowScene { image, class, labels })
    }
}

/// Light, water and how bare the ground is, in one photograph.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    water: Water,
    bare: f32,
    light: Light,
}

impl Conditions {
    fn draw(config: &SyntheticMeadowConfig, background: bool, rng: &mut SeededRng) -> Self {
        let mut range = |[low, high]: [f32; 2]| rng.range(f64::from(low), f64::from(high)) as f32;
        let bare = range(config.bare);
        // The camera is close to the ground: over so little water only murk shows.
        let mut turbidity = 2.2 * range(config.turbidity);
        let mut blur = range(config.blur);
        let spread = config.light_spread;
        let exposure = 1.0 + spread * range([-0.4, 0.3]);
        let (red, blue) = (1.0 + spread * range([-0.3, 0.3]), 1.0 + spread * range([-0.3, 0.3]));
        let depth_m = 1.0 + 5.0 * spread * range([0.0, 1.0]);
        let light = Light { drift: range([-0.9, 0.9]), elevation: range([1.1, 2.4]) };
        let far_m = range([0.0, 0.9]);
        let looks_forward = range([0.0, 1.0]) < config.open_water;
        let mut horizon = if looks_forward { range([0.08, 0.32]) } else { -1.0 };
        // Half of the background is out of focus, murky, or nothing but water.
        let kind = range([0.0, 1.0]);
        if background && kind < 0.2 {
            horizon = 2.0;
        } else if background && kind < 0.4 {
            blur += range([1.5, 4.0]);
        } else if background && kind < 0.5 {
            turbidity *= 2.0;
        }
        let gain = [exposure * red, exposure, exposure * blue];
        let view = Tilt { far_m, horizon };
        let water = Water { extent_m: config.extent_m, depth_m, turbidity, blur, noise: config.noise, view, gain };
        Self { water, bare, light }
    }

    /// The share of the visible ground that seagrass has to cover so that a share of `bare` of the picture shows none.
    fn cover(&self, view: &View) -> f32 {
        const ROWS: usize = 100;
        let extent = view.extent();
        let place = |row: usize| P2 { x: 0.5 * extent.x, y: (row as f32 + 0.5) / ROWS as f32 * extent.y };
        let seen = (0..ROWS).filter(|&row| transmission(view, &self.water, place(row), 0.0) > HIDDEN).count();
        (1.0 - self.bare) / (seen as f32 / ROWS as f32).max(0.01)
    }
}

/// Colours, lights and photographs the scene.
fn develop(canvas: &Canvas, skin: &MeadowSkin, air: &Conditions, rng: &mut SeededRng) -> RgbImage {
    let view = canvas.view;
    let skins = Array2::from_shape_fn(canvas.texels.dim(), |(y, x)| skin.at(&canvas.texels[[y, x]], view.place(x, y)));
    let relief = ndarray::Zip::from(&canvas.texels).and(&skins).map_collect(|t, skin| t.height + skin.relief);
    let lit = shade(&relief.mapv(|height| height * view.ppm), air.light, view.ppm);
    let scene = Scene { view, colors: skins.mapv(|skin| skin.color), heights: &relief, lit };
    photograph(&scene, &air.water, rng.bits() as u32)
}
