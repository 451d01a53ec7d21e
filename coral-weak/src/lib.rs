#![doc = include_str!("../README.md")]

mod between;
mod blur;
mod cell_counts;
mod center;
mod classical_features;
mod coarse_inference;
mod color_segmenter;
mod constant_classifier;
mod delaunay;
mod dense_crf;
mod ensemble;
mod epochs;
#[cfg(test)]
mod fake_segmenter;
mod feature_rows;
mod frame_rasters;
mod gaussian_process;
mod geodesic;
mod inverse_distance;
mod knn;
mod lab;
mod largest_class;
mod linear;
mod multi_level;
mod nearest;
mod nearest_fill;
mod negatives;
mod parallel;
mod patch_ensemble;
mod photographs;
mod pixel_adaptive;
mod points;
mod prompt_groups;
mod prompt_propagator;
mod raster_map;
mod raster_tiles;
mod recorded_patches;
mod rectify;
mod refine_classes;
mod refine_templates;
mod registry;
mod sam_refiner;
mod samples;
mod sampling;
mod sea_clip;
mod sea_feats;
mod sea_feats_labels;
mod sentence_pairs;
mod similarity_labels;
mod slic;
mod sliding_window;
mod softmax;
mod superpixel_propagator;
mod superpixels;
mod template_similarity;
mod templates;
mod tight_box;
mod zero_shot;

pub use cell_counts::CellCounts;
pub use center::{Centered, FeatureCenter};
pub use classical_features::{ClassicalFeatures, ClassicalFeaturesConfig};
pub use coarse_inference::{classify_patches, grid_map};
pub use color_segmenter::{ColorEmbedding, ColorSegmenter, ColorSegmenterConfig};
pub use constant_classifier::ConstantClassifier;
pub use delaunay::delaunay_triangles;
pub use dense_crf::{DenseCrfConfig, DenseCrfSegmenter, dense_crf};
pub use ensemble::{Ensemble, vote_labels};
pub use frame_rasters::{
    Camera, Footprint, FootprintConfig, FrameInterpolation, FrameProbabilities, FrameRasterConfig, MissingClasses,
    ProbabilityRaster, QuantileStretch, aggregate_footprints, coarse_classes, destination, haversine,
    interpolate_frames, track_cell, track_grid,
};
pub use gaussian_process::{GaussianProcessConfig, GaussianProcessPropagator, gaussian_process_labels};
pub use geodesic::{GeodesicConfig, GeodesicPropagator, geodesic_distance, geodesic_labels, geodesic_raster_scan};
pub use inverse_distance::{
    InverseDistanceConfig, InverseDistancePropagator, Neighbours, inverse_distance, inverse_distance_labels,
    nearest_values,
};
pub use knn::{
    KnnConfig, KnnPropagator, KnnPropagatorConfig, KnnResult, Similarity, Upsample, knn, knn_labels, knn_segments,
};
pub use lab::{lab_color, lab_image};
pub use largest_class::{LargestClassPropagator, largest_class_labels};
pub use linear::{LinearPropagator, linear_labels, linear_on_grid};
pub use multi_level::{Fill, MultiLevelConfig, MultiLevelPropagator, multi_level_labels};
pub use nearest::{DistanceTransform, NearestPropagator, distance_transform, nearest_labels};
pub use nearest_fill::fill_class;
pub use negatives::{NegativeConfig, WithNegatives, negative_masks};
pub use patch_ensemble::{
    PatchEnsemble, Standardization, ensemble_map, ensemble_probabilities, resample_map, standardize_logits,
};
pub use pixel_adaptive::{PixelAdaptiveConfig, PixelAdaptiveSegmenter, pixel_adaptive};
pub use prompt_groups::PromptGroups;
pub use prompt_propagator::{
    MaskCurationConfig, PointMask, PromptPropagator, PromptPropagatorConfig, curate_masks, merge_masks, point_masks,
};
pub use raster_map::{Fusion, RasterMapConfig, RasterMapper};
pub use raster_tiles::{RasterTiles, TileRules, TrainingTiles, training_tiles};
pub use recorded_patches::{PatchRecord, RecordedPatches, RecordedPatchesConfig, Targets};
pub use rectify::{rectify, segment_features};
pub use refine_classes::{ClassRefinementConfig, refine_classes};
pub use refine_templates::refine_templates;
pub use registry::{DEFAULT_METHOD, DefaultPropagator, METHODS, Method, propagator};
pub use sam_refiner::{
    MaskDistance, MaskFrame, NegativeSearch, RefinedMask, RefinerPrompts, SamRefiner, SamRefinerConfig, expand_box,
    mask_depth, refiner_mask_logits, refiner_prompts,
};
pub use sampling::{grid_points, random_points, stratified_points};
pub use sea_clip::{SeaClip, SeaClipConfig, SeaClipLabels, seaclip_labels};
pub use sea_feats::{SeaFeats, SeaFeatsConfig, SeaFeatsEpoch};
pub use sea_feats_labels::{SeaFeatsLabels, bundle_templates, label_photographs};
pub use sentence_pairs::{SentencePair, SentencePairConfig, SentencePairs};
pub use similarity_labels::{EveryPatchLabeler, SimilarityConfig, SimilarityLabeler, similarity_labels};
pub use slic::{SlicConfig, slic, slic_lab};
pub use sliding_window::{SlidingWindow, SlidingWindowConfig, Weighting, probable_labels};
pub use superpixel_propagator::{SuperpixelConfig, SuperpixelPropagator, majority_classes, superpixel_labels};
pub use superpixels::{Adjacency, Superpixels};
pub use template_similarity::{TemplateSimilarity, TemplateSimilarityConfig, patch_templates};
pub use templates::{TemplateBundler, Templates};
pub use zero_shot::{GroupRule, ZeroShotConfig, ZeroShotLabeler, prompt_group_labels};
