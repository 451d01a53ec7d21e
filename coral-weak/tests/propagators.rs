//! The contract of every interpolating propagator, and fast = naive.

use std::{cmp::Reverse, collections::BinaryHeap};

use coral_core::{
    LabelMap, PointLabel, PointPropagator, SeededRng, Size,
    image::{Rgb, RgbImage},
    testing::check_point_propagator,
};
use coral_weak::{
    GeodesicConfig, GeodesicPropagator, InverseDistanceConfig, InverseDistancePropagator, LinearPropagator,
    NearestPropagator, Neighbours, delaunay_triangles, distance_transform, geodesic_distance, geodesic_labels,
    inverse_distance, inverse_distance_labels, linear_labels, nearest_labels,
};
use ndarray::{Array2, Array3};
use proptest::prelude::*;

fn inverse(power: f64, neighbours: Neighbours) -> Box<dyn PointPropagator> {
    Box::new(InverseDistancePropagator::new(InverseDistanceConfig { power, neighbours }).unwrap())
}

#[test]
fn every_propagator_keeps_the_contract() {
    let geodesic = |lambda, smoothing| -> Box<dyn PointPropagator> {
        Box::new(GeodesicPropagator::new(GeodesicConfig { lambda, smoothing }).unwrap())
    };
    let propagators: Vec<(&str, Box<dyn PointPropagator>)> = vec![
        ("nearest", Box::new(NearestPropagator)),
        ("linear", Box::new(LinearPropagator)),
        ("inverse distance", Box::new(InverseDistancePropagator::default())),
        ("inverse distance, all", inverse(1.0, Neighbours::All)),
        ("inverse distance, near", inverse(4.0, Neighbours::Within(6.5))),
        ("inverse distance, one", inverse(3.3, Neighbours::Nearest(1))),
        ("geodesic", Box::new(GeodesicPropagator::default())),
        ("geodesic by length", geodesic(0.0, 0.0)),
        ("geodesic by colour", geodesic(0.99, 0.5)),
    ];
    for (name, propagator) in propagators {
        check_point_propagator(&propagator).unwrap_or_else(|violations| panic!("{name}: {violations}"));
    }
}

/// A size and points of a few classes, from a handful to nearly every pixel.
fn scenes() -> impl Strategy<Value = (Size, Vec<PointLabel>)> {
    (1u32..70, 1u32..70, 1usize..140, 1u8..6, any::<u64>()).prop_map(|(width, height, count, classes, seed)| {
        let size = Size { width, height };
        let mut rng = SeededRng::new(seed);
        // Every third scene on a lattice: many exact ties.
        let lattice = seed % 3 == 0;
        let mut points: Vec<PointLabel> = rng
            .sample_indices(size.pixels(), count)
            .into_iter()
            .map(|pixel| (pixel as u32 % width, pixel as u32 / width))
            .map(|(x, y)| if lattice { (x / 6 * 6, y / 6 * 6) } else { (x, y) })
            .map(|(x, y)| PointLabel { x, y, class: 0 })
            .collect();
        points.sort_unstable();
        points.dedup();
        points.iter_mut().for_each(|p| p.class = 10 * rng.below(usize::from(classes)) as u8);
        rng.shuffle(&mut points);
        (size, points)
    })
}

fn square(p: &PointLabel, x: usize, y: usize) -> i64 {
    (i64::from(p.x) - x as i64).pow(2) + (i64::from(p.y) - y as i64).pow(2)
}

fn naive_nearest(size: Size, points: &[PointLabel]) -> Array2<u32> {
    Array2::from_shape_fn(size.shape(), |(y, x)| {
        let key = |&i: &u32| (square(&points[i as usize], x, y), points[i as usize].y, points[i as usize].x);
        (0..points.len() as u32).min_by_key(key).unwrap()
    })
}

fn noise(size: Size, seed: u64) -> RgbImage {
    let mut rng = SeededRng::new(seed);
    // Few levels: flat regions, and many paths of equal cost.
    RgbImage::from_fn(size.width, size.height, |x, _| {
        Rgb([0, 1, 2].map(|_| 60 * rng.below(3) as u8 + if x > size.width / 2 { 70 } else { 0 }))
    })
}

