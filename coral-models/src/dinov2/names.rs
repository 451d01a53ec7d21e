//! What the tensors of a DINOv2 checkpoint are called.

use coral_core::Result;

use crate::Checkpoint;

/// The naming scheme of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// The Python library `transformers`.
    Transformers,
    /// The original program, facebookresearch/dinov2.
    Original,
}

/// Names of the whole network.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) class: &'static str,
    pub(super) registers: &'static str,
    pub(super) positions: &'static str,
    /// What stands before `weight` and `bias` of the patch embedding.
    pub(super) patches: &'static str,
    /// What stands before a block's number.
    pub(super) blocks: &'static str,
    pub(super) norm: &'static str,
    /// A token for training without labels, which nothing else uses.
    pub(super) mask: &'static str,
    pub(super) block: BlockNames,
}

/// Names within a block.
#[derive(Debug)]
pub(super) struct BlockNames {
    /// Weights that make those of queries, keys and values when put below each other, and their biases.
    pub(super) qkv: &'static [[&'static str; 2]],
    pub(super) out: &'static str,
    pub(super) scales: [&'static str; 2],
    /// The layers of a perceptron with GELU.
    pub(super) gelu: [&'static str; 2],
    /// Those of one with SwiGLU.
    pub(super) swiglu: [&'static str; 2],
}

const TRANSFORMERS: Names = Names {
    class: "embeddings.cls_token",
    registers: "embeddings.register_tokens",
    positions: "embeddings.position_embeddings",
    patches: "embeddings.patch_embeddings.projection",
    blocks: "encoder.layer",
    norm: "layernorm",
    mask: "embeddings.mask_token",
    block: BlockNames {
        qkv: &[
            ["attention.attention.query.weight", "attention.attention.query.bias"],
            ["attention.attention.key.weight", "attention.attention.key.bias"],
            ["attention.attention.value.weight", "attention.attention.value.bias"],
        ],
        out: "attention.output.dense",
        scales: ["layer_scale1.lambda1", "layer_scale2.lambda1"],
        gelu: ["mlp.fc1", "mlp.fc2"],
        swiglu: ["mlp.weights_in", "mlp.weights_out"],
    },
};
const ORIGINAL: Names = Names {
    class: "cls_token",
    registers: "register_tokens",
    positions: "pos_embed",
    patches: "patch_embed.proj",
    blocks: "blocks",
    norm: "norm",
    mask: "mask_token",
    block: BlockNames {
        qkv: &[["attn.qkv.weight", "attn.qkv.bias"]],
        out: "attn.proj",
        scales: ["ls1.gamma", "ls2.gamma"],
        gelu: ["mlp.fc1", "mlp.fc2"],
        swiglu: ["mlp.w12", "mlp.w3"],
    },
};

/// Names of norms within a block, the same in both schemes.
pub(super) const NORMS: [&str; 2] = ["norm1", "norm2"];

/// What programs put before the names of an encoder within a larger network.
const PREFIXES: [&str; 5] = ["", "dinov2.", "dinov2_with_registers.", "backbone.", "teacher.backbone."];

impl Naming {
    const ALL: [Self; 2] = [Self::Transformers, Self::Original];

    /// The scheme in which a network's class token and position table are present.
    pub(super) fn of(has: impl Fn(&str) -> bool) -> Option<Self> {
        // Other vision transformers have both too, but no layer scale.
        let present = |naming: &Self| {
            let Names { class, positions, blocks, block, .. } = naming.names();
            has(class) && has(positions) && has(&format!("{blocks}.0.{}", block.scales[0]))
        };
        Self::ALL.into_iter().find(present)
    }

    pub(super) fn names(self) -> &'static Names {
        match self {
            Self::Transformers => &TRANSFORMERS,
            Self::Original => &ORIGINAL,
        }
    }
}

impl Checkpoint {
    /// Gives a DINOv2 checkpoint the names that [`DinoV2`](crate::DinoV2) asks for: without what larger networks put
    /// before them (`dinov2.`, `dinov2_with_registers.`, `backbone.`, `teacher.backbone.`; other tensors are left out
    /// then), and without the numbers of the chunks in which the original program trains (`blocks.0.3.…` becomes
    /// `blocks.3.…`). Other checkpoints stay as they are.
    ///
    /// # Errors
    /// [`coral_core::Error::Format`] when two tensors would get the same name.
    pub fn with_dinov2_names(self) -> Result<Self> {
        let fits = |prefix: &str| {
            let has = |name: &str| self.contains(&format!("{prefix}{name}")) || self.contains_chunked(prefix, name);
            Naming::of(has).is_some()
        };
        match PREFIXES.into_iter().find(|prefix| fits(prefix)) {
            Some(prefix) => self.rename(|name| name.strip_prefix(prefix).map(without_chunk)),
            None => Ok(self),
        }
    }

    /// Whether a tensor of the first block is there with the number of a chunk.
    fn contains_chunked(&self, prefix: &str, name: &str) -> bool {
        let start = "blocks.0.";
        name.strip_prefix(start).is_some_and(|rest| self.contains(&format!("{prefix}{start}0.{rest}")))
    }
}

/// `blocks.3.…` of `blocks.0.3.…`, other names as they are. Blocks are numbered through, not anew in every chunk.
fn without_chunk(name: &str) -> String {
    let numbered = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.strip_prefix("blocks.").map(|rest| rest.splitn(3, '.').collect::<Vec<_>>());
    match parts.as_deref() {
        Some(&[chunk, block, rest]) if numbered(chunk) && numbered(block) => format!("blocks.{block}.{rest}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_left_out() {
        for (theirs, ours) in [
            ("blocks.1.11.norm1.weight", "blocks.11.norm1.weight"),
            ("blocks.11.norm1.weight", "blocks.11.norm1.weight"),
            ("blocks.0.0.ls1.gamma", "blocks.0.ls1.gamma"),
            ("norm.weight", "norm.weight"),
            ("encoder.layer.0.norm1.bias", "encoder.layer.0.norm1.bias"),
        ] {
            assert_eq!(without_chunk(theirs), ours);
        }
    }
}
