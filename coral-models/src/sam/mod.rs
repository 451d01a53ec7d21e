//! Segment Anything and CoralSCOP.

mod automatic;

pub use automatic::{
    AreaLimit, CleanedMask, Crop, GeneratorConfig, GridPoint, box_nms, crop_boxes, feature_similarity,
    group_by_similarity, is_cut_by_crop, point_grid, remove_small_regions, stability_score,
};
