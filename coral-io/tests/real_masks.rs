//! Photographs with masks, from real files of the folder in `CORAL_DATA_DIR`.

mod real_data;

use std::path::Path;

use coral_core::image::RgbImage;
use coral_core::testing::check_dataset;
use coral_core::{AnnotatedImage, Dataset, LabeledImage, UNLABELED};
use coral_io::{
    CocoImages, LabelMapFolder, LabelMapFolderConfig, LabelMapMasks, LabelMapMasksConfig, MaskFolder, MaskFolderConfig,
    SamAnnotations, read_coco, write_image, write_sam_annotations,
};
use real_data::data;

fn mosaics(root: &Path) -> LabelMapFolder {
    let config = LabelMapFolderConfig {
        images: root.join("images"),
        labels: root.join("labels"),
        ignore: vec![34],
        ..Default::default()
    };
    LabelMapFolder::new(config).unwrap()
}

#[test]
fn masks_of_mosaics_are_their_label_maps() {
    let Some(root) = data("reef_mosaics") else { return };
    let folder = mosaics(&root);
    let every_pixel = LabelMapMasksConfig { min_area: 0, ..Default::default() };
    let dataset = LabelMapMasks::new(&folder, every_pixel).unwrap();
    check_dataset(&dataset, |a, b| a == b).unwrap();
    for index in 0..dataset.len() {
        let LabeledImage { labels, .. } = folder.get(index).unwrap();
        let AnnotatedImage { masks, .. } = dataset.get(index).unwrap();
        let mut painted = labels.mapv(|_| UNLABELED);
        for one in &masks {
            let inside = one.mask.decode();
            painted.zip_mut_with(&inside, |to, &inside| *to = if inside { one.class.unwrap() } else { *to });
        }
        assert_eq!(painted, labels);
        let large = LabelMapMasks::new(&folder, LabelMapMasksConfig::default()).unwrap().get(index).unwrap().masks;
        assert!(!large.is_empty() && large.iter().all(|one| one.area() >= 100));
        eprintln!("mosaic {index}: {} regions, {} of 100 pixels and more", masks.len(), large.len());
    }
}

#[test]
fn masks_of_mosaics_survive_a_folder_of_json() {
    let Some(root) = data("reef_mosaics") else { return };
    let folder = mosaics(&root);
    let dataset = LabelMapMasks::new(&folder, LabelMapMasksConfig::default()).unwrap();
    let written = tempfile::tempdir().unwrap();
    for index in 0..dataset.len() {
        let AnnotatedImage { image, masks } = dataset.get(index).unwrap();
        let name = dataset.name(index).unwrap();
        let size = coral_core::Size::of(&image);
        let file_name = format!("{name}.png");
        write_image(written.path().join(&file_name), &image).unwrap();
        let annotations = SamAnnotations { image_id: 0, file_name, size, masks };
        write_sam_annotations(written.path().join(format!("{name}.json")), &annotations).unwrap();
    }
    let at = written.path().to_owned();
    let read = MaskFolder::new(MaskFolderConfig { images: at.clone(), annotations: at, class: None }).unwrap();
    assert_eq!(read.len(), dataset.len());
    for index in 0..read.len() {
        assert_eq!(read.get(index).unwrap(), dataset.get(index).unwrap());
    }
}

#[test]
fn coco_with_its_images() {
    let Some(root) = data("formats/coco_luderick/cocojson") else { return };
    let mut coco = read_coco(root.join("luderick_seagrass_tallebudgera.json")).unwrap();
    // The photographs are not at hand: blank ones stand in for the first few.
    coco.images.truncate(3);
    let ids: Vec<_> = coco.images.iter().map(|image| image.id).collect();
    coco.annotations.retain(|one| ids.contains(&one.image_id));
    let folder = tempfile::tempdir().unwrap();
    let error = CocoImages::new(&coco, folder.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("`images[0]`: `{}` is missing", coco.images[0].file_name)), "{error}");
    for image in &coco.images {
        let blank = RgbImage::new(image.size.width, image.size.height);
        blank.save(folder.path().join(&image.file_name)).unwrap();
    }
    let dataset = CocoImages::new(&coco, folder.path()).unwrap();
    assert_eq!(dataset.classes().id("luderick"), Some(1));
    let mut objects = 0;
    for (index, &id) in ids.iter().enumerate() {
        let sample = dataset.get(index).unwrap();
        assert_eq!(sample.masks, coco.instances(id).unwrap());
        objects += sample.masks.len();
    }
    assert_eq!(objects, coco.annotations.len());
    assert!(objects > 0);
}
