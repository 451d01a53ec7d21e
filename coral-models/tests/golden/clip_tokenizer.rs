use std::path::PathBuf;

use coral_core::ndarray::Array2;
use coral_models::ClipTokenizer;

use crate::{TestResult, open};

/// The committed copy, or what `CORAL_CLIP_VOCABULARY` names.
pub(crate) fn vocabulary() -> PathBuf {
    let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clip_vocabulary/bpe_simple_vocab_16e6.txt.gz");
    std::env::var_os("CORAL_CLIP_VOCABULARY").map_or_else(|| copy.into(), PathBuf::from)
}

#[test]
fn clip_tokenizer() -> TestResult {
    let case = open("clip_tokenizer");
    let tokenizer = ClipTokenizer::open(vocabulary())?;
    let prompts: Vec<String> = serde_json::from_value(case.value("/prompts")?.clone())?;
    let raw: Vec<Vec<u32>> = serde_json::from_value(case.value("/raw_ids_without_specials")?.clone())?;
    let decoded: Vec<String> = serde_json::from_value(case.value("/decoded")?.clone())?;
    assert!(!prompts.is_empty() && prompts.len() == raw.len() && prompts.len() == decoded.len());
    for ((prompt, raw), decoded) in prompts.iter().zip(&raw).zip(&decoded) {
        assert_eq!(&tokenizer.encode(prompt)?, raw, "{prompt}");
        assert_eq!(&tokenizer.decode(raw), decoded, "{prompt}");
    }
    let number = |name: &str| case.number(name).map(|n| n as usize);
    assert_eq!(tokenizer.start_id() as usize, number("/sot")?);
    assert_eq!(tokenizer.end_id() as usize, number("/eot")?);
    let texts = prompts.iter().map(String::as_str).collect::<Vec<_>>();
    let ids = tokenizer.tokenize(&texts, number("/context_length")?)?;
    let expected: Array2<u32> = case.i64("ids")?.mapv(|id| id as u32).into_dimensionality()?;
    assert_eq!(ids, expected);
    Ok(())
}
