use coral_core::{ClassId, LabelMap, UNLABELED};
use serde::{Deserialize, Serialize};

/// The labels that the patches of many photographs got.
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
    pub(crate) fn new(num_classes: usize) -> Self {
        Self { labeled: vec![0; num_classes], abstained: 0, relabeled: 0, foreground: 0 }
    }

    /// Counts the labels of one photograph of `class`.
    pub(crate) fn add(&mut self, labels: &LabelMap, class: ClassId, background: ClassId) {
        for &label in labels {
            match self.labeled.get_mut(usize::from(label)) {
                Some(count) => *count += 1,
                None if label == UNLABELED => self.abstained += 1,
                None => {}
            }
        }
        if class != background {
            self.foreground += labels.len() as u64;
            self.relabeled += labels.iter().filter(|&&label| label == background).count() as u64;
        }
    }

    /// The share of the patches in photographs of other classes that became background, 0..=1.
    ///
    /// A training that works settles at the true share; 0 or 1 throughout says that the features do not tell classes
    /// apart.
    pub fn relabeled_share(&self) -> f64 {
        self.relabeled as f64 / self.foreground.max(1) as f64
    }
}
