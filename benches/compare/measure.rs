use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coral_core::{Error, Result};
use coral_models::candle_core::Tensor;
use serde_json::json;

/// What a program took for a row.
pub(crate) enum Timing {
    /// It was run.
    Run {
        /// Milliseconds of every repetition.
        ms: Vec<f64>,
        /// Where its result is.
        outputs: Option<PathBuf>,
        /// How many masks it found, where it looks for masks.
        masks: Option<usize>,
    },
    /// It cannot do it.
    Skipped(&'static str),
}

/// How often something is repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Repeat {
    /// Once warm, then at least three times and five seconds.
    Often,
    /// Once, cold, because it takes minutes.
    Once,
}

impl Timing {
    /// Times something; its last result comes, too.
    pub(crate) fn of<T>(repeat: Repeat, mut work: impl FnMut() -> Result<T>) -> Result<(Vec<f64>, T)> {
        let (least, span) = match repeat {
            Repeat::Often => {
                work()?;
                (3, Duration::from_secs(5))
            }
            Repeat::Once => (1, Duration::ZERO),
        };
        let (start, mut ms) = (Instant::now(), Vec::new());
        loop {
            let began = Instant::now();
            let result = work()?;
            ms.push(began.elapsed().as_secs_f64() * 1e3);
            if ms.len() >= least && start.elapsed() >= span {
                return Ok((ms, result));
            }
        }
    }

    pub(crate) fn to_json(&self) -> String {
        match self {
            Self::Run { ms, outputs, masks } => {
                json!({ "ms": ms, "peak_mb": peak_mb(), "outputs": outputs, "masks": masks }).to_string()
            }
            Self::Skipped(reason) => json!({ "skipped": reason }).to_string(),
        }
    }
}

/// The most memory that this process has had, in MB; `None` where the system does not tell.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Writes tensors under their names.
pub(crate) fn write(path: &Path, tensors: &std::collections::HashMap<String, Tensor>) -> Result<()> {
    coral_models::candle_core::safetensors::save(tensors, path).map_err(Error::model)
}

/// Writes a result for the comparison with the other programs.
pub(crate) fn write_output(folder: &Path, output: &Tensor) -> Result<Option<PathBuf>> {
    let path = folder.join("ours.safetensors");
    let output = output.contiguous().map_err(Error::model)?;
    write(&path, &[("output".to_owned(), output)].into())?;
    Ok(Some(path))
}
