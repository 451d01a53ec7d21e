mod automatic;
mod config;
mod embedding;
#[cfg(test)]
mod gradient_tests;
mod image_encoder;
mod mask_decoder;
mod model;
mod predictor;
mod preprocess;
mod prompt_encoder;
mod prompt_tokens;
mod semantic_branch;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod tiny_vit;
mod training;
mod two_way_transformer;

pub use automatic::{
    AreaLimit, CleanedMask, Crop, GeneratorConfig, GridPoint, MaskGenerator, TileConfig, TileMasks, box_nms,
    crop_boxes, feature_similarity, group_by_similarity, is_cut_by_crop, join_tiles, point_grid, remove_small_regions,
    stability_score, tile_boxes,
};
pub use config::{EncoderConfig, SamConfig, SemanticConfig, VitConfig};
pub use embedding::Embedding;
pub use model::Sam;
pub use predictor::{DecodedMask, Predictor, PredictorConfig};
pub use text::{
    InstructedImage, SentenceEmbeddings, TextAdapterConfig, TextAnswer, TextFitConfig, TextPart, TextPrompter,
    TextPrompterConfig,
};
pub use tiny_vit::TinyVitConfig;
pub use training::{
    ClassMaps, EmbeddedImage, EmbeddedImages, PromptConfig, PromptRound, SamEpoch, SamFitConfig, SamLoss, SamPart,
    SamTrainer, SamTrainerConfig, TunedHead, correction_point, low_res_mask,
};
