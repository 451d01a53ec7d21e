//! Parity with published programs; what each case holds is in its `case.json`.

use coral_core::testing::GoldenCase;

#[path = "golden/clip.rs"]
mod clip;
#[path = "golden/clip_tokenizer.rs"]
mod clip_tokenizer;
#[path = "golden/coralscop_amg.rs"]
mod coralscop_amg;
#[path = "golden/dinov2.rs"]
mod dinov2;
#[path = "golden/dinov2_head.rs"]
mod dinov2_head;
#[path = "golden/losses.rs"]
mod losses;
#[path = "golden/resize.rs"]
mod resize;
#[path = "golden/resnet.rs"]
mod resnet;
#[path = "golden/sam.rs"]
mod sam;
#[path = "golden/sam_refiner.rs"]
mod sam_refiner;
#[path = "golden/segformer.rs"]
mod segformer;

fn open(name: &str) -> GoldenCase {
    GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), name).unwrap()
}

type TestResult = Result<(), Box<dyn std::error::Error>>;
