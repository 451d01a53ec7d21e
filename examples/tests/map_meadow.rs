use std::fs;

use coral_core::image::Rgb;
use coral_core::ndarray::{Array1, s};
use coral_core::{Dataset, LabeledPatch, SeededRng, TrainPatchClassifier, UNLABELED};
use coral_models::{
    Cells, FitConfig, LoaderConfig, PatchNetworkConfig, ResNetClassifierConfig, ResNetConfig, TrainerConfig,
};
use tempfile::TempDir;

use super::*;

/// Sand and seagrass as flat, slightly noisy colours.
fn color(class: usize, random: &mut SeededRng) -> Rgb<u8> {
    Rgb([[200.0, 180.0, 120.0], [40.0, 110.0, 50.0]][class].map(|level: f64| (level + random.range(-9.0, 9.0)) as u8))
}

/// Patches of 16 pixels, classes in turn.
struct Patches;

impl Dataset for Patches {
    type Item = LabeledPatch;

    fn len(&self) -> usize {
        24
    }

    fn get(&self, index: usize) -> Result<LabeledPatch> {
        let mut random = SeededRng::new(index as u64);
        let image = RgbImage::from_fn(16, 16, |_, _| color(index % 2, &mut random));
        Ok(LabeledPatch { image, target: Array1::from_shape_fn(2, |class| f32::from(class == index % 2)) })
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(index.to_string())
    }
}

