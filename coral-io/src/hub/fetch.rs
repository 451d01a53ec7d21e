use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use coral_core::{Error, Result};
use hf_hub::{HFClient, HFError, HFResult};
use sha2::{Digest, Sha256};

use super::HubFile;

/// The path of a file of the hub, downloaded into the cache unless it is there.
///
/// The cache is the one that Python's `huggingface_hub` uses: `HF_HUB_CACHE`, else `hub` in `HF_HOME`,
/// else `~/.cache/huggingface/hub`. `HF_TOKEN` and `HF_ENDPOINT` are respected. With `HF_HUB_OFFLINE`
/// set to `1`, `true`, `yes` or `on` nothing is downloaded. Where the file's SHA-256 is known,
/// it is compared at every call.
///
/// # Errors
/// [`Error::InvalidParameter`] when `repo` is not `owner/name`; [`Error::Io`], saying what to do, when
/// the file is not in the cache and cannot be downloaded; [`Error::Format`] when its hash differs.
///
/// # Examples
/// ```no_run
/// use coral_io::hub::{HubFile, fetch};
/// let weights = fetch(&HubFile::SAM_VIT_B)?;
/// println!("{}", weights.display());
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn fetch(file: &HubFile) -> Result<PathBuf> {
    let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_true(&value));
    fetch_into(file, None, offline)
}

/// `cache`: another folder than the usual one.
fn fetch_into(file: &HubFile, cache: Option<&Path>, offline: bool) -> Result<PathBuf> {
    let Some((owner, name)) = file.repo.split_once('/').filter(|(owner, name)| !owner.is_empty() && !name.is_empty())
    else {
        return Err(Error::parameter("repo", format!("expected `owner/name`, got `{}`", file.repo)));
    };
    let path = download(file, (owner, name), cache, offline).map_err(|error| {
        let reason = match (&error, offline) {
            (HFError::LocalEntryNotFound { .. }, _) | (_, true) => {
                "not in the cache, and HF_HUB_OFFLINE forbids to download it; unset it".to_owned()
            }
            (error, false) => format!("cannot be downloaded ({error}); check the connection, HF_ENDPOINT and HF_TOKEN"),
        };
        let advice = format!("{reason}, or get {} on another machine and pass the file's path", file.url());
        Error::io(file.name(), io::Error::other(advice))
    })?;
    if let Some(expected) = &file.sha256 {
        let actual = sha256(&path).map_err(|source| Error::io(&path, source))?;
        if !actual.eq_ignore_ascii_case(expected) {
            let reason = format!(
                "SHA-256 is {actual}, expected {expected}: not the published {}; delete the file and fetch it again",
                file.name()
            );
            return Err(Error::format(&path, None, reason));
        }
    }
    Ok(path)
}

fn download(file: &HubFile, repo: (&str, &str), cache: Option<&Path>, offline: bool) -> HFResult<PathBuf> {
    let mut client = HFClient::builder();
    if let Some(folder) = cache {
        client = client.cache_dir(folder);
    }
    let repository = client.build_sync()?.model(repo.0, repo.1);
    let request = repository.download_file().filename(file.file.as_ref()).revision(file.revision.as_ref());
    request.local_files_only(offline).send()
}

/// The spellings that Python's `huggingface_hub` takes for yes.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    /// Of the three letters `abc`: the example of the standard FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    /// A cache that holds `abc` as a file of the hub.
    fn cache() -> (tempfile::TempDir, HubFile) {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = folder.path().join("models--me--reef/snapshots").join(COMMIT);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::write(snapshot.join("model.safetensors"), "abc").unwrap();
        (folder, HubFile::new("me/reef", COMMIT, "model.safetensors"))
    }

    #[test]
    fn a_cached_file_is_found_and_verified() {
        let (folder, mut file) = cache();
        for offline in [true, false] {
            file.sha256 = None;
            let path = fetch_into(&file, Some(folder.path()), offline).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"abc");
            file.sha256 = Some(ABC.into());
            assert_eq!(fetch_into(&file, Some(folder.path()), offline).unwrap(), path);
        }
        file.sha256 = Some("00".repeat(32).into());
        let error = fetch_into(&file, Some(folder.path()), true).unwrap_err();
        assert!(matches!(error, Error::Format { .. }));
        assert!(error.to_string().contains(&format!("SHA-256 is {ABC}, expected 0000")), "{error}");
    }

    #[test]
    fn what_to_do_offline_is_said() {
        let (folder, mut file) = cache();
        file.file = "other.safetensors".into();
        let text = fetch_into(&file, Some(folder.path()), true).unwrap_err().to_string();
        assert!(text.starts_with("me/reef/other.safetensors: not in the cache, and HF_HUB_OFFLINE"), "{text}");
        assert!(text.contains(&file.url()), "{text}");
    }

    #[test]
    fn repositories_have_an_owner() {
        for repo in ["reef", "/reef", "me/"] {
            let error = fetch_into(&HubFile::new(repo, COMMIT, "a"), None, true).unwrap_err();
            assert!(matches!(error, Error::InvalidParameter { .. }), "{error}");
        }
    }

    #[test]
    fn yes_is_spelled_in_several_ways() {
        assert!(["1", "ON", "Yes", "true"].into_iter().all(is_true));
        assert!(!["", "0", "off", "2"].into_iter().any(is_true));
    }
}
