use std::collections::BTreeMap;

use coral_core::{ClassId, Error, Result, SeededRng};

use super::check_fractions;

/// Splits samples 0..`len` at random into parts of these shares, e.g. training, validation and test.
///
/// Every sample is in exactly one part; indices ascend within a part. A part's size differs from its share by less than
/// one sample. Equal seeds give equal splits.
///
/// # Errors
/// [`Error::InvalidParameter`] when the shares are not in 0..=1 or do not sum to 1.
///
/// # Examples
/// ```
/// let [train, test] = coral_io::split_by_seed(10, [0.7, 0.3], 1)?;
/// assert_eq!((train.len(), test.len()), (7, 3));
/// assert!(train.iter().all(|index| !test.contains(index)));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn split_by_seed<const N: usize>(len: usize, fractions: [f64; N], seed: u64) -> Result<[Vec<usize>; N]> {
    split_groups(vec![(0..len).collect()], fractions, seed)
}

/// Splits samples as [`split_by_seed`] does, class by class, so that every part has about the same mixture of classes.
///
/// Of every class, a part has its share, rounded up or down; so a class of fewer samples than parts is missing in
/// some. What rounding leaves over goes to the part that is furthest behind its share of all samples.
///
/// # Errors
/// [`Error::InvalidParameter`] when the shares are not in 0..=1 or do not sum to 1.
///
/// # Examples
/// ```
/// let labels = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1];
/// let [train, test] = coral_io::split_by_class(&labels, [0.5, 0.5], 1)?;
/// let seagrass = |part: &[usize]| part.iter().filter(|&&index| labels[index] == 1).count();
/// assert_eq!((seagrass(&train), seagrass(&test)), (2, 2));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn split_by_class<const N: usize>(labels: &[ClassId], fractions: [f64; N], seed: u64) -> Result<[Vec<usize>; N]> {
    split_groups(by_class(labels), fractions, seed)
}

/// One round of cross-validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// The samples to train on, ascending.
    pub train: Vec<usize>,
    /// The samples to test on, ascending.
    pub test: Vec<usize>,
}

/// Splits samples into `k` folds of about the same mixture of classes, for cross-validation: every sample is tested once.
///
/// # Errors
/// [`Error::InvalidParameter`] when `k` is below 2 or above the number of samples.
///
/// # Examples
/// ```
/// let folds = coral_io::k_folds(&[0, 0, 0, 1, 1, 1], 3, 7)?;
/// assert_eq!(folds.len(), 3);
/// assert!(folds.iter().all(|fold| fold.test.len() == 2 && fold.train.len() == 4));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn k_folds(labels: &[ClassId], k: usize, seed: u64) -> Result<Vec<Fold>> {
    if !(2..=labels.len()).contains(&k) {
        let reason = format!("expected 2 to {} folds, one sample each at least, got {k}", labels.len());
        return Err(Error::parameter("k", reason));
    }
    let parts = deal(by_class(labels), &vec![1.0 / k as f64; k], seed);
    let mut part_of = vec![0; labels.len()];
    for (part, samples) in parts.iter().enumerate() {
        samples.iter().for_each(|&index| part_of[index] = part);
    }
    let others = |part: usize| (0..labels.len()).filter(|&index| part_of[index] != part).collect();
    Ok(parts.into_iter().enumerate().map(|(part, test)| Fold { train: others(part), test }).collect())
}

/// The samples of each class.
fn by_class(labels: &[ClassId]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<ClassId, Vec<usize>> = BTreeMap::new();
    for (index, &label) in labels.iter().enumerate() {
        groups.entry(label).or_default().push(index);
    }
    groups.into_values().collect()
}

fn split_groups<const N: usize>(groups: Vec<Vec<usize>>, fractions: [f64; N], seed: u64) -> Result<[Vec<usize>; N]> {
    check_fractions(&fractions)?;
    let mut parts = deal(groups, &fractions, seed).into_iter();
    Ok(std::array::from_fn(|_| parts.next().unwrap_or_default()))
}

