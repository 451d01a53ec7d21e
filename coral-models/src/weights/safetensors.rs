use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use coral_core::{Error, Result as CoralResult};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::open::Contents;
use super::stored::{MappedFile, StoredTensor};

/// Bytes of the header's length, at the start of the file.
const LENGTH: usize = 8;

/// Whether the file starts as a safetensors file does: a length, then a JSON object.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    // Files that are text would have a length of more than 2^56.
    bytes.get(LENGTH) == Some(&b'{') && bytes[LENGTH - 1] == 0
}

pub(super) fn read(file: &Arc<MappedFile>) -> Result<Contents, String> {
    let (header, metadata) = read_header(file.bytes())?;
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let start = header + info.data_offsets.0;
        let tensor = StoredTensor::new(file, info.dtype, &info.shape, start).map_err(|e| format!("`{name}`: {e}"))?;
        tensors.insert(name, tensor);
    }
    let metadata = metadata.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok((tensors, metadata))
}

/// Where the tensors start, and the header. `SafeTensors::read_metadata` does the same, but adds up lengths that a
/// damaged header may have chosen to overflow.
fn read_header(bytes: &[u8]) -> Result<(usize, Metadata), String> {
    const TRUNCATED: &str =
        "the safetensors file has another length than its header says: truncated or damaged; download it again";
    let (length, rest) = bytes.split_first_chunk().ok_or(TRUNCATED)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| TRUNCATED)?;
    let (header, data) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
    let metadata = serde_json::from_slice::<Metadata>(header);
    let metadata = metadata.map_err(|error| format!("damaged safetensors header: {error}"))?;
    if metadata.data_len() != data.len() {
        return Err(TRUNCATED.to_owned());
    }
    Ok((LENGTH + length, metadata))
}

/// What the header says of a tensor.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) byte_len: usize,
}

/// The header's length, and the header (JSON, padded to whole words) for tensors that follow in this order.
pub(super) fn write_header(
    out: &mut dyn Write,
    entries: impl IntoIterator<Item = Entry>,
    about: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut end = 0;
    let entries = entries.into_iter().map(|Entry { name, dtype, shape, byte_len }| {
        let start = end;
        end += byte_len;
        (name, TensorInfo { dtype, shape, data_offsets: (start, end) })
    });
    let entries = entries.collect();
    let about = (!about.is_empty()).then(|| about.clone().into_iter().collect());
    let header = Metadata::new(about, entries).map_err(io::Error::other)?;
    // The same content gives the same bytes, whatever the order of hash maps.
    let mut header = serde_json::to_value(&header)?;
    header.sort_all_objects();
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)
}

/// Checks that a file's name tells that it is a safetensors file.
pub(super) fn expect_extension(path: &Path) -> CoralResult<()> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")) {
        return Ok(());
    }
    Err(Error::parameter("path", format!("{}: expected a name that ends in .safetensors", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(length: u64, header: &str, data: usize) -> String {
        let file = [&length.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat();
        read_header(&file).unwrap_err()
    }

    #[test]
    fn the_same_content_gives_the_same_header() {
        let about: BTreeMap<_, _> = (0..20).map(|key| (format!("key {key}"), key.to_string())).collect();
        let header = || {
            let entry = |name: &str| Entry { name: name.to_owned(), dtype: Dtype::U8, shape: vec![3], byte_len: 3 };
            let mut out = Vec::new();
            write_header(&mut out, ["b", "a"].map(entry), &about).unwrap();
            out
        };
        let first = header();
        assert!((0..5).all(|_| header() == first));
        let file = [first.clone(), vec![0; 6]].concat();
        let (start, metadata) = read_header(&file).unwrap();
        assert_eq!((start, metadata.tensors()["b"].data_offsets), (first.len(), (0, 3)));
    }

    #[test]
    fn hostile_headers_are_errors() {
        let tensors = |ends: &[u64]| {
            let starts = std::iter::once(&0).chain(ends);
            let entry = |(start, end): (&u64, &u64)| {
                format!(r#""{end}":{{"dtype":"U8","shape":[{}],"data_offsets":[{start},{end}]}}"#, end - start)
            };
            let header = format!("{{{}}}", starts.zip(ends).map(entry).collect::<Vec<_>>().join(","));
            refuse(header.len() as u64, &header, 8)
        };
        // Each tensor may count its bits in 64 bits, and all together end at the last byte that has an address.
        let huge: Vec<u64> = (1..=8).map(|tensor| ((1u64 << 61) - 1) * tensor).chain([u64::MAX]).collect();
        assert!(tensors(&huge).contains("another length"));
        assert!(tensors(&[u64::MAX]).contains("damaged safetensors header"));
        assert!(tensors(&[4, 9]).contains("another length"));
        for length in [u64::MAX, u64::MAX - 8, 1 << 40, 3] {
            assert!(refuse(length, "{}", 0).contains("another length"), "{length}");
        }
    }
}
