//! Point files, whole and broken, in every format.

use std::path::Path;

use coral_core::{ClassSet, PointLabel, Result, Size};
use coral_io::{PointTable, point_images, read_class_table, read_points, write_points};
use proptest::prelude::*;

const SIZE: Size = Size { width: 100, height: 50 };

fn read_as(name: &str, bytes: &[u8], image: Option<&str>) -> Result<PointTable> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read_points(path, SIZE, image)
}

/// Positions and classes as `x y class`.
fn found(table: &PointTable) -> Vec<String> {
    table.points.iter().map(|p| format!("{} {} {}", p.x, p.y, p.class)).collect()
}

/// A CPCe file with 15 units to the pixel.
fn cpce(points: &[(f64, f64, &str)]) -> String {
    let mut text = String::from("\"C:\\codes, 2012.txt\",\"D:\\Dive 1\\Reef.JPG\",1500,750,800,600\r\n");
    text += "0,0\r\n0,750\r\n1500.5,750\r\n1500,0\r\n\r\n";
    text += &format!("{}\r\n", points.len());
    points.iter().for_each(|(x, y, _)| text += &format!("{x},{y}\r\n"));
    let label =
        |(nth, (_, _, code)): (usize, &(f64, f64, &str))| format!("\"{}\",\"{code}\",\"Notes\",\"\"\r\n", nth + 1);
    text += &points.iter().enumerate().map(label).collect::<String>();
    text + "\" \"\r\n\" \"\r\n"
}

#[test]
fn plain_tables_in_many_spellings() {
    let expected = ["5 7 sand", "99 0 Hard coral"];
    for text in [
        "x,y,class\n5,7,sand\n99,0,Hard coral\n",
        "class,y,x\nsand,7,5\nHard coral,0,99",
        "5,7,sand\n99,0,Hard coral\n",
        "\r\n\r\n5;7;sand\r\n\r\n99;0;Hard coral\r\n",
        " X \tY\tLabel name\n5\t7\tsand\n99\t0\tHard coral\n",
        "\u{feff}col,row,species,note\n5,7,sand,\n99,0,\"Hard coral\",\"a, b\"\n",
        "x,y,name\n5.9,7.2,sand\n99.0,0,Hard coral\n5,7,Sand\n",
    ] {
        assert_eq!(found(&read_as("points.txt", text.as_bytes(), None).unwrap()), expected, "{text}");
        assert_eq!(found(&read_as("points.csv", text.as_bytes(), Some("reef.jpg")).unwrap()), expected, "{text}");
    }
}

#[test]
fn broken_plain_tables_are_explained() {
    let cases: &[(&[u8], &str)] = &[
        (b"", ": the file is empty: expected labelled points"),
        (b"\xef\xbb\xbf \n\n", "the file is empty"),
        (b"x,y,class\n", ": the file holds no points"),
        (b"x,y\n1,2\n", ":1: not a table of points: no class column; expected a header with x, y and class"),
        (b"east,north,class\n1,2,a\n", ":1: not a table of points: no x column"),
        // A number per point is no class.
        (b"id,x,y\n0,1,2\n", ":1: not a table of points: no class column"),
        (b"1,2\n3,4\n", ":1: without a header, expected 3 fields (x,y,class), found 2"),
        (b"1,2,a,9\n", ":1: without a header, expected 3 fields (x,y,class), found 4"),
        (b"x,y,class\n1,2\n", ":2: expected at least 3 fields, found 2"),
        (b"x,y,class\n1,2,coral, hard\n", ":2: expected 3 fields, found 4 (a name with a comma must stand in quotes)"),
        (b"x,y,class\n\n1,two,a\n", ":3: expected a number for y, found `two`"),
        (b"x,y,class\nnan,2,a\n", ":2: expected a number for x, found `nan`"),
        (b"x,y,class\n1,2,a\n3,4,\n", ":3: the class is empty"),
        (b"x,y,class\n1,2,a\n100,4,b\n", ":3: point (100, 4) lies outside the 100x50 image"),
        (b"x,y,class\n1,2,\"a\n3,4,b\n", ":2: a quote opens here and is not closed: expected a second `\"`"),
        (b"x,y,class\n1,50,a\n", ":2: point (1, 50) lies outside the 100x50 image"),
        (b"x,y,class\n-1,4,b\n", ":2: point (-1, 4) lies outside"),
        (b"x,y,class\n1e300,4,b\n", "lies outside the 100x50 image"),
        (b"x,y,class\n1,2,a\n3,4,a\n1,2,b\n", ":4: point (1, 2) has class `b`, but line 2 gives it `a`"),
        (b"x,y,class\n1,2,a\n3,4,caf\xe9\n", ":3: the text is not UTF-8 (byte 0xe9): save it as UTF-8"),
        (b"\xff\xfex\0,\0", ":1: the text is UTF-16: save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n", ":1: the text is not UTF-8"),
        (
            b"image,x,y,class\na.jpg,1,2,s\nb.jpg,1,2,s\n",
            "the points belong to 2 images (a.jpg, b.jpg): name the one to read",
        ),
    ];
    for (bytes, text) in cases {
        let error = read_as("points.csv", bytes, None).unwrap_err().to_string();
        assert!(error.contains(&format!("points.csv{text}")) || error.contains(text), "{error}\n{text}");
        assert!(error.contains("points.csv:"), "{error}");
    }
}

