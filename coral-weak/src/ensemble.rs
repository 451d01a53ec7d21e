use coral_core::image::RgbImage;
use coral_core::{Error, LabelMap, PointLabel, PointPropagator, Result, Size, UNLABELED};

use crate::parallel::{BAND_ROWS, for_each_chunk};

/// The class that most of the maps give to each pixel; among classes with equally many votes the
/// one that the earliest map votes for.
///
/// [`UNLABELED`] is no vote; a pixel without any vote stays [`UNLABELED`].
///
/// # Errors
/// [`Error::InvalidInput`] without maps, [`Error::ShapeMismatch`] when they differ in size.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::vote_labels;
/// let voted = vote_labels(&[array![[1, 3, 255, 255]], array![[2, 4, 255, 9]], array![[2, 5, 255, 8]]])?;
/// assert_eq!(voted, array![[2, 3, 255, 9]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn vote_labels(maps: &[LabelMap]) -> Result<LabelMap> {
    let [first, others @ ..] = maps else {
        return Err(Error::input("maps", "at least one label map is needed, got none"));
    };
    let size = Size::of_map(first);
    for (index, map) in others.iter().enumerate() {
        size.expect(&format!("label map {}", index + 1), Size::of_map(map))?;
    }
    let maps: Vec<_> = maps.iter().map(|map| map.as_standard_layout()).collect();
    let ballots: Vec<_> = maps.iter().filter_map(|map| map.as_slice()).collect();
    let mut voted = LabelMap::from_elem(size.shape(), UNLABELED);
    let band = BAND_ROWS * size.width as usize;
    if let Some(voted) = voted.as_slice_mut() {
        for_each_chunk(voted, band, |index, voted| {
            let mut votes = [0u32; 256];
            for (offset, voted) in voted.iter_mut().enumerate() {
                *voted = winner(&ballots, index * band + offset, &mut votes);
            }
        });
    }
    Ok(voted)
}

/// The winner at one pixel; `votes` is all zero before and after.
fn winner(ballots: &[&[u8]], pixel: usize, votes: &mut [u32; 256]) -> u8 {
    let given = || ballots.iter().map(|map| map[pixel]).filter(|&class| class != UNLABELED);
    given().for_each(|class| votes[usize::from(class)] += 1);
    let (mut best, mut most) = (UNLABELED, 0);
    for class in given() {
        let count = votes[usize::from(class)];
        if count > most {
            (best, most) = (class, count);
        }
    }
    given().for_each(|class| votes[usize::from(class)] = 0);
    best
}

/// Several propagators that vote on every pixel, by the rules of [`vote_labels`]: put the one you trust
/// most first.
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, PointPropagator, image::RgbImage, ndarray::array};
/// use coral_weak::{Ensemble, InverseDistancePropagator, NearestPropagator};
/// let members: Vec<Box<dyn PointPropagator>> =
///     vec![Box::new(NearestPropagator), Box::new(InverseDistancePropagator::default())];
/// let ensemble = Ensemble::new(members)?;
/// let points = [PointLabel { x: 0, y: 0, class: 2 }, PointLabel { x: 3, y: 0, class: 5 }];
/// assert_eq!(ensemble.propagate(&RgbImage::new(4, 1), &points)?, array![[2, 2, 5, 5]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ensemble<T> {
    members: Vec<T>,
}

impl<T> Ensemble<T> {
    /// An ensemble of `members`; the order only matters for ties.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there is no member.
    pub fn new(members: Vec<T>) -> Result<Self> {
        if members.is_empty() {
            return Err(Error::parameter("members", "at least one is needed, got none"));
        }
        Ok(Self { members })
    }

    /// The members, in order of precedence.
    pub fn members(&self) -> &[T] {
        &self.members
    }
}

impl<T: PointPropagator> PointPropagator for Ensemble<T> {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        // One after the other: each member is parallel itself and may need much memory.
        let maps = self.members.iter().map(|member| member.propagate(image, points)).collect::<Result<Vec<_>>>()?;
        vote_labels(&maps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InverseDistancePropagator, NearestPropagator};
    use coral_core::testing::check_point_propagator;
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    #[test]
    fn keeps_the_contract() {
        let boxed: Vec<Box<dyn PointPropagator>> =
            vec![Box::new(InverseDistancePropagator::default()), Box::new(NearestPropagator)];
        check_point_propagator(&Ensemble::new(boxed).unwrap()).unwrap();
        check_point_propagator(&Ensemble::new(vec![NearestPropagator]).unwrap()).unwrap();
    }

    #[test]
    fn unusable_ensembles_are_refused() {
        let error = Ensemble::<NearestPropagator>::new(vec![]).unwrap_err().to_string();
        assert_eq!(error, "invalid parameter `members`: at least one is needed, got none");
        assert!(vote_labels(&[]).unwrap_err().to_string().contains("at least one label map"));
        let error = vote_labels(&[array![[1, 2]], array![[1], [2]]]).unwrap_err().to_string();
        assert_eq!(error, "label map 1: expected shape 2x1, got 1x2");
        assert_eq!(vote_labels(&[Array2::zeros((0, 5))]).unwrap().dim(), (0, 5));
    }

    proptest! {
        #[test]
        fn the_winner_is_the_most_frequent_and_then_the_earliest(
            votes in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 3, 254, 255]), 1..9)
        ) {
            let maps: Vec<_> = votes.iter().map(|&vote| Array2::from_elem((1, 1), vote)).collect();
            let count = |class: u8| votes.iter().filter(|&&vote| vote == class).count();
            let valid: Vec<u8> = votes.iter().copied().filter(|&vote| vote != UNLABELED).collect();
            let most = valid.iter().map(|&class| count(class)).max().unwrap_or(0);
            let expected = valid.iter().copied().find(|&class| count(class) == most).unwrap_or(UNLABELED);
            prop_assert_eq!(vote_labels(&maps).unwrap()[[0, 0]], expected);
        }
    }
}
