use std::collections::BTreeMap;
use std::path::Path;

use coral_core::{Error, Result, SeededRng};
use serde::{Deserialize, Serialize};

use super::check_fractions;

/// How a photograph's file tells the site it was taken at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SitePattern {
    /// The folder that it stands in.
    Folder,
    /// The first `parts` pieces of its name between delimiters: with `_` and 2, `Reef_T21_0108.jpg` is of the site
    /// `Reef_T21`.
    Prefix {
        /// What stands between the pieces.
        delimiter: String,
        /// How many pieces name the site.
        parts: usize,
    },
}

/// The site of a photograph.
///
/// # Errors
/// [`Error::InvalidParameter`] for an empty delimiter or no parts; [`Error::Format`] naming the file when it has no
/// folder, or fewer pieces than the site and one more.
///
/// # Examples
/// ```
/// use coral_io::{SitePattern, site_of};
/// let pattern = SitePattern::Prefix { delimiter: "_".into(), parts: 2 };
/// assert_eq!(site_of("a/Reef_T21_0108.jpg", &pattern)?, "Reef_T21");
/// assert_eq!(site_of("lagoon/1.jpg", &SitePattern::Folder)?, "lagoon");
/// let error = site_of("T21.jpg", &pattern).unwrap_err();
/// assert_eq!(error.to_string(), "T21.jpg: no site in the name: expected 2 pieces before `_`");
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn site_of(path: impl AsRef<Path>, pattern: &SitePattern) -> Result<String> {
    let path = path.as_ref();
    match pattern {
        SitePattern::Folder => match path.parent().and_then(Path::file_name) {
            Some(folder) => Ok(folder.to_string_lossy().into_owned()),
            None => Err(Error::format(path, None, "no site: expected the file in a folder")),
        },
        SitePattern::Prefix { delimiter, parts } => {
            if delimiter.is_empty() || *parts == 0 {
                let reason = format!("expected a delimiter and at least 1 part, got `{delimiter}` and {parts}");
                return Err(Error::parameter("pattern", reason));
            }
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            match stem.match_indices(delimiter.as_str()).nth(parts - 1) {
                Some((end, _)) if end > 0 => Ok(stem[..end].to_owned()),
                _ => {
                    let reason = format!("no site in the name: expected {parts} pieces before `{delimiter}`");
                    Err(Error::format(path, None, reason))
                }
            }
        }
    }
}

