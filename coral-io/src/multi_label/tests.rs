use coral_core::image::RgbImage;
use coral_core::ndarray::array;
use coral_core::testing::check_dataset;
use coral_core::{ClassSet, Dataset};
use proptest::prelude::*;

use super::*;
use crate::{Resize, write_image};

fn read(text: &str, config: &MultiLabelConfig) -> coral_core::Result<MultiLabelTable> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.csv");
    std::fs::write(&path, text).unwrap();
    read_multi_labels(&path, config)
}

fn error(text: &str, config: &MultiLabelConfig) -> String {
    let text = read(text, config).unwrap_err().to_string();
    text.rsplit_once("labels.csv").unwrap().1.to_owned()
}

#[test]
fn columns_are_found_by_their_names() {
    let plain = MultiLabelConfig::default();
    let table =
        read(",File_Name,b,Atra/Leucospilota,Split\n7,x.JPG,0,1,train\n8,y.JPG,0.25,1.0,Test\n", &plain).unwrap();
    let names: Vec<_> = table.classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!((names, &table.targets), (vec!["b", "Atra/Leucospilota"], &array![[0.0, 1.0], [0.25, 1.0]]));
    assert_eq!((&table.files[..], &table.lines[..]), (&["x.JPG".to_owned(), "y.JPG".to_owned()][..], &[2, 3][..]));
    let test = table.subset(" TEST").unwrap();
    assert_eq!((test.files, test.targets, test.lines), (vec!["y.JPG".to_owned()], array![[0.25, 1.0]], vec![3]));
    assert!(
        table.subset("val").unwrap_err().to_string().ends_with("no line of subset `val`: expected one of Test, train")
    );

    // A class called `Set` is no subset, and a first column of another name holds the files.
    let table = read("frame;Set;sand\nx;1;0\n\ny;0;0.5\n", &plain).unwrap();
    assert_eq!((table.classes.len(), &table.lines[..], table.subsets.is_none()), (2, &[2, 4][..], true));
    assert!(table.subset("train").unwrap_err().to_string().contains("no column of subsets"));

    let given = MultiLabelConfig {
        file_column: Some("name of it".into()),
        subset_column: Some("phase".into()),
        ignore: vec!["depth".into()],
        classes: Some(ClassSet::from_names(["sand", "coral"]).unwrap()),
    };
    let table = read("Coral,depth,Name_of_it,SAND,phase\n1,9.5,x,0,1\n", &given).unwrap();
    assert_eq!((table.targets, table.subsets), (array![[0.0, 1.0]], Some(vec!["1".to_owned()])));
}

#[test]
fn single_labels_are_told() {
    let table = read("image,a,b\nx,0,1\ny,1,0\n", &MultiLabelConfig::default()).unwrap();
    assert_eq!(table.labels().unwrap(), [1, 0]);
    for (line, found) in [("1,1", 2), ("0,0", 0), ("0,0.5", 1)] {
        let table = read(&format!("image,a,b\nx,0,1\ny,{line}\n"), &MultiLabelConfig::default()).unwrap();
        let text = table.labels().unwrap_err().to_string();
        assert!(text.ends_with(&format!(":3: expected exactly one class with 1, found {found} above 0")), "{text}");
    }
}

