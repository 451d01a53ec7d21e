use coral_core::{ClassId, ClassSentences, ClassSet, LabelMap, LabeledImage, Result, SeededRng, image::RgbImage};
use ndarray::Array2;

use super::{
    canvas::{Canvas, Texel},
    classes,
    colony::Colony,
    config::{GrowthForm, SyntheticReefConfig},
    geometry::View,
    ground::Ground,
    ground_skin::GroundSkin,
    placement::{self, Occupancy},
    shading::{Light, shade},
    skin, taxa,
    water::{Scene, photograph},
};

/// A made-up reef photograph with its exact truth.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticScene {
    /// The photograph, W×H.
    pub image: RgbImage,
    /// The class that each pixel shows, H×W; never [`UNLABELED`](coral_core::UNLABELED).
    pub labels: LabelMap,
    /// The coral colony, seagrass clump or loose stone that each pixel shows, H×W: 1, 2, 3, … without gaps, 0 for the ground.
    pub instances: Array2<u32>,
    /// The class of instance `i + 1`.
    pub instance_classes: Vec<ClassId>,
    /// The narrowest class of instance `i + 1` in [`SyntheticReef::taxa`]: a colony's species (its genus alone, unless the
    /// configuration has species), the class of a clump or stone.
    pub taxa: Vec<ClassId>,
}

impl SyntheticScene {
    /// The photograph with its labels, without the instances.
    pub fn into_labeled(self) -> LabeledImage {
        LabeledImage { image: self.image, labels: self.labels }
    }
}

/// Draws top-down photographs of reefs that do not exist, for examples, tests and benchmarks.
///
/// Sand with ripples, rubble at the foot of overgrown rock, coral colonies of several growth forms in clusters,
/// and seagrass; lit from the side with cast shadows and caustics, seen through water by a slightly
/// unsharp and noisy camera. Colonies of one class differ in colour and texture, and classes share colours.
///
/// The same seed and configuration give the same picture on every machine: placement and drawing use only
/// exactly rounded arithmetic. Pictures of one seed and shape but of other sizes show about the same scene.
///
/// # Examples
/// ```
/// use coral_core::Size;
/// use coral_io::{SyntheticReef, SyntheticReefConfig};
/// let size = Size { width: 80, height: 60 };
/// let reef = SyntheticReef::new(SyntheticReefConfig { size, ..Default::default() })?;
/// let scene = reef.generate(7);
/// assert_eq!(scene.image.dimensions(), (80, 60));
/// assert_eq!(scene.labels.dim(), (60, 80));
/// assert_eq!(scene, reef.generate(7));
/// assert_ne!(scene.image, reef.generate(8).image);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticReef {
    config: SyntheticReefConfig,
}

impl SyntheticReef {
    /// A generator of such pictures.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) naming the field that is out of its range.
    pub fn new(config: SyntheticReefConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }

    /// What the pictures show.
    pub fn config(&self) -> &SyntheticReefConfig {
        &self.config
    }

    /// The classes of every synthetic reef: 0–9 occur in label maps, their parents (coral, algae, substrate) do not.
    ///
    /// # Examples
    /// ```
    /// use coral_io::{GrowthForm, SyntheticReef};
    /// let classes = SyntheticReef::class_set();
    /// let massive = GrowthForm::Massive.class();
    /// assert_eq!(classes.name(massive), "massive coral");
    /// assert_eq!(classes.name(classes.ancestors(massive)[0]), "coral");
    /// ```
    pub fn class_set() -> ClassSet {
        // The table is a constant that the tests check; an empty set stands in for the impossible.
        classes::class_set().unwrap_or_default()
    }

