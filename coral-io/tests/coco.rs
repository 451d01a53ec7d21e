//! COCO data sets and the files of Segment Anything: what is read, and what an error says.

use std::path::PathBuf;

use coral_core::{Error, InstanceMask, RleMask, Size, UNLABELED};
use coral_io::{
    CocoDataset, CocoImage, SamAnnotations, read_coco, read_sam_annotations, write_coco, write_sam_annotations,
};

const SIZE: Size = Size { width: 3, height: 2 };

/// A file of this content, and the folder that it lies in.
fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

/// A data set of one image and one annotation with these fields.
fn dataset(fields: &str) -> String {
    format!(
        r#"{{"images": [{{"id": 5, "file_name": "a.png", "width": 3, "height": 2, "license": 1}}],
            "annotations": [{{"id": 9, "image_id": 5, "category_id": 2, {fields}}}]}}"#
    )
}

#[test]
fn every_kind_of_segmentation_is_read() {
    let expected = RleMask::from_counts(SIZE, &[2, 2, 2]).unwrap();
    for (segmentation, crowd) in [
        (r#""segmentation": [[1, 0, 2, 0, 2, 2, 1, 2]]"#, false),
        (r#""segmentation": {"size": [2, 3], "counts": [2, 2, 2]}, "iscrowd": 1"#, true),
        (r#""segmentation": {"counts": "222", "size": [2, 3]}, "iscrowd": false"#, false),
    ] {
        let (_folder, path) = file(&dataset(segmentation));
        let read = read_coco(&path).unwrap();
        assert_eq!(read.annotations[0].mask.as_ref(), Some(&expected), "{segmentation}");
        assert_eq!(read.annotations[0].is_crowd, crowd);
        assert_eq!(read.instances(5).unwrap().len(), usize::from(!crowd));
        assert_eq!(read.class_set().unwrap().name(2), "2");
    }
    for none in ["[]", "[[]]", "null"] {
        let fields = format!(r#""segmentation": {none}, "bbox": [0, 1, 2.5, 1], "score": 0.25"#);
        let (_folder, path) = file(&format!("\u{feff}{}", dataset(&fields)));
        let read = read_coco(&path).unwrap();
        let annotation = &read.annotations[0];
        assert_eq!((annotation.mask.as_ref(), annotation.bbox), (None, Some([0.0, 1.0, 2.5, 1.0])));
        assert_eq!(annotation.score, Some(0.25));
        assert!(read.instances(5).unwrap().is_empty());
        write_coco(&path, &read).unwrap();
        assert_eq!(read_coco(&path).unwrap(), read);
    }
}

#[test]
fn errors_name_file_and_field() {
    let fields = |text: &str| dataset(text);
    let cases = [
        (fields(r#""segmentation": [[0, 0, 1, 1]]"#), "annotations[0].segmentation: polygons[0]: expected at least 3"),
        (fields(r#""segmentation": [[0, 0, 1, 1, 2]]"#), "annotations[0].segmentation: expected pairs of x and y"),
        (fields(r#""segmentation": [0, 0, 1, 1]"#), "annotations[0]: invalid type: integer `0`, expected a sequence"),
        (fields(r#""segmentation": 7"#), "expected a list of polygons or an object with `size` and `counts`"),
        (fields(r#""segmentation": {"size": [2, 3], "counts": "2"}"#), "annotations[0]: invalid input `counts`"),
        (fields(r#""segmentation": {"size": [2, 3], "counts": {}}"#), "`counts` as a string or a list of run lengths"),
        (fields(r#""segmentation": {"size": [3, 2], "counts": [6]}"#), "has 2x3 pixels, its image 3x2"),
        (fields(r#""iscrowd": "no""#), "annotations[0]: expected `iscrowd` as 0 or 1"),
        (fields(r#""score": 1e300"#), "annotations[0]: expected a score below"),
        (fields(r#""bbox": [1, 2]"#), "annotations[0]: invalid length 2"),
        (fields(r#""bbox": null"#).replace(r#""image_id": 5"#, r#""image_id": 6"#), "there is no image 6"),
        (fields(r#""bbox": null"#).replace(r#""image_id": 5,"#, ""), "annotations[0]: missing field `image_id`"),
        (r#"{"images": [{"id": 1, "file_name": "a"}], "annotations": []}"#.into(), "images[0]: missing field `width`"),
        (r#"{"images": []}"#.into(), "expected a COCO data set: missing field `annotations`"),
        ("[]".into(), "expected a COCO data set"),
        ("{".into(), "EOF"),
        (String::new(), "EOF"),
    ];
    for (content, expected) in cases {
        let (_folder, path) = file(&content);
        let error = read_coco(&path).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&path.display().to_string()) && text.contains(expected), "{text}\nfor {content}");
    }
    let twice = r#"{"images": [{"id": 1, "file_name": "a", "width": 1, "height": 1},
                               {"id": 1, "file_name": "b", "width": 1, "height": 1}], "annotations": []}"#;
    let (_folder, path) = file(twice);
    assert!(read_coco(&path).unwrap_err().to_string().contains("images[1].id: there is another image 1"));
    assert!(matches!(read_coco(path.with_file_name("gone.json")), Err(Error::Io { .. })));
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    let classes = coral_core::ClassSet::from_names(["coral"]).unwrap();
    let mut good = CocoDataset::new(&classes);
    let mask = InstanceMask { class: Some(0), ..InstanceMask::new(RleMask::from_fn(SIZE, |x, _| x == 1)) };
    good.add_image("a.png", SIZE, std::slice::from_ref(&mask)).unwrap();
    write_coco(&path, &good).unwrap();
    assert_eq!(read_coco(&path).unwrap(), good);
    let refused = |change: fn(&mut CocoDataset), expected: &str| {
        let mut bad = good.clone();
        change(&mut bad);
        let text = write_coco(&path, &bad).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    refused(|bad| bad.annotations[0].image_id = 8, "annotations[0].image_id`: there is no image 8");
    refused(|bad| bad.annotations[0].category_id = 8, "annotations[0].category_id`: there is no category 8");
    refused(|bad| bad.annotations[0].score = Some(f32::NAN), "annotations[0].score`");
    refused(|bad| bad.annotations[0].bbox = Some([f64::INFINITY; 4]), "annotations[0].bbox`");
    refused(|bad| bad.annotations.push(bad.annotations[0].clone()), "annotations[1].id`: there is another");
    refused(|bad| bad.images[0].size.width = 9, "annotations[0].mask: expected shape 9x2, got 3x2");
    refused(|bad| bad.images.push(bad.images[0].clone()), "images[1].id`: there is another image 1");
    refused(|bad| bad.categories.push(bad.categories[0].clone()), "categories[1].id`");
    assert_eq!(read_coco(&path).unwrap(), good, "the file is as it was");

    let refused = |mask: InstanceMask, expected: &str| {
        let masks = vec![mask];
        let file = SamAnnotations { image_id: 0, file_name: "a.jpg".into(), size: SIZE, masks };
        let text = write_sam_annotations(&path, &file).unwrap_err().to_string();
        assert!(text.contains("masks[0]") && text.contains(expected), "{text}");
    };
    refused(InstanceMask { stability_score: f32::NAN, ..mask.clone() }, "finite");
    refused(InstanceMask { class: Some(UNLABELED), ..mask.clone() }, "means unlabelled");
    refused(InstanceMask { mask: RleMask::empty(Size { width: 1, height: 1 }), ..mask }, "expected shape 3x2");
}

#[test]
fn files_of_segment_anything() {
    let with = |annotation: &str| {
        file(&format!(
            r#"{{"image": {{"image_id": 4, "width": 3, "height": 2, "file_name": "a.jpg"}}, "annotations": [{annotation}]}}"#
        ))
    };
    let (_folder, path) = with(
        r#"{"segmentation": []},
           {"segmentation": {"size": [2, 3], "counts": "222"}, "crop_box": [0, 0, 3.0, 2], "point_coords": [[1.5, 1]]}"#,
    );
    let read = read_sam_annotations(&path).unwrap();
    assert_eq!((read.image_id, read.size, read.masks.len()), (4, SIZE, 1));
    let mask = &read.masks[0];
    assert_eq!((mask.area(), mask.class, mask.predicted_iou), (2, None, 1.0));
    assert_eq!(mask.point.map(|point| (point.x, point.y, point.foreground)), Some((1.5, 1.0, true)));
    for (annotation, expected) in [
        (
            r#"{"segmentation": {"size": [2, 3], "counts": "222"}, "crop_box": [0, 0, 2.5, 2]}"#,
            "annotations[0].crop_box",
        ),
        (r#"{"segmentation": {"size": [2, 3], "counts": "222"}, "cate_preds": 255}"#, "annotations[0].cate_preds"),
        (
            r#"{"segmentation": {"size": [2, 3], "counts": "222"}, "point_coords": [[1, -1e300]]}"#,
            "annotations[0].point_coords",
        ),
        (r#"{"segmentation": [], "stability_score": 1e99}"#, "annotations[0]: expected a score below"),
        (
            r#"{"segmentation": {"size": [1, 1], "counts": "1"}}"#,
            "annotations[0].segmentation: the mask has 1x1 pixels",
        ),
        (r#"{"area": 3}"#, "annotations[0]: missing field `segmentation`"),
    ] {
        let (_folder, path) = with(annotation);
        let text = read_sam_annotations(&path).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn an_image_without_objects_is_kept() {
    let (_folder, path) =
        file(r#"{"images": [{"id": 0, "file_name": "a", "width": 1, "height": 1}], "annotations": []}"#);
    let read = read_coco(&path).unwrap();
    let size = Size { width: 1, height: 1 };
    assert_eq!(read.images, [CocoImage { id: 0, file_name: "a".into(), size }]);
    assert!(read.class_set().unwrap().is_empty());
}
