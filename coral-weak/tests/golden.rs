//! Parity with published programs; what each case holds is in its `case.json`.

use coral_core::ndarray::ArrayD;
use coral_core::testing::GoldenCase;

#[path = "golden/coarse_map.rs"]
mod coarse_map;
#[path = "golden/footprint_aggregation.rs"]
mod footprint_aggregation;
#[path = "golden/geodesic.rs"]
mod geodesic;
#[path = "golden/griddata.rs"]
mod griddata;
#[path = "golden/hil_selection.rs"]
mod hil_selection;
#[path = "golden/nearest_fill.rs"]
mod nearest_fill;
#[path = "golden/pixel_adaptive.rs"]
mod pixel_adaptive;
#[path = "golden/sam_refiner.rs"]
mod sam_refiner;
#[path = "golden/seafeats.rs"]
mod seafeats;
#[path = "golden/slic.rs"]
mod slic;

fn open(name: &str) -> GoldenCase {
    GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), name).unwrap()
}

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Every element is close to the reference, or NaN in both.
fn assert_close(what: &str, ours: &ArrayD<f64>, reference: &ArrayD<f64>, close: impl Fn(f64, f64) -> bool) {
    assert_eq!(ours.len(), reference.len(), "{what}: {:?} against {:?}", ours.shape(), reference.shape());
    for (at, (&a, &b)) in ours.iter().zip(reference).enumerate() {
        assert!(close(a, b) || (a.is_nan() && b.is_nan()), "{what}: element {at} is {a}, expected {b}");
    }
}
