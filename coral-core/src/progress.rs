use std::sync::atomic::{AtomicU64, Ordering};

use crate::Progress;

/// Reports to nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&self, _total: u64, _stage: &str) {}
    fn advance(&self, _steps: u64) {}
    fn finish(&self) {}
}

/// Counts the steps done, over all stages.
#[derive(Debug, Default)]
pub struct CountingProgress {
    done: AtomicU64,
}

impl CountingProgress {
    /// Steps reported so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Progress for CountingProgress {
    fn start(&self, _total: u64, _stage: &str) {}
    fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
    }
    fn finish(&self) {}
}
