use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use coral_core::image::{Rgb, RgbImage};
use coral_core::{
    ClassSet, Dataset, Error, ImageEncoder, LabeledPhotograph, PatchClassifier, PatchGrid, PseudoLabeler, Result,
    TextEncoder,
};
use coral_io::InMemory;
use coral_models::{ResNetClassifier, ResNetConfig};
use coral_weak::{ConstantClassifier, PromptGroups, ZeroShotConfig, ZeroShotLabeler};

const SAND: [u8; 3] = [200, 190, 160];
const GRASS: [u8; 3] = [40, 90, 30];

/// A plan so small that a test can run it.
fn tiny() -> Plan {
    let mut plan = Plan::small();
    plan.grid = PatchGrid::Split { rows: 2, columns: 2 };
    plan.simclr.resnet = ResNetConfig::resnet18().with_width(2);
    plan.simclr.batch = 8;
    (plan.simclr_epochs, plan.epochs) = (2, 3);
    plan
}

/// Sand, and sand with a strip of grass; one file is cut short.
fn folders(root: &std::path::Path) {
    for (name, right) in [("Sand", SAND), ("grass", GRASS)] {
        std::fs::create_dir(root.join(name)).unwrap();
        for number in 0..10 {
            let level = |x: u32, y: u32| ((x * 7 + y * 13 + number) % 11) as u8;
            let color = |x: u32| if x < 40 { SAND } else { right };
            let photo = RgbImage::from_fn(80, 80, |x, y| Rgb(color(x).map(|v| v + level(x, y))));
            photo.save(root.join(name).join(format!("{name}{number}.png"))).unwrap();
        }
    }
    let whole = std::fs::read(root.join("Sand/Sand0.png")).unwrap();
    std::fs::write(root.join("Sand/short.png"), &whole[..whole.len() / 2]).unwrap();
}

#[test]
fn the_stand_in_knows_grass_from_sand() {
    let groups = PromptGroups::seaclip();
    let flat = |color| RgbImage::from_pixel(8, 8, Rgb(color));
    let labels = labeler().label(&[flat(SAND), flat(GRASS)]).unwrap();
    let names: Vec<&str> = groups.names().collect();
    let names: Vec<&str> = labels.iter().map(|label| names[usize::from(label.unwrap().class)]).collect();
    assert_eq!(names, ["background", "seagrass"]);
    let (images, texts) = (ColorWords.encode_images(&[]).unwrap(), ColorWords.encode_texts(&["sand"]).unwrap());
    assert_eq!((images.dim(), texts.row(0).to_vec()), ((0, 2), vec![0.0, 1.0]));
}

#[test]
fn a_folder_of_photographs_is_read() {
    let folder = tempfile::tempdir().unwrap();
    folders(folder.path());
    let read = |background: &str, skip| folder_survey(folder.path(), background, (None, skip), None);
    assert!(read("sand", false).unwrap_err().to_string().contains("short.png"));
    let unknown = read("Water", true).unwrap_err().to_string();
    assert!(
        unknown.contains("no folder `Water`") && unknown.contains("Sand") && unknown.contains("grass"),
        "{unknown}"
    );
    let survey = read("sand", true).unwrap();
    assert_eq!(survey.classes.name(0), "Sand");
    assert_eq!((survey.train.len(), survey.test.len()), (18, 2));
    assert!(survey.test_patches.is_none());

    // Test patches of one class, of which one is cut short.
    let patches = tempfile::tempdir().unwrap();
    std::fs::rename(folder.path().join("Sand"), patches.path().join("Sand")).unwrap();
    std::fs::create_dir(folder.path().join("Sand")).unwrap();
    std::fs::copy(folder.path().join("grass/grass0.png"), folder.path().join("Sand/1.png")).unwrap();
    std::fs::copy(folder.path().join("grass/grass0.png"), folder.path().join("Sand/2.png")).unwrap();
    let read = |skip| folder_survey(folder.path(), "sand", (None, skip), Some(patches.path()));
    assert!(read(false).unwrap_err().to_string().contains("short.png"));
    let always = ConstantClassifier::new(0, 2).unwrap();
    let survey = read(true).unwrap();
    assert_eq!(survey.test_patches.as_ref().map(Dataset::len), Some(10));
    assert_eq!(survey.score(("always sand", &always)).unwrap().unwrap().f1, [Some(1.0), None]);
}

