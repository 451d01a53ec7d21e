use std::collections::BTreeMap;
use std::path::PathBuf;

use coral_core::{ClassId, Error, Result};

use super::listing::file_name;
use crate::text::read_bytes;

/// Photographs of one file name in the folders of several classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatedPhotograph {
    /// The file name, without folders.
    pub name: String,
    /// The samples that have it, at least two.
    pub samples: Vec<usize>,
    /// Whether two of these files, of different classes, hold the same bytes.
    pub same_content: bool,
}

/// File names that occur with several labels.
pub(super) fn repeated(paths: &[PathBuf], labels: &[ClassId]) -> Result<Vec<RepeatedPhotograph>> {
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, path) in paths.iter().enumerate() {
        by_name.entry(file_name(path)).or_default().push(index);
    }
    let several = |samples: &[usize]| samples.iter().any(|&index| labels[index] != labels[samples[0]]);
    by_name
        .into_iter()
        .filter(|(_, samples)| several(samples))
        .map(|(name, samples)| {
            Ok(RepeatedPhotograph { name, same_content: same_content(paths, labels, &samples)?, samples })
        })
        .collect()
}

/// Whether any two of these files of different classes hold the same bytes.
fn same_content(paths: &[PathBuf], labels: &[ClassId], samples: &[usize]) -> Result<bool> {
    let length = |&index: &usize| {
        let path = &paths[index];
        std::fs::metadata(path).map(|file| file.len()).map_err(|source| Error::io(path, source))
    };
    let lengths = samples.iter().map(length).collect::<Result<Vec<_>>>()?;
    for (nth, &a) in samples.iter().enumerate() {
        for (other, &b) in samples.iter().enumerate().skip(nth + 1) {
            // Most files of one name differ in length already: they need not be read.
            let possible = labels[a] != labels[b] && lengths[nth] == lengths[other];
            if possible && read_bytes(&paths[a])? == read_bytes(&paths[b])? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
