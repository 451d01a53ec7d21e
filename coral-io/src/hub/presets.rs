use std::borrow::Cow;

use super::HubFile;

/// Published weights. CoralSCOP's are not on the hub: its authors link `vit_b_coralscop.pth` on
/// <https://github.com/zhengziqiang/CoralSCOP#getting-started>.
///
/// # References
/// Kirillov et al., Segment Anything, ICCV 2023; Zhang et al., Faster Segment Anything: Towards
/// Lightweight SAM for Mobile Applications, 2023.
impl HubFile {
    /// SAM with the image encoder ViT-B (375 MB), in the naming of `transformers`.
    pub const SAM_VIT_B: Self = preset(
        "facebook/sam-vit-base",
        "70c1a07f894ebb5b307fd9eaaee97b9dfc16068f",
        "model.safetensors",
        Some("892c410e496344e527255ccdcb2cb7244a609acb5389c7c4fdba1288f861c579"),
    );

    /// SAM with the image encoder ViT-L (1.2 GB), in the naming of `transformers`; pinned by its commit alone.
    pub const SAM_VIT_L: Self =
        preset("facebook/sam-vit-large", "6851e0441005b0fb96f2cc4dfac472f3d1b14af1", "model.safetensors", None);

    /// SAM with the image encoder ViT-H (2.6 GB), in the naming of `transformers`; pinned by its commit alone.
    pub const SAM_VIT_H: Self =
        preset("facebook/sam-vit-huge", "87aecf0df4ce6b30cd7de76e87673c49644bdf67", "model.safetensors", None);

    /// MobileSAM (41 MB), in the original naming; pinned by its hash alone.
    pub const MOBILE_SAM: Self = preset(
        "dhkim2810/MobileSAM",
        "main",
        "mobile_sam.pt",
        Some("6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"),
    );

    /// CLIP with ViT-B/32 (605 MB), in the naming of `transformers`; pinned by its commit alone.
    pub const CLIP_VIT_B32: Self = preset(CLIP, CLIP_COMMIT, "pytorch_model.bin", None);

    /// CLIP's vocabulary (2 MB), the same for all its sizes; pinned by its commit alone.
    pub const CLIP_VOCABULARY: Self = preset(CLIP, CLIP_COMMIT, "tokenizer.json", None);
}

const CLIP: &str = "openai/clip-vit-base-patch32";
const CLIP_COMMIT: &str = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268";

const fn preset(
    repo: &'static str,
    revision: &'static str,
    file: &'static str,
    sha256: Option<&'static str>,
) -> HubFile {
    let sha256 = match sha256 {
        Some(hash) => Some(Cow::Borrowed(hash)),
        None => None,
    };
    HubFile { repo: Cow::Borrowed(repo), revision: Cow::Borrowed(revision), file: Cow::Borrowed(file), sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_pinned() {
        for file in [HubFile::SAM_VIT_B, HubFile::SAM_VIT_L, HubFile::SAM_VIT_H, HubFile::MOBILE_SAM] {
            let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(file.repo.split('/').count() == 2, "{file:?}");
            assert!(file.sha256.as_deref().is_none_or(|hash| digits(hash, 64)), "{file:?}");
            assert!(file.sha256.is_some() || digits(&file.revision, 40), "{file:?}");
        }
    }
}
