use coral_core::ndarray::array;

use super::*;
use crate::{MultiLabelConfig, read_multi_labels};

fn table(text: &str) -> Result<Vec<FrameRecord>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.csv");
    std::fs::write(&path, text).unwrap();
    read_frame_table(path)
}

fn gpx(points: &str) -> Result<GpsTrack> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("track.gpx");
    let text = format!(
        "<?xml version=\"1.0\"?><gpx version=\"1.1\" creator=\"test\"><trk><trkseg>{points}</trkseg></trk></gpx>"
    );
    std::fs::write(&path, text).unwrap();
    read_gpx(path)
}

#[test]
fn seatizen_tables_are_read() {
    let text = "FileName,GPSAltitude,GPSLatitude,GPSLongitude,GPSPitch,GPSRoll,GPSTrack,GPSfix,SubSecDateTimeOriginal,relative_file_path\n\
                s_1.jpeg,1.5,-21.1,55.25,-2.5,3,351.5,1.0,2023:09:06 10:11:12.250000000,a/DCIM/s_1.jpeg\n\
                s_2.jpeg,,nan,55.25,,,,5.0,,a/DCIM/s_2.jpeg\n";
    let records = table(text).unwrap();
    let readings = FrameReadings {
        altitude: Some(1.5),
        depth: None,
        time: Some(1_693_995_072.25),
        roll: Some(3.0),
        pitch: Some(-2.5),
        yaw: Some(351.5),
    };
    assert_eq!(
        (records[0].file.as_str(), records[0].position, records[0].readings),
        ("s_1.jpeg", Some((55.25, -21.1)), readings)
    );
    let track = FrameTrack::new(records).unwrap();
    assert_eq!((track.len(), track.is_empty(), track.without_position.len()), (1, false, 1));
    assert_eq!(track.without_position[0].reason, "has no position");
    // pyproj 3.7.
    let metres = track.positions_in(Crs { epsg: 32740 }).unwrap();
    assert!(
        (metres[[0, 0]] - 318_224.911_163).abs() < 1e-3 && (metres[[0, 1]] - 7_665_785.454_883).abs() < 1e-3,
        "{metres}"
    );
    assert!(track.positions_in(Crs { epsg: 31370 }).unwrap_err().to_string().contains("EPSG:31370"));
}

#[test]
fn tables_of_other_programs() {
    let text =
        "\u{feff}Image;Lat;Lng;Depth (m);Yaw;Timestamp\r\na.jpg;-21.1;55.25;3.5;90;2023-09-06T14:11:12+04:00\r\n";
    let record = &table(text).unwrap()[0];
    let FrameReadings { depth, yaw, time, .. } = record.readings;
    assert_eq!(
        (record.position, depth, yaw, time),
        (Some((55.25, -21.1)), Some(3.5), Some(90.0), Some(1_693_995_072.0))
    );
}

