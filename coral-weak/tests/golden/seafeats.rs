//! Templates, pseudo-labels, ensembles and patches of the seagrass programs.

use coral_core::ndarray::{Array2, Array3, ArrayD, ArrayView2, Ix1, Ix2, Ix3, s};
use coral_core::testing::GoldenCase;
use coral_core::{CellLabeler, FeatureMap, PatchGrid, Size};
use coral_weak::{
    SimilarityConfig, SimilarityLabeler, Standardization, TemplateBundler, Templates, ensemble_probabilities,
    standardize_logits,
};

use super::{TestResult, assert_close, open};

const BACKGROUND: u8 = 0;

/// P×D patches as a map of one row.
fn map(patches: ArrayView2<'_, f32>) -> FeatureMap {
    let data = Array3::from_shape_fn((patches.ncols(), 1, patches.nrows()), |(d, _, patch)| patches[[patch, d]]);
    FeatureMap { data, image_size: Size { width: patches.nrows() as u32, height: 1 } }
}

fn matrix(case: &GoldenCase, name: &str) -> Result<Array2<f32>, Box<dyn std::error::Error>> {
    Ok(case.f32(name)?.into_dimensionality::<Ix2>()?)
}

fn assert_near(what: &str, ours: &Array2<f32>, reference: &ArrayD<f32>) {
    let (ours, reference) = (ours.mapv(f64::from).into_dyn(), reference.mapv(f64::from));
    assert_close(what, &ours, &reference, |a, b| (a - b).abs() <= 1e-5);
}

fn argmax(rows: &Array2<f32>) -> Vec<i64> {
    let best = |row: coral_core::ndarray::ArrayView1<'_, f32>| {
        (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as i64
    };
    rows.outer_iter().map(best).collect()
}

#[test]
fn seafeats_templates() -> TestResult {
    let case = open("seafeats");
    let embeddings = case.f32("template/embeddings")?.into_dimensionality::<Ix3>()?;
    let labels = case.i64("template/labels")?;
    let expected = case.f32("template/out")?;
    let mut bundler = TemplateBundler::new(expected.shape()[0], embeddings.dim().2)?;
    for (photograph, &label) in embeddings.outer_iter().zip(&labels) {
        bundler.add(&map(photograph), u8::try_from(label)?)?;
    }
    let templates = bundler.finish()?;
    let absent = vec![f32::NAN; templates.dim()];
    let template = |class| templates.get(class).unwrap_or(&absent).to_vec();
    let ours = (0..expected.shape()[0] as u8).flat_map(template).collect();
    let ours = Array2::from_shape_vec((expected.shape()[0], templates.dim()), ours)?;
    let (ours, expected) = (ours.mapv(f64::from).into_dyn(), expected.mapv(f64::from));
    assert_close("templates", &ours, &expected, |a, b| (a - b).abs() <= 1e-6);
    Ok(())
}

#[test]
fn seafeats_pseudo_labels() -> TestResult {
    let case = open("seafeats");
    let features = case.f32("features")?.into_dimensionality::<Ix3>()?;
    let one_hot = matrix(&case, "labels_onehot")?;
    let templates = matrix(&case, "templates")?;
    let templates = Templates::new(templates.outer_iter().map(|template| Some(template.to_vec())).collect())?;
    let (to_background, to_label) = (matrix(&case, "cos_background")?, matrix(&case, "cos_label")?);
    let expected = case.i64("pseudo_class")?.into_dimensionality::<Ix2>()?;
    let threshold = case.number("/config/thresh")? as f32;
    let config = SimilarityConfig { background: BACKGROUND, threshold, margin: 0.0 };
    let labeler = SimilarityLabeler::new(templates.clone(), config)?;
    for (photograph, features) in features.outer_iter().enumerate() {
        let class = u8::try_from(argmax(&one_hot)[photograph])?;
        let similarities = templates.cosine_similarities(features)?;
        let column = |class: u8| similarities.slice(s![.., class as usize..class as usize + 1]).to_owned();
        assert_near("background", &column(BACKGROUND), &to_background.row(photograph).to_owned().into_dyn());
        assert_near("label", &column(class), &to_label.row(photograph).to_owned().into_dyn());
        let ours = labeler.label_cells(&map(features), class)?;
        for (patch, (&ours, &expected)) in ours.iter().zip(expected.row(photograph)).enumerate() {
            let (background, label) = (to_background[[photograph, patch]], to_label[[photograph, patch]]);
            let tie = (background - label).abs().min((background - threshold).abs()) < 1e-5;
            assert!(
                tie || i64::from(ours) == expected,
                "photograph {photograph}, patch {patch}: {ours} for {expected}"
            );
        }
    }
    Ok(())
}

