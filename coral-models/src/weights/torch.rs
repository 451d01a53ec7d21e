use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use super::open::Contents;
use super::pickle::{Id, Pickle, Value};
use super::script;
use super::stored::{MappedFile, NUMBERS, StoredTensor, StridedLayout};

/// Keys under which training programs store the state dict, the likeliest first.
const STATE_KEYS: [&str; 8] =
    ["state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights"];

/// How deep a state dict may lie in other dicts.
const DEPTH: usize = 3;

/// Dimensions that a tensor of PyTorch may have. Many names may share one list of sides.
const MOST_SIDES: usize = 64;

/// The names and values of a state dict.
type Entries<'a> = Vec<(&'a str, Id)>;

/// Reads a `.pth` as `torch.save` or `torch.jit.save` writes it: a zip archive of a pickle and one file per storage.
pub(super) fn read(file: &Arc<MappedFile>) -> Result<Contents, String> {
    let archive = Archive::open(file.bytes())?;
    let pickle = Pickle::parse(&file.bytes()[archive.pickle.clone()])
        .map_err(|reason| format!("its data.pkl {reason}: damaged, or no checkpoint of PyTorch"))?;
    let entries = if archive.script {
        script::tensors(&pickle)?
    } else {
        let entries = state_dict(&pickle, pickle.root(), DEPTH)?;
        entries.into_iter().map(|(name, id)| (name.to_owned(), id)).collect()
    };
    let mut tensors = BTreeMap::new();
    for (name, id) in entries {
        let tensor =
            stored_tensor(&pickle, id, file, &archive).map_err(|reason| format!("tensor `{name}`: {reason}"))?;
        tensors.insert(name, tensor);
    }
    Ok((tensors, BTreeMap::new()))
}

/// Byte ranges of the archive's parts.
struct Archive {
    /// Whether it is a TorchScript program.
    script: bool,
    pickle: Range<usize>,
    /// By the storage's key.
    storages: HashMap<String, Range<usize>>,
}

impl Archive {
    fn open(bytes: &[u8]) -> Result<Self, String> {
        let mut zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|error| format!("truncated or damaged zip archive ({error}); download it again"))?;
        let mut parts = HashMap::new();
        for index in 0..zip.len() {
            let damaged = |error| format!("damaged zip archive: {error}");
            let entry = zip.by_index_raw(index).map_err(damaged)?;
            let range = entry.data_start().and_then(|start| {
                let start = usize::try_from(start).ok()?;
                let end = start.checked_add(usize::try_from(entry.size()).ok()?)?;
                (end <= bytes.len()).then_some(start..end)
            });
            let stored = entry.compression() == CompressionMethod::Stored;
            parts.insert(entry.name().map_err(damaged)?.into_owned(), range.filter(|_| stored));
        }
        Self::of_parts(parts, bytes)
    }

    /// `parts`: where each lies, or `None` when it is compressed or cut off.
    fn of_parts(mut parts: HashMap<String, Option<Range<usize>>>, bytes: &[u8]) -> Result<Self, String> {
        let roots = parts.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let Some(root) = roots.min_by_key(|root| root.len()).map(str::to_owned) else {
            return Err("a zip archive without data.pkl; expected a checkpoint as torch.save writes it".to_owned());
        };
        let script = parts.keys().any(|name| name.starts_with(&format!("{root}code/")));
        let order = parts.remove(&format!("{root}byteorder")).flatten();
        if order.is_some_and(|range| &bytes[range] == b"big") {
            return Err("numbers are stored in big-endian order; expected little-endian".to_owned());
        }
        let pickle = parts.remove(&format!("{root}data.pkl")).flatten();
        let pickle = pickle.ok_or("its data.pkl is compressed; expected a checkpoint as torch.save writes it")?;
        let folder = format!("{root}data/");
        let storages =
            parts.into_iter().filter_map(|(name, range)| Some((name.strip_prefix(&folder)?.to_owned(), range?)));
        Ok(Self { script, pickle, storages: storages.collect() })
    }
}

/// The names and tensors of the state dict at `id` or inside it.
fn state_dict<'a>(pickle: &Pickle<'a>, id: Id, depth: usize) -> Result<Entries<'a>, String> {
    let mut found = state_dicts(pickle, (id, depth), &mut HashSet::new())?;
    match found.len() {
        0 => Err("holds no tensors; expected a state dict, or one under a key such as `state_dict`".to_owned()),
        1 => Ok(found.remove(0).1),
        _ => {
            let keys = found.iter().take(8).map(|(key, _)| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            Err(format!("holds several state dicts, under {keys}; save the one to use on its own"))
        }
    }
}

