//! What probably went wrong when a checkpoint does not fit a network.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use coral_core::Error;

use super::checkpoint::Checkpoint;
use super::stored::shape_text;

/// Where CoralSCOP's authors link their weights, `vit_b_coralscop.pth`.
pub const CORALSCOP_WEIGHTS_PAGE: &str = "https://github.com/zhengziqiang/CoralSCOP#getting-started";

fn coralscop_origin() -> String {
    format!("CoralSCOP's authors link vit_b_coralscop.pth on {CORALSCOP_WEIGHTS_PAGE}")
}

/// Adds to an error of opening a file where the file comes from, if its name tells.
pub(super) fn with_origin(error: Error) -> Error {
    let is_coralscop = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().contains("coralscop"))
    };
    match error {
        Error::Io { path, source } if source.kind() == io::ErrorKind::NotFound && is_coralscop(&path) => {
            let source = io::Error::new(source.kind(), format!("{source}; {}", coralscop_origin()));
            Error::Io { path, source }
        }
        Error::Format { path, line, reason } if is_coralscop(&path) => {
            Error::Format { path, line, reason: format!("{reason}; {}", coralscop_origin()) }
        }
        other => other,
    }
}

/// The names and shapes that a network asked for.
pub(super) type Requested = BTreeMap<String, Option<Vec<usize>>>;

/// Kinds of checkpoints, and how a name starts that only they have; the first that fits counts.
const KINDS: [(&str, &[&str]); 13] = [
    ("a SAM 3 checkpoint", &["detector.backbone.", "detector_model.", "tracker_model."]),
    (
        "a SAM 2 checkpoint",
        &[
            "image_encoder.trunk.",
            "memory_attention.",
            "memory_encoder.",
            "sam_mask_decoder.",
            "vision_encoder.backbone.",
        ],
    ),
    ("an HQ-SAM checkpoint", &["mask_decoder.hf_token", "mask_decoder.hq_token"]),
    (CORALSCOP, &["mask_decoder.cate_"]),
    ("a MobileSAM checkpoint", &["image_encoder.patch_embed.seq."]),
    ("a SAM checkpoint with the names of transformers", &["vision_encoder.patch_embed.projection."]),
    (SAM, &["image_encoder.blocks.", "mask_decoder.transformer.", "prompt_encoder.pe_layer."]),
    ("a CLIP checkpoint with the names of transformers", &["text_model.", "vision_model."]),
    ("an OpenAI CLIP checkpoint", &["visual.", "token_embedding."]),
    ("a SegFormer checkpoint", &["segformer.", "decode_head.linear_c.", "decode_head.linear_fuse."]),
    (
        "a DINOv2 checkpoint with the names of transformers",
        &["dinov2.", "dinov2_with_registers.", "encoder.layer.0.layer_scale1."],
    ),
    ("a DINOv2 checkpoint", &["blocks.0.ls1."]),
    ("a torchvision ResNet checkpoint", &["layer1.0.conv1."]),
];
const SAM: &str = "a SAM checkpoint";
const CORALSCOP: &str = "a CoralSCOP checkpoint";

/// Tables with one entry per image token, by the end of their name.
const POSITION_TABLES: [&str; 5] =
    ["pos_embed", "positional_embedding", "position_embedding.weight", "position_embeddings", "rel_pos_h"];

/// The image encoders that SAM was published with: width, blocks.
const SAM_ENCODERS: [(&str, usize, usize); 3] = [("ViT-B", 768, 12), ("ViT-L", 1024, 24), ("ViT-H", 1280, 32)];

/// The likeliest cause, for one who knows what the file should have been.
pub(super) fn likely_cause(
    checkpoint: &Checkpoint,
    requested: &Requested,
    missing: &[String],
    unexpected: &[String],
) -> Option<String> {
    prefix(missing, unexpected)
        .or_else(|| semantic_branch(checkpoint, missing, unexpected))
        .or_else(|| another_kind(checkpoint, requested))
        .or_else(|| another_size(checkpoint, requested))
        .or_else(|| another_image_size(checkpoint, requested))
}

/// Names that would fit without, or with, some letters in front.
fn prefix(missing: &[String], unexpected: &[String]) -> Option<String> {
    let first = missing.first()?;
    let enough = missing.len().div_ceil(2);
    let longer = unexpected.iter().filter_map(|name| name.strip_suffix(first.as_str())).filter(|p| p.ends_with('.'));
    for prefix in longer {
        let names = unexpected.iter().filter_map(|name| name.strip_prefix(prefix)).collect::<BTreeSet<_>>();
        if missing.iter().filter(|name| names.contains(name.as_str())).count() >= enough {
            return Some(format!("the file's names carry the prefix `{prefix}`"));
        }
    }
    let given = unexpected.iter().map(String::as_str).collect::<BTreeSet<_>>();
    let ends = first.match_indices('.').map(|(at, _)| &first[..=at]);
    let mut lacking = ends.filter(|prefix| {
        missing.iter().filter(|name| name.strip_prefix(prefix).is_some_and(|rest| given.contains(rest))).count()
            >= enough
    });
    lacking.next().map(|prefix| format!("the file's names lack the prefix `{prefix}`"))
}

