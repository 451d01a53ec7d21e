//! Nearest neighbours over features.

use coral_core::ndarray::{Array2, Array3, Ix2};
use coral_core::{FeatureMap, PointLabel, Size};
use coral_weak::{KnnConfig, knn};

use super::open;

/// The labelled pixels of a sparse map that holds class + 1, or 0 for none.
fn sparse_points(sparse: &Array2<i64>) -> Vec<PointLabel> {
    let labelled = sparse.indexed_iter().filter(|&(_, &label)| label > 0);
    labelled.map(|((y, x), &label)| PointLabel { x: x as u32, y: y as u32, class: (label - 1) as u8 }).collect()
}

#[test]
fn hil_selection_neighbours() {
    let case = open("hil_selection");
    let rows = case.f32("features").unwrap().into_dimensionality::<Ix2>().unwrap();
    let ks: Vec<u64> = case.value("/config/ks").unwrap().as_array().unwrap().iter().flat_map(|k| k.as_u64()).collect();
    assert!(!ks.is_empty());
    for k in ks {
        for stage in ["init", "final"] {
            // The start points are the same for every k, the points chosen later are stored with each.
            let sparse = case.i64(&format!("k{k}/{stage}_sparse")).or_else(|_| case.i64(&format!("{stage}_sparse")));
            let sparse = sparse.unwrap().into_dimensionality::<Ix2>().unwrap();
            let (height, width) = sparse.dim();
            let data = Array3::from_shape_fn((rows.ncols(), height, width), |(d, y, x)| rows[[y * width + x, d]]);
            let features = FeatureMap { data, image_size: Size { width: width as u32, height: height as u32 } };
            let points = sparse_points(&sparse);
            let config = KnnConfig { k: k as usize, ..Default::default() };
            let found = knn(&features, &points, &config).unwrap();

            let similarity = case.f32(&format!("k{k}/{stage}_top1_similarity")).unwrap();
            assert_eq!(similarity.len(), found.similarity.len());
            for (pixel, (actual, expected)) in found.similarity.iter().zip(&similarity).enumerate() {
                assert!((actual - expected).abs() <= 1e-5, "k {k}, {stage}, pixel {pixel}: {actual} for {expected}");
            }
            let propagated = case.i64(&format!("k{k}/{stage}_propagated")).unwrap();
            assert_eq!(propagated.len(), found.labels.len());
            // The reference lets neighbours outvote a labelled pixel; here it keeps its class.
            let pairs = found.labels.iter().zip(&propagated).zip(&sparse).filter(|&(_, &sparse)| sparse == 0);
            let differing = pairs.filter(|((actual, expected), _)| i64::from(**actual) != **expected).count();
            assert!(differing * 1000 <= found.labels.len(), "k {k}, {stage}: {differing} labels differ");
        }
    }
}