/// Splits samples into parts of about these shares, all samples of a site into the same part: photographs of one place
/// look alike, and a model that has seen the place is not tested.
///
/// `sites` holds the site of every sample, see [`site_of`]. Sites are dealt out in random order, each to the part that is
/// furthest behind its share, so a part misses its share by about one site at most. No part with a share is left empty.
///
/// # Errors
/// [`Error::InvalidParameter`] when the shares are not in 0..=1 or do not sum to 1; [`Error::InvalidInput`] when there
/// are fewer sites than parts with a share.
///
/// # Examples
/// ```
/// let sites = ["a", "a", "b", "b", "c", "c", "d", "d"];
/// let [train, test] = coral_io::split_by_site(&sites, [0.75, 0.25], 3)?;
/// assert_eq!((train.len(), test.len()), (6, 2));
/// assert_eq!(sites[test[0]], sites[test[1]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn split_by_site<const N: usize>(
    sites: &[impl AsRef<str>],
    fractions: [f64; N],
    seed: u64,
) -> Result<[Vec<usize>; N]> {
    check_fractions(&fractions)?;
    let mut by_site: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, site) in sites.iter().enumerate() {
        by_site.entry(site.as_ref()).or_default().push(index);
    }
    let mut groups: Vec<_> = by_site.into_values().collect();
    let wanted = fractions.iter().filter(|&&share| share > 0.0).count();
    if groups.len() < wanted {
        let reason = format!("{} sites cannot fill {wanted} parts: expected one for each at least", groups.len());
        return Err(Error::input("sites", reason));
    }
    SeededRng::new(seed).shuffle(&mut groups);
    let mut parts: [Vec<usize>; N] = std::array::from_fn(|_| Vec::new());
    let mut remaining = groups.len();
    for samples in groups {
        let open = |part: usize| fractions[part] > 0.0 && parts[part].is_empty();
        let must_open = (0..N).filter(|&part| open(part)).count() >= remaining;
        let behind = |part: usize| fractions[part] * sites.len() as f64 - parts[part].len() as f64;
        let candidates = (0..N).filter(|&part| fractions[part] > 0.0 && (!must_open || open(part)));
        let furthest = candidates.rev().max_by(|&a, &b| behind(a).total_cmp(&behind(b))).unwrap_or(0);
        parts[furthest].extend(samples);
        remaining -= 1;
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sites_stay_together(
            sites in proptest::collection::vec("[a-h]", 3..150),
            weights in proptest::array::uniform3(0u32..20),
            seed in any::<u64>(),
        ) {
            prop_assume!(weights.iter().sum::<u32>() > 0);
            let fractions = weights.map(|weight| f64::from(weight) / f64::from(weights.iter().sum::<u32>()));
            let distinct: std::collections::BTreeSet<_> = sites.iter().collect();
            let wanted = weights.iter().filter(|&&weight| weight > 0).count();
            let split = split_by_site(&sites, fractions, seed);
            if distinct.len() < wanted {
                prop_assert!(split.unwrap_err().to_string().contains("cannot fill"));
                return Ok(());
            }
            let parts = split.unwrap();
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..sites.len()).collect::<Vec<_>>());
            assert_eq!(&parts, &split_by_site(&sites, fractions, seed).unwrap());
            for site in distinct {
                let holding = parts.iter().filter(|part| part.iter().any(|&index| sites[index] == *site)).count();
                prop_assert_eq!(holding, 1);
            }
            for (part, share) in parts.iter().zip(fractions) {
                prop_assert_eq!(part.is_empty(), share == 0.0);
            }
        }

        #[test]
        fn many_small_sites_come_close_to_the_shares(seed in any::<u64>()) {
            let sites: Vec<String> = (0..300).map(|index| (index / 3).to_string()).collect();
            let fractions = [0.7, 0.15, 0.15];
            let parts = split_by_site(&sites, fractions, seed).unwrap();
            for (part, share) in parts.iter().zip(fractions) {
                prop_assert!((part.len() as f64 - share * 300.0).abs() <= 3.0);
            }
        }
    }

    #[test]
    fn seeds_differ() {
        let sites: Vec<String> = (0..40).map(|index| (index % 10).to_string()).collect();
        assert_ne!(split_by_site(&sites, [0.5, 0.5], 1).unwrap(), split_by_site(&sites, [0.5, 0.5], 2).unwrap());
        assert!(split_by_site(&sites, [0.5, 0.1], 1).unwrap_err().to_string().contains("`fractions`"));
        assert!(split_by_site(&[] as &[&str], [1.0, 0.0], 1).unwrap_err().to_string().contains("0 sites"));
    }

    #[test]
    fn names_without_a_site_are_named() {
        let prefix = |parts| SitePattern::Prefix { delimiter: "_".into(), parts };
        assert_eq!(site_of("x/é_b_c.jpg", &prefix(1)).unwrap(), "é");
        for name in ["abc.jpg", "_abc.jpg"] {
            assert!(site_of(name, &prefix(1)).unwrap_err().to_string().contains("expected 1 pieces before `_`"));
        }
        assert!(site_of("a_b.jpg", &prefix(0)).unwrap_err().to_string().contains("`pattern`"));
        assert!(
            site_of("a.jpg", &SitePattern::Folder).unwrap_err().to_string().contains("expected the file in a folder")
        );
        let empty = SitePattern::Prefix { delimiter: String::new(), parts: 1 };
        assert!(site_of("a_b.jpg", &empty).is_err());
    }
}