/// State dicts at or at most `depth` dicts below `id`, with the keys that lead to them: a single one where a key of
/// [`STATE_KEYS`] tells which. Dicts that were `seen` at the same depth are left out: a small file can have any number
/// of ways to the same one.
fn state_dicts<'a>(
    pickle: &Pickle<'a>,
    (id, depth): (Id, usize),
    seen: &mut HashSet<(Id, usize)>,
) -> Result<Vec<(String, Entries<'a>)>, String> {
    let Some(items) = pickle.dict(id) else {
        return match pickle.get(id) {
            Value::Call { callable, .. } if depth == DEPTH => {
                let class = pickle.global(*callable).unwrap_or("?").replace(' ', ".");
                Err(format!(
                    "holds a Python object of {class}; expected a state dict: save `model.state_dict()` instead"
                ))
            }
            _ => Ok(Vec::new()),
        };
    };
    if !seen.insert((id, depth)) {
        return Ok(Vec::new());
    }
    let named = || items.iter().filter_map(|&(key, value)| Some((pickle.text(key)?, value)));
    if depth > 0 {
        for key in STATE_KEYS {
            let Some((_, value)) = named().find(|(name, value)| *name == key && pickle.dict(*value).is_some()) else {
                continue;
            };
            let inner = state_dicts(pickle, (value, depth - 1), seen)?;
            if !inner.is_empty() {
                return Ok(inner);
            }
        }
    }
    let direct = named().filter(|&(_, value)| is_tensor(pickle, value)).collect::<Vec<_>>();
    let mut nested = Vec::new();
    if depth > 0 {
        // An optimiser's tensors are as many as the network's, or more.
        for (name, value) in named().filter(|(name, _)| !name.starts_with("optim")) {
            for (key, entries) in state_dicts(pickle, (value, depth - 1), seen)? {
                nested.push((if key.is_empty() { name.to_owned() } else { format!("{name}.{key}") }, entries));
            }
        }
    }
    // A few numbers of a training may lie beside the dict of the network.
    nested.retain(|(_, entries)| entries.len() > direct.len());
    match nested.is_empty() && !direct.is_empty() {
        true => Ok(vec![(String::new(), direct)]),
        false => Ok(nested),
    }
}

pub(super) fn is_tensor(pickle: &Pickle<'_>, id: Id) -> bool {
    let Value::Call { callable, .. } = pickle.get(id) else { return false };
    pickle
        .global(*callable)
        .is_some_and(|name| name.starts_with("torch._utils _rebuild_") || name == "torch._tensor _rebuild_from_type_v2")
}

/// The tensor that the call at `id` would rebuild.
fn stored_tensor(
    pickle: &Pickle<'_>,
    id: Id,
    file: &Arc<MappedFile>,
    archive: &Archive,
) -> Result<StoredTensor, String> {
    let (mut function, mut arguments) = call(pickle, id)?;
    // Parameters and subclasses are wrapped around the plain tensor.
    for _ in 0..DEPTH {
        match (function, arguments) {
            ("torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state", [inner, ..]) => {
                (function, arguments) = call(pickle, *inner)?;
            }
            ("torch._tensor _rebuild_from_type_v2", [inner, _, inner_arguments, ..]) => {
                function = pickle.global(*inner).ok_or("is rebuilt by an unknown function")?;
                arguments = pickle.sequence(*inner_arguments).ok_or("is rebuilt without arguments")?;
            }
            _ => break,
        }
    }
    let (&[storage, offset, shape, strides, ..], "torch._utils _rebuild_tensor_v2" | "torch._utils _rebuild_tensor_v3") =
        (arguments, function)
    else {
        return Err(format!("is rebuilt by {}; expected a dense tensor", function.replace(' ', ".")));
    };
    let (storage_type, key) = storage_reference(pickle, storage)?;
    // Version 3 stores bytes and names the type apart.
    let named_type =
        if function.ends_with("_v3") { arguments.get(6).and_then(|&id| pickle.global(id)) } else { Some(storage_type) };
    let named_type = named_type.unwrap_or_default();
    let dtype = dtype(named_type).ok_or_else(|| format!("has the type {named_type}; expected {NUMBERS}"))?;
    let range = archive
        .storages
        .get(key)
        .ok_or_else(|| format!("its numbers, data/{key}, are not in the archive, or compressed"))?;
    let layout = StridedLayout {
        offset: usize::try_from(pickle.int(offset).unwrap_or(-1)).map_err(|_| "has no valid offset")?,
        shape: sides(pickle, shape).ok_or("has no valid shape")?,
        strides: sides(pickle, strides).ok_or("has no valid strides")?,
    };
    if layout.shape.len() != layout.strides.len() {
        return Err("has another number of sides than of strides".to_owned());
    }
    StoredTensor::strided(file, dtype, &layout, range.clone())
}

