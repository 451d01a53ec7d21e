//! Tables of classes and colours, whole and broken.

use coral_core::{Class, ClassSet, Result, UNLABELED, ndarray::array};
use coral_io::{
    ClassTable, ColorTable, UnknownColor, read_class_set, read_class_table, read_color_label_map, read_color_table,
    write_class_set, write_image,
};
use proptest::prelude::*;

fn read(name: &str, bytes: &[u8]) -> Result<ClassTable> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read_class_table(path)
}

fn listed(table: &ClassTable) -> Vec<String> {
    table.classes.iter().map(|class| format!("{} {}", class.id, class.name)).collect()
}

#[test]
fn tables_in_many_spellings() {
    for text in [
        "id,name\n3,sand\n7,hard coral\n",
        "\u{feff}Name;ID\r\nhard coral;7\r\n\r\nsand;3\r\n",
        "3,sand\n7,hard coral\n",
        "3\tsand\n7\thard coral",
        "class_id,class,color\n3,sand,#010203\n7,hard coral,\n",
        "\u{feff}{\"sand\": 3, \"hard coral\": 7}",
        r#" {"3": "sand", "7": "hard coral"}"#,
        r#"[{"id":3,"name":"sand","color":[1,2,3]},{"id":7,"name":"hard coral","color":[0,0,0],"parent":3}]"#,
    ] {
        assert_eq!(listed(&read("classes.txt", text.as_bytes()).unwrap()), ["3 sand", "7 hard coral"], "{text}");
    }
    for text in ["sand\nhard coral\n", "name\nsand\n\nhard coral", "name,color\nsand,\nhard coral,#ffffff\n"] {
        assert_eq!(listed(&read("classes.txt", text.as_bytes()).unwrap()), ["0 sand", "1 hard coral"], "{text}");
    }
    let colors = read("c.json", br#"{"(159, 18, 167)": 0, "(92, 27, 180)": 34}"#).unwrap();
    assert_eq!(listed(&colors), ["0 0", "34 34"]);
    assert_eq!(colors.classes.color(34), [92, 27, 180]);
}

#[test]
fn tables_with_codes() {
    let table =
        read("labelset.csv", b"Name,Short Code,Functional Group\nBryozoan,BRY,Other\n\"Algae, red\",RA,Algae\n")
            .unwrap();
    assert_eq!(listed(&table), ["0 Bryozoan", "1 Algae, red"]);
    assert_eq!([table.parse(" ra ").unwrap(), table.parse("bryozoan").unwrap()], [1, 0]);
    let cpce = "2\r\n\"C\",\"Coral\"\r\n\"S\",\"Sand, rubble\"\r\n\"AP\",\"Acropora palmata\",\"C\"\r\n\
                \"SD\",\"Sand\",\"S\"\r\n\"NOTES\",\"NOTES\",\"NOTES\"\r\n\"BL\",\"Bleached\",\"NA\"\r\n";
    let table = read("codes.txt", cpce.as_bytes()).unwrap();
    assert_eq!(listed(&table), ["0 Coral", "1 Sand, rubble"]);
    assert_eq!(["AP", "SD", "C", "sand, rubble"].map(|code| table.parse(code).unwrap()), [0, 1, 0, 1]);
    assert!(table.parse("BL").is_err());
}

#[test]
fn broken_tables_are_explained() {
    let many: String = (0..256).map(|i| format!("class {i}\n")).collect();
    let cases: &[(&[u8], &str)] = &[
        (b"", ": the file is empty: expected classes"),
        (b"id,name\n", ": the table holds no class"),
        (b"{}", ": the table holds no class"),
        (b"[]", ": the table holds no class"),
        (b"{\"sand\": 0", ":1: not a JSON table of classes: EOF"),
        (b"[1, 2]", ":1: not a JSON table of classes: invalid type"),
        (b"{\"sand\": 256}", ": `sand`: class id `256`: expected a whole number 0"),
        (b"{\"sand\": [1]}", "class id `[1]`: expected a whole number"),
        (b"{\"sand\": 1, \"mud\": 1}", ": id 1 occurs twice: `sand` and `mud`"),
        (b"{\"sand\": 1, \"sand\": 2}", ": the name `sand` occurs twice"),
        (b"{\"(1, 2)\": 1}", ": color `(1, 2)`: expected #rrggbb or (r, g, b)"),
        (b"sand,brown\nmud,grey\n", ":1: not a table of classes: expected a header with name"),
        (b"id,name\n1\n", ":2: expected at least 2 fields, found 1"),
        (b"id,name\n1,sand\n\n300,mud\n", ":4: class id `300`: expected a whole number 0"),
        (b"id,name\n255,none\n", ":2: class id `255`: expected a whole number 0"),
        (b"id,name\n-1,mud\n", ":2: class id `-1`"),
        (b"id,name\n1,sand\n1,mud\n", ": id 1 occurs twice: `sand` and `mud`"),
        (b"id,name\n1,sand\n2,Sand\n", ": the name `Sand` occurs twice"),
        (b"id,name\n1,\n", ": class 1 has no name"),
        (b"name,color\nsand,brown\n", ":2: color `brown`: expected #rrggbb or (r, g, b)"),
        (b"id,name,parent\n1,sand,mud\n", ":2: the parent `mud` is not in the table"),
        (b"id,name,parent\n1,a,b\n2,b,a\n", ":3: the parents of `a` form a cycle"),
        (b"name\nsand\ncaf\xe9\n", ":3: the text is not UTF-8 (byte 0xe9)"),
        (b"code,class\nS,sand\nS,mud\n", ":3: code `S` stands for `sand` and `mud`"),
        (b"2\n\"C\",\"Coral\"\n", ": expected 2 categories, found 1"),
        (b"1\n\"C\",\"Coral\"\n\"S\",\"Sand\",\"Q\"\n", ":3: category `Q` of code `S` is not in the table"),
        (many.as_bytes(), ":256: at most 255 classes (0"),
    ];
    for (bytes, text) in cases {
        let error = read("classes.csv", bytes).unwrap_err().to_string();
        assert!(
            error.contains(&format!("classes.csv{text}")) || (!text.starts_with(':') && error.contains(text)),
            "{error}\n{text}"
        );
    }
    let error = read_class_set("no/such.csv").unwrap_err().to_string();
    assert!(error.starts_with("no/such.csv: No such file"), "{error}");
}

#[test]
fn color_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("colors");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_color_table(&path)
    };
    assert_eq!(read(r#"{"(1, 2, 3)": 4, "(3, 2, 1)": 4}"#).unwrap().entries(), [([1, 2, 3], 4), ([3, 2, 1], 4)]);
    assert_eq!(read("id,name,color\n4,sand,#010203\n").unwrap().entries(), [([1, 2, 3], 4)]);
    for (text, expected) in [
        (r#"{"(1, 2, 3)": 4, "(1, 2, 3)": 5}"#, "colors: color #010203 stands for 4 and 5"),
        (r#"{"sand": 4}"#, "colors: not a color table: expected keys like (159, 18, 167)"),
        ("{}", "colors: at least one color is needed"),
        (r#"{"(1, 2, 3)": 4"#, "colors:1: not a JSON table of classes: EOF"),
        (r#"{"(1, 2, 3)": 255"#, "colors:1: not a JSON table of classes: EOF"),
        (r#"{"(1, 2, 300)": 4}"#, "colors: color `(1, 2, 300)`: expected #rrggbb or (r, g, b)"),
        (r#"{"(1, 2, 3)": 256}"#, "colors: `(1, 2, 3)`: class id `256`: expected a whole number 0–254"),
        ("id,name,color\n4,sand,blue\n", "colors:2: color `blue`: expected #rrggbb or (r, g, b)"),
        ("id,name,color\n4,sand,#010203\n5,mud,#010203\n", "colors: color #010203 stands for 4 and 5"),
        ("", "colors: the file is empty"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn colors_that_no_table_knows() {
    use coral_core::image::{Rgb, RgbImage};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    let mask = RgbImage::from_fn(2, 2, |x, y| Rgb([250 * x as u8, 10, 255 * y as u8]));
    write_image(&path, &mask).unwrap();
    // The corners of the colour cube, as in SUIM; the nearest is a threshold at 128.
    let corners = (0..8u8).map(|id| ([id >> 2 & 1, id >> 1 & 1, id & 1].map(|bit| bit * 255), id));
    let table = ColorTable::new(corners).unwrap();
    let read = |unknown| read_color_label_map(&path, &table, unknown);
    let error = read(UnknownColor::Error).unwrap_err().to_string();
    assert!(
        error.ends_with("mask.png: pixel (0, 0) has color #000a00, which is not in the table of 8 colors"),
        "{error}"
    );
    assert_eq!(read(UnknownColor::Nearest).unwrap(), array![[0, 4], [1, 5]]);
    assert!(read(UnknownColor::Unlabeled).unwrap().iter().all(|&id| id == UNLABELED));
}

#[test]
fn broken_color_coded_label_maps_are_explained() {
    use coral_core::image::{ImageFormat, Rgb, RgbImage};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.bmp");
    let encoded = |format| {
        let mask = RgbImage::from_fn(40, 30, |x, y| Rgb(if (x, y) == (7, 2) { [9; 3] } else { [0, 0, 255] }));
        let mut bytes = std::io::Cursor::new(Vec::new());
        mask.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let (png, bmp) = (encoded(ImageFormat::Png), encoded(ImageFormat::Bmp));
    let table = ColorTable::new([([0, 0, 255], 4)]).unwrap();
    let unknown = "pixel (7, 2) has color #090909, which is not in the table of 1 colors";
    for (bytes, text) in [
        (&b""[..], "not an image: expected a PNG, JPEG, TIFF or BMP file"),
        (b"id,name\n1,sand\n", "not an image"),
        (&png[..png.len() - 20], "the image "),
        (&bmp[..bmp.len() - 20], "the image file ends too early"),
        (&bmp[..20], "the image file ends too early"),
        (&png, unknown),
        (&bmp, unknown),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = read_color_label_map(&path, &table, UnknownColor::Error).unwrap_err().to_string();
        assert!(error.contains(&format!("mask.bmp: {text}")), "{error}\n{text}");
    }
    let error = read_color_label_map(folder.path(), &table, UnknownColor::Error).unwrap_err().to_string();
    assert!(error.ends_with(": is a folder, expected a file"), "{error}");
}

fn class_sets() -> impl Strategy<Value = ClassSet> {
    let name = "[ -~éß漢]{1,9}".prop_map(|name| name.trim().to_owned());
    let class = (0u8..255, name, any::<[u8; 3]>(), proptest::option::of(0usize..20));
    proptest::collection::vec(class, 1..20).prop_filter_map("repeated", |rows| {
        let ids: Vec<_> = rows.iter().map(|row| row.0).collect();
        // A parent that stands earlier makes no cycle.
        let parent = |at: usize, parent: Option<usize>| parent.filter(|&parent| parent < at).map(|parent| ids[parent]);
        let class = |(at, (id, name, color, above)): (usize, (u8, String, [u8; 3], Option<usize>))| Class {
            id,
            name,
            color,
            parent: parent(at, above),
        };
        ClassSet::new(rows.into_iter().enumerate().map(class)).ok()
    })
}

proptest! {
    #[test]
    fn written_classes_read_back(classes in class_sets()) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["classes.csv", "classes.JSON"] {
            let path = folder.path().join(name);
            write_class_set(&path, &classes).unwrap();
            prop_assert_eq!(&read_class_set(&path).unwrap(), &classes);
        }
    }

    #[test]
    fn nearest_is_a_threshold_for_cube_corners(pixels in proptest::collection::vec(any::<[u8; 3]>(), 1..30)) {
        let table = ColorTable::new((0..8u8).map(|id| ([id >> 2 & 1, id >> 1 & 1, id & 1].map(|bit| bit * 255), id))).unwrap();
        let width = pixels.len() as u32;
        let mask = coral_core::image::RgbImage::from_raw(width, 1, pixels.concat()).unwrap();
        let expected: Vec<u8> =
            pixels.iter().map(|p| p.iter().fold(0, |id, &level| id << 1 | u8::from(level >= 128))).collect();
        prop_assert_eq!(table.label_map(&mask, UnknownColor::Nearest).unwrap().into_raw_vec_and_offset().0, expected);
    }
}