/// Deals the samples of every group out to parts: whole shares first, then what is left over, one
/// sample to a part at most, to the parts that are furthest behind over all groups so far.
fn deal(groups: Vec<Vec<usize>>, fractions: &[f64], seed: u64) -> Vec<Vec<usize>> {
    let mut rng = SeededRng::new(seed);
    let mut parts = vec![Vec::new(); fractions.len()];
    let mut dealt = 0;
    for mut samples in groups {
        rng.shuffle(&mut samples);
        dealt += samples.len();
        // A share of 0.7 of 10 samples is 7, not 6.999…
        let whole = |share: f64| (share * samples.len() as f64 + 1e-9).floor() as usize;
        let mut counts: Vec<usize> = fractions.iter().map(|&share| whole(share)).collect();
        let left = samples.len().saturating_sub(counts.iter().sum());
        let behind = |part: usize| fractions[part] * dealt as f64 - (parts[part].len() + counts[part]) as f64;
        let mut order: Vec<(f64, usize)> = (0..counts.len()).map(|part| (behind(part), part)).collect();
        order.retain(|&(_, part)| fractions[part] > 0.0);
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        order.iter().cycle().take(left).for_each(|&(_, part)| counts[part] += 1);
        let mut rest = samples.into_iter();
        for (part, count) in parts.iter_mut().zip(counts) {
            part.extend(rest.by_ref().take(count));
        }
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(labels: &[ClassId], part: &[usize], class: ClassId) -> f64 {
        part.iter().filter(|&&index| labels[index] == class).count() as f64
    }

    fn assert_partition(parts: &[Vec<usize>], len: usize) {
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..len).collect::<Vec<_>>());
        assert!(parts.iter().all(|part| part.is_sorted()));
    }

    proptest! {
        #[test]
        fn every_sample_is_in_one_part_and_shares_hold(
            labels in proptest::collection::vec(0u8..6, 0..200),
            weights in proptest::array::uniform3(0u32..20),
            seed in any::<u64>(),
        ) {
            prop_assume!(weights.iter().sum::<u32>() > 0);
            let fractions = weights.map(|weight| f64::from(weight) / f64::from(weights.iter().sum::<u32>()));
            let plain = split_by_seed(labels.len(), fractions, seed).unwrap();
            let parts = split_by_class(&labels, fractions, seed).unwrap();
            assert_partition(&plain, labels.len());
            assert_partition(&parts, labels.len());
            assert_eq!(&parts, &split_by_class(&labels, fractions, seed).unwrap());
            for (nth, &share) in fractions.iter().enumerate() {
                prop_assert!((plain[nth].len() as f64 - share * labels.len() as f64).abs() < 1.0 + 1e-6);
                prop_assert!((parts[nth].len() as f64 - share * labels.len() as f64).abs() < 3.0);
                for class in 0..6 {
                    let of_class = share * labels.iter().filter(|&&label| label == class).count() as f64;
                    prop_assert!((counts(&labels, &parts[nth], class) - of_class).abs() < 1.0 + 1e-6);
                }
            }
        }

        #[test]
        fn every_sample_is_tested_once(
            labels in proptest::collection::vec(0u8..4, 2..120),
            k in 2usize..9,
            seed in any::<u64>(),
        ) {
            prop_assume!(k <= labels.len());
            let folds = k_folds(&labels, k, seed).unwrap();
            assert_partition(&folds.iter().map(|fold| fold.test.clone()).collect::<Vec<_>>(), labels.len());
            for fold in &folds {
                prop_assert!(fold.train.is_sorted());
                let mut both = [fold.train.clone(), fold.test.clone()].concat();
                both.sort_unstable();
                assert_partition(&[both], labels.len());
                prop_assert!(!fold.test.is_empty() && !fold.train.is_empty());
            }
            assert_eq!(&folds, &k_folds(&labels, k, seed).unwrap());
        }
    }

    #[test]
    fn seeds_differ_and_rare_classes_are_spread() {
        let split = |seed| split_by_seed(40, [0.5, 0.5], seed).unwrap();
        assert_ne!(split(1), split(2));
        // Ten classes of three: leftovers do not all go to the same part.
        let labels: Vec<ClassId> = (0..30).map(|index| index / 3).collect();
        let [train, validation, test] = split_by_class(&labels, [0.6, 0.2, 0.2], 3).unwrap();
        assert_eq!((train.len(), validation.len(), test.len()), (18, 6, 6));
    }

    #[test]
    fn bad_shares_are_named() {
        for fractions in [[0.5, 0.6], [-0.1, 1.1], [f64::NAN, 1.0], [0.0, 0.0]] {
            let error = split_by_seed(9, fractions, 0).unwrap_err().to_string();
            assert!(error.contains("`fractions`: expected shares in 0..=1 that sum to 1"), "{error}");
        }
        assert!(split_by_seed(9, [], 0).is_err());
        assert!(split_by_seed(5, [0.0, 1.0], 0).unwrap()[0].is_empty());
        for k in [0, 1, 4] {
            assert!(k_folds(&[0, 1, 0], k, 0).unwrap_err().to_string().contains("`k`: expected 2 to 3 folds"));
        }
    }
}