#[test]
fn bad_tables_are_named_with_their_line() {
    let plain = MultiLabelConfig::default();
    for (text, expected) in [
        ("", ": the file is empty: expected a header and a line per photograph"),
        ("file,a\n", ":1: no line after the header: expected one per photograph"),
        ("file\nx\n", ":1: no column of a class: expected one at least"),
        ("a,b\n1,0\n", ":1: no column of file names: expected e.g. `FileName`"),
        ("file,a\nx,1\ny\n", ":3: expected 2 fields, found 1"),
        ("file,a\nx,1,0\n", ":2: expected 2 fields, found 3"),
        ("file,a,b\nx,0,2\n", ":2: `b`: expected 0..1, found `2`"),
        ("file,a\nx,-0.1\n", ":2: `a`: expected 0..1, found `-0.1`"),
        ("file,a\nx,NaN\n", ":2: `a`: expected 0..1, found `NaN`"),
        ("file,a\nx,\n", ":2: `a`: expected 0..1, found nothing"),
        ("file;a\nx;0,5\n", ":2: `a`: expected 0..1, found `0,5`"),
        ("file,a\n,1\nx,1\n", ":2: expected the name of a file, found nothing"),
        ("file,a\nx,1\ny,0\nx,0\n", ":4: `x` stands in line 2 already"),
        ("file,a,A\nx,1,0\n", ":1: the name `A` occurs twice"),
        ("file,a\nx,\"1\ny,0\n", ":2: a quote opens here and is not closed"),
    ] {
        let found = error(text, &plain);
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    let named = MultiLabelConfig { file_column: Some("photo".into()), ..plain.clone() };
    assert_eq!(error("file,a\nx,1\n", &named), ":1: no column `photo`: found file, a");
    let classes = Some(ClassSet::from_names(["a", "b"]).unwrap());
    let fixed = MultiLabelConfig { classes, ..plain };
    assert_eq!(error("file,a\nx,1\n", &fixed), ":1: no column for the class `b`");
    let unknown = error("file,a,b,c\nx,1,0,0\n", &fixed);
    assert_eq!(unknown, ":1: `c` is no class: unknown class `c`: expected one of a, b");
    let wide =
        format!("file,{}\nx{}\n", (0..256).map(|i| format!("c{i}")).collect::<Vec<_>>().join(","), ",0".repeat(256));
    assert!(error(&wide, &MultiLabelConfig::default()).contains("at most 255 classes"));
}

#[test]
fn photographs_are_found_or_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "B.png", "c.png", "c.bmp.png"] {
        write_image(folder.path().join(name), &RgbImage::new(8, 6)).unwrap();
    }
    std::fs::create_dir(folder.path().join("deep")).unwrap();
    write_image(folder.path().join("deep/a.png"), &RgbImage::new(2, 2)).unwrap();
    let table = |files: &[&str]| {
        let lines: String = files.iter().map(|file| format!("{file},1,0.5\n")).collect();
        read(&format!("file,sand,coral\n{lines}"), &MultiLabelConfig::default()).unwrap()
    };
    let dataset = MultiLabelDataset::new(table(&["a.png", "b.PNG", "c", "deep/a.png"]), folder.path()).unwrap();
    check_dataset(&dataset, |a, b| a == b).unwrap();
    let names: Vec<_> = (0..4).map(|index| dataset.name(index).unwrap()).collect();
    assert_eq!(names, ["a", "B", "c", "a_2"]);
    assert_eq!((dataset.get(3).unwrap().image.width(), dataset.table().classes.len()), (2, 2));
    assert!(dataset.paths()[2].ends_with("c.png"));
    let small = dataset.clone().with_resize(Resize::MaxSide(4)).unwrap();
    assert_eq!(small.get(0).unwrap().image.dimensions(), (4, 3));
    assert!(dataset.with_resize(Resize::MaxSide(0)).is_err());

    let missing = MultiLabelDataset::new(table(&["a.png", "d.png"]), folder.path()).unwrap_err().to_string();
    assert!(missing.contains("labels.csv:3: its photograph `d.png` is missing in "), "{missing}");
    std::fs::copy(folder.path().join("c.png"), folder.path().join("C.tif")).unwrap();
    let twice = MultiLabelDataset::new(table(&["c"]), folder.path()).unwrap_err().to_string();
    assert!(twice.contains("labels.csv:2: `c` stands for 2 files in "), "{twice}");
    assert!(MultiLabelDataset::new(table(&["a.png"]), folder.path().join("no")).is_err());
}

proptest! {
    #[test]
    fn values_survive(values in proptest::collection::vec(proptest::array::uniform3(0u32..=1000), 1..20)) {
        let soft = |value: u32| f64::from(value) / 1000.0;
        let lines = values.iter().enumerate().map(|(i, row)| {
            format!("{i}.jpg\t{}\t{}\t{}\n", soft(row[0]), soft(row[1]), soft(row[2]))
        });
        let table = read(&format!("name\tx\ty\tz\n{}", lines.collect::<String>()), &MultiLabelConfig::default()).unwrap();
        for ((row, column), value) in table.targets.indexed_iter() {
            prop_assert_eq!(*value, soft(values[row][column]) as f32);
        }
    }
}
