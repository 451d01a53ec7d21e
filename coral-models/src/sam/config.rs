use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::tiny_vit::TinyVitConfig;
use super::training::SamTrainerConfig;
use crate::Checkpoint;
use crate::weights::lacking;

/// The shape of a Segment Anything network, with or without CoralSCOP's semantic branch.
///
/// [`SamConfig::from_shapes`] reads it off a checkpoint; only [`image_size`](Self::image_size) of a network without
/// position table and [`decoder_heads`](Self::decoder_heads) cannot be told from shapes.
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023; Zheng et al., *CoralSCOP*, CVPR 2024.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamConfig {
    /// The image encoder.
    pub encoder: EncoderConfig,
    /// Side of the square that images are resized and padded to, in pixels.
    pub image_size: usize,
    /// Width of the prompt and mask side, C (256).
    pub dim: usize,
    /// Channels of the mask prompt's second convolution (16).
    pub mask_prompt_channels: usize,
    /// Layers of the two-way transformer (2).
    pub decoder_depth: usize,
    /// Its attention heads (8 in every published file).
    pub decoder_heads: usize,
    /// Width of its perceptrons (2048).
    pub decoder_mlp_dim: usize,
    /// How much narrower its cross-attention is than C (2).
    pub attention_downsample_rate: usize,
    /// Mask tokens: one for the single mask and three for the ambiguous ones (4).
    pub mask_tokens: usize,
    /// Hidden width of the head that predicts the masks' IoU (256).
    pub iou_hidden: usize,
    /// Its layers (3).
    pub iou_depth: usize,
    /// CoralSCOP's parallel branch, where the network has one.
    pub semantic: Option<SemanticConfig>,
}

/// Which image encoder a network has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EncoderConfig {
    /// The vision transformer of Segment Anything.
    Vit(VitConfig),
    /// The small transformer of MobileSAM.
    TinyVit(TinyVitConfig),
}

/// A vision transformer with window attention and decomposed relative positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Pixels along a patch's side (16).
    pub patch: usize,
    /// Token width (768, 1024, 1280).
    pub dim: usize,
    /// Blocks (12, 24, 32).
    pub depth: usize,
    /// Attention heads (12, 16, 16).
    pub heads: usize,
    /// Hidden width of the perceptrons (4 × dim).
    pub mlp_dim: usize,
    /// Tokens along a window's side (14).
    pub window: usize,
    /// Blocks that attend globally.
    pub global_layers: Vec<usize>,
    /// Rows and columns of the position table (64, 64).
    pub grid: [usize; 2],
}

/// CoralSCOP's semantic branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SemanticConfig {
    /// Classes, K; the published network has 2: background and coral.
    pub classes: usize,
    /// Image tokens that the class head looks at (64 × 64 = 4096).
    pub tokens: usize,
    /// Width of the mask's semantic feature (256).
    pub feature_dim: usize,
}

/// Looks a tensor's shape up by its original name.
pub(crate) type Shapes<'a> = dyn Fn(&str) -> Option<Vec<usize>> + 'a;

impl SamConfig {
    /// Segment Anything with ViT-B (91 M weights).
    pub fn vit_b() -> Self {
        Self::published((768, 12, 12), &[2, 5, 8, 11])
    }

    /// Segment Anything with ViT-L (308 M weights).
    pub fn vit_l() -> Self {
        Self::published((1024, 24, 16), &[5, 11, 17, 23])
    }

    /// Segment Anything with ViT-H (636 M weights).
    pub fn vit_h() -> Self {
        Self::published((1280, 32, 16), &[7, 15, 23, 31])
    }

    /// CoralSCOP: ViT-B with the semantic branch of `classes` classes (2 in the published file).
    pub fn coralscop(classes: usize) -> Self {
        Self { semantic: Some(SemanticConfig { classes, tokens: 64 * 64, feature_dim: 256 }), ..Self::vit_b() }
    }

