//! Published weights from the Hugging Face hub.

mod fetch;
mod presets;

pub use fetch::fetch;

use std::borrow::Cow;

/// A file of a repository on the Hugging Face hub.
///
/// # Examples
/// ```
/// use coral_io::hub::HubFile;
/// assert_eq!(HubFile::SAM_VIT_B.repo, "facebook/sam-vit-base");
/// let own = HubFile::new("me/reef-model", "main", "model.safetensors");
/// assert_eq!(own.url(), "https://huggingface.co/me/reef-model/resolve/main/model.safetensors");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Owner and name, e.g. `facebook/sam-vit-base`.
    pub repo: Cow<'static, str>,
    /// A commit (40 hexadecimal digits), which never changes, or a branch such as `main`.
    pub revision: Cow<'static, str>,
    /// The path inside the repository.
    pub file: Cow<'static, str>,
    /// SHA-256 of the content in lower-case hexadecimal digits, where it is known.
    pub sha256: Option<Cow<'static, str>>,
}

impl HubFile {
    /// A file whose hash is not known.
    pub fn new(
        repo: impl Into<Cow<'static, str>>,
        revision: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { repo: repo.into(), revision: revision.into(), file: file.into(), sha256: None }
    }

    /// Where a browser finds the file.
    pub fn url(&self) -> String {
        format!("https://huggingface.co/{}/resolve/{}/{}", self.repo, self.revision, self.file)
    }

    /// `owner/name/path`, as errors name the file.
    fn name(&self) -> String {
        format!("{}/{}", self.repo, self.file)
    }
}