/// Only CoralSCOP's addition to SAM is missing, or too much.
fn semantic_branch(checkpoint: &Checkpoint, missing: &[String], unexpected: &[String]) -> Option<String> {
    const BRANCH: &str = "mask_decoder.cate_";
    let of_branch = |names: &[String]| !names.is_empty() && names.iter().all(|name| name.starts_with(BRANCH));
    if of_branch(missing) && !checkpoint.names().any(|name| name.starts_with(BRANCH)) {
        return Some(format!(
            "the semantic branch `mask_decoder.cate_*` is missing: a plain SAM file, not CoralSCOP's; \
             {}",
            coralscop_origin()
        ));
    }
    (missing.is_empty() && of_branch(unexpected))
        .then(|| "the file has a semantic branch `mask_decoder.cate_*`: CoralSCOP's, not a plain SAM file".to_owned())
}

fn kind<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    let fits = |starts: &[&str]| names.clone().any(|name| starts.iter().any(|start| name.starts_with(start)));
    KINDS.iter().find(|(_, starts)| fits(starts)).map(|(kind, _)| *kind)
}

fn another_kind(checkpoint: &Checkpoint, requested: &Requested) -> Option<String> {
    let names = checkpoint.names().collect::<Vec<_>>();
    let found = kind(names.iter().copied())?;
    match kind(requested.keys().map(String::as_str)) {
        Some(expected) if expected == found => None,
        // The branch alone is no other kind; sizes tell more.
        Some(SAM | CORALSCOP) if found == SAM || found == CORALSCOP => None,
        Some(expected) => Some(format!("the file is {found}, the model needs {expected}")),
        None => Some(format!("the file is {found}")),
    }
}

/// Another width or number of blocks of the image encoder.
fn another_size(checkpoint: &Checkpoint, requested: &Requested) -> Option<String> {
    const BLOCKS: &str = "image_encoder.blocks.";
    let width_of = |shape: Option<&[usize]>| shape.and_then(|shape| shape.last().copied());
    let width_name = "image_encoder.blocks.0.norm1.weight";
    let found = (width_of(checkpoint.shape(width_name))?, numbered(checkpoint.names(), BLOCKS));
    let expected = requested.get(width_name)?.as_deref();
    let expected = (width_of(expected)?, numbered(requested.keys().map(String::as_str), BLOCKS));
    let text = |(width, blocks): (usize, usize)| {
        let name = SAM_ENCODERS.iter().find(|(_, w, b)| (*w, *b) == (width, blocks)).map(|(name, ..)| *name);
        name.map_or_else(|| format!("width {width} and {blocks} blocks"), |name| format!("{name} ({width}x{blocks})"))
    };
    (found != expected)
        .then(|| format!("another image encoder: the file has {}, the model {}", text(found), text(expected)))
}

/// How many different numbers follow `start` in the names.
fn numbered<'a>(names: impl Iterator<Item = &'a str>, start: &str) -> usize {
    let numbers = names.filter_map(|name| name.strip_prefix(start)?.split('.').next());
    numbers.collect::<BTreeSet<_>>().len()
}