fn config(names: &[&str], classes: usize) -> ResNetClassifierConfig {
    let resnet = ResNetConfig { width: 4, blocks: [1, 1, 1, 1], bottleneck: false };
    let network = PatchNetworkConfig { resnet, classes, hidden: None, cells: Cells::Cut(16) };
    let trainer = TrainerConfig { learning_rate: 1e-2, ..TrainerConfig::default() };
    let loader = LoaderConfig { workers: 0, prefetch: 0 };
    ResNetClassifierConfig {
        network,
        patch_size: Some(Size { width: 16, height: 16 }),
        training: FitConfig { trainer, batch: 8, augmentation: None, loader, ..FitConfig::seaclip() },
        class_names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// A folder of photographs and models.
struct Survey(TempDir);

impl Survey {
    /// Two photographs of 64x48 pixels, sand in their left half and seagrass in the right one, and a trained classifier.
    fn new() -> Self {
        let survey = Self(tempfile::tempdir().unwrap());
        fs::create_dir(survey.at("photos")).unwrap();
        survey.photo("a.png", 64, 48);
        survey.photo("b.bmp", 64, 48);
        survey.train("model.safetensors", 1);
        survey
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn photo(&self, name: &str, width: u32, height: u32) {
        let mut random = SeededRng::new(77);
        let image = RgbImage::from_fn(width, height, |x, _| color(usize::from(x >= width / 2), &mut random));
        image.save(self.at("photos").join(name)).unwrap();
    }

    fn train(&self, name: &str, seed: u64) {
        let mut model = ResNetClassifier::new(config(&["sand", "seagrass"], 2), seed, &Device::Cpu).unwrap();
        (0..24).for_each(|epoch| assert_eq!(model.fit_epoch(&Patches, seed + epoch).unwrap().samples, 24));
        model.save(self.at(name)).unwrap();
    }

    fn arguments(&self, more: &str) -> std::result::Result<Arguments, clap::Error> {
        let at = |name| self.at(name).display().to_string();
        let flags =
            ["map_meadow", "--photographs", &at("photos"), "--out", &at("out"), "--model", &at("model.safetensors")];
        let more = more.replace("FOLDER", &self.0.path().display().to_string());
        Arguments::try_parse_from(
            flags.into_iter().map(str::to_owned).chain(more.split_whitespace().map(str::to_owned)),
        )
    }

    fn map(&self, more: &str) -> Result<String> {
        run(&self.arguments(more).unwrap())
    }

    fn refuse(&self, more: &str) -> String {
        self.map(more).unwrap_err().to_string()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at("out").join(name)).unwrap()
    }

    fn coarse(&self, name: &str) -> CoarseMap {
        read_coarse_map(self.at("out").join(name)).unwrap()
    }
}

/// Checks that a map has sand in its left half and seagrass in the right one.
fn assert_halves(labels: &LabelMap) {
    let middle = labels.ncols() / 2;
    assert!(labels.slice(s![.., ..middle]).iter().all(|&class| class == 0), "{labels}");
    assert!(labels.slice(s![.., middle..]).iter().all(|&class| class == 1), "{labels}");
}

#[test]
fn photographs_become_maps_pictures_and_cover() {
    let survey = Survey::new();
    let report = survey.map("--grid 3x4").unwrap();
    assert!(
        report.contains("seagrass       12   50.00 %   50.00 %") && report.contains("2 photographs. Results"),
        "{report}"
    );
    for name in ["a", "b"] {
        let map = survey.coarse(&format!("{name}_map.csv"));
        assert_eq!((map.image_size, map.patches.len()), (Size { width: 64, height: 48 }, 12));
        assert_halves(&map.classes());
        let picture = image_size(survey.at("out").join(format!("{name}_map.png"))).unwrap();
        assert!(picture.width > 64, "with a legend");
    }
    assert!(survey.text("a_map.csv").lines().nth(4).unwrap().starts_with("0,3,48,0,16,16,1,seagrass,0."));
    let cover = survey.text("cover.csv");
    let lines: Vec<_> = cover.lines().collect();
    assert!(lines[1].starts_with("a,0,sand,6,50.0000,50.0000,0.") && lines[1].ends_with(",0.0000,,"), "{cover}");
    assert!(lines[6].starts_with("all photographs,1,seagrass,12,50.0000,50.0000,0."), "{cover}");
    assert_eq!(lines.len(), 7);
    let settings: serde_json::Value = serde_json::from_str(&survey.text("settings.json")).unwrap();
    assert_eq!(settings.pointer("/classes/1/name").unwrap(), "seagrass");
    assert_eq!(settings.pointer("/models/0/sha256").unwrap().as_str().unwrap().len(), 64);
}

#[test]
fn a_run_goes_on_where_the_last_one_stopped() {
    let survey = Survey::new();
    survey.map("--grid 2x4 --dense").unwrap();
    let before = survey.text("cover.csv");
    let picture = survey.at("out/a_map.png");
    fs::write(&picture, "kept").unwrap();
    fs::remove_file(survey.at("out/b_labels.png")).unwrap();
    fs::remove_file(survey.at("out/cover.csv")).unwrap();
    let report = survey.map("--grid 2x4 --dense").unwrap();
    assert!(report.contains("2 photographs. 1 had their files already"), "{report}");
    assert_eq!(survey.text("cover.csv"), before);
    assert_eq!(fs::read(&picture).unwrap(), b"kept");
    assert!(survey.at("out/b_labels.png").exists());
    // Damaged results, and photographs that were replaced, are made anew.
    fs::write(survey.at("out/a_map.csv"), "row,column").unwrap();
    survey.photo("b.bmp", 32, 48);
    assert!(!survey.map("--grid 2x4 --dense").unwrap().contains("already"));
    assert!(image_size(&picture).is_ok());
    assert_eq!(survey.coarse("b_map.csv").image_size.width, 32);
}

#[test]
fn changed_settings_are_refused_or_made_anew() {
    let survey = Survey::new();
    survey.map("--grid 2x4").unwrap();
    let (map, settings) = (survey.text("a_map.csv"), survey.text("settings.json"));
    let error = survey.refuse("--grid 2x4 --confidence 0.5");
    assert!(
        error.contains("holds maps made with other settings (`confidence` was 0.0, is 0.5); --overwrite makes"),
        "{error}"
    );
    assert!(survey.refuse("--grid 2x4 --max-side 32").contains("(`max_side` was null, is 32)"));
    assert!(survey.refuse("--grid 2x4 --classes mud,grass").contains("(`classes` was "));
    assert!(survey.refuse("--cells").contains("(`grid` was "));
    assert_eq!((survey.text("a_map.csv"), survey.text("settings.json")), (map, settings));
    survey.train("model.safetensors", 5);
    assert!(survey.refuse("--grid 2x4").contains("(`models` was "));
    survey.map("--grid 2x4 --overwrite").unwrap();
    assert!(survey.map("--grid 2x4").unwrap().contains("2 had their files already"));

    // Maps of another photograph cannot be made anew in this run.
    fs::rename(survey.at("photos/a.png"), survey.at("a.png")).unwrap();
    assert!(survey.refuse("--grid 1x2 --overwrite").contains("one, `a`, is of no photograph of this run"));
    survey.map("--grid 2x4 --overwrite").unwrap();
    fs::remove_file(survey.at("out/settings.json")).unwrap();
    assert!(survey.refuse("--grid 2x4").contains("there is no settings.json"));
    // Without maps there is nothing to protect.
    fs::remove_file(survey.at("out/a_map.csv")).unwrap();
    fs::remove_file(survey.at("out/b_map.csv")).unwrap();
    survey.map("--grid 1x2").unwrap();
}

#[test]
fn overwriting_leaves_no_labels_of_earlier_runs() {
    let survey = Survey::new();
    survey.map("--grid 2x4 --dense").unwrap();
    let labels = || ["a_labels.png", "b_labels.png"].map(|name| survey.at("out").join(name).exists());
    // Those of maps that are kept are kept, too.
    survey.photo("b.bmp", 32, 48);
    survey.map("--grid 2x4").unwrap();
    assert_eq!(labels(), [true, false]);
    survey.map("--grid 1x2 --overwrite").unwrap();
    assert_eq!(labels(), [false; 2]);
    survey.map("--grid 1x2 --overwrite --dense").unwrap();
    assert_eq!(labels(), [true; 2]);
}

#[test]
fn labels_without_a_map_are_somebody_elses() {
    let survey = Survey::new();
    fs::create_dir(survey.at("out")).unwrap();
    fs::write(survey.at("out/a_labels.png"), "drawn by hand").unwrap();
    survey.map("--grid 1x2").unwrap();
    assert_eq!(survey.text("a_labels.png"), "drawn by hand");
}

#[test]
fn corrupt_photographs_stop_the_run_or_are_listed() {
    let survey = Survey::new();
    let bytes = fs::read(survey.at("photos/a.png")).unwrap();
    fs::write(survey.at("photos/aa.png"), &bytes[..bytes.len() / 2]).unwrap();
    let error = survey.refuse("");
    assert!(error.contains("photos/aa.png: "), "{error}");
    assert!(survey.at("out/a_map.csv").exists() && !survey.at("out/cover.csv").exists());
    let report = survey.map("--skip-corrupt").unwrap();
    assert!(report.contains("skipped: ") && report.contains("2 photographs. 1 had"), "{report}");
    let cover = survey.text("cover.csv");
    assert!(cover.contains("\naa,,,,,,,,,") && cover.contains("photos/aa.png: "), "{cover}");
    survey.photo("c.png", 7, 48);
    let error = survey.refuse("--skip-corrupt");
    assert!(error.ends_with("photos/c.png: a 7x48 photograph is too small for 8x5 patches"), "{error}");
}

#[test]
fn whole_photographs_ensembles_and_pixels() {
    let survey = Survey::new();
    let single = survey.map("--cells --dense --confidence 0.5").map(|_| survey.coarse("a_map.csv")).unwrap();
    assert_eq!(single.probabilities.dim(), (2, 3, 4));
    assert_halves(&single.classes());
    let labels = read_label_map(survey.at("out/a_labels.png")).unwrap();
    assert_eq!(Size::of_map(&labels), Size { width: 64, height: 48 });
    assert!(labels.iter().all(|&class| class < 2));
    // A patch that lies across the middle may be either; it reaches from 24 to 40.
    assert!(labels.slice(s![.., ..24]).iter().all(|&class| class == 0));
    assert!(labels.slice(s![.., 40..]).iter().all(|&class| class == 1));
    assert_eq!(read_image(survey.at("out/a_labels.png")).unwrap().get_pixel(2, 2).0, coral_core::default_color(0));
    let cover = survey.text("cover.csv");
    let percent = 100.0 * labels.iter().filter(|&&class| class == 0).count() as f64 / labels.len() as f64;
    assert!(cover.lines().nth(1).unwrap().ends_with(&format!(",{percent:.4},")), "{cover}");

    survey.train("second.safetensors", 9);
    for flags in ["--cells", "--patch 16x16 --stride 8x16", "--grid 3x4 --dense"] {
        survey.map(&format!("--model FOLDER/second.safetensors --overwrite {flags}")).unwrap();
        let map = survey.coarse("a_map.csv");
        let classes = map.classes();
        assert!(classes.column(0).iter().all(|&class| class == 0));
        assert!(classes.column(classes.ncols() - 1).iter().all(|&class| class == 1));
        // Standardised logits of two classes are ±1/√2; about a patch of both colours members may disagree.
        let expected = |p: &f32| (p - 0.8044).abs() < 1e-3 || (p - 0.5).abs() < 1e-3;
        let confidence = map.confidence();
        assert!(confidence.iter().all(expected) && confidence[[0, 0]] > 0.8, "{confidence}");
        if flags == "--cells" {
            survey.map("--cells --model FOLDER/second.safetensors --overwrite --confidence 0.9").unwrap();
            assert!(survey.text("cover.csv").lines().nth(1).unwrap().ends_with(",0,,,,100.0000,,"));
        }
    }
}

#[test]
fn shrunken_photographs_have_maps_of_their_own_size() {
    let survey = Survey::new();
    survey.map("--max-side 32 --patch 8x8 --dense").unwrap();
    let map = survey.coarse("b_map.csv");
    assert_eq!((map.image_size, map.patches.len()), (Size { width: 64, height: 48 }, 12));
    assert_eq!(map.patches[11], Rect { x: 48, y: 32, width: 16, height: 16 });
    assert_halves(&map.classes());
    let labels = read_label_map(survey.at("out/b_labels.png")).unwrap();
    assert_eq!((labels.dim(), labels[[47, 0]], labels[[0, 63]]), ((48, 64), 0, 1));
    assert!(image_size(survey.at("out/b_map.png")).unwrap().height < 48);

    // Patches go on tiling what they tiled.
    let small = Size { width: 37, height: 23 };
    let patches = PatchGrid::Split { rows: 4, columns: 5 }.patches(small).unwrap();
    let map = CoarseMap::new(coral_core::ndarray::Array3::ones((1, 4, 5)), patches, small).unwrap();
    let large = enlarged_map(map, Size { width: 101, height: 64 }).unwrap();
    assert_eq!(large.patches.iter().map(|patch| patch.area()).sum::<u64>(), 101 * 64);
    assert_eq!((large.patches[19].x + large.patches[19].width, large.patches[0].x), (101, 0));
    let labels = coral_core::ndarray::array![[0, 1, UNLABELED]];
    let expected = coral_core::ndarray::array![[0, 0, 1, 1, UNLABELED, UNLABELED], [0, 0, 1, 1, UNLABELED, UNLABELED]];
    assert_eq!(enlarged_labels(&labels, Size { width: 6, height: 2 }), expected);
}

#[test]
fn classes_are_named_by_the_model_or_the_user() {
    let survey = Survey::new();
    let table = survey.at("classes.csv");
    fs::write(&table, "id,name,color\n0,mud,#010203\n1,grass,\n").unwrap();
    survey.map("--grid 1x2 --classes FOLDER/classes.csv").unwrap();
    assert!(survey.text("a_map.csv").contains(",p_mud,p_grass\n"));
    survey.map("--grid 1x2 --classes mud,grass --overwrite").unwrap();
    let error = survey.refuse("--classes sand,seagrass,rock");
    assert!(error.contains("`classes`: sand,seagrass,rock has 3 classes (ids 0, 1, 2), but "), "{error}");
    assert!(error.ends_with("model.safetensors knows 2 (from 0)"), "{error}");
    fs::write(&table, "id,name\n1,mud\n2,grass\n").unwrap();
    assert!(survey.refuse("--classes FOLDER/classes.csv").contains("has 2 classes (ids 1, 2), but "));
    assert!(survey.refuse("--classes gone.csv").contains("gone.csv: "));
    assert!(survey.refuse("--classes sand,sand").contains("`sand` occurs twice"));

    let save = |names: &[&str], classes| {
        let model = ResNetClassifier::new(config(names, classes), 1, &Device::Cpu).unwrap();
        model.save(survey.at("second.safetensors")).unwrap();
    };
    let second = "--grid 1x2 --model FOLDER/second.safetensors --overwrite";
    save(&[], 3);
    let error = survey.refuse(second);
    assert!(
        error.contains("model.safetensors knows 2 classes and ") && error.ends_with("second.safetensors 3"),
        "{error}"
    );
    save(&["seagrass", "sand"], 2);
    assert!(survey.refuse(second).contains("names its classes [\"sand\", \"seagrass\"] and "));
    survey.map(&format!("{second} --classes sand,seagrass")).unwrap();
    // Names of one are enough; without any there are numbers.
    save(&[], 2);
    survey.map(second).unwrap();
    assert!(survey.text("a_map.csv").contains(",p_sand,p_seagrass\n"));
    fs::rename(survey.at("second.safetensors"), survey.at("model.safetensors")).unwrap();
    survey.map("--grid 1x2 --overwrite").unwrap();
    assert!(survey.text("a_map.csv").contains(",p_0,p_1\n"));
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    let survey = Survey::new();
    let cases = [
        ("--confidence 1.5", "`confidence`: expected 0..=1, got 1.5"),
        ("--confidence NaN", "`confidence`: expected 0..=1, got NaN"),
        ("--patch 8x8 --stride 9x8", "`stride`: 9x8 leaves gaps between patches of 8x8"),
        ("--model FOLDER/gone.safetensors", "gone.safetensors: "),
        ("--model FOLDER/photos/a.png", "a.png: "),
    ];
    for (flags, expected) in cases {
        let text = survey.refuse(flags);
        assert!(text.contains(expected), "{text}");
        assert!(!survey.at("out").exists(), "{flags}");
    }
    let error = survey.refuse("--patch 65x8");
    assert!(error.ends_with("photos/a.png: a 64x48 photograph is smaller than a 65x8 patch"), "{error}");
    survey.photo("a.png", 64, 15);
    let error = survey.refuse("--cells");
    assert!(error.ends_with("photos/a.png: a 64x15 photograph is smaller than a cell of 16x16 pixels"), "{error}");
    for flags in ["--grid 5", "--grid 0x8", "--grid 5x8x9", "--patch 8x-1", "--stride 8x8", "--max-side 0"] {
        assert!(survey.arguments(flags).is_err(), "{flags}");
    }
    for flags in ["--grid 5x8 --cells", "--patch 8x8 --grid 5x8", "--patch 8x8 --cells"] {
        assert!(survey.arguments(flags).unwrap_err().to_string().contains("cannot be used with"), "{flags}");
    }
    let mut arguments = survey.arguments("").unwrap();
    arguments.out = survey.at("photos");
    assert!(run(&arguments).unwrap_err().to_string().contains("holds the images, expected another folder"));
    fs::create_dir(survey.at("nothing")).unwrap();
    arguments.photographs = survey.at("nothing");
    assert!(run(&arguments).unwrap_err().to_string().contains("nothing holds no PNG, JPEG, TIFF or BMP image"));
}
