use std::sync::atomic::{AtomicU64, Ordering};

/// Where a long job reports how far it is. Libraries never print; an application
/// implements this with a progress bar, a log line or nothing ([`NoProgress`]).
///
/// # Examples
/// ```
/// use coral_core::{CountingProgress, Progress};
/// fn long_job(progress: &dyn Progress) {
///     progress.start(3, "frames");
///     (0..3).for_each(|_| progress.advance(1));
///     progress.finish();
/// }
/// let counter = CountingProgress::default();
/// long_job(&counter);
/// assert_eq!(counter.done(), 3);
/// ```
pub trait Progress: Send + Sync {
    /// A stage of `total` steps begins; `stage` says what a step is.
    fn start(&self, total: u64, stage: &str);

    /// `steps` more are done. May be called from several threads.
    fn advance(&self, steps: u64);

    /// The stage is over.
    fn finish(&self);
}

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

impl<P: Progress + ?Sized> Progress for &P {
    fn start(&self, total: u64, stage: &str) {
        (**self).start(total, stage);
    }
    fn advance(&self, steps: u64) {
        (**self).advance(steps);
    }
    fn finish(&self) {
        (**self).finish();
    }
}