#[test]
fn coralnet_tables_simple_and_full() {
    let simple = "\u{feff}Name,Row,Column,Label\nA.JPG,7,5,Sand\nB.JPG,9000,9000,Porit\nA.JPG,0,99,Porit\n";
    let full = "Name,Date,Height (cm),Comments,Row,Column,Label code,Annotator,Date annotated,\
                Machine suggestion 1,Machine confidence 1\r\n\
                A.JPG,2018-10-14,,\"windy, cold\",7,5,Sand,anon,2020-07-18 15:57:11+00:00,Sand,99\r\n\
                A.JPG,2018-10-14,,,3,3,,,,Porit,50\r\n\
                B.JPG,2018-10-14,,,9000,9000,Porit,anon,,Sand,1\r\n\
                A.JPG,2018-10-14,,,0,99,Porit,anon,,Sand,1\r\n";
    for (text, unlabeled) in [(simple, 0), (full, 1)] {
        for image in ["A.JPG", "a.jpg", "D:\\photos\\A.JPG", "/photos/a.png"] {
            let table = read_as("export.csv", text.as_bytes(), Some(image)).unwrap();
            assert_eq!(found(&table), ["5 7 Sand", "99 0 Porit"]);
            assert_eq!((table.image.as_deref(), table.unlabeled), (Some("A.JPG"), unlabeled));
        }
        let error = |image| read_as("export.csv", text.as_bytes(), image).unwrap_err().to_string();
        assert!(error(Some("B.JPG")).contains("point (9000, 9000) lies outside the 100x50 image"));
        assert!(error(Some("C.JPG")).contains("no points for image `C.JPG`: found A.JPG, B.JPG"));
        assert!(error(None).contains("the points belong to 2 images (A.JPG, B.JPG)"));
    }
}

#[test]
fn broken_coralnet_tables_are_explained() {
    let classes = ClassSet::from_names(["Sand", "Porit"]).unwrap();
    let head = "\u{feff}Name,Date,Row,Column,Label,Annotator\r\n";
    let with = |rows: &str| format!("{head}{rows}").into_bytes();
    let many: String = (0..256).map(|i| format!("A.JPG,,{},{},class {i},\n", i / 100, i % 100)).collect();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"\xef\xbb\xbf".to_vec(), ": the file is empty: expected labelled points"),
        (with(""), ": the file holds no points"),
        (b"Name,Row,Label\nA.JPG,1,Sand\n".to_vec(), ":1: not a table of points: no x column; expected a header with"),
        (b"Name,Column,Label\nA.JPG,1,Sand\n".to_vec(), ":1: not a table of points: no y column"),
        (b"A.JPG,7,5,Sand\n".to_vec(), ":1: not a table of points: no x column"),
        (with("A.JPG,,7,5,Sand,me\nA.JPG,,7"), ":3: expected at least 4 fields, found 3"),
        (with("A.JPG,\"windy,7,5,Sand,me\nA.JPG,,7,6,Sand,me\n"), ":2: a quote opens here and is not closed"),
        (with("A.JPG,,seven,5,Sand,me\n"), ":2: expected a number for y, found `seven`"),
        (with("A.JPG,,7,,Sand,me\n"), ":2: expected a number for x, found ``"),
        (with("A.JPG,,7,100,Sand,me\n"), ":2: point (100, 7) lies outside the 100x50 image"),
        (with("A.JPG,,50,5,Sand,me\n"), ":2: point (5, 50) lies outside the 100x50 image"),
        (
            with("A.JPG,,7,5,Sand,\nB.JPG,,7,5,Mud,\nA.JPG,,7,5,Porit,\n"),
            ":4: point (5, 7) has class `Porit`, but line 2",
        ),
        (with("B.JPG,,7,5,Sand,me\n"), ": no points for image `a.jpg`: found B.JPG"),
        (with("p/A.JPG,,7,5,Sand,\nq/A.JPG,,7,5,Sand,\n"), ": several images fit `a.jpg`: p/A.JPG, q/A.JPG"),
        (with("A.JPG,,7,5,,me\n"), ": none of the 1 points has a label"),
        (with("A.JPG,,7,5,Sand,\nA.JPG,,7,6,Mud,\n"), ":3: unknown class `Mud`: expected one of Sand, Porit"),
        (with(&many), ": 256 different classes: at most 255 (0–254) fit"),
        ([&with("A.JPG,,7,5,Sand,")[..], b"caf\xe9\n"].concat(), ":2: the text is not UTF-8 (byte 0xe9)"),
    ];
    for (bytes, text) in cases {
        let labels = read_as("export.csv", &bytes, Some("a.jpg")).and_then(|table| {
            table.classes()?;
            table.to_labels(&classes)
        });
        let error = labels.unwrap_err().to_string();
        assert!(error.contains(&format!("export.csv{text}")), "{error}\n{text}");
    }
}

