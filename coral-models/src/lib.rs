#![doc = include_str!("../README.md")]

mod class_names;
mod clip;
mod dinov2;
mod fingerprint;
#[cfg(test)]
mod gradient_check;
mod layers;
mod ops;
mod resize;
mod resnet;
mod sam;
mod segformer;
mod tensor;
mod train;
mod weights;

pub use clip::{
    Clip, ClipActivation, ClipConfig, ClipDense, ClipEncoder, ClipEncoderConfig, ClipImageConfig, ClipPreprocess,
    ClipTextConfig, ClipTokenizer,
};
pub use dinov2::{
    DinoV2, DinoV2Config, DinoV2Encoder, DinoV2EncoderConfig, DinoV2Mlp, DinoV2Tokens, FrameClassifier, FrameFeatures,
    FrameHead, FrameHeadEpoch, FrameHeadFit, FrameHeadInfo, FrameHeadReport, FrameSamples, InputFilter, InputSize,
    MultiLabelHead, MultiLabelHeadConfig, PositionInterpolation,
};
pub use layers::Mode;
pub use ops::{resize_bilinear, resize_nearest};
pub use resize::{
    Interpolation, OpenCvInterpolation, PillowFilter, PlaneResampler, resize_image, resize_image_opencv, resize_plane,
};
pub use resnet::{
    Cells, FitConfig, HiddenLayer, PatchNetwork, PatchNetworkConfig, ResNet, ResNetClassifier, ResNetClassifierConfig,
    ResNetConfig, SimClr, SimClrConfig,
};
pub use sam::{
    AreaLimit, ClassMaps, CleanedMask, Crop, DecodedMask, EmbeddedImage, EmbeddedImages, Embedding, EncoderConfig,
    GeneratorConfig, GridPoint, InstructedImage, MaskGenerator, Predictor, PredictorConfig, PromptConfig, PromptRound,
    Sam, SamConfig, SamEpoch, SamFitConfig, SamLoss, SamPart, SamTrainer, SamTrainerConfig, SemanticConfig,
    SentenceEmbeddings, TextAdapterConfig, TextAnswer, TextFitConfig, TextPart, TextPrompter, TextPrompterConfig,
    TileConfig, TileMasks, TinyVitConfig, TunedHead, VitConfig, box_nms, correction_point, crop_boxes,
    feature_similarity, group_by_similarity, is_cut_by_crop, join_tiles, low_res_mask, point_grid,
    remove_small_regions, stability_score, tile_boxes,
};
pub use segformer::{
    SegFormer, SegFormerConfig, SegFormerFitConfig, SegFormerPart, SegFormerSegmenter, SegFormerSegmenterConfig,
    ValidationReport,
};
pub use tensor::{Normalization, images_to_tensor, tensor_to_feature_map, tensor_to_prob_map, tensor_to_rows};
pub use train::{
    Augmentation, AverageConfig, BatchPlan, ChannelShift, ColorJitter, CosineConfig, CrossEntropyConfig, DiceClasses,
    DiceConfig, DiceScope, EarlyStopping, EarlyStoppingConfig, ExponentialAverage, FocalConfig, Fresh, GaussianBlur,
    Goal, Gradients, Interval, LoaderConfig, Monitor, Optimizer, OptimizerConfig, Parameters, PlateauConfig,
    RandomCrop, Reduction, Schedule, ScheduleConfig, SeafeatsLoss, SegmentationLoss, Threshold, Trainer, TrainerConfig,
    batch_indices, bce_with_logits, binary_dice_loss, cross_entropy, dice_loss, epoch_order, focal_cross_entropy,
    focal_loss, for_each_batch, mse, nt_xent, seafeats_loss, soft_cross_entropy, weighted_order,
};
pub use weights::{CORALSCOP_WEIGHTS_PAGE, Checkpoint, convert_to_safetensors, load};

pub use candle_core;
pub use candle_nn;
