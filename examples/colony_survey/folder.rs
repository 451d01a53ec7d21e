use std::path::PathBuf;

use coral_core::{AnnotatedImage, Class, ClassId, ClassSet, Dataset, Error, Remapping, Result, default_color};
use coral_io::{
    CocoImages, LabelMapFolder, LabelMapFolderConfig, LabelMapMasks, LabelMapMasksConfig, MaskFolder, MaskFolderConfig,
    RemappedMasks, read_class_set, read_coco,
};

/// Where photographs with masks are, and which of their classes count.
#[derive(Debug, Clone)]
pub struct FolderSource {
    /// The folder: `images/` and `labels/` with label maps, photographs with a JSON file each, or those of a COCO file.
    pub data: PathBuf,
    /// A COCO file of the photographs.
    pub annotations: Option<PathBuf>,
    /// The table of classes, with parents where there are levels; COCO files have their own.
    pub classes: Option<PathBuf>,
    /// Classes that are no objects, by name or id.
    pub background: Vec<String>,
    /// The class that objects belong to, and how many levels below it they are told apart.
    pub level: Option<(String, usize)>,
    /// Ids in label maps that mean unlabelled, besides 255.
    pub ignore: Vec<ClassId>,
    /// Smaller regions of label maps are no objects, in pixels.
    pub min_area: u64,
    /// Whether places of which nobody knows what they show are masks without class. They keep negatives away; beside them, no
    /// sentence is known to name nothing in the photograph.
    pub unclear: bool,
}

/// Photographs with masks whose class 0 is the background.
pub type AnnotatedFolder = RemappedMasks<Box<dyn Dataset<Item = AnnotatedImage>>>;

impl FolderSource {
    /// Opens the folder in the layout that it has: its classes, as they are in the table, and its photographs.
    ///
    /// # Errors
    /// When a file is missing or cannot be read.
    pub fn open(&self) -> Result<(ClassSet, Box<dyn Dataset<Item = AnnotatedImage>>)> {
        if let Some(path) = &self.annotations {
            let coco = CocoImages::new(&read_coco(path)?, &self.data)?;
            let coco = if self.unclear { coco.with_unclear_regions() } else { coco };
            return Ok((coco.classes().clone(), Box::new(coco)));
        }
        let reason = "--classes is needed: a table of the classes of the masks";
        let table = self.classes.as_ref().ok_or_else(|| Error::parameter("classes", reason))?;
        let classes = read_class_set(table)?;
        let (images, labels) = (self.data.join("images"), self.data.join("labels"));
        if labels.is_dir() {
            let folder = LabelMapFolderConfig { images, labels, ignore: self.ignore.clone(), ..Default::default() };
            let config = LabelMapMasksConfig { min_area: self.min_area, unlabeled: self.unclear, ..Default::default() };
            return Ok((classes, Box::new(LabelMapMasks::new(LabelMapFolder::new(folder)?, config)?)));
        }
        let config = MaskFolderConfig { images: self.data.clone(), annotations: self.data.clone(), class: None };
        Ok((classes, Box::new(MaskFolder::new(config)?)))
    }

    /// The same with classes to tell apart: those of the level, or all; 0 is the background.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when a class is not in the table.
    pub fn open_objects(&self) -> Result<(ClassSet, AnnotatedFolder)> {
        let (classes, dataset) = self.open()?;
        let (objects, remapping) = match &self.level {
            Some((root, level)) => classes.objects_at_level(classes.parse(root)?, *level)?,
            None => objects(&classes, &self.background)?,
        };
        Ok((objects, RemappedMasks::new(dataset, remapping)))
    }
}

/// All classes but the background's, numbered from 1.
fn objects(classes: &ClassSet, background: &[String]) -> Result<(ClassSet, Remapping)> {
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
