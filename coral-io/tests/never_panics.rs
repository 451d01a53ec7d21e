//! Every reader answers damaged files with a result, never with a panic.

mod damage;

use std::path::Path;

use coral_core::image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use coral_core::{ClassSet, Dataset, NoProgress, Size, UNLABELED};
use coral_io::{
    CocoImages, ColorTable, Corrupt, ImageLimits, MaskFolder, MaskFolderConfig, MultiLabelConfig, PhotographFolder,
    PhotographFolderConfig, UnknownColor, image_size, point_images, read_class_table, read_coco, read_color_label_map,
    read_color_table, read_image_with, read_label_map_with, read_multi_labels, read_points, read_sam_annotations,
    read_sentences,
};
use damage::{damage, damaged};
use proptest::prelude::*;

/// Valid files of every format.
fn pictures() -> Vec<Vec<u8>> {
    let rgb = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8 * 20, y as u8 * 30, 99]));
    let grey = GrayImage::from_fn(9, 7, |x, y| Luma([(x + y) as u8]));
    let wide = ImageBuffer::from_fn(5, 4, |x, y| Luma([(x * y) as u16]));
    let encoded = |image: DynamicImage, format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    use ImageFormat::{Bmp, Jpeg, Png, Tiff};
    let mut files: Vec<_> = [Png, Jpeg, Tiff, Bmp].map(|format| encoded(rgb.clone().into(), format)).into();
    files.extend([Png, Tiff, Bmp].map(|format| encoded(grey.clone().into(), format)));
    files.extend([Png, Tiff].map(|format| encoded(wide.clone().into(), format)));
    let mut palette = Vec::new();
    let mut encoder = png::Encoder::new(&mut palette, 9, 2);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Four);
    encoder.set_palette(vec![7; 48]);
    encoder.write_header().unwrap().write_image_data(&[0x12; 10]).unwrap();
    files.push(palette);
    files
}

const TEXTS: [&str; 13] = [
    "x,y,class\n1,2,sand\n30,4,\"coral, hard\"\n5,6,7\n",
    "\u{feff}Name,Row,Column,Label\na.jpg,1,2,S\nb.jpg,3,4,P\n",
    "Name,Date,Row,Column,Label,Annotator\na.jpg,\"x\ny\",1,2,S,me\na.jpg,,3,4,,\n",
    "\"C:\\c.txt\",\"D:\\a.jpg\",600,600,8,6\r\n0,0\r\n0,6\r\n6,6\r\n6,0\r\n2\r\n15,15\r\n30,90\r\n\"1\",\"S\",\"Notes\",\"\"\r\n\"2\",\"P\",\"Notes\",\"\"\r\n",
    "id,name,color,parent\n0,sand,#aabbcc,\n1,coral,,0\n",
    "[{\"id\":0,\"name\":\"a\",\"color\":[1,2,3]},{\"id\":1,\"name\":\"b\",\"color\":[1,2,3],\"parent\":0}]",
    "{\"(1, 2, 3)\": 0, \"(4, 5, 6)\": 7}",
    "{\"sand\": 0, \"coral\": 7}",
    "code,class,class_number\nA,coral,3\nB,coral,3\nS,sand,0\n",
    "FileName,sand,coral,split\na.jpg,1,0,train\nb.jpg,0.5,1.0,val\n",
    "Datei;sand;coral\r\na.jpg;1;0\r\n\r\nb.jpg;0;1e-3\r\n",
    "2\n\"C\",\"Coral\"\n\"S\",\"Sand\"\n\"AP\",\"Acropora\",\"C\"\n\"NOTES\",\"NOTES\",\"NOTES\"\n",
    "# note\n[sand]\nfine grains\nripples\n[coral]\na dome\n",
];

const OBJECTS: [&str; 2] = [
    r#"{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 7}], "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[1.5, 1, 7, 2, 3, 6.25]], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 3, "segmentation": {"size": [7, 9], "counts": [5, 3, 55]}, "iscrowd": 1},
        {"id": 3, "image_id": 1, "category_id": 4, "segmentation": {"size": [7, 9], "counts": "53g1"}, "bbox": [0, 5, 2, 3]}],
        "categories": [{"id": 3, "name": "coral"}, {"id": 4, "name": "sand", "supercategory": "coral"}]}"#,
    r#"{"image": {"image_id": 0, "width": 9, "height": 7, "file_name": "a.jpg"}, "annotations": [
        {"segmentation": {"size": [7, 9], "counts": "53g1"}, "bbox": [0, 5, 1, 2], "area": 3, "predicted_iou": 0.5,
         "crop_box": [0.0, 0.0, 9.0, 7.0], "stability_score": 0.75, "point_coords": [[1.0, 2.5]], "id": 0}]}"#,
];

