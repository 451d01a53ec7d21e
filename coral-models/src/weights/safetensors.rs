use std::collections::BTreeMap;
use std::sync::Arc;

use safetensors::{SafeTensorError, SafeTensors};

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
    let (header, metadata) = SafeTensors::read_metadata(file.bytes()).map_err(|error| match error {
        SafeTensorError::InvalidHeaderLength | SafeTensorError::MetadataIncompleteBuffer => {
            "the safetensors file has another length than its header says: truncated or damaged; download it again"
                .to_owned()
        }
        error => format!("damaged safetensors header: {error}"),
    })?;
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let start = LENGTH + header + info.data_offsets.0;
        let tensor = StoredTensor::new(file, info.dtype, &info.shape, start).map_err(|e| format!("`{name}`: {e}"))?;
        tensors.insert(name, tensor);
    }
    let metadata = metadata.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok((tensors, metadata))
}
