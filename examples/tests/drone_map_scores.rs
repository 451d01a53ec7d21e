use std::fs;

use coral_core::{GeoTransform, LabelMap, LabelRaster, Rect, UNLABELED};
use coral_examples::drone_survey::{MapScore, score_table};
use coral_io::SyntheticLagoonConfig;
use coral_io::geo::{PolygonRaster, Projection, RasterizeConfig, read_polygons};

use super::Job;

#[test]
fn scores_compare_with_the_annotation() {
    let mut job = Job::new();
    fs::create_dir(job.at("out")).unwrap();
    let (grid, classes) = (job.grid(), SyntheticLagoonConfig::class_set());
    let polygons = read_polygons(job.at("annotation.geojson")).unwrap();
    let projection = Projection::new(polygons.crs, grid.crs).unwrap();
    let polygons = polygons.map_positions(grid.crs, |x, y| projection.transform(x, y)).unwrap();
    let polygons = polygons.with_classes("name", &classes).unwrap();
    let raster = PolygonRaster::new(&polygons, grid, &RasterizeConfig::default()).unwrap();
    let truth = raster.read_labels(Rect::whole(grid.size)).unwrap();
    let count = |class| truth.iter().filter(|&&label| label == class).count();
    let (common, share) = (0..classes.len() as u8)
        .map(|class| (class, count(class) as f64 / (truth.len() - count(UNLABELED)) as f64))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap();
    job.write_map("first.tif", &truth);
    job.write_map("second.tif", &truth.mapv(|_| common));
    job.write_map("refined.tif", &truth.mapv(|_| UNLABELED));
    let scores = job.survey().scores().unwrap();
    let names: Vec<&str> = scores.iter().map(|score| score.name.as_str()).collect();
    let constant = format!("constant {}", classes.name(common));
    assert_eq!(names, [&constant, "first model", "refined", "second model"]);
    let accuracy = |score: &MapScore| score.summary(false)[0].unwrap();
    assert_eq!(scores[0].matrix.total(), 400);
    assert!((accuracy(&scores[0]) - share).abs() < 1e-12 && share < 1.0, "{share}");
    assert_eq!(scores[1].summary(false), [Some(1.0); 3]);
    assert_eq!(accuracy(&scores[2]), 0.0);
    assert_eq!(scores[3].matrix, scores[0].matrix);
    // The published means leave out the classes that the constant map misses.
    let means = |published| scores[3].summary(published)[2].unwrap();
    assert!((means(true) - share).abs() < 1e-12 && means(false) <= share / 2.0 + 1e-12, "{}", means(false));
    // The annotation as a GeoTIFF that counts from 1 and has 0 for nothing.
    job.write_map("truth.tif", &truth.mapv(|label| label.wrapping_add(1)));
    let truth = job.at("out/truth.tif");
    let evaluation = job.config.evaluation.as_mut().unwrap();
    (evaluation.truth, evaluation.first_id) = (truth, 1);
    let again = job.survey().scores().unwrap();
    assert!(again.iter().zip(&scores).all(|(a, b)| a.matrix == b.matrix));
    let table = score_table(&scores, &classes, true);
    assert!(table.contains("means leave out classes that score 0") && table.contains("100.0"), "{table}");
}

#[test]
fn scores_need_a_map_of_the_same_place() {
    let job = Job::new();
    fs::create_dir(job.at("out")).unwrap();
    job.write_map("second.tif", &LabelMap::zeros(job.grid().size.shape()));
    let here = job.grid().transform;
    let elsewhere = GeoTransform { x: here.x + 5000.0, ..here };
    // Zones and annotation stay where they are.
    job.lay(elsewhere);
    let text = job.survey().scores().unwrap_err().to_string();
    assert!(text.contains("zones.geojson") && text.contains("outside of the raster"), "{text}");
    job.write_map("second.tif", &LabelMap::zeros(job.grid().size.shape()));
    job.lay(here);
    let text = job.survey().scores().unwrap_err().to_string();
    assert!(text.contains("`second model`: the map cannot be compared"), "{text}");
}
