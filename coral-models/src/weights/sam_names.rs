use coral_core::Result;

use super::checkpoint::Checkpoint;

/// How names start in `transformers`, and in the original program; the first that fits counts.
const PREFIXES: [(&str, &str); 17] = [
    ("vision_encoder.patch_embed.projection.", "image_encoder.patch_embed.proj."),
    ("vision_encoder.neck.conv1.", "image_encoder.neck.0."),
    ("vision_encoder.neck.layer_norm1.", "image_encoder.neck.1."),
    ("vision_encoder.neck.conv2.", "image_encoder.neck.2."),
    ("vision_encoder.neck.layer_norm2.", "image_encoder.neck.3."),
    ("vision_encoder.layers.", "image_encoder.blocks."),
    ("vision_encoder.", "image_encoder."),
    ("prompt_encoder.point_embed.", "prompt_encoder.point_embeddings."),
    ("prompt_encoder.mask_embed.conv1.", "prompt_encoder.mask_downscaling.0."),
    ("prompt_encoder.mask_embed.layer_norm1.", "prompt_encoder.mask_downscaling.1."),
    ("prompt_encoder.mask_embed.conv2.", "prompt_encoder.mask_downscaling.3."),
    ("prompt_encoder.mask_embed.layer_norm2.", "prompt_encoder.mask_downscaling.4."),
    ("prompt_encoder.mask_embed.conv3.", "prompt_encoder.mask_downscaling.6."),
    ("mask_decoder.upscale_conv1.", "mask_decoder.output_upscaling.0."),
    ("mask_decoder.upscale_layer_norm.", "mask_decoder.output_upscaling.1."),
    ("mask_decoder.upscale_conv2.", "mask_decoder.output_upscaling.3."),
    ("mask_decoder.", "mask_decoder."),
];

/// The random matrix of the positional encoding, in the original program.
const POSITIONAL: &str = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
/// The same matrix in `transformers`, which may save it under both names.
const SHARED_POSITIONAL: [&str; 2] =
    ["shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"];

impl Checkpoint {
    /// Whether the names are those of SAM in the Python library `transformers`.
    pub fn has_transformers_sam_names(&self) -> bool {
        self.contains("vision_encoder.patch_embed.projection.weight")
            && self.contains("vision_encoder.layers.0.attn.qkv.weight")
    }

    /// Gives a SAM checkpoint the names of the original program (`image_encoder.blocks.0.…`),
    /// which the networks of this crate ask for.
    ///
    /// Files of the Python library `transformers` (`vision_encoder.layers.0.…`) are renamed;
    /// the tensors are the same in both. Other checkpoints stay as they are.
    ///
    /// # Errors
    /// [`coral_core::Error::Format`] when two tensors would get the same name.
    pub fn with_original_sam_names(self) -> Result<Self> {
        if !self.has_transformers_sam_names() {
            return Ok(self);
        }
        let twice = SHARED_POSITIONAL.iter().all(|name| self.contains(name));
        let iou_layers = self.names().filter(|name| name.starts_with("mask_decoder.iou_prediction_head.layers."));
        let iou_layers = iou_layers.filter(|name| name.ends_with(".weight")).count();
        self.rename(|name| match name {
            name if SHARED_POSITIONAL.contains(&name) => {
                (!twice || name == SHARED_POSITIONAL[0]).then(|| POSITIONAL.to_owned())
            }
            name => Some(original_name(name, iou_layers)),
        })
    }
}

/// `iou_layers`: linear layers between the first and the last of the IoU head; the other heads have one.
fn original_name(name: &str, iou_layers: usize) -> String {
    let renamed = PREFIXES.iter().find_map(|(theirs, original)| Some((original, name.strip_prefix(theirs)?)));
    let Some((prefix, rest)) = renamed else { return name.to_owned() };
    if let Some(layer) = rest.strip_prefix("iou_prediction_head.") {
        return format!("{prefix}iou_prediction_head.{}", original_layer(layer, iou_layers));
    }
    if let Some((head, layer)) = rest.strip_prefix("output_hypernetworks_mlps.").and_then(|rest| rest.split_once('.')) {
        return format!("{prefix}output_hypernetworks_mlps.{head}.{}", original_layer(layer, 1));
    }
    format!("{prefix}{}", rest.replace("layer_norm", "norm"))
}

/// Numbers a perceptron's layers through: `proj_in`, `layers.0`, …, `proj_out` are `layers.0`, `layers.1`, ….
fn original_layer(layer: &str, inner: usize) -> String {
    if let Some(rest) = layer.strip_prefix("proj_in.") {
        return format!("layers.0.{rest}");
    }
    if let Some(rest) = layer.strip_prefix("proj_out.") {
        return format!("layers.{}.{rest}", inner + 1);
    }
    let numbered = layer.strip_prefix("layers.").and_then(|rest| {
        let (number, rest) = rest.split_once('.')?;
        Some(format!("layers.{}.{rest}", number.parse::<usize>().ok()? + 1))
    });
    numbered.unwrap_or_else(|| layer.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_part_are_translated() {
        for (theirs, original) in [
            ("vision_encoder.pos_embed", "image_encoder.pos_embed"),
            ("vision_encoder.layers.11.layer_norm2.bias", "image_encoder.blocks.11.norm2.bias"),
            ("vision_encoder.layers.3.attn.rel_pos_h", "image_encoder.blocks.3.attn.rel_pos_h"),
            ("prompt_encoder.no_mask_embed.weight", "prompt_encoder.no_mask_embed.weight"),
            ("mask_decoder.transformer.layer_norm_final_attn.bias", "mask_decoder.transformer.norm_final_attn.bias"),
            ("mask_decoder.transformer.layers.1.layer_norm4.bias", "mask_decoder.transformer.layers.1.norm4.bias"),
            (
                "mask_decoder.output_hypernetworks_mlps.2.layers.0.bias",
                "mask_decoder.output_hypernetworks_mlps.2.layers.1.bias",
            ),
            ("mask_decoder.iou_prediction_head.proj_out.weight", "mask_decoder.iou_prediction_head.layers.3.weight"),
            ("pixel_mean", "pixel_mean"),
        ] {
            assert_eq!(original_name(theirs, 2), original);
        }
    }
}