    /// MobileSAM: Segment Anything with TinyViT (10 M weights).
    pub fn mobile_sam() -> Self {
        Self { encoder: EncoderConfig::TinyVit(TinyVitConfig::mobile_sam()), ..Self::vit_b() }
    }

    fn published((dim, depth, heads): (usize, usize, usize), global_layers: &[usize]) -> Self {
        let encoder = EncoderConfig::Vit(VitConfig {
            patch: 16,
            dim,
            depth,
            heads,
            mlp_dim: 4 * dim,
            window: 14,
            global_layers: global_layers.to_vec(),
            grid: [64, 64],
        });
        Self {
            encoder,
            image_size: 1024,
            dim: 256,
            mask_prompt_channels: 16,
            decoder_depth: 2,
            decoder_heads: 8,
            decoder_mlp_dim: 2048,
            attention_downsample_rate: 2,
            mask_tokens: 4,
            iou_hidden: 256,
            iou_depth: 3,
            semantic: None,
        }
    }

    /// Pixels along the side of one image token.
    pub fn token_pixels(&self) -> usize {
        match &self.encoder {
            EncoderConfig::Vit(vit) => vit.patch,
            EncoderConfig::TinyVit(vit) => vit.token_pixels(),
        }
    }

    /// The configuration of a checkpoint with original names ([`Checkpoint::with_original_sam_names`]): what a
    /// [`SamTrainer`](crate::SamTrainer) left in it, or else what the shapes of its tensors tell.
    ///
    /// # Errors
    /// [`Error::Weights`] with the likely cause when it holds no network of the family, [`Error::Format`] naming the
    /// tensor with an impossible shape, or the part that does not fit the others.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        if let Some(trained) = SamTrainerConfig::of_checkpoint(checkpoint)? {
            return Ok(trained.network);
        }
        const MOBILE: &str = "image_encoder.patch_embed.seq.0.c.weight";
        let encoder = if checkpoint.contains(MOBILE) { MOBILE } else { "image_encoder.blocks.0.norm1.weight" };
        let telling = [
            encoder,
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
            "mask_decoder.transformer.layers.0.norm1.weight",
        ];
        if telling[1..].iter().any(|name| !checkpoint.contains(name)) {
            return Err(lacking(checkpoint, &telling));
        }
        let read = || {
            let config = Self::from_shapes(|name| checkpoint.shape(name).map(<[usize]>::to_vec))?;
            // No shape tells the heads, which the caller may know better.
            Self { decoder_heads: 1, ..config.clone() }.validate()?;
            Ok(config)
        };
        read().map_err(|error: Error| Error::format(checkpoint.path(), None, error.to_string()))
    }

    /// Reads the configuration off tensor shapes, looked up by their original names.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first tensor that is missing or has an impossible shape.
    pub fn from_shapes(shapes: impl Fn(&str) -> Option<Vec<usize>>) -> Result<Self> {
        let shapes: &Shapes<'_> = &shapes;
        let (encoder, image_size) = detect_encoder(shapes)?;
        let [mask_tokens, dim] = expect(shapes, "mask_decoder.mask_tokens.weight")?;
        let layer = "mask_decoder.transformer.layers.0";
        let [decoder_mlp_dim, _] = expect(shapes, &format!("{layer}.mlp.lin1.weight"))?;
        let [cross, _] = expect(shapes, &format!("{layer}.cross_attn_token_to_image.q_proj.weight"))?;
        let [mask_prompt_channels, ..] = expect::<4>(shapes, "prompt_encoder.mask_downscaling.3.weight")?;
        let [iou_hidden, _] = expect(shapes, "mask_decoder.iou_prediction_head.layers.0.weight")?;
        let iou_head = |i: usize| format!("mask_decoder.iou_prediction_head.layers.{i}.weight");
        if cross == 0 || dim % cross != 0 {
            return Err(misfit(&format!("{layer}.cross_attn_token_to_image.q_proj.weight"), "its rows must divide C"));
        }
        Ok(Self {
            encoder,
            image_size,
            dim,
            mask_prompt_channels,
            decoder_depth: count(|i| shapes(&format!("mask_decoder.transformer.layers.{i}.norm1.weight")).is_some()),
            decoder_heads: 8,
            decoder_mlp_dim,
            attention_downsample_rate: dim / cross,
            mask_tokens,
            iou_hidden,
            iou_depth: count(|i| shapes(&iou_head(i)).is_some()),
            semantic: detect_semantic(shapes)?,
        })
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, name: &str, reason: String| {
            if ok { Ok(()) } else { Err(Error::parameter(name, reason)) }
        };
        match &self.encoder {
            EncoderConfig::Vit(vit) => vit.validate()?,
            EncoderConfig::TinyVit(vit) => vit.validate()?,
        }
        let (token, size) = (self.token_pixels(), self.image_size);
        let fits = size.is_multiple_of(token) && (1..=LARGEST_GRID).contains(&(size / token)) && size <= LARGEST_IMAGE;
        let most = LARGEST_GRID * token;
        check(fits, "image_size", format!("expected a multiple of {token} up to {most}, got {size}"))?;
        expect_sizes(&[
            ("dim", self.dim),
            ("decoder_depth", self.decoder_depth),
            ("decoder_mlp_dim", self.decoder_mlp_dim),
            ("mask_tokens", self.mask_tokens),
            ("iou_hidden", self.iou_hidden),
            ("iou_depth", self.iou_depth),
        ])?;
        let channels = self.mask_prompt_channels;
        check(
            (1..=LARGEST).contains(&channels) && channels.is_multiple_of(4),
            "mask_prompt_channels",
            format!("expected a multiple of 4, got {channels}"),
        )?;
        let (dim, heads, rate) = (self.dim, self.decoder_heads, self.attention_downsample_rate);
        check(dim % 8 == 0, "dim", format!("expected a multiple of 8, got {dim}"))?;
        let fits = heads > 0 && rate > 0 && dim % rate == 0 && (dim / rate) % heads == 0;
        check(fits, "decoder_heads", format!("{heads} heads do not divide the width {dim} / {rate}"))?;
        check(self.mask_tokens > 1, "mask_tokens", format!("expected at least 2, got {}", self.mask_tokens))?;
        if let Some(semantic) = &self.semantic {
            expect_sizes(&[("semantic.tokens", semantic.tokens), ("semantic.feature_dim", semantic.feature_dim)])?;
            let square = semantic.tokens.isqrt().pow(2) == semantic.tokens;
            check(square, "semantic.tokens", format!("expected a square number, got {}", semantic.tokens))?;
            check((2..=255).contains(&semantic.classes), "semantic.classes", "expected 2 to 255".into())?;
        }
        Ok(())
    }
}

