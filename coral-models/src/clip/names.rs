//! What the tensors of a CLIP checkpoint are called.

/// The naming scheme of a checkpoint.
///
/// The schemes also differ in form: OpenAI's files hold queries, keys and values as one tensor and the projections
/// transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// The original program and `open_clip`.
    OpenAi,
    /// The Python library `transformers`.
    Transformers,
}

/// Names of the image tower.
#[derive(Debug)]
pub(super) struct ImageNames {
    pub(super) class: &'static str,
    pub(super) patches: &'static str,
    pub(super) first_norm: &'static str,
    pub(super) tower: TowerNames,
}

/// Names of the text tower.
#[derive(Debug)]
pub(super) struct TextNames {
    pub(super) tokens: &'static str,
    pub(super) tower: TowerNames,
}

/// Names that both towers have.
#[derive(Debug)]
pub(super) struct TowerNames {
    pub(super) positions: &'static str,
    /// What stands before a block's number.
    pub(super) blocks: &'static str,
    pub(super) last_norm: &'static str,
    pub(super) projection: &'static str,
    /// Whether the projection is stored as width×out.
    pub(super) projection_transposed: bool,
}

/// Names within a block.
#[derive(Debug)]
pub(super) struct BlockNames {
    pub(super) norms: [&'static str; 2],
    pub(super) out: &'static str,
    pub(super) mlp: [&'static str; 2],
    /// Weights that make those of queries, keys and values when put below each other, and their biases.
    pub(super) qkv: &'static [[&'static str; 2]],
}

const OPENAI_IMAGE: ImageNames = ImageNames {
    class: "visual.class_embedding",
    patches: "visual.conv1.weight",
    first_norm: "visual.ln_pre",
    tower: TowerNames {
        positions: "visual.positional_embedding",
        blocks: "visual.transformer.resblocks",
        last_norm: "visual.ln_post",
        projection: "visual.proj",
        projection_transposed: true,
    },
};
const OPENAI_TEXT: TextNames = TextNames {
    tokens: "token_embedding.weight",
    tower: TowerNames {
        positions: "positional_embedding",
        blocks: "transformer.resblocks",
        last_norm: "ln_final",
        projection: "text_projection",
        projection_transposed: true,
    },
};
const OPENAI_BLOCK: BlockNames = BlockNames {
    norms: ["ln_1", "ln_2"],
    out: "attn.out_proj",
    mlp: ["mlp.c_fc", "mlp.c_proj"],
    qkv: &[["attn.in_proj_weight", "attn.in_proj_bias"]],
};
const TRANSFORMERS_IMAGE: ImageNames = ImageNames {
    class: "vision_model.embeddings.class_embedding",
    patches: "vision_model.embeddings.patch_embedding.weight",
    // As spelled there.
    first_norm: "vision_model.pre_layrnorm",
    tower: TowerNames {
        positions: "vision_model.embeddings.position_embedding.weight",
        blocks: "vision_model.encoder.layers",
        last_norm: "vision_model.post_layernorm",
        projection: "visual_projection.weight",
        projection_transposed: false,
    },
};
const TRANSFORMERS_TEXT: TextNames = TextNames {
    tokens: "text_model.embeddings.token_embedding.weight",
    tower: TowerNames {
        positions: "text_model.embeddings.position_embedding.weight",
        blocks: "text_model.encoder.layers",
        last_norm: "text_model.final_layer_norm",
        projection: "text_projection.weight",
        projection_transposed: false,
    },
};
const TRANSFORMERS_BLOCK: BlockNames = BlockNames {
    norms: ["layer_norm1", "layer_norm2"],
    out: "self_attn.out_proj",
    mlp: ["mlp.fc1", "mlp.fc2"],
    qkv: &[
        ["self_attn.q_proj.weight", "self_attn.q_proj.bias"],
        ["self_attn.k_proj.weight", "self_attn.k_proj.bias"],
        ["self_attn.v_proj.weight", "self_attn.v_proj.bias"],
    ],
};

/// What every cosine is multiplied by, as its logarithm.
pub(super) const LOGIT_SCALE: &str = "logit_scale";

impl Naming {
    pub(super) const ALL: [Self; 2] = [Self::OpenAi, Self::Transformers];

    /// The scheme in which one of the towers is present.
    pub(super) fn of(has: impl Fn(&str) -> bool) -> Option<Self> {
        Self::ALL.into_iter().find(|naming| naming.has_image(&has) || naming.has_text(&has))
    }

    pub(super) fn has_image(self, has: impl Fn(&str) -> bool) -> bool {
        // The class token tells a vision transformer from CLIP's residual networks and from SigLIP.
        has(self.image().class)
    }

    pub(super) fn has_text(self, has: impl Fn(&str) -> bool) -> bool {
        has(self.text().tokens)
    }

    pub(super) fn image(self) -> &'static ImageNames {
        match self {
            Self::OpenAi => &OPENAI_IMAGE,
            Self::Transformers => &TRANSFORMERS_IMAGE,
        }
    }

    pub(super) fn text(self) -> &'static TextNames {
        match self {
            Self::OpenAi => &OPENAI_TEXT,
            Self::Transformers => &TRANSFORMERS_TEXT,
        }
    }

    pub(super) fn block(self) -> &'static BlockNames {
        match self {
            Self::OpenAi => &OPENAI_BLOCK,
            Self::Transformers => &TRANSFORMERS_BLOCK,
        }
    }

    /// How names start of what a checkpoint may hold besides the towers that are read: numbers that programs save
    /// with the weights and, where a tower is left out, its weights.
    pub(super) fn ignored(self, image: bool, text: bool) -> Vec<&'static str> {
        let mut ignored = match self {
            Self::OpenAi => vec!["input_resolution", "context_length", "vocab_size", "attn_mask"],
            Self::Transformers => {
                vec!["vision_model.embeddings.position_ids", "text_model.embeddings.position_ids"]
            }
        };
        match (self, image) {
            (Self::OpenAi, false) => ignored.push("visual."),
            (Self::Transformers, false) => ignored.extend(["vision_model.", "visual_projection."]),
            _ => (),
        }
        match (self, text) {
            (Self::OpenAi, false) => ignored.extend([
                "transformer.",
                "token_embedding.",
                "positional_embedding",
                "ln_final.",
                "text_projection",
            ]),
            (Self::Transformers, false) => ignored.extend(["text_model.", "text_projection."]),
            _ => (),
        }
        if !(image && text) {
            ignored.push(LOGIT_SCALE);
        }
        ignored
    }
}
