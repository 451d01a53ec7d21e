use exif::experimental::Writer;
use exif::{Field, Rational};

use super::*;

fn field(tag: Tag, value: Value) -> Field {
    Field { tag, ifd_num: In::PRIMARY, value }
}

fn ascii(tag: Tag, text: &str) -> Field {
    field(tag, Value::Ascii(vec![text.as_bytes().to_vec()]))
}

fn rational(tag: Tag, parts: &[(u32, u32)]) -> Field {
    field(tag, Value::Rational(parts.iter().map(|&(num, denom)| Rational { num, denom }).collect()))
}

/// A JPEG file of EXIF data alone.
fn jpeg(fields: &[Field]) -> Vec<u8> {
    let mut writer = Writer::new();
    fields.iter().for_each(|field| writer.push_field(field));
    let mut tiff = std::io::Cursor::new(Vec::new());
    writer.write(&mut tiff, false).unwrap();
    let body = [b"Exif\0\0".as_slice(), tiff.get_ref()].concat();
    let length = ((body.len() + 2) as u16).to_be_bytes();
    [&[0xff, 0xd8, 0xff, 0xe1], &length[..], &body, &[0xff, 0xd9]].concat()
}

fn read(bytes: &[u8]) -> FrameRecord {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    std::fs::write(&path, bytes).unwrap();
    read_exif_all(&[path]).unwrap().remove(0)
}

fn placed() -> Vec<Field> {
    vec![
        ascii(Tag::GPSLatitudeRef, "S"),
        rational(Tag::GPSLatitude, &[(21, 1), (6, 1), (45, 2)]),
        ascii(Tag::GPSLongitudeRef, "E"),
        rational(Tag::GPSLongitude, &[(55, 1), (15, 1), (0, 1)]),
        field(Tag::GPSAltitudeRef, Value::Byte(vec![1])),
        rational(Tag::GPSAltitude, &[(5, 2)]),
        rational(Tag::GPSImgDirection, &[(90, 1)]),
        ascii(Tag::DateTimeOriginal, "2023:09:06 14:11:12"),
        ascii(Tag::SubSecTimeOriginal, "25"),
        ascii(Tag::OffsetTimeOriginal, "+04:00"),
    ]
}

#[test]
fn position_and_time_are_read() {
    let record = read(&jpeg(&placed()));
    let (longitude, latitude) = record.position.unwrap();
    assert!((longitude - 55.25).abs() < 1e-12 && (latitude + 21.106_25).abs() < 1e-12, "{longitude} {latitude}");
    let FrameReadings { altitude, time, yaw, .. } = record.readings;
    assert_eq!((record.file.as_str(), altitude, time, yaw), ("a.jpg", Some(-2.5), Some(1_693_995_072.25), Some(90.0)));
    assert_eq!(record.problem, None);
}

#[test]
fn the_receivers_time_stands_in() {
    let clock = [ascii(Tag::GPSDateStamp, "2023:09:06"), rational(Tag::GPSTimeStamp, &[(10, 1), (11, 1), (49, 4)])];
    let record = read(&jpeg(&clock));
    assert_eq!((record.position, record.readings.time), (None, Some(1_693_995_072.25)));
    assert_eq!(record.problem.as_deref(), Some("has EXIF data without a position"));
}

#[test]
fn fractions_by_zero_are_no_position() {
    for bad in [&[(21, 0), (6, 1), (0, 1)][..], &[]] {
        let mut fields = placed();
        fields[1] = rational(Tag::GPSLatitude, bad);
        assert_eq!(read(&jpeg(&fields)).position, None);
    }
    let mut fields = placed();
    fields.remove(0);
    assert_eq!(read(&jpeg(&fields)).position, None, "without N or S");
}

#[test]
fn files_without_and_with_damaged_data_say_so() {
    assert_eq!(read(&[0xff, 0xd8, 0xff, 0xd9]).problem.as_deref(), Some("has no EXIF data"));
    let whole = jpeg(&placed());
    for length in [0, 1, 3, 10, whole.len() / 2] {
        assert!(read(&whole[..length]).problem.is_some(), "{length}");
    }
    assert!(read_exif("missing.jpg").unwrap_err().to_string().contains("missing.jpg"));
}