/// Runs every reader; what they answer must make sense.
fn read_everything(path: &Path) {
    let limits = ImageLimits { max_pixels: 1 << 20, max_bytes: 1 << 24 };
    let _ = image_size(path);
    if let Ok(image) = read_image_with(path, &limits) {
        assert!(image.width() > 0 && image.height() > 0);
        let table = ColorTable::new([([0, 0, 0], 1)]).unwrap();
        assert!(read_color_label_map(path, &table, UnknownColor::Nearest).is_ok());
    }
    if let Ok(labels) = read_label_map_with(path, &limits) {
        assert!(!labels.is_empty());
    }
    let size = Size { width: 40, height: 40 };
    for image in [None, Some("a.jpg")] {
        if let Ok(table) = read_points(path, size, image) {
            assert!(table.points.iter().all(|p| size.contains(p.x, p.y) && !p.class.is_empty()));
            if let Ok(labels) = table.classes().and_then(|classes| table.to_labels(&classes)) {
                assert_eq!(labels.len(), table.points.len());
                assert!(labels.iter().all(|p| p.class != UNLABELED));
            }
        }
    }
    if let Ok(sentences) = ClassSet::from_names(["sand", "coral"]).and_then(|classes| read_sentences(path, &classes)) {
        assert!(!sentences.is_empty() && sentences.iter().all(|(_, of_class)| !of_class.is_empty()));
    }
    let _ = (point_images(path), read_class_table(path), read_color_table(path), read_sam_annotations(path));
    if let Ok(table) = read_multi_labels(path, &MultiLabelConfig::default()) {
        assert_eq!(table.targets.dim(), (table.files.len(), table.classes.len()));
        assert!(table.targets.iter().all(|value| (0.0..=1.0).contains(value)));
        let _ = (table.labels(), table.subset("train"));
    }
    if let Ok(dataset) = read_coco(path) {
        assert!(dataset.annotations.iter().all(|one| dataset.images.iter().any(|image| image.id == one.image_id)));
        let _ = (dataset.class_set(), dataset.instances(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn damaged_texts(which in 0..TEXTS.len(), damage in damage(), cpce_name in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if cpce_name { "file.cpc" } else { "file.csv" });
        std::fs::write(&path, damaged(TEXTS[which].as_bytes().to_vec(), &damage)).unwrap();
        read_everything(&path);
    }

    #[test]
    fn damaged_objects(which in 0..OBJECTS.len(), damage in damage()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        std::fs::write(&path, damaged(OBJECTS[which].as_bytes().to_vec(), &damage)).unwrap();
        read_everything(&path);
    }

    #[test]
    fn damaged_photographs_with_masks(which in 0..OBJECTS.len(), damage in damage()) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.png"), &pictures()[0]).unwrap();
        std::fs::write(at("file.json"), damaged(OBJECTS[which].as_bytes().to_vec(), &damage)).unwrap();
        let coco = read_coco(at("file.json")).and_then(|coco| CocoImages::new(&coco, folder.path()));
        let config = MaskFolderConfig { images: at(""), annotations: at(""), class: Some(1) };
        let samples = [coco.and_then(|images| images.get(0)), MaskFolder::new(config).and_then(|masks| masks.get(0))];
        for sample in samples.into_iter().flatten() {
            assert!(sample.masks.iter().all(|one| one.mask.size() == Size::of(&sample.image)));
        }
    }

    #[test]
    fn damaged_pictures(which in any::<prop::sample::Index>(), damage in damage()) {
        let files = pictures();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.png");
        std::fs::write(&path, damaged(files[which.index(files.len())].clone(), &damage)).unwrap();
        read_everything(&path);
    }

    #[test]
    fn damaged_photographs(which in any::<prop::sample::Index>(), damage in damage()) {
        let files = pictures();
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for class in ["sand", "seagrass"] {
            std::fs::create_dir(at(class)).unwrap();
            std::fs::write(at(class).join("whole.png"), &files[0]).unwrap();
        }
        let bad = at("sand").join("damaged.png");
        std::fs::write(&bad, damaged(files[which.index(files.len())].clone(), &damage)).unwrap();
        let config = |on_corrupt| PhotographFolderConfig { root: at(""), on_corrupt, ..Default::default() };
        let (photographs, skipped) = PhotographFolder::checked(config(Corrupt::Skip), &NoProgress).unwrap();
        assert_eq!(photographs.len() + skipped.len(), 3);
        assert!((0..photographs.len()).all(|index| photographs.get(index).is_ok()));
        assert!(skipped.iter().all(|one| one.path == bad && !one.reason.is_empty()));
        if let Err(error) = PhotographFolder::checked(config(Corrupt::Fail), &NoProgress) {
            assert!(error.to_string().contains("damaged.png") && skipped.len() == 1);
        }
    }

    #[test]
    fn noise(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic in proptest::sample::select(vec![
        &b""[..], b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"\xff\xd8\xff", b"x,y,class\n", b"{", b"[",
    ])) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [magic, &bytes].concat()).unwrap();
        read_everything(&path);
    }
}

#[test]
fn the_undamaged_files_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for bytes in pictures() {
        std::fs::write(&path, bytes).unwrap();
        read_image_with(&path, &ImageLimits::default()).unwrap();
    }
    for (nth, text) in TEXTS.iter().enumerate() {
        std::fs::write(&path, text).unwrap();
        match nth {
            9 | 10 => {
                let table = read_multi_labels(&path, &MultiLabelConfig::default()).unwrap();
                assert_eq!((table.files.len(), table.classes.len()), (2, 2));
            }
            12 => {
                let classes = ClassSet::from_names(["sand", "coral"]).unwrap();
                assert_eq!(read_sentences(&path, &classes).unwrap().len(), 3);
            }
            0..=3 => drop(read_points(&path, Size { width: 40, height: 40 }, (nth > 0).then_some("a.jpg")).unwrap()),
            _ => drop(read_class_table(&path).unwrap()),
        }
    }
    std::fs::write(&path, OBJECTS[0]).unwrap();
    assert_eq!(read_coco(&path).unwrap().instances(1).unwrap().len(), 2);
    std::fs::write(&path, OBJECTS[1]).unwrap();
    assert_eq!(read_sam_annotations(&path).unwrap().masks[0].area(), 3);
}