#[test]
fn images_of_broken_files_are_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, text) in [
        ("a.csv", &b""[..], "a.csv: the file is empty: expected labelled points"),
        ("a.csv", b"image,x,y\nb.jpg,1,2\n", "a.csv:1: not a table of points: no class column"),
        ("a.csv", b"x,y,class,image\n1,2,s,b.jpg\n1,2,s\n", "a.csv:3: expected at least 4 fields, found 3"),
        ("a.csv", b"image,x,y,class\n\xe9.jpg,1,2,s\n", "a.csv:2: the text is not UTF-8 (byte 0xe9)"),
        ("a.cpc", b"", "a.cpc:1: the CPCe file ends before its header"),
        ("a.cpc", b"1,2,3\n", "a.cpc:1: not a CPCe header"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = point_images(&path).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    let error = point_images(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with(": is a folder, expected a file"), "{error}");
}

#[test]
fn cpce_files() {
    let points = [(75.0, 105.0, "SAND"), (1499.9, 14.9, "P"), (80.0, 80.0, ""), (1485.0, 0.0, "P")];
    let table = read_as("reef.cpc", cpce(&points).as_bytes(), Some("/photos/reef.jpg")).unwrap();
    assert_eq!(found(&table), ["5 7 SAND", "99 0 P"]);
    assert_eq!((table.image.as_deref(), table.unlabeled), (Some("Reef.JPG"), 1));
    // The content tells the format, and Windows-1252 is understood.
    let latin = cpce(&[(0.0, 0.0, "CAFE")]).replace("Dive 1", "Plongee").into_bytes();
    let latin: Vec<u8> = latin.into_iter().map(|byte| if byte == b'E' { 0xe9 } else { byte }).collect();
    assert_eq!(found(&read_as("any.dat", &latin, None).unwrap()), ["0 0 CAFé"]);
    // Without the final notes and without trailing line end.
    let bare = cpce(&points[..1]).replace("\" \"\r\n", "");
    assert_eq!(found(&read_as("a.cpc", bare.trim_end().as_bytes(), None).unwrap()), ["5 7 SAND"]);
    // The same points on a copy of the photograph at half the size.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cpc");
    std::fs::write(&path, &bare).unwrap();
    let half = read_points(&path, Size { width: 50, height: 25 }, None).unwrap();
    assert_eq!(found(&half), ["2 3 SAND"]);
    assert_eq!(point_images(&path).unwrap(), ["Reef.JPG"]);
}

#[test]
fn broken_cpce_files_are_explained() {
    let whole = cpce(&[(75.0, 105.0, "SAND"), (90.0, 30.0, "P")]);
    let cut = |lines: usize| whole.lines().take(lines).map(|line| format!("{line}\r\n")).collect::<String>();
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "the file is empty"),
        ("hello\n".into(), ":1: not a CPCe header: expected code file, image, width, height"),
        (
            "\"a\",\"b.jpg\",wide,750,8,6\n".into(),
            ":1: not a CPCe header: expected the image's width and height, found `wide,750`",
        ),
        (whole.replace("1500,750,", "0,750,"), ":1: the header gives the image 0x750 units: expected more than 0"),
        (whole.replace("D:\\Dive 1\\Reef.JPG", "D:\\"), ":1: the header names no image"),
        (cut(1), ":2: the CPCe file ends before the four corners of the frame"),
        (cut(5), ":6: the CPCe file ends before the number of points"),
        (cut(7), ":8: the CPCe file ends before the position of point 1 of 2"),
        (cut(10), ":11: the CPCe file ends before the label of point 2 of 2"),
        (whole.replace("\r\n2\r\n", "\r\nmany\r\n"), ":7: expected the number of points, found `many`"),
        (whole.replace("75,105", "75"), ":8: expected the position x,y of point 1, found `75`"),
        (whole.replace("75,105", "75,abc"), ":8: expected a number, found `abc`"),
        (whole.replace("75,105", "1500,105"), ":8: point (100, 7) lies outside the 100x50 image"),
        (whole.replace("75,105", "-1,105"), ":8: point (-1, 7) lies outside"),
        (whole.replace("75,105", "91,31"), ":11: point (6, 2) has class `P`, but line 10 gives it `SAND`"),
        (
            whole.replace("1500,750,", "1500,1500,"),
            ":1: the points were set on an image of 1500x1500 units, which does not fit the shape of the 100x50 image",
        ),
        (
            whole.replace("\"1\",\"SAND\",\"Notes\",\"\"", "SAND"),
            ":10: expected the label of point 1 (number, code, …), found `SAND`",
        ),
        // A file cut off within the last code.
        (
            whole[..whole.rfind("P\",").unwrap() + 1].into(),
            ":11: expected the label of point 2 (number, code, …), found `2,P`",
        ),
        (cpce(&[(1.0, 1.0, ""), (30.0, 30.0, "")]), ": none of the 2 points has a label"),
        (whole.replace("\r\n2\r\n", "\r\n18446744073709551615\r\n"), ":10: expected a number, found `SAND`"),
    ];
    for (text, expected) in cases {
        let error = read_as("reef.cpc", text.as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains("reef.cpc") && error.contains(expected), "{error}\n{expected}");
    }
    let many: Vec<(f64, f64, String)> =
        (0..256).map(|i| (f64::from(i % 100) * 15.0, f64::from(i / 100) * 15.0, format!("C{i}"))).collect();
    let many: Vec<_> = many.iter().map(|(x, y, code)| (*x, *y, code.as_str())).collect();
    let error = read_as("reef.cpc", cpce(&many).as_bytes(), None).unwrap().classes().unwrap_err().to_string();
    assert!(error.contains("reef.cpc: 256 different classes: at most 255 (0–254) fit"), "{error}");
    let sand = ClassSet::from_names(["SAND"]).unwrap();
    let error = read_as("reef.cpc", whole.as_bytes(), None).unwrap().to_labels(&sand).unwrap_err().to_string();
    assert!(error.contains("reef.cpc:11: unknown class `P`: expected one of SAND"), "{error}");
    let error = read_as("reef.cpc", whole.as_bytes(), Some("other.jpg")).unwrap_err().to_string();
    assert!(error.contains("reef.cpc:1: the points belong to image `Reef.JPG`, not `other.jpg`"), "{error}");
}

