//! Real files, where there are any.

use std::path::{Path, PathBuf};

/// A folder of the real data in `CORAL_DATA_DIR`, or a printed reason why there is none.
pub(crate) fn data(sub: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CORAL_DATA_DIR").map(|root| Path::new(&root).join(sub));
    let found = folder.filter(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("skipped: CORAL_DATA_DIR is not set or holds no {sub}");
    }
    found
}