fn call<'p>(pickle: &'p Pickle<'_>, id: Id) -> Result<(&'p str, &'p [Id]), String> {
    let Value::Call { callable, arguments } = pickle.get(id) else { return Err("is no tensor".to_owned()) };
    let parts = pickle.global(*callable).zip(pickle.sequence(*arguments));
    parts.ok_or_else(|| "is rebuilt by an unknown function".to_owned())
}

/// Type and key of a storage: `('storage', torch.FloatStorage, '0', 'cpu', 12)`.
fn storage_reference<'p>(pickle: &'p Pickle<'_>, id: Id) -> Result<(&'p str, &'p str), String> {
    let Value::Persistent(reference) = pickle.get(id) else { return Err("has no storage".to_owned()) };
    let Some(&[_, storage_type, key, ..]) = pickle.sequence(*reference) else {
        return Err("has no storage".to_owned());
    };
    pickle.global(storage_type).zip(pickle.text(key)).ok_or_else(|| "has a storage without type or key".to_owned())
}

fn sides(pickle: &Pickle<'_>, id: Id) -> Option<Vec<usize>> {
    let sides = match pickle.get(id) {
        // torch.Size, as some versions write it.
        Value::Call { arguments, .. } => {
            let &[only] = pickle.sequence(*arguments)? else { return None };
            pickle.sequence(only)?
        }
        _ => pickle.sequence(id)?,
    };
    if sides.len() > MOST_SIDES {
        return None;
    }
    sides.iter().map(|&side| usize::try_from(pickle.int(side)?).ok()).collect()
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name.strip_prefix("torch ")? {
        "FloatStorage" | "float32" => Dtype::F32,
        "DoubleStorage" | "float64" => Dtype::F64,
        "HalfStorage" | "float16" => Dtype::F16,
        "BFloat16Storage" | "bfloat16" => Dtype::BF16,
        "CharStorage" | "int8" => Dtype::I8,
        "ByteStorage" | "uint8" => Dtype::U8,
        "BoolStorage" | "bool" => Dtype::BOOL,
        "ShortStorage" | "int16" => Dtype::I16,
        "uint16" => Dtype::U16,
        "IntStorage" | "int32" => Dtype::I32,
        "uint32" => Dtype::U32,
        "LongStorage" | "int64" => Dtype::I64,
        "uint64" => Dtype::U64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_dicts_are_searched_once() {
        // Four dicts, each with 30 000 names for the one before: more ways to the first than could ever be walked.
        let mut bytes = b"\x80\x02}q\x00".to_vec();
        for level in 0..4u8 {
            bytes.extend(b"}(");
            for name in 0..30_000u32 {
                bytes.extend(format!("X\x06\x00\x00\x00{name:06}h").into_bytes());
                bytes.push(level);
            }
            bytes.extend([b'u', b'q', level + 1]);
        }
        bytes.push(b'.');
        let pickle = Pickle::parse(&bytes).unwrap();
        assert!(state_dict(&pickle, pickle.root(), DEPTH).unwrap_err().contains("holds no tensors"));
    }

    #[test]
    fn the_larger_dict_is_the_network() {
        const TENSOR: &str = "ctorch._utils\n_rebuild_tensor_v2\n)R";
        let entry = |name: &str, value: &str| {
            let name = [b"X", &(name.len() as u32).to_le_bytes()[..], name.as_bytes()].concat();
            [&name[..], value.as_bytes(), b"s"].concat()
        };
        let names = |entries: &[&[u8]]| {
            let bytes = [b"}", &entries.concat()[..], b"."].concat();
            let pickle = Pickle::parse(&bytes).unwrap();
            let found = state_dict(&pickle, pickle.root(), DEPTH).unwrap();
            found.into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        let dict = |name: &str, count: usize| {
            let entries: Vec<_> = (0..count).flat_map(|i| entry(&format!("w{i}"), TENSOR)).collect();
            let start = [b"X", &(name.len() as u32).to_le_bytes()[..], name.as_bytes(), b"}"].concat();
            [&start[..], &entries, b"s"].concat()
        };
        let (inner, optimizer) = (|count| dict("encoder", count), |count| dict("optimizer_state", count));
        assert_eq!(names(&[&entry("best_loss", TENSOR), &inner(2)]), ["w0", "w1"]);
        assert_eq!(names(&[&entry("a", TENSOR), &entry("b", TENSOR), &inner(2)]), ["a", "b"]);
        assert_eq!(names(&[&entry("a", TENSOR), &optimizer(2)]), ["a"]);
    }

    #[test]
    fn sides_are_few() {
        let sides_of = |count: usize| {
            let bytes = [b"(", &b"K\x01".repeat(count)[..], b"t."].concat();
            let pickle = Pickle::parse(&bytes).unwrap();
            sides(&pickle, pickle.root()).map(|sides| sides.len())
        };
        assert_eq!((sides_of(0), sides_of(64), sides_of(65)), (Some(0), Some(64), None));
    }
}
