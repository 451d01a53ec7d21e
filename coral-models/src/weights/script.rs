//! TorchScript programs, in whose form OpenAI publishes CLIP: their weights are attributes of nested objects.

use std::collections::HashSet;

use super::pickle::{Id, Pickle};
use super::torch::is_tensor;

/// How deep modules may lie in each other.
const DEPTH: usize = 64;

/// The tensors of a program by the names that its state dict would give them; nothing of the program is run.
pub(super) fn tensors(pickle: &Pickle<'_>) -> Result<Vec<(String, Id)>, String> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut modules = vec![(String::new(), pickle.root(), 0)];
    while let Some((prefix, module, depth)) = modules.pop() {
        for &(key, value) in pickle.attributes(module).unwrap_or_default() {
            let Some(name) = pickle.text(key) else { continue };
            if is_tensor(pickle, value) {
                found.push((format!("{prefix}{name}"), value));
            } else if depth < DEPTH && pickle.attributes(value).is_some() && seen.insert(value) {
                modules.push((format!("{prefix}{name}."), value, depth + 1));
            }
        }
    }
    if found.is_empty() {
        return Err("a TorchScript program without weights; expected a state dict".to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object with an attribute `a` that is `value`.
    fn object(value: &[u8]) -> Vec<u8> {
        [b"c__torch__\nM\n)\x81}(X\x01\x00\x00\x00a", value, b"ub"].concat()
    }

    #[test]
    fn nested_objects_end() {
        const TENSOR: &[u8] = b"ctorch._utils\n_rebuild_tensor_v2\n)R";
        let nested = |depth: usize| {
            let bytes = (0..depth).fold(TENSOR.to_vec(), |inner, _| object(&inner));
            let pickle = [&bytes[..], b"."].concat();
            tensors(&Pickle::parse(&pickle).unwrap()).map(|found| found[0].0.clone())
        };
        assert_eq!(nested(1).unwrap(), "a");
        assert_eq!(nested(3).unwrap(), "a.a.a");
        assert!(nested(70).unwrap_err().contains("without weights"));
        // An object that holds itself.
        let cycle = b"c__torch__\nM\n)\x81q\x00}(X\x01\x00\x00\x00ah\x00ub.";
        assert!(tensors(&Pickle::parse(cycle).unwrap()).is_err());
    }
}