    /// The same classes with the genera of the corals below the growth forms, and their species below the genera:
    /// 13–22 and 23–42, two species for each genus.
    ///
    /// # Examples
    /// ```
    /// let taxa = coral_io::SyntheticReef::taxa();
    /// let species = taxa.parse("rusty brain coral")?;
    /// let above: Vec<_> = taxa.ancestors(species).into_iter().map(|id| taxa.name(id)).collect();
    /// assert_eq!(above, ["brain coral", "massive coral", "coral"]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn taxa() -> ClassSet {
        // A constant table again.
        taxa::class_set().unwrap_or_default()
    }

    /// Five sentences about each species of [`SyntheticReef::taxa`].
    ///
    /// # Examples
    /// ```
    /// use coral_io::SyntheticReef;
    /// let species = SyntheticReef::taxa().parse("rusty brain coral")?;
    /// let sentences = SyntheticReef::sentences();
    /// assert_eq!(sentences.of(species)[3], "a rusty colony with winding ridges like a brain");
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn sentences() -> ClassSentences {
        taxa::sentences().unwrap_or_default()
    }

    /// Draws the scene of this seed.
    pub fn generate(&self, seed: u64) -> SyntheticScene {
        let config = &self.config;
        let stream = |part: u64| SeededRng::stream(seed, part);
        let view = View::new(config.size, config.extent_m);
        let ground = Ground::new(stream(0).bits() as u32, config.hard_bottom, view.ppm);
        let mut occupancy = Occupancy::new(&view);
        let mut colonies = placement::colonies(config, &ground, &mut occupancy, &mut stream(1));
        if config.species {
            colonies.iter_mut().for_each(taxa::dress);
        }
        // Crusts take on the shape of what they grow over, so they come first.
        colonies.sort_by_key(|colony| colony.form != GrowthForm::Encrusting);
        let clumps = placement::seagrass(config.seagrass_cover, &ground, &mut occupancy, &mut stream(2));
        let stones = placement::stones(&ground, &occupancy, &mut stream(3));

        let mut canvas = Canvas::new(view, &ground);
        stones.iter().for_each(|stone| canvas.add_stone(stone));
        colonies.iter().for_each(|colony| canvas.add_colony(colony, &ground));
        clumps.iter().for_each(|clump| canvas.add_seagrass(clump, &ground));
        let painter = Painter {
            ground: GroundSkin { seed: stream(4).bits() as u32, ppm: view.ppm },
            first_colony: stones.len() as u32 + 1,
            colonies,
        };
        let image = self.develop(&canvas, &painter, &mut stream(5));
        let labels = canvas.texels.mapv(|texel| texel.class);
        let (instances, visible) = number_instances(&canvas.texels);
        let taxon = |&(object, class): &(u32, ClassId)| {
            painter.colony(object).map_or(class, |colony| taxa::class_of(colony, config.species))
        };
        let taxa = visible.iter().map(taxon).collect();
        let instance_classes = visible.into_iter().map(|(_, class)| class).collect();
        SyntheticScene { image, labels, instances, instance_classes, taxa }
    }

    /// Colours, lights and photographs the scene.
    fn develop(&self, canvas: &Canvas, painter: &Painter, rng: &mut SeededRng) -> RgbImage {
        let view = canvas.view;
        let skins =
            Array2::from_shape_fn(canvas.texels.dim(), |(y, x)| painter.skin(&canvas.texels[[y, x]], &view, (x, y)));
        let relief = ndarray::Zip::from(&canvas.texels).and(&skins).map_collect(|t, skin| t.height + skin.relief);
        let light = Light { drift: rng.range(-0.9, 0.9) as f32, elevation: rng.range(0.8, 1.4) as f32 };
        let lit = shade(&relief.mapv(|height| height * view.ppm), light, view.ppm);
        let scene = Scene { view, colors: skins.mapv(|skin| skin.color), heights: &relief, lit };
        photograph(&scene, &self.config.water(), rng.bits() as u32)
    }
}

/// Everything that is needed to colour a texel.
struct Painter {
    ground: GroundSkin,
    first_colony: u32,
    colonies: Vec<Colony>,
}

impl Painter {
    /// The colony that an object of the canvas is.
    fn colony(&self, object: u32) -> Option<&Colony> {
        object.checked_sub(self.first_colony).and_then(|index| self.colonies.get(index as usize))
    }

    fn skin(&self, texel: &Texel, view: &View, (x, y): (usize, usize)) -> skin::Skin {
        let p = view.place(x, y);
        match self.colony(texel.object) {
            Some(colony) => skin::coral(colony, texel, p, view.ppm),
            None => self.ground.at(texel, p),
        }
    }
}

/// Renumbers the objects that are visible 1, 2, 3, … and lists their old numbers and classes.
fn number_instances(texels: &Array2<Texel>) -> (Array2<u32>, Vec<(u32, ClassId)>) {
    let objects = texels.iter().map(|texel| texel.object).max().unwrap_or(0) as usize;
    let mut class_of = vec![None; objects + 1];
    texels.iter().for_each(|texel| class_of[texel.object as usize] = Some(texel.class));
    let mut numbers = vec![0; objects + 1];
    let mut visible = Vec::new();
    for object in 1..=objects {
        if let Some(class) = class_of[object] {
            visible.push((object as u32, class));
            numbers[object] = visible.len() as u32;
        }
    }
    (texels.mapv(|texel| numbers[texel.object as usize]), visible)
}