#[test]
fn labels_are_scored_where_the_truth_is_known() {
    let folder = tempfile::tempdir().unwrap();
    folders(folder.path());
    let mut survey = folder_survey(folder.path(), "sand", (None, true), None).unwrap();
    let plan = tiny();
    // Rows of a patch of sand and one of the photograph's class.
    let classes = (0..survey.train.len()).map(|index| survey.train.get(index).unwrap().class);
    survey.train_truth = Some(classes.flat_map(|class| [0, class, 0, class]).collect());
    let experiment = Experiment { survey: &survey, plan: &plan, seed: 1, states: None, cache_bytes: 0 };
    let encoder = experiment.encoder(None).unwrap();
    let labels = experiment.patch_labels(&labeler(), 0).unwrap();
    assert_eq!((labels.records.len(), labels.relabeled), (72, 18));
    let templates = experiment.template_labels(&encoder).unwrap().unwrap();
    let scores = experiment.label_scores(Some(&templates), &labels).unwrap();
    assert_eq!(
        scores.iter().map(|score| score.name).collect::<Vec<_>>(),
        ["the photograph's", "templates", "zero-shot"]
    );
    let truth = survey.train_truth.clone().unwrap();
    let cells = templates.cells.iter().flatten().copied().collect();
    assert_eq!(scores[1].f1, Scores::of_labels("templates", cells, truth, &survey.classes).unwrap().f1);
    // Half of the labels of grass are wrong, and a third of the patches of sand is missed.
    assert_eq!(scores[0].f1, [Some(0.8), Some(2.0 / 3.0)]);
    assert_eq!((&scores[2].f1[..], scores[2].weighted_f1), (&[Some(1.0), Some(1.0)][..], 1.0));
    // Where the background's prompts do not come first, their number says so.
    let turned = experiment.patch_labels(&labeler(), 1).unwrap();
    assert_eq!((turned.relabeled, turned.records[2].class, turned.records[3].class), (18, 1, 0));
    assert!(experiment.supervised(&encoder).unwrap().is_some());
}

fn labeler() -> ZeroShotLabeler<ColorWords> {
    ZeroShotLabeler::new(ColorWords, &ColorWords, PromptGroups::seaclip(), ZeroShotConfig::default()).unwrap()
}

/// Opens the states of `out` for a run.
fn states(out: &Path, sources: &Sources<'_>, plan: &Plan) -> Result<States> {
    let survey = folder_survey(sources.data, "sand", (None, true), None).unwrap();
    States::open(out, &TrainingSettings::new(sources, plan, &survey)?)
}

fn sources<'a>(data: &'a Path, prompts: &'a PromptGroups) -> Sources<'a> {
    Sources { data, max_side: None, encoder: None, clip: None, prompts, seed: 3 }
}

/// Both classifiers.
fn train<D: Dataset<Item = LabeledPhotograph>>(
    survey: &Survey<D>,
    states: Option<&States>,
) -> Result<[ResNetClassifier; 2]> {
    let experiment = Experiment { survey, plan: &tiny(), seed: 3, states, cache_bytes: 0 };
    let encoder = experiment.encoder(None)?;
    let seaclip = experiment.seaclip(&encoder, &experiment.patch_labels(&labeler(), 0)?)?;
    let templates = experiment.template_labels(&encoder)?;
    Ok([experiment.seafeats(&encoder, templates.as_ref())?, seaclip])
}

const STATES: [&str; 3] =
    ["simclr.training.safetensors", "seafeats.training.safetensors", "seaclip.training.safetensors"];

#[test]
fn states_of_other_runs_are_refused() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folders(folder.path());
    let (groups, plan) = (PromptGroups::seaclip(), tiny());
    let ours = sources(folder.path(), &groups);
    // Settings alone bind nobody.
    states(out.path(), &Sources { seed: 4, ..ours }, &plan).unwrap();
    states(out.path(), &ours, &plan).unwrap();
    STATES.iter().for_each(|state| std::fs::write(out.path().join(state), "").unwrap());
    states(out.path(), &ours, &plan).unwrap();
    let refused = |sources: Sources<'_>, plan: &Plan, state: usize, what: &str| {
        let error = states(out.path(), &sources, plan).unwrap_err();
        assert!(matches!(error, Error::InvalidParameter { .. }));
        let error = error.to_string();
        assert!(error.contains(STATES[state]) && error.contains(&format!("with other settings ({what}")), "{error}");
    };
    refused(Sources { seed: 4, ..ours }, &plan, 0, "`seed` was 3, is 4)");
    refused(Sources { max_side: Some(40), ..ours }, &plan, 0, "`max_side` was null, is 40)");
    let file = folder.path().join("Sand/Sand0.png");
    refused(Sources { encoder: Some(&file), ..ours }, &plan, 0, "`encoder` was null, is {\"file\":\"Sand0.png\"");
    refused(Sources { clip: Some(folder.path()), ..ours }, &plan, 2, "`clip` was [], is [{\"file\":");
    let words = PromptGroups::parse("[background]\nsand\n[seagrass]\nleaves").unwrap();
    refused(Sources { prompts: &words, ..ours }, &plan, 2, "`prompts` was ");
    let changed = |change: &dyn Fn(&mut Plan)| {
        let mut plan = tiny();
        change(&mut plan);
        plan
    };
    refused(ours, &changed(&|plan| plan.simclr.resnet.width = 4), 0, "`simclr.resnet.width` was 2, is 4)");
    refused(ours, &changed(&|plan| plan.relabel = true), 1, "`relabel` was false, is true)");
    refused(ours, &changed(&|plan| plan.epochs = 4), 1, "`classifier.training.trainer.schedule.cosine.");

    // Other photographs, by number, content and place.
    let photo = |number: u32| folder.path().join(format!("grass/grass{number}.png"));
    std::fs::rename(photo(9), folder.path().join("9.png")).unwrap();
    refused(ours, &plan, 0, "`photographs.count` was 18, is 17)");
    RgbImage::from_pixel(80, 80, Rgb(GRASS)).save(photo(9)).unwrap();
    std::fs::copy(photo(9), photo(8)).unwrap();
    refused(ours, &plan, 0, "`photographs.sha256` was ");
    let other = tempfile::tempdir().unwrap();
    folders(other.path());
    refused(sources(other.path(), &groups), &plan, 0, "`data` was ");
    std::fs::remove_file(out.path().join("simclr.training.json")).unwrap();
    refused(ours, &plan, 0, "there is no ");
}