/// Dijkstra with a heap: cheapest (cost, origin) per pixel.
fn dijkstra(image: &Array3<f32>, mut best: Array2<(f64, u32)>, lambda: f64) -> Array2<(f64, u32)> {
    let (height, width) = best.dim();
    // Costs are not negative, so their bits compare as they do.
    let mut heap: BinaryHeap<_> = best
        .indexed_iter()
        .filter(|(_, (cost, _))| cost.is_finite())
        .map(|((y, x), &(cost, origin))| Reverse((cost.to_bits(), origin, y, x)))
        .collect();
    while let Some(Reverse((bits, origin, y, x))) = heap.pop() {
        if (f64::from_bits(bits), origin) != best[[y, x]] {
            continue;
        }
        for v in y.saturating_sub(1)..(y + 2).min(height) {
            for u in x.saturating_sub(1)..(x + 2).min(width) {
                let length = (((u != x) as u8 + (v != y) as u8) as f64).sqrt();
                let difference: f32 = (0..image.dim().0).map(|c| (image[[c, y, x]] - image[[c, v, u]]).abs()).sum();
                let cost = f64::from_bits(bits) + ((1.0 - lambda) * length + lambda * f64::from(difference));
                if (v, u) != (y, x) && (cost, origin) < best[[v, u]] {
                    best[[v, u]] = (cost, origin);
                    heap.push(Reverse((cost.to_bits(), origin, v, u)));
                }
            }
        }
    }
    best
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn nearest_is_brute_force((size, points) in scenes()) {
        let naive = naive_nearest(size, &points);
        let transform = distance_transform(size, &points).unwrap();
        prop_assert_eq!(&transform.nearest, &naive);
        let labels = nearest_labels(size, &points).unwrap();
        for ((y, x), &index) in naive.indexed_iter() {
            let p = points[index as usize];
            prop_assert_eq!(labels[[y, x]], p.class);
            prop_assert_eq!(transform.distance[[y, x]], (square(&p, x, y) as f64).sqrt() as f32);
        }
    }

    #[test]
    fn inverse_distance_is_brute_force(
        (size, points) in scenes(),
        power in prop_oneof![Just(1.0), Just(2.0), Just(4.0), 0.5..6.0],
        neighbours in prop_oneof![
            Just(Neighbours::All), (1usize..20).prop_map(Neighbours::Nearest), (1.0..30.0).prop_map(Neighbours::Within)
        ],
    ) {
        let config = InverseDistanceConfig { power, neighbours };
        let labels = inverse_distance_labels(size, &points, &config).unwrap();
        // One channel per class: the general function in 64-bit floats is the reference.
        let mut classes: Vec<u8> = points.iter().map(|p| p.class).collect();
        classes.sort_unstable();
        classes.dedup();
        let places = Array2::from_shape_fn((points.len(), 2), |(i, axis)| f64::from([points[i].x, points[i].y][axis]));
        let votes = Array2::from_shape_fn((points.len(), classes.len()), |(i, c)| f64::from(points[i].class == classes[c]));
        let width = size.width as usize;
        let pixels = Array2::from_shape_fn((size.pixels(), 2), |(i, axis)| [i % width, i / width][axis] as f64);
        let shares = inverse_distance(places.view(), votes.view(), pixels.view(), &config).unwrap();
        let nearest = nearest_labels(size, &points).unwrap();
        for ((y, x), &label) in labels.indexed_iter() {
            let share = shares.row(y * width + x);
            if share[0].is_nan() {
                prop_assert_eq!(label, nearest[[y, x]]);
                continue;
            }
            let best = share.iter().copied().fold(0.0, f64::max);
            let mine = share[classes.iter().position(|&c| c == label).unwrap()];
            // Sums that agree to a few 32-bit roundings may go either way.
            prop_assert!(mine >= best - 2e-5, "({}, {}): class {} has {}, the best {}", x, y, label, mine, best);
        }
    }

    #[test]
    fn the_distance_form_agrees_with_a_scan(
        (size, points) in scenes(), power in 0.5..6.0, k in 1usize..20,
    ) {
        let places = Array2::from_shape_fn((points.len(), 2), |(i, axis)| f64::from([points[i].x, points[i].y][axis]));
        let values = Array2::from_shape_fn((points.len(), 1), |(i, _)| f64::from(points[i].class) + i as f64);
        let queries = Array2::from_shape_fn((30, 2), |(i, axis)| {
            (i * [7, 13][axis]) as f64 / 2.0 % (f64::from([size.width, size.height][axis]) + 5.0) - 2.5
        });
        let config = InverseDistanceConfig { power, neighbours: Neighbours::Nearest(k) };
        let ours = inverse_distance(places.view(), values.view(), queries.view(), &config).unwrap();
        for (query, answer) in queries.outer_iter().zip(&ours) {
            let mut near: Vec<(f64, f64)> = places.outer_iter().zip(&values)
                .map(|(p, &v)| ((p[0] - query[0]).hypot(p[1] - query[1]), v)).collect();
            near.sort_by(|a, b| a.0.total_cmp(&b.0));
            let limit = near[k.min(near.len()) - 1].0 + 1e-9;
            near.retain(|n| n.0 <= limit);
            let expected = if near[0].0 == 0.0 { near[0].1 } else {
                let weight = |n: &(f64, f64)| n.0.powf(-power);
                near.iter().map(|n| weight(n) * n.1).sum::<f64>() / near.iter().map(weight).sum::<f64>()
            };
            prop_assert!((answer - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{} {}", answer, expected);
        }
    }

    #[test]
    fn linear_is_barycentric_voting((size, points) in scenes()) {
        let labels = linear_labels(size, &points).unwrap();
        let places = Array2::from_shape_fn((points.len(), 2), |(i, axis)| f64::from([points[i].x, points[i].y][axis]));
        let triangles = delaunay_triangles(places.view()).unwrap();
        let nearest = nearest_labels(size, &points).unwrap();
        let side = |a: &PointLabel, b: &PointLabel, x: i64, y: i64| {
            (i64::from(b.x) - i64::from(a.x)) * (y - i64::from(a.y)) - (i64::from(b.y) - i64::from(a.y)) * (x - i64::from(a.x))
        };
        for ((y, x), &label) in labels.indexed_iter() {
            // Of four points on one circle either diagonal is right: any covering triangle of ours will do.
            let mut accepted = Vec::new();
            for t in &triangles {
                let [a, b, c] = t.map(|i| &points[i]);
                let weights = [(b, c), (c, a), (a, b)].map(|(p, q)| side(p, q, x as i64, y as i64));
                if weights.iter().all(|&w| w >= 0) || weights.iter().all(|&w| w <= 0) {
                    let sum = |class: u8| -> i64 {
                        [a, b, c].iter().zip(weights).filter(|(p, _)| p.class == class).map(|(_, w)| w.abs()).sum()
                    };
                    accepted.push([a, b, c].map(|p| (sum(p.class), Reverse(p.class))).into_iter().max().unwrap().1.0);
                }
            }
            if accepted.is_empty() {
                accepted.push(nearest[[y, x]]);
            }
            prop_assert!(accepted.contains(&label), "({}, {}): {} not in {:?}", x, y, label, accepted);
        }
    }

    #[test]
    fn geodesic_distance_is_dijkstra((size, points) in scenes(), lambda in 0.0..=1.0, channels in 1usize..4, seed: u64) {
        let mut rng = SeededRng::new(seed);
        let (height, width) = size.shape();
        let image = Array3::from_shape_simple_fn((channels, height, width), || rng.range(0.0, 9.0) as f32);
        let soft = seed % 2 == 0;
        let mut start = Array2::from_shape_simple_fn((height, width), || if soft { rng.range(0.0, 30.0) } else { f64::INFINITY });
        for p in &points {
            start[[p.y as usize, p.x as usize]] = f64::from(p.class % 3);
        }
        let ours = geodesic_distance(image.view(), start.view(), lambda).unwrap();
        let naive = dijkstra(&image, start.mapv(|cost| (cost, 0)), lambda);
        for (a, (b, _)) in ours.iter().zip(&naive) {
            prop_assert!((a - b).abs() <= 1e-9 * b.max(1.0), "{} {}", a, b);
        }
    }

    #[test]
    fn geodesic_labels_follow_the_cheapest_path((size, points) in scenes(), lambda in 0.0..0.95, seed: u64) {
        let image = noise(size, seed);
        let config = GeodesicConfig { lambda, smoothing: 0.0 };
        let labels = geodesic_labels(&image, &points, &config).unwrap();
        let levels = Array3::from_shape_fn((3, size.height as usize, size.width as usize), |(c, y, x)| {
            f32::from(image.get_pixel(x as u32, y as u32)[c])
        });
        let unit = mean_difference(&levels);
        let scaled = levels.mapv(|v| if unit > 0.0 { (f64::from(v) / unit) as f32 } else { 0.0 });
        let mut cost_of: Vec<(u8, Array2<f64>)> = Vec::new();
        let mut classes: Vec<u8> = points.iter().map(|p| p.class).collect();
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            let mut start = Array2::from_elem(size.shape(), (f64::INFINITY, 0));
            points.iter().filter(|p| p.class == class).for_each(|p| start[[p.y as usize, p.x as usize]].0 = 0.0);
            cost_of.push((class, dijkstra(&scaled, start, lambda).mapv(|(cost, _)| cost)));
        }
        for ((y, x), label) in labels.indexed_iter() {
            let least = cost_of.iter().map(|(_, cost)| cost[[y, x]]).fold(f64::INFINITY, f64::min);
            let mine = cost_of.iter().find(|(class, _)| class == label).unwrap().1[[y, x]];
            prop_assert!(mine <= least * (1.0 + 1e-5) + 1e-6, "({}, {}): {} over {}", x, y, mine, least);
        }
    }
}

fn mean_difference(levels: &Array3<f32>) -> f64 {
    let (channels, height, width) = levels.dim();
    let (mut sum, mut pairs) = (0.0, 0);
    for y in 0..height {
        for x in 0..width {
            for (v, u) in [(y, x + 1), (y + 1, x)] {
                if v < height && u < width {
                    sum += (0..channels).map(|c| f64::from((levels[[c, y, x]] - levels[[c, v, u]]).abs())).sum::<f64>();
                    pairs += 1;
                }
            }
        }
    }
    if pairs > 0 { sum / f64::from(pairs) } else { 0.0 }
}

#[test]
fn equal_geodesic_distances_go_to_the_topmost_point() {
    let flat = RgbImage::new(9, 9);
    let at = |x, y, class| PointLabel { x, y, class };
    let labels: LabelMap =
        geodesic_labels(&flat, &[at(4, 8, 1), at(8, 4, 2), at(0, 4, 3), at(4, 0, 4)], &GeodesicConfig::default())
            .unwrap();
    assert_eq!((labels[[4, 4]], labels[[5, 4]], labels[[4, 3]]), (4, 1, 3));
}

/// A checksum that must be the same with and without the feature `rayon`, on any number of cores.
#[test]
fn results_do_not_depend_on_threads() {
    let size = Size { width: 211, height: 150 };
    let mut rng = SeededRng::new(8);
    let points: Vec<_> = rng
        .sample_indices(size.pixels(), 60)
        .into_iter()
        .map(|pixel| PointLabel { x: pixel as u32 % 211, y: pixel as u32 / 211, class: (pixel % 5) as u8 })
        .collect();
    let image = noise(size, 4);
    // Power 4, and no Gaussian: all of it is exact arithmetic, the same on every machine.
    let geodesic = GeodesicPropagator::new(GeodesicConfig { lambda: 0.9, smoothing: 0.0 }).unwrap();
    let propagators: [&dyn PointPropagator; 4] =
        [&NearestPropagator, &*inverse(4.0, Neighbours::Nearest(8)), &LinearPropagator, &geodesic];
    let sums = propagators.map(|propagator| {
        let labels = propagator.propagate(&image, &points).unwrap();
        labels.iter().fold(0u64, |sum, &label| sum.wrapping_mul(1_000_003).wrapping_add(u64::from(label)))
    });
    assert_eq!(sums, [4114219829703666264, 3309995467471028356, 14072339300594574376, 4498429475433360186]);
}
