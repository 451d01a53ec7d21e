use super::*;

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
    let flags = ["--prompter", "gone.safetensors", "--image", "i", "--text", "t", "--clip", "c", "--out", out];
    assert!(run(&arguments(&flags)).unwrap_err().to_string().contains("gone.safetensors"));
}
