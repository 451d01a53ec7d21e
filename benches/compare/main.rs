//! One row of the comparison with PyTorch, as `benches/compare/run` asks for it:
//! `compare prepare DIR WORK` writes weights and inputs, `compare ours WORK DIR` and `compare candle WORK DIR` time it and print
//! a line of JSON.

mod measure;
mod resnet;
mod sam;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coral_core::{Error, Result};

use measure::Timing;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    SamVitBEncode,
    MobileSamEncode,
    Decode64,
    Generate32,
    Resnet18Batch8,
    Resnet18TrainBatch32,
}

impl Work {
    const ALL: [(&'static str, Self); 6] = [
        ("sam_vit_b_encode", Self::SamVitBEncode),
        ("mobile_sam_encode", Self::MobileSamEncode),
        ("decode_64", Self::Decode64),
        ("generate_32", Self::Generate32),
        ("resnet18_b8", Self::Resnet18Batch8),
        ("resnet18_train_b32", Self::Resnet18TrainBatch32),
    ];

    fn parse(name: &str) -> Result<Self> {
        let names = Self::ALL.map(|(name, _)| name).join(", ");
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, work)| *work)
            .ok_or_else(|| Error::parameter("work", format!("expected one of {names}, got {name}")))
    }
}

/// Whose program is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Candle,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String> {
    let [what, first, second] = arguments else {
        return Err(Error::parameter("arguments", "expected `prepare DIR WORK`, `ours WORK DIR` or `candle WORK DIR`"));
    };
    let folder = PathBuf::from(if what == "prepare" { first } else { second });
    let work = Work::parse(if what == "prepare" { second } else { first })?;
    match what.as_str() {
        "prepare" => prepare(work, &folder).map(|()| "{}".to_owned()),
        "ours" => time(work, Side::Ours, &folder),
        "candle" => time(work, Side::Candle, &folder),
        _ => Err(Error::parameter("arguments", format!("expected `prepare`, `ours` or `candle`, got {what}"))),
    }
}

fn prepare(work: Work, folder: &Path) -> Result<()> {
    match work {
        Work::Resnet18Batch8 | Work::Resnet18TrainBatch32 => resnet::prepare(work, folder),
        _ => sam::prepare(work, folder),
    }
}

fn time(work: Work, side: Side, folder: &Path) -> Result<String> {
    let timing: Timing = match work {
        Work::Resnet18Batch8 | Work::Resnet18TrainBatch32 => resnet::time(work, side, folder)?,
        _ => sam::time(work, side, folder)?,
    };
    Ok(timing.to_json())
}
