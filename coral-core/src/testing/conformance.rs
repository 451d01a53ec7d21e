use image::{Rgb, RgbImage};

use crate::{ClassId, Dataset, Error, LabelMap, Metric, PointLabel, PointPropagator, SeededRng, Size};

/// What an implementation does against the contract of its trait; empty lists are never returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(pub Vec<String>);

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Violations {}

#[derive(Default)]
pub(super) struct Findings(Vec<String>);

impl Findings {
    pub(super) fn expect(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.0.push(violation());
        }
    }

    pub(super) fn finish(self) -> Result<(), Violations> {
        if self.0.is_empty() { Ok(()) } else { Err(Violations(self.0)) }
    }
}

/// A textured picture with a few coloured patches, so that image-driven methods have edges to follow.
pub(super) fn scene(size: Size, seed: u64) -> RgbImage {
    let mut rng = SeededRng::new(seed);
    RgbImage::from_fn(size.width, size.height, |x, y| {
        let patch = (x / 9 + 2 * (y / 7)) % 3;
        let base = [[40, 90, 120], [190, 170, 120], [90, 130, 60]][patch as usize];
        Rgb(base.map(|level: u8| level.saturating_add(rng.below(25) as u8)))
    })
}

fn scatter(size: Size, count: usize, classes: &[ClassId], seed: u64) -> Vec<PointLabel> {
    let mut rng = SeededRng::new(seed);
    let pixels = rng.sample_indices(size.pixels(), count);
    let at = |(i, pixel): (usize, usize)| PointLabel {
        x: (pixel % size.width as usize) as u32,
        y: (pixel / size.width as usize) as u32,
        class: classes[i % classes.len()],
    };
    pixels.into_iter().enumerate().map(at).collect()
}

/// Runs a [`PointPropagator`] through its contract: labelled pixels keep their class, no class is
/// invented (including [`UNLABELED`](crate::UNLABELED)), the order and repetition of points do not matter, two
/// runs agree, no points or unusable points are an error, and 1×1, one-row, non-square and flat
/// images work.
///
/// # Errors
/// Every violation found.
///
/// # Examples
/// ```
/// use coral_core::{LabelMap, PointLabel, PointPropagator, Result, image::RgbImage, testing::check_point_propagator};
/// struct AlwaysZero;
/// impl PointPropagator for AlwaysZero {
///     fn propagate(&self, image: &RgbImage, _: &[PointLabel]) -> Result<LabelMap> {
///         Ok(LabelMap::zeros((image.height() as usize, image.width() as usize)))
///     }
/// }
/// assert!(check_point_propagator(&AlwaysZero).is_err());
/// ```
pub fn check_point_propagator(propagator: &dyn PointPropagator) -> Result<(), Violations> {
    let mut findings = Findings::default();
    let size = |width, height| Size { width, height };
    let cases: [(Size, usize, &[ClassId]); 8] = [
        (size(1, 1), 1, &[7]),
        (size(23, 1), 4, &[3, 0]),
        (size(1, 19), 3, &[254, 1]),
        (size(2, 2), 4, &[0, 1, 2]),
        (size(47, 31), 1, &[5]),
        (size(47, 31), 2, &[5, 9]),
        (size(37, 64), 30, &[0, 2, 254]),
        (size(64, 37), 200, &[1, 2, 3, 4, 40]),
    ];
    for (index, (size, count, classes)) in cases.into_iter().enumerate() {
        let points = scatter(size, count, classes, 11 + index as u64);
        check_propagation(propagator, &scene(size, index as u64), &points, &mut findings);
    }
    let flat = RgbImage::from_pixel(20, 33, Rgb([80, 80, 80]));
    check_propagation(propagator, &flat, &scatter(Size::of(&flat), 6, &[2, 1], 3), &mut findings);
    let collinear: Vec<_> = (0..10).map(|i| PointLabel { x: 2 * i, y: 12, class: (i % 3) as u8 }).collect();
    check_propagation(propagator, &flat, &collinear, &mut findings);
    check_refusals(propagator, &mut findings);
    findings.finish()
}

fn check_propagation(
    propagator: &dyn PointPropagator,
    image: &RgbImage,
    points: &[PointLabel],
    findings: &mut Findings,
) {
    let size = Size::of(image);
    let case = format!("{size} image, {} points", points.len());
    let labels = match propagator.propagate(image, points) {
        Ok(labels) => labels,
        Err(error) => return findings.expect(false, || format!("{case}: valid input is refused: {error}")),
    };
    if Size::of_map(&labels) != size {
        return findings.expect(false, || format!("{case}: the label map is {}", Size::of_map(&labels)));
    }
    let moved = points.iter().find(|p| labels[[p.y as usize, p.x as usize]] != p.class);
    findings.expect(moved.is_none(), || format!("{case}: a labelled pixel lost its class: {moved:?}"));
    let invented = labels.iter().find(|&&id| points.iter().all(|p| p.class != id));
    findings.expect(invented.is_none(), || format!("{case}: class {invented:?} is not among the points"));

    let same = |points: &[PointLabel]| propagator.propagate(image, points).is_ok_and(|again: LabelMap| again == labels);
    findings.expect(same(points), || format!("{case}: two runs differ"));
    let mut reordered = points.to_vec();
    reordered.reverse();
    findings.expect(same(&reordered), || format!("{case}: reversing the points changes the result"));
    SeededRng::new(5).shuffle(&mut reordered);
    reordered.push(points[0]);
    findings.expect(same(&reordered), || format!("{case}: shuffling and repeating points changes the result"));
}

