//! The conformance suites accept right implementations and reject each kind of wrong one.

use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::Array2;
use coral_core::testing::{MetricSuite, check_dataset, check_metric, check_point_propagator, check_segmenter};
use coral_core::{
    Dataset, Error, LabelMap, Metric, PointLabel, PointPropagator, ProbMap, Result, Segmenter, Size, validate_points,
};

/// Nearest labelled point by brute force; ties go to the smallest (y, x).
fn nearest(image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
    validate_points(points, Size::of(image))?;
    Ok(Array2::from_shape_fn(Size::of(image).shape(), |(y, x)| {
        let key = |p: &PointLabel| (p.x.abs_diff(x as u32).pow(2) + p.y.abs_diff(y as u32).pow(2), p.y, p.x);
        points.iter().min_by_key(|p| key(p)).map_or(0, |p| p.class)
    }))
}

struct Wrong<F>(F);

impl<F: Fn(&RgbImage, &[PointLabel]) -> Result<LabelMap> + Send + Sync> PointPropagator for Wrong<F> {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        (self.0)(image, points)
    }
}

fn violations(f: impl Fn(&RgbImage, &[PointLabel]) -> Result<LabelMap> + Send + Sync) -> String {
    check_point_propagator(&Wrong(f)).unwrap_err().to_string()
}

#[test]
fn a_right_propagator_passes() {
    check_point_propagator(&Wrong(nearest)).unwrap();
    // References and boxes are propagators too.
    let boxed: Box<dyn PointPropagator> = Box::new(Wrong(nearest));
    check_point_propagator(&&boxed).unwrap();
}

#[test]
fn wrong_propagators_are_rejected() {
    let text = violations(|image, points| Ok(nearest(image, points)?.mapv(|id| if id == 7 { 6 } else { id })));
    assert!(text.contains("lost its class") && text.contains("not among the points"), "{text}");

    let text = violations(|image, points| {
        let mut labels = nearest(image, points)?;
        let free = (0..labels.len()).find(|i| {
            let (y, x) = (i / labels.ncols(), i % labels.ncols());
            points.iter().all(|p| (p.x as usize, p.y as usize) != (x, y))
        });
        if let Some(i) = free {
            let columns = labels.ncols();
            labels[[i / columns, i % columns]] = 255;
        }
        Ok(labels)
    });
    assert!(text.contains("class Some(255) is not among the points"), "{text}");

    let text = violations(|image, points| {
        validate_points(points, Size::of(image))?;
        let mut labels = Array2::from_elem(Size::of(image).shape(), points[0].class);
        points.iter().for_each(|p| labels[[p.y as usize, p.x as usize]] = p.class);
        Ok(labels)
    });
    assert!(text.contains("reversing the points changes the result"), "{text}");

    let calls = std::sync::atomic::AtomicUsize::new(0);
    let text = violations(|image, points| {
        let mut labels = nearest(image, points)?;
        let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if points.len() == 2 {
            labels.fill(points[call % 2].class);
        }
        Ok(labels)
    });
    assert!(text.contains("two runs differ"), "{text}");

    let text = violations(|image, points| Ok(nearest(image, points)?.reversed_axes()));
    assert!(text.contains("the label map is 1x23"), "{text}");

    let text = violations(|image, points| {
        if image.width() == image.height() { nearest(image, points) } else { Err(Error::input("image", "not square")) }
    });
    assert!(text.contains("valid input is refused"), "{text}");

    let text = violations(|image, points| {
        let inside: Vec<_> = points.iter().copied().filter(|p| Size::of(image).contains(p.x, p.y)).collect();
        if inside.is_empty() { Ok(Array2::zeros(Size::of(image).shape())) } else { nearest(image, &inside) }
    });
    assert!(text.contains("no points: accepted") && text.contains("right of the image: accepted"), "{text}");
}

/// Share of equal entries.
#[derive(Debug, Clone, Default)]
struct Agreement {
    equal: u64,
    all: u64,
}

impl Metric for Agreement {
    type Prediction = [u8];
    type Target = [u8];
    type Output = Option<f64>;

    fn update(&mut self, prediction: &[u8], target: &[u8]) -> Result<()> {
        if prediction.len() != target.len() {
            return Err(Error::shape("target", prediction.len().to_string(), target.len().to_string()));
        }
        self.equal += prediction.iter().zip(target).filter(|(a, b)| a == b).count() as u64;
        self.all += prediction.len() as u64;
        Ok(())
    }
    fn merge(&mut self, other: &Self) -> Result<()> {
        self.equal += other.equal;
        self.all += other.all;
        Ok(())
    }
    fn compute(&self) -> Option<f64> {
        (self.all > 0).then(|| self.equal as f64 / self.all as f64)
    }
    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A metric whose operations can be replaced one at a time.
struct Broken {
    inner: Agreement,
    fault: &'static str,
}

impl Metric for Broken {
    type Prediction = [u8];
    type Target = [u8];
    type Output = Option<f64>;