#[test]
fn classes_without_a_table() {
    let classes = |text: &str| read_as("points.csv", text.as_bytes(), None).unwrap().classes();
    let listed = |text: &str| classes(text).unwrap().iter().map(|c| (c.id, c.name.clone())).collect::<Vec<_>>();
    let own = |pairs: &[(u8, &str)]| pairs.iter().map(|(id, name)| (*id, name.to_string())).collect::<Vec<_>>();
    assert_eq!(listed("x,y,class\n1,1,34\n2,1,0\n3,1,34\n"), own(&[(0, "0"), (34, "34")]));
    assert_eq!(
        listed("x,y,class\n1,1,sand\n2,1,Coral\n3,1,SAND\n4,1,7\n"),
        own(&[(0, "7"), (1, "Coral"), (2, "SAND")])
    );
    // A number that is no id is refused: as a name it would get another number as its id.
    for number in ["255", "300", "99999999999", "99999999999999999999999", "-1", "2.0", "nan"] {
        let error = classes(&format!("x,y,class\n1,1,3\n2,1,{number}\n")).unwrap_err().to_string();
        let expected =
            format!("points.csv:3: class id `{number}`: expected a whole number 0–254 (255 means unlabelled)");
        assert!(error.ends_with(&expected), "{error}");
    }
    let many: String = (0..256).map(|i| format!("{},{},class {i}\n", i % 100, i / 100)).collect();
    let error = classes(&many).unwrap_err().to_string();
    assert!(error.contains("points.csv: 256 different classes: at most 255 (0–254) fit"), "{error}");
}

