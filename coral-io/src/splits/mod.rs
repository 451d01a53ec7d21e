//! Which samples train, which tune and which test. Pure functions of labels or sites and a seed.

mod sites;
mod stratified;

pub use sites::{SitePattern, site_of, split_by_site};
pub use stratified::{Fold, k_folds, split_by_class, split_by_seed};

use coral_core::{Error, Result};

/// Checks the shares of a split.
fn check_fractions(fractions: &[f64]) -> Result<()> {
    let sum: f64 = fractions.iter().sum();
    let sound = !fractions.is_empty() && fractions.iter().all(|share| (0.0..=1.0).contains(share));
    if !sound || (sum - 1.0).abs() > 1e-6 {
        let reason = format!("expected shares in 0..=1 that sum to 1, got {fractions:?} with sum {sum}");
        return Err(Error::parameter("fractions", reason));
    }
    Ok(())
}
