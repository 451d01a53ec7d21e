use coral_core::{Error, PointPropagator, Result};

use crate::{
    Ensemble, GaussianProcessPropagator, GeodesicPropagator, InverseDistancePropagator, KnnPropagator,
    LargestClassPropagator, LinearPropagator, MultiLevelConfig, MultiLevelPropagator, NearestPropagator,
    SuperpixelPropagator,
};

/// A point propagator that can be asked for by name, with its default settings.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// The name, e.g. `inverse-distance`.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    build: fn() -> Result<Box<dyn PointPropagator>>,
}

impl Method {
    /// The propagator.
    ///
    /// # Errors
    /// Never with the settings of this crate; propagators check their configuration when they are made.
    pub fn build(&self) -> Result<Box<dyn PointPropagator>> {
        (self.build)()
    }
}

/// The propagator that a new user should just use: the best of [`METHODS`] in mean IoU and in accuracy, on real
/// mosaics and on the synthetic reef, at 25, 100 and 300 points.
pub type DefaultPropagator = GaussianProcessPropagator;

/// The name of [`DefaultPropagator`] among the [`METHODS`].
pub const DEFAULT_METHOD: &str = "gaussian-process";

/// Every point propagator of this crate, the baselines first.
pub const METHODS: &[Method] = &[
    Method {
        name: "largest-class",
        summary: "the class of most points everywhere (baseline)",
        build: || Ok(Box::new(LargestClassPropagator)),
    },
    Method {
        name: "nearest",
        summary: "the class of the nearest point (baseline)",
        build: || Ok(Box::new(NearestPropagator)),
    },
    Method {
        name: "inverse-distance",
        summary: "the 4 nearest points vote with the inverse 4th power of their distance",
        build: || Ok(Box::<InverseDistancePropagator>::default()),
    },
    Method {
        name: "linear",
        summary: "linear interpolation on the Delaunay triangulation",
        build: || Ok(Box::new(LinearPropagator)),
    },
    Method {
        name: "geodesic",
        summary: "the point nearest along paths that avoid edges of the image",
        build: || Ok(Box::<GeodesicPropagator>::default()),
    },
    Method {
        name: "superpixels",
        summary: "majority class of each SLIC superpixel",
        build: || Ok(Box::<SuperpixelPropagator>::default()),
    },
    Method {
        name: "multi-level",
        summary: "superpixels of 15 sizes, filled from fine to coarse",
        build: || Ok(Box::<MultiLevelPropagator>::default()),
    },
    Method {
        name: "fast-mss",
        summary: "superpixels of 15 sizes, the most frequent class over the levels",
        build: || Ok(Box::new(MultiLevelPropagator::new(MultiLevelConfig::fast_mss())?)),
    },
    Method {
        name: "knn",
        summary: "the point most alike in colour and texture, with some weight on position",
        build: || Ok(Box::<KnnPropagator>::default()),
    },
    Method {
        name: "vote",
        summary: "majority of geodesic, knn, multi-level, fast-mss and superpixels",
        build: || {
            let members: [Box<dyn PointPropagator>; 5] = [
                Box::<GeodesicPropagator>::default(),
                Box::<KnnPropagator>::default(),
                Box::<MultiLevelPropagator>::default(),
                Box::new(MultiLevelPropagator::new(MultiLevelConfig::fast_mss())?),
                Box::<SuperpixelPropagator>::default(),
            ];
            Ok(Box::new(Ensemble::new(members.into())?))
        },
    },
    Method {
        name: DEFAULT_METHOD,
        summary: "Gaussian-process regression on position, colour and texture, smoothed over superpixels",
        build: || Ok(Box::<DefaultPropagator>::default()),
    },
];

/// The propagator of this name.
///
/// # Errors
/// [`Error::InvalidParameter`] listing the names that exist.
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, image::RgbImage, ndarray::array};
/// let points = [PointLabel { x: 0, y: 0, class: 3 }];
/// let labels = coral_weak::propagator("largest-class")?.propagate(&RgbImage::new(2, 1), &points)?;
/// assert_eq!(labels, array![[3, 3]]);
/// assert!(coral_weak::propagator("magic").is_err());
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn propagator(name: &str) -> Result<Box<dyn PointPropagator>> {
    let method = METHODS.iter().find(|method| method.name == name).ok_or_else(|| {
        let names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        Error::parameter("method", format!("expected one of {}, got {name}", names.join(", ")))
    })?;
    method.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::testing::check_point_propagator;

    #[test]
    fn every_method_keeps_the_contract() {
        for method in METHODS {
            let checked = check_point_propagator(&method.build().unwrap());
            assert!(checked.is_ok(), "{}: {checked:?}", method.name);
        }
    }

    #[cfg(feature = "rayon")]
    #[test]
    fn no_method_depends_on_the_number_of_threads() {
        use coral_core::image::{Rgb, RgbImage};
        use coral_core::{PointLabel, SeededRng};
        let mut rng = SeededRng::new(6);
        let image = RgbImage::from_fn(173, 131, |x, y| {
            Rgb([(x / 20 * 23) as u8, (y / 15 * 17) as u8, 60].map(|level: u8| level + rng.below(40) as u8))
        });
        let points: Vec<_> =
            (0..70).map(|i| PointLabel { x: i * 41 % 173, y: i * 29 % 131, class: (i % 6) as u8 }).collect();
        for method in METHODS {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| method.build().unwrap().propagate(&image, &points).unwrap())
            };
            let one = run(1);
            assert!(one == run(2) && one == run(3), "{}", method.name);
        }
    }

    #[test]
    fn names_are_unique_and_the_default_is_among_them() {
        let mut names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        assert!(names.contains(&DEFAULT_METHOD));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len());
    }

    #[test]
    fn unknown_names_are_told_the_known_ones() {
        let error = propagator("voronoi").err().unwrap().to_string();
        assert!(error.contains("expected one of largest-class, ") && error.ends_with("got voronoi"), "{error}");
    }
}
