use super::*;
use coral_core::image::{Rgb, RgbImage};
use coral_core::{ClassSet, Dataset, ImageEncoder, PatchClassifier, PatchGrid, PseudoLabeler, TextEncoder};
use coral_models::ResNetConfig;
use coral_weak::{ConstantClassifier, PromptGroups, ZeroShotConfig, ZeroShotLabeler};

const SAND: [u8; 3] = [200, 190, 160];
const GRASS: [u8; 3] = [40, 90, 30];

/// A plan so small that a test can run it.
fn tiny() -> Plan {
    let mut plan = Plan::small();
    plan.grid = PatchGrid::Split { rows: 2, columns: 2 };
    plan.simclr.resnet = ResNetConfig::resnet18().with_width(2);
    plan.simclr.batch = 8;
    (plan.simclr_epochs, plan.epochs) = (1, 2);
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
    let labeler = ZeroShotLabeler::new(ColorWords, &ColorWords, groups.clone(), ZeroShotConfig::default()).unwrap();
    let flat = |color| RgbImage::from_pixel(8, 8, Rgb(color));
    let labels = labeler.label(&[flat(SAND), flat(GRASS)]).unwrap();
    let names: Vec<&str> = groups.names().collect();
    let names: Vec<&str> = labels.iter().map(|label| names[usize::from(label.unwrap().class)]).collect();
    assert_eq!(names, ["background", "seagrass"]);
    let (images, texts) = (ColorWords.encode_images(&[]).unwrap(), ColorWords.encode_texts(&["sand"]).unwrap());
    assert_eq!((images.dim(), texts.row(0).to_vec()), ((0, 2), vec![0.0, 1.0]));
}

#[test]
fn a_folder_is_trained_on_and_a_killed_run_goes_on() {
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

    let out = tempfile::tempdir().unwrap();
    let plan = tiny();
    let train = |plan: &Plan| {
        let experiment = Experiment { survey: &survey, plan, seed: 3, out: out.path() };
        let encoder = experiment.encoder(None).unwrap();
        let groups = PromptGroups::seaclip();
        let labeler = ZeroShotLabeler::new(ColorWords, &ColorWords, groups, ZeroShotConfig::default()).unwrap();
        assert!(experiment.supervised(&encoder).unwrap().is_none());
        let (seaclip, relabeled) = experiment.seaclip(&encoder, &labeler).unwrap();
        assert_eq!(relabeled, 0.5);
        (experiment.seafeats(&encoder).unwrap(), seaclip)
    };
    let (seafeats, seaclip) = train(&plan);
    // All epochs are done: the second run only reads their results.
    let (again, _) = train(&plan);
    let photo = &survey.test[..];
    assert_eq!(seafeats.classify(photo).unwrap(), again.classify(photo).unwrap());
    write_maps(out.path(), &survey, &plan, &seaclip).unwrap();
    for file in ["test/photo_1.png", "map_1.png", "map_1.csv", "seafeats.training.safetensors"] {
        assert!(out.path().join(file).exists(), "{file}");
    }
}

#[test]
fn scores_name_every_class() {
    let classes = ClassSet::from_names(["sand", "grass"]).unwrap();
    let patches = TruePatches { images: vec![RgbImage::new(2, 2); 4], classes: vec![0, 0, 0, 1] };
    let always = ConstantClassifier::new(0, 2).unwrap();
    let scores = Scores::of(("always sand", &always), &patches, &classes).unwrap();
    // Precision 3/4 and recall 1 of sand; none of grass.
    assert!((scores.f1[0].unwrap() - 6.0 / 7.0).abs() < 1e-9 && scores.f1[1] == Some(0.0));
    assert!((scores.weighted_f1 - 4.5 / 7.0).abs() < 1e-9);
    let folder = tempfile::tempdir().unwrap();
    write_scores(&folder.path().join("scores.csv"), std::slice::from_ref(&scores), &classes).unwrap();
    let text = std::fs::read_to_string(folder.path().join("scores.csv")).unwrap();
    assert_eq!(text, "method,sand,grass,weighted\nalways sand,0.8571,0.0000,0.6429\n");
    assert!(score_table(&[scores], &classes).contains("always sand"));
}