/// Largest side of an image in pixels.
const LARGEST_IMAGE: usize = 1 << 16;
/// Most tokens along an image's side; global attention on more would take days.
const LARGEST_GRID: usize = 1 << 10;
/// Most tokens along a window's side: its scores are of the fourth power.
const LARGEST_WINDOW: usize = 1 << 6;
/// Largest width, depth or count, far beyond any network; keeps products of sizes from overflowing.
const LARGEST: usize = 1 << 20;

/// Checks that none of the named sizes is zero or absurd.
pub(super) fn expect_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    expect_within(LARGEST, sizes)
}

/// The same for the windows of attention.
pub(super) fn expect_windows(sizes: &[(&str, usize)]) -> Result<()> {
    expect_within(LARGEST_WINDOW, sizes)
}

fn expect_within(largest: usize, sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| !(1..=largest).contains(size)) {
        Some((name, size)) => Err(Error::parameter(*name, format!("expected 1 to {largest}, got {size}"))),
        None => Ok(()),
    }
}

impl VitConfig {
    fn validate(&self) -> Result<()> {
        let [rows, columns] = self.grid;
        expect_sizes(&[
            ("encoder.patch", self.patch),
            ("encoder.dim", self.dim),
            ("encoder.depth", self.depth),
            ("encoder.heads", self.heads),
            ("encoder.mlp_dim", self.mlp_dim),
            ("encoder.grid", rows),
            ("encoder.grid", columns),
        ])?;
        expect_windows(&[("encoder.window", self.window)])?;
        if !self.dim.is_multiple_of(self.heads) {
            let reason = format!("{} heads do not divide the width {}", self.heads, self.dim);
            return Err(Error::parameter("encoder.heads", reason));
        }
        if let Some(layer) = self.global_layers.iter().find(|&&layer| layer >= self.depth) {
            let reason = format!("block {layer} is none of the {}", self.depth);
            return Err(Error::parameter("encoder.global_layers", reason));
        }
        Ok(())
    }
}

