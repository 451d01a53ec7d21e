use coral_core::image::RgbImage;
use coral_core::ndarray::Array2;
use coral_core::testing::{
    check_cell_labeler, check_dataset, check_grid_classifier, check_patch_classifier, check_pseudo_labeler,
};
use coral_core::{ImageEncoder, NoProgress, PatchClassifier, PatchGrid, Result, Size, TextEncoder};
use coral_weak::{
    ConstantClassifier, EveryPatchLabeler, GroupRule, PatchEnsemble, PromptGroups, SimilarityConfig, SimilarityLabeler,
    Standardization, TemplateSimilarity, TemplateSimilarityConfig, Templates, ZeroShotConfig, ZeroShotLabeler,
    patch_templates,
};

use crate::seagrass::{CELL, CLASSES, ColorModel, Seabed, mean_color};

const GRID: PatchGrid = PatchGrid::Split { rows: 3, columns: 4 };
const SIZE: Size = Size { width: 2 * CELL, height: CELL };
type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

/// Colours and the length of sentences as unit vectors.
#[derive(Debug, Clone, Copy)]
struct Colors;

impl ImageEncoder for Colors {
    fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
        let mut rows = Array2::zeros((images.len(), 3));
        for (mut row, image) in rows.outer_iter_mut().zip(images) {
            let color = mean_color(image);
            row.assign(&(&color / color.dot(&color).sqrt().max(1e-6)));
        }
        Ok(rows)
    }
}

impl TextEncoder for Colors {
    fn encode_texts(&self, texts: &[&str]) -> Result<Array2<f32>> {
        let angle = |text: &str| text.len() as f32;
        let value = |(i, d): (usize, usize)| [angle(texts[i]).sin(), angle(texts[i]).cos(), 0.0][d];
        Ok(Array2::from_shape_fn((texts.len(), 3), value))
    }
}

#[test]
fn classifiers_keep_the_contract() -> TestResult {
    let model = ColorModel::new(CLASSES);
    check_patch_classifier(&model, SIZE)?;
    check_grid_classifier(&model, SIZE)?;
    check_patch_classifier(&ConstantClassifier::new(1, 3)?, SIZE)?;
    let templates = patch_templates(&Colors, &Seabed::typical(1), CLASSES, &GRID, &NoProgress)?;
    let similarity = TemplateSimilarity::new(Colors, templates, TemplateSimilarityConfig::default())?;
    check_patch_classifier(&similarity, SIZE)?;
    let members: Vec<Box<dyn PatchClassifier>> = vec![Box::new(similarity), Box::new(model)];
    check_patch_classifier(&PatchEnsemble::new(members, Standardization::PerPatch)?, SIZE)?;
    Ok(())
}

#[test]
fn labelers_keep_the_contract() -> TestResult {
    let templates = patch_templates(&Colors, &Seabed::typical(1), CLASSES, &GRID, &NoProgress)?;
    for (threshold, margin) in [(-1.0, 0.0), (0.9, 0.2)] {
        let config = TemplateSimilarityConfig { threshold, margin, ..Default::default() };
        check_pseudo_labeler(&TemplateSimilarity::new(Colors, templates.clone(), config)?, SIZE)?;
    }
    for (rule, threshold) in [(GroupRule::BestPrompt, 0.0), (GroupRule::SummedProbability, 0.9)] {
        let config = ZeroShotConfig { rule, threshold, ..Default::default() };
        check_pseudo_labeler(&ZeroShotLabeler::new(Colors, &Colors, PromptGroups::seaclip(), config)?, SIZE)?;
    }
    for margin in [0.0, 0.3] {
        let config = SimilarityConfig { margin, ..Default::default() };
        let classes = [0, 1, 2];
        check_cell_labeler(&SimilarityLabeler::new(templates.clone(), config)?, 3, &classes)?;
        check_cell_labeler(&EveryPatchLabeler, 5, &classes)?;
    }
    check_dataset(&Seabed::typical(1), |a, b| a == b)?;
    Ok(())
}

#[test]
fn the_whole_batch_makes_patches_depend_on_each_other() {
    let templates = Templates::new(vec![Some(vec![1.0, 0.0, 0.0]), Some(vec![0.0, 0.0, 1.0])]).unwrap();
    let similarity = TemplateSimilarity::new(Colors, templates, TemplateSimilarityConfig::default()).unwrap();
    let ensemble = PatchEnsemble::new(vec![similarity], Standardization::WholeBatch).unwrap();
    let violations = check_patch_classifier(&ensemble, SIZE).unwrap_err().to_string();
    assert!(violations.contains("other patches change the answer"), "{violations}");
}
