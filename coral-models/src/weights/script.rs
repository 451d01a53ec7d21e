//! TorchScript programs, in whose form OpenAI publishes CLIP: their weights are attributes of nested objects.

use super::pickle::{Id, Pickle};
use super::torch::is_tensor;

/// How deep modules may lie in each other.
const DEPTH: usize = 64;

/// Most modules, by all of their names, more than any network has: a small file may give one module any number of them.
const MODULES: usize = 1 << 16;

/// Most bytes of all names, for the same reason.
const NAMES: usize = 1 << 26;

/// The tensors of a program by the names that its state dict would give them, so that a module of two names has its
/// tensors twice; nothing of the program is run.
pub(super) fn tensors(pickle: &Pickle<'_>) -> Result<Vec<(String, Id)>, String> {
    let mut walk = Walk { pickle, within: vec![pickle.root()], modules: 0, bytes: 0, found: Vec::new() };
    walk.visit("")?;
    if walk.found.is_empty() {
        return Err("a TorchScript program without weights; expected a state dict".to_owned());
    }
    Ok(walk.found)
}

struct Walk<'a, 'p> {
    pickle: &'a Pickle<'p>,
    /// The module that is visited, and those it lies in.
    within: Vec<Id>,
    modules: usize,
    bytes: usize,
    found: Vec<(String, Id)>,
}

impl Walk<'_, '_> {
    fn visit(&mut self, prefix: &str) -> Result<(), String> {
        self.modules += 1;
        if self.modules > MODULES {
            return Err(format!("a TorchScript program of more than {MODULES} modules; expected a network"));
        }
        let pickle = self.pickle;
        let attributes = self.within.last().and_then(|&module| pickle.attributes(module));
        for &(key, value) in attributes.unwrap_or_default() {
            let Some(name) = pickle.text(key) else { continue };
            if is_tensor(pickle, value) {
                let name = format!("{prefix}{name}");
                self.bytes += name.len();
                if self.bytes > NAMES {
                    return Err(format!(
                        "a TorchScript program with more than {NAMES} bytes of names; expected a network"
                    ));
                }
                self.found.push((name, value));
            } else if self.within.len() <= DEPTH && pickle.attributes(value).is_some() && !self.within.contains(&value)
            {
                self.within.push(value);
                self.visit(&format!("{prefix}{name}."))?;
                self.within.pop();
            }
        }
        Ok(())
    }
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
        // One object under two names.
        let shared = [&object(TENSOR)[..], b"q\x00"].concat();
        let both = [b"c__torch__\nM\n)\x81}(X\x01\x00\x00\x00x", &shared[..], b"X\x01\x00\x00\x00yh\x00ub."].concat();
        let names: Vec<_> =
            tensors(&Pickle::parse(&both).unwrap()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["x.a", "y.a"]);
        // Every level holds the next one twice.
        let twice = (0..40u8).fold(TENSOR.to_vec(), |inner, level| {
            let inner = [&inner[..], b"q", &[level]].concat();
            [b"c__torch__\nM\n)\x81}(X\x01\x00\x00\x00x", &inner[..], b"X\x01\x00\x00\x00yh", &[level], b"ub"].concat()
        });
        let twice = [&twice[..], b"."].concat();
        assert!(tensors(&Pickle::parse(&twice).unwrap()).unwrap_err().contains("more than 65536 modules"));
        // An object that holds itself.
        let cycle = b"c__torch__\nM\n)\x81q\x00}(X\x01\x00\x00\x00ah\x00ub.";
        assert!(tensors(&Pickle::parse(cycle).unwrap()).is_err());
    }
}