fn detect_encoder(shapes: &Shapes<'_>) -> Result<(EncoderConfig, usize)> {
    if shapes("image_encoder.patch_embed.seq.0.c.weight").is_some() {
        return Ok((EncoderConfig::TinyVit(TinyVitConfig::read("image_encoder.", shapes)?), 1024));
    }
    let proj = "image_encoder.patch_embed.proj.weight";
    let [dim, _, patch, _] = expect(shapes, proj)?;
    let [_, rows, columns, _] = expect(shapes, "image_encoder.pos_embed")?;
    let depth = count(|i| shapes(&format!("image_encoder.blocks.{i}.norm1.weight")).is_some());
    let [mlp_dim, _] = expect(shapes, "image_encoder.blocks.0.mlp.lin1.weight")?;
    // A side beyond every limit, so that the check refuses it.
    let image_size = rows.max(columns).saturating_mul(patch);
    let mut vit =
        VitConfig { patch, dim, depth, heads: 0, mlp_dim, window: 14, global_layers: vec![], grid: [rows, columns] };
    for layer in 0..depth {
        let name = format!("image_encoder.blocks.{layer}.attn.rel_pos_h");
        let [offsets, head] = expect(shapes, &name)?;
        let [across, _] = expect(shapes, &format!("image_encoder.blocks.{layer}.attn.rel_pos_w"))?;
        if head == 0 || dim % head != 0 || offsets % 2 == 0 {
            return Err(misfit(&name, &format!("expected (2n - 1)xd with d a divisor of {dim}, got {offsets}x{head}")));
        }
        vit.heads = dim / head;
        if [offsets.div_ceil(2), across.div_ceil(2)] == vit.grid {
            vit.global_layers.push(layer);
        } else {
            vit.window = offsets.div_ceil(2);
        }
    }
    Ok((EncoderConfig::Vit(vit), image_size))
}

fn detect_semantic(shapes: &Shapes<'_>) -> Result<Option<SemanticConfig>> {
    let head = |i: usize| format!("mask_decoder.cate_prediction_head.layers.{i}.weight");
    if shapes(&head(0)).is_none() {
        return Ok(None);
    }
    let [_, tokens] = expect(shapes, &head(0))?;
    let [classes, feature_dim] = expect(shapes, &head(2))?;
    Ok(Some(SemanticConfig { classes, tokens, feature_dim }))
}

/// How many of 0, 1, 2, … there are before the first that is absent.
pub(super) fn count(present: impl Fn(usize) -> bool) -> usize {
    (0..).take_while(|&i| present(i)).count()
}

pub(super) fn expect<const N: usize>(shapes: &Shapes<'_>, name: &str) -> Result<[usize; N]> {
    let shape = shapes(name).ok_or_else(|| misfit(name, "it is missing: this is no Segment Anything checkpoint"))?;
    let found: std::result::Result<[usize; N], _> = shape.clone().try_into();
    match found {
        Ok(dims) if !dims.contains(&0) => Ok(dims),
        _ => Err(misfit(name, &format!("expected {N} dimensions, none of them 0, got shape {shape:?}"))),
    }
}

pub(super) fn misfit(name: &str, reason: &str) -> Error {
    Error::input(name, reason)
}
