#![doc = include_str!("../README.md")]

mod annotated;
mod bmp_indices;
mod class_json;
mod class_table;
mod coarse_maps;
mod coco;
mod colonies;
mod color_label_maps;
mod colors;
mod cover;
mod folder_dataset;
#[cfg(feature = "geo")]
pub mod geo;
#[cfg(feature = "hub")]
pub mod hub;
mod images;
mod jpeg_end;
mod label_maps;
mod multi_label;
mod parallel;
mod patches;
mod photographs;
mod pictures;
mod png_name;
mod points;
mod sample_names;
mod sentences;
mod splits;
mod subset;
mod synthetic;
mod text;

pub use annotated::{
    CocoImages, LabelMapMasks, LabelMapMasksConfig, MaskFolder, MaskFolderConfig, RemappedMasks, component_masks,
};
pub use class_table::{ClassTable, read_class_set, read_class_table, write_class_set};
pub use coarse_maps::{read_coarse_map, write_coarse_map};
pub use coco::{
    CocoAnnotation, CocoCategory, CocoDataset, CocoImage, SamAnnotations, read_coco, read_sam_annotations, write_coco,
    write_sam_annotations,
};
pub use colonies::{write_colonies, write_survey_colonies};
pub use color_label_maps::{ColorTable, UnknownColor, read_color_label_map, read_color_table};
pub use coral_core::write_atomically;
pub use cover::write_cover;
pub use folder_dataset::{LabelMapFolder, LabelMapFolderConfig, image_files};
pub use images::{ImageLimits, image_size, read_image, read_image_with, write_image};
pub use label_maps::{read_label_map, read_label_map_with, write_label_map, write_palette_label_map};
pub use multi_label::{MultiLabelConfig, MultiLabelDataset, MultiLabelTable, read_multi_labels};
pub use patches::{GridPatch, GridPatches, InMemory, OneHot, Unlabeled};
pub use photographs::{
    Corrupt, PhotographFolder, PhotographFolderConfig, Repeated, RepeatedPhotograph, Resize, SkippedPhotograph,
    deep_seagrass_classes,
};
pub use pictures::{
    CoarseStyle, ColoredMask, UnsureCells, class_picture, draw_contours, draw_points, instance_color, overlay,
    overlay_coarse_map, overlay_masks, with_legend,
};
pub use points::{NamedPoint, PointTable, point_images, read_points, write_points};
pub use sentences::{read_sentences, write_sentences};
pub use splits::{Fold, SitePattern, k_folds, site_of, split_by_class, split_by_seed, split_by_site};
pub use subset::Subset;
pub use synthetic::{
    GrowthForm, LagoonFrame, LagoonSurvey, MeadowScene, Seagrass, SyntheticColonies, SyntheticLagoon,
    SyntheticLagoonConfig, SyntheticMeadow, SyntheticMeadowConfig, SyntheticMeadowDataset, SyntheticReef,
    SyntheticReefConfig, SyntheticReefDataset, SyntheticScene, patch_truth,
};
