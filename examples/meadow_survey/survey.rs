use std::path::Path;

use coral_core::image::RgbImage;
use coral_core::{ClassId, ClassSet, Dataset, Error, LabeledPhotograph, Progress, Result};
use coral_io::{
    Corrupt, InMemory, MeadowScene, PhotographFolder, PhotographFolderConfig, Resize, Subset, SyntheticMeadow,
    SyntheticMeadowConfig, split_by_class,
};

use super::{Method, Plan, Scores};
use crate::Bar;

/// Photographs with one label each, and what there is to score on.
#[derive(Debug)]
pub struct Survey<D> {
    /// Background is class 0.
    pub classes: ClassSet,
    /// To train on.
    pub train: D,
    /// The label of each of these.
    pub train_labels: Vec<ClassId>,
    /// The true class of every patch of these, row by row; synthetic surveys know it.
    pub train_truth: Option<Vec<ClassId>>,
    /// Photographs that no training sees.
    pub test: D,
    /// Patches with their true class that no training sees.
    pub test_patches: Option<D>,
}

impl<D: Dataset<Item = LabeledPhotograph>> Survey<D> {
    /// How well a method classifies the test patches; `None` when there are none.
    ///
    /// # Errors
    /// When a patch cannot be read or the classifier fails.
    pub fn score(&self, method: Method<'_>) -> Result<Option<Scores>> {
        self.test_patches.as_ref().map(|patches| Scores::of(method, patches, &self.classes)).transpose()
    }
}

/// Patches of a photograph with their true classes.
pub(super) fn with_truth(
    patches: Vec<RgbImage>,
    truth: impl IntoIterator<Item = ClassId>,
) -> impl Iterator<Item = LabeledPhotograph> {
    patches.into_iter().zip(truth).map(|(image, class)| LabeledPhotograph { image, class })
}

/// Synthetic photographs to train on, a quarter of each class.
const TRAIN: u64 = 96;
/// And to test on.
const TEST: u64 = 24;

/// Draws a survey of which everything is known.
///
/// # Errors
/// When a photograph cannot be drawn.
pub fn synthetic_survey(seed: u64, plan: &Plan) -> Result<Survey<InMemory<LabeledPhotograph>>> {
    let meadow = SyntheticMeadow::new(SyntheticMeadowConfig::default())?;
    let classes = meadow.class_set().clone();
    let bar = Bar::new();
    bar.start(TRAIN + TEST, "drawing meadows");
    let draw = |index: u64| {
        let class = (index % classes.num_ids() as u64) as ClassId;
        // Seeds of other surveys lie far away.
        let scene = meadow.generate(class, seed.wrapping_mul(1 << 20).wrapping_add(index));
        bar.advance(1);
        scene
    };
    let mut scenes = draw_all(TRAIN + TEST, &draw)?;
    bar.finish();
    let test = scenes.split_off(TRAIN as usize);
    let mut test_patches = Vec::new();
    for scene in &test {
        test_patches.extend(with_truth(plan.grid.cut(&scene.image)?, scene.patch_truth(plan.grid, 0.5)?));
    }
    let mut train_truth = Vec::new();
    for scene in &scenes {
        train_truth.extend(scene.patch_truth(plan.grid, 0.5)?);
    }
    let photographs = |scenes: Vec<MeadowScene>| scenes.into_iter().map(MeadowScene::into_labeled).collect();
    Ok(Survey {
        classes,
        train_labels: scenes.iter().map(|scene| scene.class).collect(),
        train: InMemory::new(photographs(scenes)),
        train_truth: Some(train_truth),
        test: InMemory::new(photographs(test)),
        test_patches: Some(InMemory::new(test_patches)),
    })
}

/// Runs `draw` for 0..`count` on two threads.
fn draw_all<T: Send>(count: u64, draw: &(dyn Fn(u64) -> Result<T> + Sync)) -> Result<Vec<T>> {
    let half = count / 2;
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(move || (half..count).map(draw).collect::<Result<Vec<_>>>());
        ((0..half).map(draw).collect::<Result<Vec<_>>>(), second.join())
    });
    let second = second.map_err(|_| Error::input("meadows", "a thread that drew them failed"))?;
    Ok(first?.into_iter().chain(second?).collect())
}

/// Lists a folder with one folder of photographs per class, each of which is decoded once and then only when needed. A tenth
/// of each class, by seed 0, is kept for pictures.
///
/// # Errors
/// When the folders hold no such survey, `background` is none of them, or a photograph or patch cannot be read and is not
/// to be skipped.
pub fn folder_survey(
    root: &Path,
    background: &str,
    (max_side, skip_corrupt): (Option<u32>, bool),
    test_patches: Option<&Path>,
) -> Result<Survey<Subset<PhotographFolder>>> {
    let on_corrupt = if skip_corrupt { Corrupt::Skip } else { Corrupt::Fail };
    let config = |root: &Path, classes| PhotographFolderConfig {
        classes,
        on_corrupt,
        resize: max_side.map(Resize::MaxSide),
        root: root.to_owned(),
        ..PhotographFolderConfig::default()
    };
    let found = PhotographFolder::new(config(root, None))?.class_set().clone();
    let classes = background_first(&found, background, root)?;
    let folder = checked(config(root, Some(classes.clone())))?;
    let [train, test] = split_by_class(folder.labels(), [0.9, 0.1], 0)?;
    let test_patches = test_patches.map(|root| {
        // Those of a single class are as good a test.
        let patches = checked(PhotographFolderConfig { allow_one_class: true, ..config(root, Some(classes.clone())) })?;
        let all = (0..patches.len()).collect();
        Subset::new(patches, all)
    });
    Ok(Survey {
        classes,
        train_labels: train.iter().map(|&index| folder.labels()[index]).collect(),
        train: Subset::new(folder.clone(), train)?,
        train_truth: None,
        test: Subset::new(folder, test)?,
        test_patches: test_patches.transpose()?,
    })
}

/// A folder without the photographs that are to be skipped, which it tells.
fn checked(config: PhotographFolderConfig) -> Result<PhotographFolder> {
    let (folder, skipped) = PhotographFolder::checked(config, &Bar::new())?;
    skipped.iter().for_each(|one| eprintln!("skipped {}: {}", one.path.display(), one.reason));
    Ok(folder)
}

/// The classes of the folders, but the background with id 0.
fn background_first(found: &ClassSet, background: &str, root: &Path) -> Result<ClassSet> {
    let names: Vec<&str> = found.iter().map(|class| class.name.as_str()).collect();
    let Some(&first) = names.iter().find(|name| name.eq_ignore_ascii_case(background)) else {
        let reason = format!("no folder `{background}` in {}; there are {}", root.display(), names.join(", "));
        return Err(Error::parameter("background", reason));
    };
    ClassSet::from_names(std::iter::once(first).chain(names.iter().copied().filter(|&name| name != first)))
}
