use coral_core::{Error, Result, SeededRng};

/// Checks the passes of a training loop.
pub(crate) fn check_epochs(start: usize, epochs: usize) -> Result<()> {
    if epochs == 0 {
        return Err(Error::parameter("epochs", "expected at least 1, got 0"));
    }
    if start > epochs {
        return Err(Error::parameter("start_epoch", format!("expected at most `epochs` = {epochs}, got {start}")));
    }
    Ok(())
}

/// The seed of one epoch: does not depend on the epochs before, so that a training can be resumed.
pub(crate) fn epoch_seed(seed: u64, epoch: usize) -> u64 {
    SeededRng::stream(seed, epoch as u64).bits()
}
