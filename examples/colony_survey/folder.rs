use std::path::PathBuf;

use clap::Args;
use coral_core::{AnnotatedImage, Class, ClassId, ClassSet, Dataset, Error, Remapping, Result, default_color};
use coral_io::{
    CocoImages, LabelMapFolder, LabelMapFolderConfig, LabelMapMasks, LabelMapMasksConfig, MaskFolder, MaskFolderConfig,
    RemappedMasks, Subset, read_class_set, read_coco, split_by_seed,
};
use coral_models::{Checkpoint, SamConfig};

use crate::NetworkArguments;

/// Where photographs with masks are, and the network that learns from them.
#[derive(Debug, Clone, Args)]
pub struct FolderArguments {
    /// A folder of photographs with masks to learn from; synthetic reefs without it.
    #[arg(long, value_name = "DIR", requires = "base")]
    pub data: Option<PathBuf>,
    /// The weights to start from, e.g. `vit_b_coralscop.pth`.
    #[arg(long, value_name = "FILE", requires = "data")]
    pub base: Option<PathBuf>,
    /// Attention heads of the mask decoder, which published weights do not tell; 8 in all of them.
    #[arg(long, value_name = "N", requires = "data")]
    pub decoder_heads: Option<usize>,
    /// A COCO file that holds the masks.
    #[arg(long, value_name = "JSON", requires = "data")]
    pub annotations: Option<PathBuf>,
    /// The table of the classes (ids, names, colours, parents); COCO files have their own.
    #[arg(long, value_name = "TABLE", requires = "data", conflicts_with = "annotations")]
    pub classes: Option<PathBuf>,
    /// The class of masks in JSON files that have none there; those that have one have its id in the table.
    #[arg(long, value_name = "CLASS", requires = "classes")]
    pub mask_class: Option<String>,
    /// Ids in label maps that mean unlabelled, besides 255.
    #[arg(long, value_name = "ID", requires = "data", value_delimiter = ',')]
    pub ignore: Vec<ClassId>,
    /// Smaller regions of label maps are no objects, in pixels.
    #[arg(long, value_name = "PIXELS", requires = "data", default_value_t = 100)]
    pub min_area: u64,
    /// The share of the photographs that is held out, drawn at random: what is measured on them flatters where others show the same
    /// places.
    #[arg(long, value_name = "SHARE", requires = "data", default_value_t = 0.2)]
    pub held_out: f64,
}

/// Which classes are objects.
#[derive(Debug, Clone, Copy)]
pub enum Objects<'a> {
    /// Those so many levels below a class.
    Below(&'a str, usize),
    /// All but these.
    AllBut(&'a [String]),
}

/// Photographs with masks whose class 0 is the background.
pub type AnnotatedFolder = RemappedMasks<Box<dyn Dataset<Item = AnnotatedImage>>>;

impl FolderArguments {
    /// Opens the folder in the layout that it has (`images/` and `labels/` with label maps, photographs with a JSON file each, or
    /// those of a COCO file): its classes, as they are in the table, and its photographs. With `unclear`, places of which nobody
    /// knows what they show are masks without class: they keep negatives away; beside them, no sentence is known to name
    /// nothing in the photograph.
    ///
    /// # Errors
    /// When a file is missing or cannot be read.
    pub fn open(&self, unclear: bool) -> Result<(ClassSet, Box<dyn Dataset<Item = AnnotatedImage>>)> {
        let needed = |name: &'static str, what: &str| Error::parameter(name, format!("--{name} is needed: {what}"));
        let data = self.data.as_ref().ok_or_else(|| needed("data", "a folder of photographs with masks"))?;
        if let Some(path) = &self.annotations {
            let coco = CocoImages::new(&read_coco(path)?, data)?;
            let coco = if unclear { coco.with_unclear_regions() } else { coco };
            return Ok((coco.classes().clone(), Box::new(coco)));
        }
        let table = self.classes.as_ref().ok_or_else(|| needed("classes", "a table of the classes of the masks"))?;
        let classes = read_class_set(table)?;
        let (images, labels) = (data.join("images"), data.join("labels"));
        if labels.is_dir() {
            let folder = LabelMapFolderConfig { images, labels, ignore: self.ignore.clone(), ..Default::default() };
            // Sentences about small objects are neither true nor false; the objects have to be known.
            let min_area = if unclear { self.min_area } else { 1 };
            let config = LabelMapMasksConfig { min_area, unlabeled: unclear, ..Default::default() };
            return Ok((classes, Box::new(LabelMapMasks::new(LabelMapFolder::new(folder)?, config)?)));
        }
        let class = self.mask_class.as_ref().map(|name| classes.parse(name)).transpose()?;
        let config = MaskFolderConfig { images: data.clone(), annotations: data.clone(), class };
        Ok((classes, Box::new(MaskFolder::new(config)?)))
    }

    /// The same with the classes to tell apart; 0 is the background, and what is unclear has no class.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when a class is not in the table.
    pub fn open_objects(&self, objects: Objects<'_>) -> Result<(ClassSet, AnnotatedFolder)> {
        let (classes, dataset) = self.open(true)?;
        let (objects, remapping) = match objects {
            Objects::Below(root, level) => classes.objects_at_level(classes.parse(root)?, level)?,
            Objects::AllBut(background) => all_but(&classes, background)?,
        };
        Ok((objects, RemappedMasks::new(dataset, remapping)))
    }

    /// Photographs to learn from, and those that are held out.
    ///
    /// # Errors
    /// When the share is none, or leaves no photograph to learn from.
    pub fn split<'a, D: Dataset>(&self, images: &'a D, seed: u64) -> Result<[Subset<&'a D>; 2]> {
        if !(0.0..1.0).contains(&self.held_out) {
            let reason = format!("expected at least 0 and less than 1, got {}", self.held_out);
            return Err(Error::parameter("held_out", reason));
        }
        let [train, held_out] = split_by_seed(images.len(), [1.0 - self.held_out, self.held_out], seed)?;
        if train.is_empty() {
            let reason = format!("{} photographs leave none to train on", images.len());
            return Err(Error::parameter("held_out", reason));
        }
        Ok([Subset::new(images, train)?, Subset::new(images, held_out)?])
    }

    /// The weights to start from, and the network that they are of.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or is of no known network.
    pub fn checkpoint(&self) -> Result<(Checkpoint, SamConfig)> {
        let (weights, decoder_heads) = (self.base.clone(), self.decoder_heads);
        NetworkArguments { weights, decoder_heads, ..NetworkArguments::default() }.checkpoint()
    }
}

/// All classes but the background's, numbered from 1.
fn all_but(classes: &ClassSet, background: &[String]) -> Result<(ClassSet, Remapping)> {
    let background = background.iter().map(|name| classes.parse(name)).collect::<Result<Vec<_>>>()?;
    let row = |id, name: &str, color| Class { id, name: name.to_owned(), color, parent: None };
    let mut all = vec![row(0, "background", default_color(0))];
    let mut remapping = Remapping::to_unlabeled();
    for class in classes.iter() {
        if background.contains(&class.id) || class.name.eq_ignore_ascii_case("background") {
            remapping.set(class.id, 0);
        } else {
            remapping.set(class.id, all.len() as ClassId);
            all.push(row(all.len() as ClassId, &class.name, class.color));
        }
    }
    Ok((ClassSet::new(all)?, remapping))
}