#[test]
fn unknown_classes_are_listed_with_the_line() {
    let table = read_as("points.csv", b"x,y,class\n1,1,sand\n2,1,ALG\n3,1,mud\n4,1,ALG\n", None).unwrap();
    let classes = ClassSet::from_names(["sand", "coral"]).unwrap();
    let error = table.to_labels(&classes).unwrap_err().to_string();
    let expected = "points.csv:3: unknown class `ALG`: expected one of sand, coral; also unknown: `mud`";
    assert!(error.ends_with(expected), "{error}");
    let many: String = (0..90).map(|i| format!("{i},1,class {i}\n")).collect();
    let error = read_as("points.csv", many.as_bytes(), None).unwrap().to_labels(&classes).unwrap_err().to_string();
    let five = (1..6).map(|i| format!("`class {i}`, ")).collect::<String>();
    assert!(error.ends_with(&format!("`class 0`: expected one of sand, coral; also unknown: {five}…")), "{error}");
    let numbers = read_as("points.csv", b"1,1,1\n2,1,9\n", None).unwrap();
    assert!(numbers.to_labels(&classes).unwrap_err().to_string().contains(":2: unknown class `9`"));
}

#[test]
fn codes_lead_to_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("codes.csv");
    std::fs::write(
        &path,
        ",name,explain_name,class_name,class_number\n1,P,Porites,COR,4\n2,S,sand,SAN,2\n3,A,Acropora,COR,4\n",
    )
    .unwrap();
    let codes = read_class_table(&path).unwrap();
    let table =
        read_as("a.cpc", cpce(&[(0.0, 0.0, "a"), (30.0, 0.0, "S"), (60.0, 0.0, "COR")]).as_bytes(), None).unwrap();
    let ids: Vec<_> = table.to_labels_with(&codes).unwrap().iter().map(|p| p.class).collect();
    assert_eq!(ids, [4, 2, 4]);
    let table = read_as("a.cpc", cpce(&[(0.0, 0.0, "XX")]).as_bytes(), None).unwrap();
    let error = table.to_labels_with(&codes).unwrap_err().to_string();
    assert!(error.contains("unknown class `XX`: expected one of SAN, COR, or one of the table's 3 codes"), "{error}");
}

#[test]
fn images_are_found_beside_their_points() {
    let folder = tempfile::tempdir().unwrap();
    let table = read_as("a.cpc", cpce(&[(0.0, 0.0, "S")]).as_bytes(), None).unwrap();
    let error = |folder: &Path| table.find_image(folder).unwrap_err().to_string();
    assert!(error(folder.path()).contains("a.cpc: its image `Reef.JPG` is missing from "));
    assert!(error(&folder.path().join("none")).contains("No such file"));
    for name in ["reef.png", "reef.jpg"] {
        std::fs::write(folder.path().join(name), "").unwrap();
        assert_eq!(table.find_image(folder.path()).unwrap(), folder.path().join(name));
    }
    let nameless = read_as("a.csv", b"1,2,s\n", None).unwrap();
    assert!(nameless.find_image(folder.path()).unwrap_err().to_string().contains("does not name its image"));
}

/// Class names as a table may hold them: any characters, no blanks around, unique without case.
fn names() -> impl Strategy<Value = Vec<String>> {
    let name =
        "[ -~éß漢,;\"\t]{1,9}".prop_map(|name| name.trim().to_owned()).prop_filter("empty", |name| !name.is_empty());
    proptest::collection::vec(name, 1..8).prop_filter("repeated", |names| ClassSet::from_names(names.clone()).is_ok())
}

proptest! {
    #[test]
    fn written_points_read_back(names in names(), places in proptest::collection::btree_set((0u32..50, 0u32..100), 1..40)) {
        let classes = ClassSet::from_names(names).unwrap();
        let points: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(i, &(y, x))| PointLabel { x, y, class: (i % classes.len()) as u8 })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("points.csv");
        write_points(&path, &points, &classes).unwrap();
        let table = read_points(&path, SIZE, None).unwrap();
        prop_assert_eq!(table.to_labels(&classes).unwrap(), points);
    }

    #[test]
    fn cpce_positions_scale_to_the_pixel_that_holds_them(
        places in proptest::collection::btree_set((0u32..50, 0u32..100), 1..20),
        within in 0.0f64..14.99,
    ) {
        let points: Vec<_> =
            places.iter().map(|&(y, x)| (f64::from(x) * 15.0 + within, f64::from(y) * 15.0 + within, "S")).collect();
        let table = read_as("a.cpc", cpce(&points).as_bytes(), None).unwrap();
        let read: Vec<_> = table.points.iter().map(|p| (p.y, p.x)).collect();
        prop_assert_eq!(read, places.into_iter().collect::<Vec<_>>());
    }
}
