use std::sync::atomic::{AtomicU64, Ordering};

use coral_core::{CellLabeler, ClassId, FeatureMap, LabelMap, Result, UNLABELED};
use serde::{Deserialize, Serialize};

/// The labels that patches got while a classifier was trained on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellCounts {
    /// Patches per class.
    pub labeled: Vec<u64>,
    /// Patches without label.
    pub abstained: u64,
    /// Patches of photographs of other classes that were labelled background.
    pub relabeled: u64,
    /// Patches of photographs of other classes than background.
    pub foreground: u64,
}

impl CellCounts {
    /// The share of the patches in photographs of other classes that became background, 0..=1.
    ///
    /// A training that works settles at the true share; 0 or 1 throughout says that the features do not tell classes
    /// apart.
    pub fn relabeled_share(&self) -> f64 {
        self.relabeled as f64 / self.foreground.max(1) as f64
    }
}

/// Passes labels on and counts them.
pub(crate) struct CountingLabeler<'a> {
    labeler: &'a dyn CellLabeler,
    background: ClassId,
    labeled: Vec<AtomicU64>,
    abstained: AtomicU64,
    relabeled: AtomicU64,
    foreground: AtomicU64,
}

impl<'a> CountingLabeler<'a> {
    pub(crate) fn new(labeler: &'a dyn CellLabeler, num_classes: usize, background: ClassId) -> Self {
        let zero = AtomicU64::default;
        let labeled = (0..num_classes).map(|_| zero()).collect();
        Self { labeler, background, labeled, abstained: zero(), relabeled: zero(), foreground: zero() }
    }

    pub(crate) fn counts(&self) -> CellCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CellCounts {
            labeled: self.labeled.iter().map(read).collect(),
            abstained: read(&self.abstained),
            relabeled: read(&self.relabeled),
            foreground: read(&self.foreground),
        }
    }
}

impl CellLabeler for CountingLabeler<'_> {
    fn label_cells(&self, features: &FeatureMap, class: ClassId) -> Result<LabelMap> {
        let labels = self.labeler.label_cells(features, class)?;
        let add = |count: &AtomicU64| _ = count.fetch_add(1, Ordering::Relaxed);
        for &label in &labels {
            match self.labeled.get(usize::from(label)) {
                Some(count) => add(count),
                None if label == UNLABELED => add(&self.abstained),
                None => {}
            }
            if class != self.background {
                add(&self.foreground);
                if label == self.background {
                    add(&self.relabeled);
                }
            }
        }
        Ok(labels)
    }
}
