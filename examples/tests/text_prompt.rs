use coral_io::write_sentences;

use super::*;
use reef_folder::write_reefs;

#[path = "reef_folder.rs"]
mod reef_folder;

fn arguments(flags: &[&str]) -> Arguments {
    Arguments::try_parse_from(std::iter::once("text_prompt").chain(flags.iter().copied())).unwrap()
}

#[test]
fn synthetic_reefs_are_described_from_end_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let out = ["--out", folder.path().to_str().unwrap()];
    let small = ["--pictures", "4", "--pretraining-epochs", "1", "--epochs", "1"];
    let report = run(&arguments(&[small.as_slice(), &out].concat())).unwrap();
    for part in ["  before  ", "  after   ", "Sentences about 2 photographs", "asked_1.png: \""] {
        assert!(report.contains(part), "{report}");
    }
    let prompter = TextPrompter::open(folder.path().join("prompter.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(prompter.config().network.image_size, 64);
    // Words of the sentences about the species of the synthetic reefs.
    assert!(prompter.config().adapter.text_dim > 50);
    assert!(Checkpoint::open(folder.path().join("base.safetensors")).is_ok());
    assert!(read_image(folder.path().join("asked_1.png")).unwrap().width() > 3 * 320);
}

#[test]
fn sentences_about_a_folder_are_learnt_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, out) = (at("reef"), at("out"));
    std::fs::create_dir(&out).unwrap();
    write_reefs(Path::new(&data));
    let (language, survey) = (SyntheticReef::sentences(), SyntheticSurvey::new(5, 2).unwrap());
    write_sentences(at("sentences.txt"), &language, &survey.taxa).unwrap();
    let (coral, to_coral) = survey.level(0).unwrap();
    let masks = colonies(&survey.train, &to_coral, (0.0, 1)).unwrap();
    pretrain(&masks, &coral, (1, 1)).unwrap().save(at("base.safetensors")).unwrap();

    let bag = BagOfWords::new(language.iter().flat_map(|(_, sentences)| sentences).map(String::as_str));
    let (base, classes, sentences) = (at("base.safetensors"), at("reef/classes.csv"), at("sentences.txt"));
    let flags = ["--data", &data, "--base", &base, "--classes", &classes, "--sentences", &sentences, "--out", &out];
    let flags = [&flags[..], &["--epochs", "1", "--held-out", "0.4", "--min-area", "40"]].concat();
    let report = learn_from_folder(&arguments(&flags), &bag).unwrap();
    assert!(report.contains("Sentences about 2 photographs"), "{report}");

    let (prompter, image) = (at("out/prompter.safetensors"), at("reef/images/reef_0.png"));
    let text = language.iter().next().unwrap().1[0].clone();
    let flags =
        ["--prompter", &prompter, "--image", &image, "--text", &text, "--clip", "c", "--point", "30,20", "--out", &out];
    let answer = ask(&arguments(&flags), Path::new(&prompter), &bag).unwrap();
    assert!(answer.starts_with(&format!("\"{text}\": probability ")), "{answer}");
    assert_eq!(coral_io::read_label_map(at("out/mask.png")).unwrap().dim(), (64, 64));
}

#[test]
fn points_are_read() {
    assert_eq!(numbers("3, 4.5"), Ok([3.0, 4.5]));
    for text in ["", "3", "3,4,5", "a,b", "3,4,", "12,x34,5"] {
        assert!(numbers::<2>(text).unwrap_err().contains("expected 2 numbers"), "{text}");
    }
}

#[test]
fn wrong_arguments_are_told() {
    let missing = ["--prompter", "p", "--image", "i", "--text", "t"];
    for flags in [&["--data", "reef"][..], &missing, &["--text", "a coral"], &["--vocabulary", "v"]] {
        assert!(Arguments::try_parse_from(std::iter::once(&"text_prompt").chain(flags)).is_err(), "{flags:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let flags = [
        "--prompter",
        "gone.safetensors",
        "--image",
        "i",
        "--text",
        "t",
        "--clip",
        "no-clip.safetensors",
        "--out",
        out,
    ];
    let bag = BagOfWords::new(["t"]);
    let gone = ask(&arguments(&flags), Path::new("gone.safetensors"), &bag).unwrap_err().to_string();
    assert!(gone.contains("gone.safetensors"), "{gone}");
    assert!(run(&arguments(&flags)).unwrap_err().to_string().contains("no-clip.safetensors"));
}