    fn update(&mut self, prediction: &[u8], target: &[u8]) -> Result<()> {
        match self.fault {
            "ignores" => Ok(()),
            "keeps the last" => {
                self.inner.reset();
                self.inner.update(prediction, target)
            }
            "accepts" => self.inner.update(prediction, &target[..prediction.len().min(target.len())]).or(Ok(())),
            "half updates" => {
                self.inner.all += 1;
                self.inner.update(prediction, target)?;
                self.inner.all -= 1;
                Ok(())
            }
            _ => self.inner.update(prediction, target),
        }
    }
    fn merge(&mut self, other: &Self) -> Result<()> {
        if self.fault == "merges means" {
            self.inner.equal += other.inner.equal.min(1);
            self.inner.all += other.inner.all.min(1);
            return Ok(());
        }
        self.inner.merge(&other.inner)
    }
    fn compute(&self) -> Option<f64> {
        self.inner.compute()
    }
    fn reset(&mut self) {
        if self.fault != "never resets" {
            self.inner.reset();
        }
    }
}

fn metric_violations(fault: &'static str) -> Option<String> {
    let suite = MetricSuite {
        new: || Broken { inner: Agreement::default(), fault },
        samples: vec![(&[1, 2, 3][..], &[1, 2, 4][..]), (&[0; 5], &[0; 5]), (&[9], &[8])],
        invalid: (&[1, 2][..], &[1][..]),
        same: |a: &Option<f64>, b: &Option<f64>| a == b,
    };
    check_metric(suite).err().map(|violations| violations.to_string())
}

#[test]
fn metrics_are_told_apart() {
    assert_eq!(metric_violations("none"), None);
    for (fault, expected) in [
        ("ignores", "no sample has any influence"),
        ("keeps the last", "merging differs from concatenation"),
        ("accepts", "an invalid sample is accepted"),
        ("half updates", "a refused sample changes the result"),
        ("merges means", "merging differs from concatenation"),
        ("never resets", "reset does not forget"),
    ] {
        let text = metric_violations(fault).unwrap_or_default();
        assert!(text.contains(expected), "{fault}: {text}");
    }
}

struct Numbers {
    fault: &'static str,
    loads: std::sync::atomic::AtomicUsize,
}

impl Dataset for Numbers {
    type Item = usize;

    fn len(&self) -> usize {
        5
    }
    fn get(&self, index: usize) -> Result<usize> {
        let load = self.loads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match self.fault {
            "streams" => Ok(load),
            "clamps" => Ok(index.min(4)),
            _ if index < 5 => Ok(index * index),
            _ => Err(Error::IndexOutOfRange { what: "numbers".into(), index, len: 5 }),
        }
    }
    fn name(&self, index: usize) -> Result<String> {
        match self.fault {
            "same names" if index < 5 => Ok("number".into()),
            "paths" if index < 5 => Ok(format!("a/{index}")),
            _ => self.get(index).map(|_| index.to_string()),
        }
    }
}

#[test]
fn datasets_are_told_apart() {
    let check = |fault| check_dataset(&Numbers { fault, loads: 0.into() }, |a, b| a == b);
    check("none").unwrap();
    for (fault, expected) in [
        ("streams", "gives another sample the second time"),
        ("clamps", "get(5) succeeds with 5 samples"),
        ("same names", "occurs twice"),
        ("paths", "not fit for a file"),
    ] {
        let text = check(fault).unwrap_err().to_string();
        assert!(text.contains(expected), "{fault}: {text}");
    }
}

#[test]
fn flat_images_are_images() {
    let image = RgbImage::from_pixel(3, 2, Rgb([1, 2, 3]));
    assert_eq!(nearest(&image, &[PointLabel { x: 0, y: 0, class: 4 }]).unwrap(), Array2::from_elem((2, 3), 4));
}

/// Probabilities by brightness, with something wrong.
struct Brightness(&'static str, std::sync::atomic::AtomicUsize);

impl Segmenter for Brightness {
    fn num_classes(&self) -> usize {
        2
    }

    fn segment(&self, image: &RgbImage) -> Result<ProbMap> {
        let Size { width, height } = Size::of(image);
        let call = self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match self.0 {
            "empty" => {}
            _ if width == 0 || height == 0 => return Err(Error::input("image", "no pixels")),
            "square" if width != height => return Err(Error::input("image", "not square")),
            "pixel" if width * height == 1 => return Ok(ProbMap::zeros((2, 2, 2))),
            "small" if width * height == 1 => return Err(Error::input("image", "too small")),
            _ => {}
        }
        Ok(ProbMap::from_shape_fn((2, height as usize, width as usize), |(class, y, x)| {
            let light = f32::from(image.get_pixel(x as u32, y as u32).0[1]) / 255.0;
            let share = if class == 0 { light } else { 1.0 - light };
            match self.0 {
                "logits" => 9.0 * share,
                "twice" => 0.9 * share,
                "restless" if call % 2 == 1 => 0.5,
                _ => share,
            }
        }))
    }
}

#[test]
fn segmenters_are_told_apart() {
    let check = |fault| check_segmenter(&Brightness(fault, 0.into()), Size { width: 9, height: 7 });
    check("none").unwrap();
    check("small").unwrap();
    for (fault, expected) in [
        ("empty", "0x7 image: accepted, expected an error"),
        ("square", "14x7 image: valid input is refused: invalid input `image`: not square"),
        ("pixel", "1x1 image: the map has shape [2, 2, 2], expected [2, 1, 1]"),
        ("logits", "a probability is"),
        ("twice", "sum to 0.9"),
        ("restless", "two runs differ"),
    ] {
        let text = check(fault).unwrap_err().to_string();
        assert!(text.contains(expected), "{fault}: {text}");
    }
}
