use std::path::{Path, PathBuf};

use coral_core::{Error, Progress, Result, Size};

use super::config::{Corrupt, PhotographFolderConfig};
use super::folder::expect_size;
use super::listing::ClassFolder;
use crate::images::read_image;
use crate::parallel;

/// A photograph that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedPhotograph {
    /// The file.
    pub path: PathBuf,
    /// Why it cannot be used.
    pub reason: String,
}

/// Decodes every photograph; takes the bad ones out of `folders` and lists them.
pub(super) fn check_all(
    folders: &mut [ClassFolder],
    config: &PhotographFolderConfig,
    progress: &dyn Progress,
) -> Result<Vec<SkippedPhotograph>> {
    let paths: Vec<PathBuf> = folders.iter().flat_map(|folder| &folder.photographs).cloned().collect();
    progress.start(paths.len() as u64, "photographs");
    let found = parallel::map(&paths, |path| {
        let fault = fault(path, config.min_size);
        progress.advance(1);
        fault
    });
    progress.finish();
    let bad: Vec<_> = paths.into_iter().zip(found).filter_map(|(path, reason)| Some((path, reason?))).collect();
    let skipped: Vec<_> = bad.into_iter().map(|(path, reason)| SkippedPhotograph { path, reason }).collect();
    if let (Corrupt::Fail, Some(first)) = (config.on_corrupt, skipped.first()) {
        let more = match skipped.len() - 1 {
            0 => String::new(),
            more => format!(" ({more} more photographs cannot be used)"),
        };
        return Err(Error::format(&first.path, None, format!("{}{more}", first.reason)));
    }
    let mut left_out = skipped.iter().peekable();
    for folder in folders {
        // Both lists are in the order of the folders.
        let fault = left_out.peek().copied();
        folder.photographs.retain(|path| left_out.next_if(|one| one.path == *path).is_none());
        if let (true, Some(first)) = (folder.photographs.is_empty(), fault) {
            let reason =
                format!("none of the photographs can be used, e.g. {}: {}", first.path.display(), first.reason);
            return Err(Error::format(&folder.path, None, reason));
        }
    }
    Ok(skipped)
}

/// Why a photograph cannot be used.
fn fault(path: &Path, least: Option<Size>) -> Option<String> {
    let image = read_image(path);
    match image.and_then(|image| expect_size(path, Size::of(&image), least)) {
        Ok(()) => None,
        // The path stands before the reason, wherever that is shown.
        Err(Error::Format { reason, .. }) => Some(reason),
        Err(Error::Io { source, .. }) => Some(source.to_string()),
        Err(other) => Some(other.to_string()),
    }
}
