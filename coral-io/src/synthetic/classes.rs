//! The classes of the synthetic reef.

use coral_core::{Class, ClassId, ClassSet, Result};

pub(crate) const SAND: ClassId = 0;
pub(crate) const RUBBLE: ClassId = 1;
pub(crate) const TURF: ClassId = 2;
pub(crate) const CORALLINE: ClassId = 3;
pub(crate) const SEAGRASS: ClassId = 4;
pub(crate) const BRANCHING: ClassId = 5;
pub(crate) const MASSIVE: ClassId = 6;
pub(crate) const TABULAR: ClassId = 7;
pub(crate) const ENCRUSTING: ClassId = 8;
pub(crate) const SOFT: ClassId = 9;
const CORAL: ClassId = 10;
const ALGAE: ClassId = 11;
const SUBSTRATE: ClassId = 12;
/// One past the last of them.
pub(crate) const COUNT: ClassId = 13;

/// Labels in pictures are 0–9; 10–12 are the broader classes above them.
pub(crate) fn class_set() -> Result<ClassSet> {
    let rows = [
        (SAND, "sand", [236, 214, 150], Some(SUBSTRATE)),
        (RUBBLE, "rubble", [150, 140, 130], Some(SUBSTRATE)),
        (TURF, "turf algae", [128, 128, 40], Some(ALGAE)),
        (CORALLINE, "coralline algae", [214, 110, 190], Some(ALGAE)),
        (SEAGRASS, "seagrass", [40, 160, 70], None),
        (BRANCHING, "branching coral", [66, 105, 220], Some(CORAL)),
        (MASSIVE, "massive coral", [230, 120, 40], Some(CORAL)),
        (TABULAR, "tabular coral", [60, 190, 210], Some(CORAL)),
        (ENCRUSTING, "encrusting coral", [200, 40, 50], Some(CORAL)),
        (SOFT, "soft coral", [140, 70, 190], Some(CORAL)),
        (CORAL, "coral", [255, 127, 80], None),
        (ALGAE, "algae", [107, 142, 35], None),
        (SUBSTRATE, "substrate", [194, 178, 128], None),
    ];
    ClassSet::new(rows.map(|(id, name, color, parent)| Class { id, name: name.into(), color, parent }))
}
