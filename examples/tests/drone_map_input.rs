use std::fs;

use coral_core::{GeoTransform, ImageRaster, LabelMap, LabelRaster, Rect, UNLABELED};
use coral_examples::drone_survey::SurveyConfig;
use coral_io::geo::{LabelGeoTiff, Orthophoto};

use super::Job;

#[test]
fn frames_that_make_no_raster_are_named() {
    let job = Job::new();
    let table = fs::read_to_string(job.at("predictions.csv")).unwrap();
    let refuse = |positions: &str, predictions: &str| {
        fs::write(job.at("frames.csv"), format!("FileName,lat,lon\n{positions}")).unwrap();
        fs::write(job.at("predictions.csv"), predictions).unwrap();
        job.refuse(&["rasters"])
    };
    let line = |i: u32, lat: f64, lon: f64| format!("frame_{i:05}.jpg,{},{}\n", -21.0 + lat, 55.0 + lon);
    let two = line(0, 0.0, 0.0) + &line(1, 1e-4, 1e-4);
    for positions in [&two, &line(0, 0.0, 0.0)] {
        let text = refuse(positions, &table);
        assert!(text.contains("frames.csv"), "{text}");
    }
    assert!(refuse(&two, &table).contains("three positions"));
    let parallel: String = (0..6).map(|i| line(i, 0.0, f64::from(i) * 1e-5)).collect();
    assert!(refuse(&parallel, &table).contains("frames.csv"));
    let diagonal: String = (0..6).map(|i| line(i, f64::from(i) * 1e-5, f64::from(i) * 1e-5)).collect();
    let text = refuse(&diagonal, &table);
    assert!(text.contains("frames.csv") && text.contains("line"), "{text}");
    let text = refuse("frame_00000.jpg,,\nframe_00001.jpg,,\n", &table);
    assert!(text.contains("frames.csv"), "{text}");
    let unknown = line(0, 0.0, 0.0).replace("frame", "picture");
    let text = refuse(&unknown, &table);
    assert!(text.contains("predictions.csv") && text.contains("picture_00000.jpg"), "{text}");
    let corner = line(0, 0.0, 0.0) + &line(1, 1e-4, 0.0) + &line(2, 0.0, 1e-4);
    let text = refuse(&corner, &table.replacen("Sand", "Sandy", 1));
    assert!(text.contains("predictions.csv:1: no column for class `Sand`"), "{text}");
    // Three frames are enough, and those without a position are left out.
    fs::write(job.at("frames.csv"), format!("FileName,lat,lon\n{corner}frame_00003.jpg,,\n")).unwrap();
    fs::write(job.at("predictions.csv"), &table).unwrap();
    job.stage("rasters");
    // They lie elsewhere.
    let text = job.refuse(&["coarse"]);
    assert!(text.contains("session_boat.tif"), "{text}");
}

#[test]
fn orthophotos_of_all_kinds_work_or_are_named() {
    let job = Job::new();
    job.stage("rasters");
    // Turned by a few degrees about its corner.
    let GeoTransform { x, y, .. } = job.grid().transform;
    job.lay(GeoTransform { x, y, column: (0.0995, -0.01), row: (-0.01, -0.0995) });
    job.stage("coarse");
    job.stage("first_tiles");
    let map = LabelGeoTiff::open(job.at("out/coarse.tif"), &[]).unwrap();
    let known = map.read_labels(Rect::whole(map.size())).unwrap().iter().filter(|&&label| label != UNLABELED).count();
    assert!(known > 10_000 && !map.grid().transform.is_north_up(), "{known}");

    let grid = job.grid();
    let image = Orthophoto::open(job.at("orthophoto.tif")).unwrap().read_image(Rect::whole(grid.size)).unwrap().image;
    let raster = |job: &Job, name: &str| Job {
        config: SurveyConfig { orthophoto: job.at(name), ..job.config.clone() },
        folder: tempfile::tempdir().unwrap(),
    };
    // Without a place in the world.
    image.save(job.at("plain.tif")).unwrap();
    let plain = raster(&job, "plain.tif");
    plain.stage("rasters");
    let text = plain.refuse(&["coarse"]);
    assert!(text.contains("plain.tif"), "{text}");
    // With a palette.
    let job = Job::new();
    let grid = job.grid();
    fs::create_dir(job.at("out")).unwrap();
    job.write_map("palette.tif", &LabelMap::from_shape_fn(grid.size.shape(), |(_, x)| (x % 5) as u8));
    let palette = raster(&job, "out/palette.tif");
    for stage in ["rasters", "coarse", "first_tiles"] {
        palette.stage(stage);
    }
    // Zones of another place.
    let text = fs::read_to_string(job.at("zones.geojson")).unwrap();
    let shift = |number: &str| number.parse::<f64>().map_or(number.into(), |degrees| (degrees + 0.01).to_string());
    let numbers = |c: char| !(c.is_ascii_digit() || c == '.' || c == '-');
    let moved: String = text
        .split_inclusive(numbers)
        .map(|part| {
            let end = part.rfind(numbers).unwrap_or(part.len());
            if part[..end].contains('.') { shift(&part[..end]) + &part[end..] } else { part.to_owned() }
        })
        .collect();
    fs::write(job.at("zones.geojson"), moved).unwrap();
    job.stage("rasters");
    job.stage("coarse");
    let text = job.refuse(&["first_tiles"]);
    assert!(text.contains("zones.geojson") && text.contains("outside of the raster"), "{text}");
}