/// A table of positions that differs in the number of tokens alone.
fn another_image_size(checkpoint: &Checkpoint, requested: &Requested) -> Option<String> {
    requested.iter().find_map(|(name, expected)| {
        POSITION_TABLES.iter().find(|end| name.ends_with(*end))?;
        let (expected, found) = (expected.as_deref()?, checkpoint.shape(name)?);
        let differs = expected != found && expected.len() == found.len() && expected.last() == found.last();
        let tokens = |shape: &[usize]| match shape {
            [1, height, width, _] => format!("{height}x{width} tokens"),
            // Distances from -(n - 1) to n - 1.
            [distances, _] if name.ends_with("rel_pos_h") => format!("{} rows of tokens", distances.div_ceil(2)),
            [1, tokens, _] | [tokens, _] => format!("{tokens} tokens"),
            other => format!("shape {}", shape_text(other)),
        };
        differs.then(|| {
            format!(
                "another image size: `{name}` is for {} in the file, {} in the model",
                tokens(found),
                tokens(expected)
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::load;
    use candle_core::{DType, Device, Tensor};
    use std::collections::HashMap;

    type Shapes<'a> = &'a [(&'a str, &'a [usize])];

    /// What loading the shapes of a model from a file of other shapes says.
    fn cause(file: Shapes<'_>, model: Shapes<'_>) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let tensors = file.iter().map(|(name, shape)| (*name, zeros(shape))).collect::<HashMap<_, _>>();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let build =
            |vb: candle_nn::VarBuilder<'_>| model.iter().try_for_each(|(name, shape)| vb.get(*shape, name).map(drop));
        match load(&checkpoint, &Device::Cpu, &[], build).unwrap_err() {
            coral_core::Error::Weights { cause, .. } => cause,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn prefixes_are_found_both_ways() {
        let (plain, wrapped): (Shapes<'_>, Shapes<'_>) =
            (&[("a.weight", &[1]), ("b.weight", &[1])], &[("sam.a.weight", &[1]), ("sam.b.weight", &[1]), ("x", &[1])]);
        assert_eq!(cause(wrapped, plain).unwrap(), "the file's names carry the prefix `sam.`");
        assert_eq!(cause(plain, &wrapped[..2]).unwrap(), "the file's names lack the prefix `sam.`");
    }

    #[test]
    fn another_image_size_is_told_in_tokens() {
        let table = |side: usize| [1, side, side, 8];
        let told = cause(&[("image_encoder.pos_embed", &table(64))], &[("image_encoder.pos_embed", &table(32))]);
        let expected =
            "another image size: `image_encoder.pos_embed` is for 64x64 tokens in the file, 32x32 tokens in the model";
        assert_eq!(told.unwrap(), expected);
        let told = cause(&[("b.attn.rel_pos_h", &[27, 4])], &[("b.attn.rel_pos_h", &[13, 4])]);
        assert!(told.unwrap().contains("14 rows of tokens in the file, 7 rows"));
    }

    #[test]
    fn another_encoder_is_told_by_width_and_blocks() {
        let file: Shapes<'_> =
            &[("image_encoder.blocks.0.norm1.weight", &[1280]), ("image_encoder.blocks.1.norm1.weight", &[1280])];
        let told = cause(file, &[("image_encoder.blocks.0.norm1.weight", &[768])]).unwrap();
        assert_eq!(
            told,
            "another image encoder: the file has width 1280 and 2 blocks, the model width 768 and 1 blocks"
        );
    }

    #[test]
    fn kinds_of_files_are_told() {
        let sam: Shapes<'_> =
            &[("image_encoder.blocks.0.norm1.weight", &[8]), ("mask_decoder.iou_token.weight", &[1, 8])];
        for (name, expected) in [
            (
                "text_model.embeddings.token_embedding.weight",
                "the file is a CLIP checkpoint with the names of transformers",
            ),
            ("image_encoder.trunk.pos_embed", "the file is a SAM 2 checkpoint"),
            ("layer1.0.conv1.weight", "the file is a torchvision ResNet checkpoint"),
            (
                "vision_encoder.patch_embed.projection.weight",
                "the file is a SAM checkpoint with the names of transformers",
            ),
        ] {
            let told = cause(&[(name, &[1])], sam).unwrap();
            assert_eq!(told, format!("{expected}, the model needs a SAM checkpoint"));
        }
        assert_eq!(cause(&[("what.weight", &[1])], &[("other.weight", &[1])]), None);
    }

    #[test]
    fn a_missing_or_damaged_file_of_coralscop_tells_its_origin() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| Checkpoint::open(folder.path().join(name)).unwrap_err().to_string();
        assert!(open("vit_b_coralscop.pth").ends_with(CORALSCOP_WEIGHTS_PAGE));
        assert!(!open("sam_vit_b.pth").contains(CORALSCOP_WEIGHTS_PAGE));
        for name in ["CoralSCOP.pth", "sam.pth"] {
            std::fs::write(folder.path().join(name), "<!DOCTYPE html>").unwrap();
        }
        let page = open("CoralSCOP.pth");
        assert!(page.contains("a web page") && page.ends_with(CORALSCOP_WEIGHTS_PAGE), "{page}");
        assert!(!open("sam.pth").contains(CORALSCOP_WEIGHTS_PAGE));
    }

    #[test]
    fn the_semantic_branch_is_named() {
        let sam: Shapes<'_> = &[("image_encoder.blocks.0.norm1.weight", &[8])];
        let coralscop = [sam, &[("mask_decoder.cate_prediction_head.layers.0.bias", &[8])]].concat();
        let plain = cause(sam, &coralscop).unwrap();
        assert!(plain.starts_with("the semantic branch `mask_decoder.cate_*` is missing"), "{plain}");
        assert!(plain.ends_with(CORALSCOP_WEIGHTS_PAGE), "{plain}");
        assert!(cause(&coralscop, sam).unwrap().starts_with("the file has a semantic branch"));
    }
}
