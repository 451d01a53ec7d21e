//! Damage to files.

use proptest::prelude::*;

/// What may happen to a file.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
}

/// One to five of them, anywhere in a file.
pub(crate) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        6 => (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        2 => (any::<prop::sample::Index>(), prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..5),
            proptest::sample::select(vec!["\n", ",", "\"", "-", "255", "999999999999", "é", "\r", ";", "\t", "{", "NaN"])
                .prop_map(|text| text.as_bytes().to_vec()),
        ]).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (any::<prop::sample::Index>(), 1usize..9).prop_map(|(at, count)| Damage::Remove(at, count)),
    ];
    proptest::collection::vec(one, 1..6)
}

/// A file with damage.
pub(crate) fn damaged(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for one in damage {
        let len = bytes.len();
        if len == 0 {
            break;
        }
        match one {
            Damage::Flip(at, bits) => bytes[at.index(len)] ^= bits,
            Damage::Cut(at) => bytes.truncate(at.index(len)),
            Damage::Insert(at, new) => drop(bytes.splice(at.index(len)..at.index(len), new.iter().copied())),
            Damage::Remove(at, count) => drop(bytes.drain(at.index(len)..(at.index(len) + count).min(len))),
        }
    }
    bytes
}
