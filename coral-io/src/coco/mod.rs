//! Objects and their masks as JSON: COCO data sets, and the files of Segment Anything and CoralSCOP.

mod dataset;
mod json;
mod read;
mod segment_anything;
mod write;

pub use dataset::{CocoAnnotation, CocoCategory, CocoDataset, CocoImage};
pub use read::read_coco;
pub use segment_anything::{SamAnnotations, read_sam_annotations, write_sam_annotations};
pub use write::write_coco;