fn check_refusals(propagator: &dyn PointPropagator, findings: &mut Findings) {
    let image = scene(Size { width: 12, height: 8 }, 1);
    let at = |x, y, class| PointLabel { x, y, class };
    let refused: [(&str, Vec<PointLabel>); 5] = [
        ("no points", vec![]),
        ("a point right of the image", vec![at(1, 1, 0), at(12, 0, 0)]),
        ("a point below the image", vec![at(0, 8, 0)]),
        ("a point of class 255", vec![at(0, 0, 255)]),
        ("two classes for one pixel", vec![at(3, 3, 0), at(3, 3, 1)]),
    ];
    for (what, points) in refused {
        let answer = propagator.propagate(&image, &points);
        findings.expect(answer.is_err(), || format!("{what}: accepted, expected an error"));
    }
    let answer = propagator.propagate(&RgbImage::new(0, 0), &[at(0, 0, 0)]);
    findings.expect(answer.is_err(), || "an image without pixels: accepted, expected an error".into());
}

/// What [`check_metric`] needs to know about a metric.
#[derive(Debug)]
pub struct MetricSuite<'a, M: Metric, N, S> {
    /// Makes an empty accumulator.
    pub new: N,
    /// At least two different samples of prediction and target.
    pub samples: Vec<(&'a M::Prediction, &'a M::Target)>,
    /// A prediction and target that do not fit together.
    pub invalid: (&'a M::Prediction, &'a M::Target),
    /// Whether two results are the same (up to rounding, where the metric sums floats).
    pub same: S,
}

/// Runs a [`Metric`] through its contract: merging equals concatenation in any grouping, the order of
/// samples does not matter, samples do matter, `reset` gives a new accumulator, and
/// an invalid sample is an error that changes nothing.
///
/// # Errors
/// Every violation found.
pub fn check_metric<M, N, S>(suite: MetricSuite<'_, M, N, S>) -> Result<(), Violations>
where
    M: Metric,
    N: Fn() -> M,
    S: Fn(&M::Output, &M::Output) -> bool,
{
    let MetricSuite { new, samples, invalid, same } = suite;
    let mut findings = Findings::default();
    let fed = |part: &[(&M::Prediction, &M::Target)]| -> Result<M, Error> {
        let mut metric = new();
        part.iter().try_for_each(|(prediction, target)| metric.update(prediction, target))?;
        Ok(metric)
    };
    let run = || -> Result<Vec<(&'static str, bool)>, Error> {
        let whole = fed(&samples)?;
        let expected = whole.compute();
        let mut facts = vec![("compute changes the accumulator", same(&whole.compute(), &expected))];
        for cut in 0..=samples.len() {
            let mut left = fed(&samples[..cut])?;
            left.merge(&fed(&samples[cut..])?)?;
            facts.push(("merging differs from concatenation", same(&left.compute(), &expected)));
        }
        let backwards: Vec<_> = samples.iter().rev().copied().collect();
        facts.push(("the order of samples changes the result", same(&fed(&backwards)?.compute(), &expected)));
        let differs = (0..samples.len())
            .map(|i| Ok(!same(&fed(&samples[i..=i])?.compute(), &expected)))
            .collect::<Result<Vec<_>, Error>>()?;
        facts.push(("no sample has any influence", differs.contains(&true)));
        let mut reset = fed(&samples)?;
        reset.reset();
        facts.push(("reset does not forget", same(&reset.compute(), &new().compute())));
        let mut refused = fed(&samples)?;
        facts.push(("an invalid sample is accepted", refused.update(invalid.0, invalid.1).is_err()));
        facts.push(("a refused sample changes the result", same(&refused.compute(), &expected)));
        Ok(facts)
    };
    match run() {
        Ok(facts) => facts.into_iter().for_each(|(what, holds)| findings.expect(holds, || what.into())),
        Err(error) => findings.expect(false, || format!("a valid sample or merge is refused: {error}")),
    }
    findings.finish()
}

/// Runs a [`Dataset`] through its contract: every index below `len` loads, loads the same
/// sample twice and in any order, names are unique, usable as file names and stable, and indices past the end are errors.
///
/// # Errors
/// Every violation found.
pub fn check_dataset<D: Dataset>(dataset: &D, same: impl Fn(&D::Item, &D::Item) -> bool) -> Result<(), Violations> {
    let mut findings = Findings::default();
    let len = dataset.len();
    findings.expect(dataset.is_empty() == (len == 0), || "is_empty disagrees with len".into());
    let mut names = std::collections::HashSet::new();
    let mut first_pass = Vec::new();
    for index in 0..len {
        match dataset.name(index) {
            Ok(name) => {
                let usable = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']);
                findings.expect(usable, || format!("the name {name:?} is not fit for a file"));
                findings.expect(dataset.name(index).ok().as_ref() == Some(&name), || format!("name({index}) changes"));
                findings.expect(names.insert(name.clone()), || format!("the name {name:?} occurs twice"));
            }
            Err(error) => findings.expect(false, || format!("name({index}) fails: {error}")),
        }
        match dataset.get(index) {
            Ok(item) => first_pass.push((index, item)),
            Err(error) => findings.expect(false, || format!("get({index}) fails: {error}")),
        }
    }
    for (index, item) in first_pass.iter().rev() {
        let again = dataset.get(*index).is_ok_and(|again| same(&again, item));
        findings.expect(again, || format!("get({index}) gives another sample the second time"));
    }
    for past in [len, len + 1, usize::MAX] {
        findings.expect(dataset.get(past).is_err(), || format!("get({past}) succeeds with {len} samples"));
        findings.expect(dataset.name(past).is_err(), || format!("name({past}) succeeds with {len} samples"));
    }
    findings.finish()
}