#[test]
fn bad_tables_say_what_is_wrong() {
    for (text, reason) in [
        ("", "the file is empty"),
        ("FileName,lat,lon\n", "metadata.csv:1: no line after the header"),
        ("lat,lon\n1,2\n", "metadata.csv:1: no column of file names, e.g. `FileName`: found lat, lon"),
        ("FileName,lat\na,1\n", "no column of longitudes"),
        ("FileName,lon\na,1\n", "no column of latitudes"),
        ("FileName,class\na,1\n", "no column of positions"),
        ("FileName,lat,lon\na.jpg,1,2\n,1,2\n", "metadata.csv:3: expected the name of a file"),
        ("FileName,lat,lon\na.jpg,1,2\nb.jpg,x,2\n", "metadata.csv:3: `lat`: expected a number, found `x`"),
        ("FileName,lat,lon\na.jpg,1\n", "metadata.csv:2: expected at least 3 fields, found 2"),
        ("FileName,time\na.jpg,yesterday\n", "`time`: expected a date and time, found `yesterday`"),
    ] {
        let error = table(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn positions_that_are_none_are_left_out() {
    let record = |file: &str, position| FrameRecord { file: file.into(), position, ..Default::default() };
    let records = vec![
        record("a", Some((55.0, -21.0))),
        record("b", Some((0.0, 0.0))),
        record("c", Some((317_356.0, 7_665_590.0))),
        record("d", Some((f64::NAN, 1.0))),
        record("a", Some((55.0, -21.0))),
        record("a", Some((56.0, -21.0))),
        record("e", None),
    ];
    let track = FrameTrack::new(records.clone()).unwrap();
    assert_eq!(track.positions(), array![[55.0, -21.0]]);
    let reasons: Vec<_> = track.without_position.iter().map(|one| (one.file.as_str(), one.reason.as_str())).collect();
    assert_eq!(reasons.iter().map(|one| one.0).collect::<Vec<_>>(), ["b", "c", "d", "a", "e"]);
    assert!(reasons[0].1.contains("no fix") && reasons[1].1.contains("no longitude and latitude"));
    assert!(reasons[3].1.contains("is named twice, at (55.0, -21.0) and at (56.0, -21.0)"));
    let error = FrameTrack::new(records[1..4].to_vec()).unwrap_err().to_string();
    assert!(error.contains("none of 3 photographs has a position: b has the position (0, 0)"), "{error}");
    assert!(FrameTrack::new(Vec::new()).is_err());
}

const POINTS: &str = "<trkpt lat=\"-21.0\" lon=\"55.0\"><ele>-1</ele><time>2023-09-06T10:00:04Z</time></trkpt>\
    <trkpt lat=\"-21.2\" lon=\"55.4\"><ele>1</ele><time>2023-09-06T10:00:00Z</time></trkpt>\
    <trkpt lat=\"-20\" lon=\"55\"/>\
    <trkpt lat=\"-21.0\" lon=\"55.0\"><time>2023-09-06T14:01:00+04:00</time></trkpt>";

fn timed(times: &[Option<f64>]) -> Vec<FrameRecord> {
    let start = parse_time("2023-09-06T10:00:00Z").unwrap();
    let record = |(at, time): (usize, &Option<f64>)| FrameRecord {
        file: format!("{at}.jpg"),
        readings: FrameReadings { time: time.map(|time| start + time), ..Default::default() },
        ..Default::default()
    };
    times.iter().enumerate().map(record).collect()
}

#[test]
fn photographs_are_placed_by_time() {
    let track = gpx(POINTS).unwrap();
    assert_eq!(track.fixes().len(), 3);
    let times = [Some(0.0), Some(1.0), Some(4.0), Some(30.0), Some(60.0), Some(61.0), Some(-1.0), None];
    let placed = track.place(timed(&times), &PlaceConfig::default()).unwrap();
    let found: Vec<_> =
        placed.frames.iter().map(|one| (one.file.as_str(), one.longitude, one.readings.altitude)).collect();
    let expected =
        [("0.jpg", 55.4, Some(1.0)), ("1.jpg", 55.3, Some(0.5)), ("2.jpg", 55.0, Some(-1.0)), ("4.jpg", 55.0, None)];
    assert!(
        found.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-12 && a.2 == b.2),
        "{found:?}"
    );
    let reasons: Vec<_> = placed.without_position.iter().map(|one| one.reason.as_str()).collect();
    assert!(reasons[0].contains("no fix within 56 s") && reasons[0].contains("more than 10 s"), "{reasons:?}");
    assert!(reasons[1].contains("is not between the track's") && reasons[3] == "has no time");
    let wide = PlaceConfig { offset: 0.5, max_gap: 60.0 };
    let placed = track.place(timed(&[Some(31.5)]), &wide).unwrap();
    assert_eq!(placed.frames[0].longitude, 55.0);
    for bad in [PlaceConfig { offset: f64::NAN, max_gap: 1.0 }, PlaceConfig { offset: 0.0, max_gap: -1.0 }] {
        assert!(track.place(timed(&[Some(0.0)]), &bad).is_err());
    }
}

#[test]
fn tracks_cross_the_line_of_date() {
    let fix = |time, longitude| GpsFix { time, longitude, latitude: -17.0, altitude: None };
    let track = GpsTrack::new(vec![fix(0.0, 179.75), fix(8.0, -179.25)]).unwrap();
    let record = |time| FrameRecord {
        file: format!("{time}"),
        readings: FrameReadings { time: Some(time), ..Default::default() },
        ..Default::default()
    };
    let placed = track.place(vec![record(1.0), record(4.0)], &PlaceConfig::default()).unwrap();
    assert_eq!(placed.positions(), array![[179.875, -17.0], [-179.75, -17.0]]);
    assert!(GpsTrack::new(vec![]).is_err() && GpsTrack::new(vec![fix(f64::NAN, 1.0)]).is_err());
}

#[test]
fn bad_tracks_say_what_is_wrong() {
    assert!(gpx("").unwrap_err().to_string().contains("track.gpx: expected track points with time and position"));
    assert!(gpx("<trkpt lat=\"x\" lon=\"1\"/>").unwrap_err().to_string().contains("not a GPX file"));
    assert!(gpx("<trkpt").unwrap_err().to_string().contains("not a GPX file"));
}

#[test]
fn predictions_are_joined_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_multi_labels(&path, &MultiLabelConfig::default()).unwrap()
    };
    let at =
        |file: &str, longitude| Frame { file: file.into(), longitude, latitude: 1.0, readings: Default::default() };
    let frames = vec![at("x/a.jpg", 1.0), at("y/a.jpg", 2.0), at("B.jpg", 3.0), at("c.jpg", 4.0)];
    let track = FrameTrack { frames, without_position: Vec::new() };
    let joined = track
        .join(&read("FileName,k,s\na.jpg,1,0\nq/b.JPG,0.5,0\ny/a.jpg,0.25,0\nr/c.jpg,1,1\nt/c.jpg,1,1\n"))
        .unwrap();
    assert_eq!(
        (&joined.files[..], joined.positions),
        (&["y/a.jpg".to_owned(), "B.jpg".into()][..], array![[2.0, 1.0], [3.0, 1.0]])
    );
    assert_eq!(joined.probabilities, array![[0.25, 0.0], [0.5, 0.0]]);
    assert_eq!(
        (joined.without_prediction, joined.without_position.len()),
        (vec!["x/a.jpg".to_owned(), "c.jpg".into()], 3)
    );
    let error = track.join(&read("FileName,k\nz.jpg,1\n")).unwrap_err().to_string();
    assert!(error.contains("names are like `x/a.jpg` and `z.jpg`"), "{error}");
    let written = folder.path().join("w.csv");
    write_probabilities(&written, &joined.files, &joined.classes, &joined.probabilities).unwrap();
    let again = read_multi_labels(&written, &MultiLabelConfig::default()).unwrap();
    assert_eq!((again.files, again.targets), (joined.files.clone(), joined.probabilities.clone()));
    assert!(write_probabilities(&written, &joined.files[1..], &joined.classes, &joined.probabilities).is_err());
}