/// Photographs of which only so many can be read before the run is killed.
struct Dying<'a, D> {
    photographs: &'a D,
    reads: AtomicUsize,
}

impl<D: Dataset> Dataset for Dying<'_, D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.photographs.len()
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        let left = self.reads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map_err(|_| Error::input("photographs", "killed"))?;
        self.photographs.get(index)
    }

    fn name(&self, index: usize) -> Result<String> {
        self.photographs.name(index)
    }
}

#[test]
fn a_killed_run_goes_on_and_ends_as_any_other() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folders(folder.path());
    let survey = folder_survey(folder.path(), "sand", (None, true), None).unwrap();
    let expected = train(&survey, None).unwrap();

    let states = states(out.path(), &sources(folder.path(), &PromptGroups::seaclip()), &tiny()).unwrap();
    let mut kills = 0;
    let found = loop {
        let train_on = Dying { photographs: &survey.train, reads: AtomicUsize::new(15 * (kills + 1)) };
        let test = Dying { photographs: &survey.train, reads: AtomicUsize::new(0) };
        let classes = survey.classes.clone();
        let dying = Survey {
            classes,
            train: train_on,
            train_labels: survey.train_labels.clone(),
            train_truth: None,
            test,
            test_patches: None,
        };
        match train(&dying, Some(&states)) {
            Ok(found) => break found,
            Err(error) => assert!(error.to_string().contains("killed"), "{error}"),
        }
        kills += 1;
    };
    assert!(kills > 3, "{kills} kills");
    let photo = [RgbImage::from_fn(40, 40, |x, y| Rgb([(3 * x) as u8, (5 * y) as u8, 90]))];
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected.classify(&photo).unwrap(), found.classify(&photo).unwrap());
    }
    // All epochs are done: another run only reads their results.
    let written = || STATES.map(|state| out.path().join(state).metadata().unwrap().modified().unwrap());
    let before = written();
    let again = train(&survey, Some(&states)).unwrap();
    assert_eq!(found[1].classify(&photo).unwrap(), again[1].classify(&photo).unwrap());
    assert_eq!(written(), before);
    write_maps(out.path(), &survey, &tiny(), &found[1]).unwrap();
    for file in ["test/photo_1.png", "map_1.png", "map_1.csv"] {
        assert!(out.path().join(file).exists(), "{file}");
    }
}

#[test]
fn scores_name_every_class() {
    let classes = ClassSet::from_names(["sand", "grass, tall"]).unwrap();
    let patch = |class| LabeledPhotograph { image: RgbImage::new(2, 2), class };
    let patches = InMemory::new([0, 0, 0, 1].map(patch).to_vec());
    let always = ConstantClassifier::new(0, 2).unwrap();
    let scores = Scores::of(("always sand", &always), &patches, &classes).unwrap();
    // Precision 3/4 and recall 1 of sand; none of grass.
    assert!((scores.f1[0].unwrap() - 6.0 / 7.0).abs() < 1e-9 && scores.f1[1] == Some(0.0));
    assert!((scores.weighted_f1 - 4.5 / 7.0).abs() < 1e-9);
    let folder = tempfile::tempdir().unwrap();
    write_scores(&folder.path().join("scores.csv"), std::slice::from_ref(&scores), &classes).unwrap();
    let text = std::fs::read_to_string(folder.path().join("scores.csv")).unwrap();
    assert_eq!(text, "method,sand,\"grass, tall\",weighted\nalways sand,0.8571,0.0000,0.6429\n");
    assert!(score_table(&[scores], &classes).contains("always sand"));
}
