//! Real annotation files from the folder in `CORAL_DATA_DIR`.

mod real_data;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coral_core::{Dataset, Size, UNLABELED};
use coral_io::{
    ColorTable, LabelMapFolder, LabelMapFolderConfig, UnknownColor, image_size, point_images, read_class_set,
    read_class_table, read_coco, read_color_label_map, read_color_table, read_image, read_label_map, read_points,
};

use real_data::data;

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    found.sort();
    assert!(!found.is_empty(), "no .{extension} in {}", folder.display());
    found
}

#[test]
fn cpce_files_agree_with_the_authors_conversion() {
    let Some(root) = data("cpce") else { return };
    let size = Size { width: 2048, height: 1536 };
    let table = read_class_table(root.join("codes.csv")).unwrap();
    let mut images = 0;
    let (mut groups, mut unknown) = (BTreeMap::new(), BTreeSet::new());
    for path in files(&root.join("cpc"), "cpc") {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let read = read_points(&path, size, Some(&format!("{stem}.jpg"))).unwrap();
        let text = std::fs::read_to_string(root.join(format!("points_txt/{stem}.txt"))).unwrap();
        let expected: Vec<Vec<u32>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.trim().is_empty())
            .map(|line| line.split(',').map(|field| field.trim().parse().unwrap()).collect())
            .collect();
        let positions: Vec<_> = read.points.iter().map(|p| vec![p.x, p.y]).collect();
        let oracle: Vec<_> = expected.iter().map(|row| row[..2].to_vec()).collect();
        assert_eq!(positions, oracle, "{stem}");
        for (point, row) in read.points.iter().zip(&expected) {
            // The author grouped the codes in another way than the table, but each code in one group.
            let group = *groups.entry(point.class.clone()).or_insert(row[2]);
            assert_eq!(group, row[2], "{stem}: {}", point.class);
            if table.parse(&point.class).is_err() {
                unknown.insert(point.class.clone());
            }
        }
        if let Ok(image) = read.find_image(root.join("images")) {
            assert_eq!(image_size(image).unwrap(), size);
            images += 1;
        }
    }
    assert!(images > 0);
    assert!(groups.len() > 30 && unknown.len() < groups.len() / 2);
    eprintln!("{images} images found; codes without a class: {unknown:?}");
}

#[test]
fn cpce_edge_cases() {
    let Some(root) = data("formats/cpce_validation_coralnet/sample_data") else { return };
    let table = read_class_table(root.join("labelset.csv")).unwrap();
    let size = Size { width: 800, height: 600 };
    for path in files(&root.join("cpc"), "cpc") {
        let read = read_points(&path, size, None).unwrap();
        let places: Vec<_> = read.points.iter().map(|p| (p.x, p.y)).collect();
        assert_eq!(places, [(100, 100), (400, 300), (700, 500)]);
        let name = path.file_stem().unwrap().to_str().unwrap();
        let labels = read.to_labels_with(&table);
        let image = read.find_image(root.join("images"));
        match name {
            "reef_unknown_label" => {
                let error = labels.unwrap_err().to_string();
                assert!(error.contains("unknown class `ALG`: expected one of Acropora, Porites"), "{error}");
            }
            _ => assert_eq!(labels.unwrap().iter().map(|p| p.class).collect::<Vec<_>>(), [0, 1, 2]),
        }
        match name {
            "reef_missing" | "reef_duplicate" => {
                let error = image.unwrap_err().to_string();
                assert!(error.contains(&format!("its image `{name}.jpg` is missing")), "{error}");
            }
            "reef_resized" => {
                let half = read_points(&path, image_size(image.unwrap()).unwrap(), None).unwrap();
                assert_eq!((half.points[1].x, half.points[1].y), (320, 240));
            }
            _ => assert_eq!(image_size(image.unwrap()).unwrap(), size),
        }
    }
}