#[test]
fn seafeats_ensemble() -> TestResult {
    let case = open("seafeats");
    let names = ["seafeats", "seaclip"];
    let logits: Vec<_> =
        names.iter().map(|name| matrix(&case, &format!("ensemble/{name}_logits"))).collect::<Result<_, _>>()?;
    for (name, logits) in names.iter().zip(&logits) {
        let ours = standardize_logits(logits, Standardization::WholeBatch)?;
        assert_near(name, &ours, &case.f32(&format!("ensemble/{name}_norm"))?);
    }
    for (over, folder) in [(Standardization::WholeBatch, "ensemble"), (Standardization::PerPatch, "ensemble_per_patch")]
    {
        let standardized: Vec<_> =
            logits.iter().map(|logits| standardize_logits(logits, over)).collect::<Result<_, _>>()?;
        let total = (&standardized[0] + &standardized[1]) / 2.0;
        assert_near(folder, &total, &case.f32(&format!("{folder}/total"))?);
        let probabilities = ensemble_probabilities(&logits, over)?;
        let expected = case.i64(&format!("{folder}/preds"))?.into_dimensionality::<Ix1>()?;
        assert_eq!(argmax(&probabilities), expected.to_vec(), "{folder}");
        if over == Standardization::WholeBatch {
            assert_near("probabilities", &probabilities, &case.f32("ensemble/probs")?);
        }
    }
    Ok(())
}

#[test]
fn seafeats_patches() -> TestResult {
    let case = open("seafeats");
    let image = case.u8("grid/image_u8")?.into_dimensionality::<Ix3>()?;
    let (height, width, _) = image.dim();
    let (rows, columns) = (case.i64("grid/rows_inclusive")?, case.i64("grid/cols_inclusive")?);
    let grid = PatchGrid::Split { rows: rows.shape()[0] as u32, columns: columns.shape()[0] as u32 };
    let patches = grid.patches(Size { width: width as u32, height: height as u32 })?;
    let means = matrix(&case, "grid/patch_means")?;
    let shapes = case.i64("grid/patch_shapes")?.into_dimensionality::<Ix2>()?;
    assert_eq!(patches.len(), means.nrows());
    for (index, patch) in patches.iter().enumerate() {
        let (row, column) = (index / columns.shape()[0], index % columns.shape()[0]);
        let [y, x, patch_height, patch_width] = [patch.y, patch.x, patch.height, patch.width].map(i64::from);
        assert_eq!([rows[[row, 0]], rows[[row, 1]]], [y, y + patch_height - 1]);
        assert_eq!([columns[[column, 0]], columns[[column, 1]]], [x, x + patch_width - 1]);
        assert_eq!(shapes.row(index).to_vec(), [patch_height, patch_width]);
        let (y, x) = (y as usize, x as usize);
        let pixels = image.slice(s![y..y + patch_height as usize, x..x + patch_width as usize, ..]);
        for channel in 0..3 {
            let sum: u64 = pixels.slice(s![.., .., channel]).iter().map(|&level| u64::from(level)).sum();
            let mean = sum as f64 / patch.area() as f64;
            assert!((mean - f64::from(means[[index, channel]])).abs() < 1e-3, "patch {index}");
        }
    }
    Ok(())
}
