use std::io::Write;
use std::path::Path;

use super::vocabulary::{Vocabulary, parse_merges};
use super::*;

const MERGES: &str = "#version: 0.2\nc o\nco r\na l</w>\ncor al</w>\nr e\nre e\nree f</w>\n' s</w>\n";

/// The same small vocabulary as each kind of file; returns the folder.
fn written(kind: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new("merges.txt");
    let merges = parse_merges(MERGES, path).unwrap();
    let Vocabulary { ids, merges, .. } = Vocabulary::from_merges(merges, path).unwrap();
    let file = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
    match kind {
        "pair" => {
            file("merges.txt", MERGES.as_bytes());
            file("vocab.json", &serde_json::to_vec(&ids).unwrap());
        }
        "gz" => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            packed.write_all(MERGES.as_bytes()).unwrap();
            file("bpe_simple_vocab_16e6.txt.gz", &packed.finish().unwrap());
        }
        "plain" => file("bpe_simple_vocab_16e6.txt", MERGES.as_bytes()),
        "json" | "json of pairs" => {
            let joined = merges.iter().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>();
            let merges = if kind == "json" { serde_json::json!(joined) } else { serde_json::json!(merges) };
            let mut vocab = ids.clone();
            let added: Vec<_> = [START, END]
                .map(|token| serde_json::json!({"content": token, "id": vocab.remove(token), "special": true}))
                .into();
            let model =
                serde_json::json!({"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocab, "merges": merges});
            file(
                "tokenizer.json",
                &serde_json::to_vec(&serde_json::json!({"added_tokens": added, "model": model})).unwrap(),
            );
        }
        other => panic!("{other}"),
    }
    folder
}

#[test]
fn every_kind_of_file_gives_the_same_ids() {
    for kind in ["pair", "gz", "plain", "json", "json of pairs"] {
        let folder = written(kind);
        let tokenizer = ClipTokenizer::open(folder.path()).unwrap();
        // 512 bytes and 8 merges come first.
        assert_eq!((tokenizer.start_id(), tokenizer.end_id(), tokenizer.vocab_size()), (520, 521, 522));
        assert_eq!(tokenizer.encode("Coral  REEF's").unwrap(), [515, 518, 519], "{kind}");
        let only = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        assert_eq!(ClipTokenizer::open(only).unwrap().encode("coral").unwrap(), [515], "{kind}");
    }
}

#[test]
fn words_are_split_and_special_tokens_kept() {
    let folder = written("plain");
    let tokenizer = ClipTokenizer::open(folder.path()).unwrap();
    let ids = tokenizer.encode("coral<|endoftext|>x !!<|startoftext|> <|StartOfText|> 12").unwrap();
    let x = tokenizer.encode("x").unwrap()[0];
    assert_eq!(ids[..3], [515, 521, x]);
    // After other marks the name is none, as in the original.
    assert_eq!(ids.iter().filter(|&&id| id == 520).count(), 1);
    assert_eq!(tokenizer.decode(&ids), "coral <|endoftext|>x !!<| startoftext |> <|startoftext|>1 2 ");
    assert_eq!(tokenizer.decode(&tokenizer.encode("Éclair 珊瑚 🐠").unwrap()), "éclair 珊瑚 🐠 ");
    assert_eq!(tokenizer.decode(&[9999]), "");
}

#[test]
fn long_texts_are_cut_or_refused() {
    let folder = written("plain");
    let tokenizer = ClipTokenizer::open(folder.path()).unwrap();
    let ids = tokenizer.tokenize(&["coral", "coral reef coral reef", "", "coral reef coral"], 5).unwrap();
    let expected = [[520, 515, 521, 0, 0], [520, 515, 518, 515, 521], [520, 521, 0, 0, 0], [520, 515, 518, 515, 521]];
    assert_eq!(ids, coral_core::ndarray::arr2(&expected));
    let strict = tokenizer.with_truncation(false);
    assert!(strict.tokenize(&["coral reef coral"], 5).is_ok());
    let error = strict.tokenize(&["coral", "coral reef coral reef"], 5).unwrap_err().to_string();
    assert_eq!(error, "invalid input `texts[1]`: 4 tokens and start and end; expected 5 at most");
    assert!(strict.tokenize(&["coral"], 1).is_err());
    assert_eq!(strict.tokenize(&[], 5).unwrap().dim(), (0, 5));
}

#[test]
fn bad_files_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| ClipTokenizer::open(folder.path().join(name)).unwrap_err().to_string();
    assert!(open("").contains("holds no vocabulary of CLIP; expected tokenizer.json"));
    assert!(open("merges.txt").contains("expected CLIP's vocabulary: tokenizer.json"));
    let packed = std::fs::read(written("gz").path().join("bpe_simple_vocab_16e6.txt.gz")).unwrap();
    let cases: [(&str, &[u8], &str); 11] = [
        ("a.txt", b"", "holds no merges"),
        ("b.txt", b"#version\na b\na b c\n", "b.txt:3: expected two tokens"),
        ("c.txt", b"xyz q\n", "lacks the token `xyz`"),
        ("d.txt", b"\xff\xfe\x00", "is no text"),
        ("e.gz", &packed[..packed.len() / 2], "truncated or damaged gzip"),
        ("f.json", b"{}", "holds no `model`"),
        ("g.json", b"{\"model\": {\"type\": \"WordPiece\"}}", "no byte-pair encoding"),
        ("h.json", b"{\"model\": ", "h.json:1"),
        ("vocab.json", b"{\"a\": 1}", "merges.txt"),
        ("i.json", br#"{"model": {"end_of_word_suffix": "</w>", "vocab": {"a": -1}, "merges": []}}"#, "expected an id"),
        ("j.json", br#"{"model": {"end_of_word_suffix": "</w>", "vocab": {}, "merges": [3]}}"#, "pair of tokens"),
    ];
    for (name, content, expected) in cases {
        std::fs::write(folder.path().join(name), content).unwrap();
        assert!(open(name).contains(expected), "{name}: {}", open(name));
    }
}