#[test]
fn coralnet_exports() {
    let Some(root) = data("formats") else { return };
    for (file, images, points, classes) in [
        ("jowanvanlente-coralseg-coralnet-csv/sample_data/sample_annotations.csv", 3, 2700, 20),
        ("gonzalobravo-CoralNet-export/Source_Colombia/annotations.csv", 180, 18000, 9),
    ] {
        let path = root.join(file);
        let names = point_images(&path).unwrap();
        assert_eq!(names.len(), images);
        let size = Size { width: 5312, height: 4648 };
        let (mut read, mut found) = (0, BTreeMap::new());
        for name in names.iter().step_by(if images > 100 { 30 } else { 1 }) {
            let table = read_points(&path, size, Some(name)).unwrap();
            read += table.points.len() + table.unlabeled;
            table.points.into_iter().for_each(|p| *found.entry(p.class).or_insert(0) += 1);
        }
        assert_eq!(read, if images > 100 { points / 30 } else { points });
        assert!(found.len() <= classes && found.len() > 2);
    }
}

#[test]
fn label_maps_and_colors() {
    let Some(root) = data("reef_mosaics") else { return };
    let config = LabelMapFolderConfig {
        images: root.join("images"),
        labels: root.join("labels"),
        ignore: vec![34],
        ..Default::default()
    };
    let dataset = LabelMapFolder::new(config).unwrap();
    assert!(!dataset.is_empty());
    for index in 0..dataset.len() {
        let sample = dataset.get(index).unwrap();
        assert!(sample.labels.iter().all(|&id| id < 34 || id == UNLABELED));
        assert!(sample.labels.iter().any(|&id| id < 34));
    }
    let classes = read_class_set(root.join("color_dict.json")).unwrap();
    assert_eq!((classes.len(), classes.color(34)), (35, [63, 69, 131]));
    assert_eq!(read_color_table(root.join("color_dict.json")).unwrap().entries().len(), 35);
}

#[test]
fn suim_masks() {
    let Some(root) = data("suim") else { return };
    let corners = (0..8u8).map(|id| ([id >> 2 & 1, id >> 1 & 1, id & 1].map(|bit| bit * 255), id));
    let table = ColorTable::new(corners).unwrap();
    for mask in files(&root.join("masks"), "bmp") {
        let labels = read_color_label_map(&mask, &table, UnknownColor::Error).unwrap();
        let picture = read_image(&mask).unwrap();
        let pixel = picture.get_pixel(5, 7).0;
        assert_eq!(labels[[7, 5]], pixel.iter().fold(0, |id, &level| id << 1 | u8::from(level >= 128)));
        assert!(read_label_map(&mask).unwrap_err().to_string().contains("a BMP without palette"));
    }
}

#[test]
fn drone_masks() {
    let Some(root) = data("drone_masks") else { return };
    for path in files(&root, "png").into_iter().chain(files(&root, "tif")) {
        let labels = read_label_map(&path).unwrap();
        assert_eq!(Size::of_map(&labels), image_size(&path).unwrap());
        assert!(labels.iter().all(|&id| id <= 5), "{}", path.display());
    }
}

#[test]
fn coco_polygons() {
    let Some(root) = data("formats/coco_luderick/cocojson") else { return };
    for path in files(&root, "json") {
        let dataset = read_coco(&path).unwrap();
        assert_eq!(dataset.class_set().unwrap().id("luderick"), Some(1));
        let mut close = 0;
        for annotation in &dataset.annotations {
            let mask = annotation.mask.as_ref().unwrap();
            let [x, y, width, height] = annotation.bbox.unwrap();
            let ours = mask.bounding_box().unwrap();
            let ends = [(x, ours.x), (y, ours.y), (x + width, ours.x + ours.width), (y + height, ours.y + ours.height)];
            close += usize::from(ends.iter().all(|&(theirs, ours)| (theirs - f64::from(ours)).abs() <= 1.5));
        }
        // A few outlines leave the image, and their boxes with them.
        assert!(close * 100 > dataset.annotations.len() * 95, "{close} of {}", dataset.annotations.len());
        eprintln!("{}: {} objects, {close} boxes agree", path.display(), dataset.annotations.len());
    }
}

#[test]
fn coco_files_of_biigle() {
    let Some(root) = data("formats/biigle-metadata-coco/tests/files") else { return };
    for path in files(&root, "json") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        match read_coco(&path) {
            Ok(dataset) => {
                assert!(dataset.annotations.iter().all(|one| one.mask.as_ref().is_some_and(|mask| !mask.is_empty())));
                let class = if name.starts_with("missing-category") { "15" } else { "Animal" };
                assert_eq!(dataset.class_set().unwrap().name(15), class, "{name}");
            }
            Err(error) => assert!(name == "empty" && error.to_string().contains("missing field `images`"), "{error}"),
        }
    }
}
