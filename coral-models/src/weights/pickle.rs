//! A reader for Python's pickle format that builds plain values and runs nothing.

use std::collections::HashMap;

/// Bytes of a class's module and name.
const LONGEST_NAME: usize = 256;

/// Index of a value of a [`Pickle`].
pub(super) type Id = usize;

/// What a pickle may hold. Values refer to each other by index: shared and
/// cyclic values cost nothing, and damaged files cannot nest too deep.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Int(i64),
    /// None, booleans, floats, bytes: things that no state dict is made of.
    Opaque,
    Text(&'a str),
    /// A tuple, list or set.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A Python name, `module name`.
    Global(String),
    /// What calling `callable` with `arguments` would give.
    Call {
        callable: Id,
        arguments: Id,
    },
    /// A reference to data outside of the pickle.
    Persistent(Id),
}

/// A pickle, read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    /// What objects were given after they were made.
    states: HashMap<Id, Id>,
    root: Id,
}

impl<'a> Pickle<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            states: HashMap::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while !machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { values: machine.values, states: machine.states, root })
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(items) => Some(items),
            _ => None,
        }
    }

    /// The attributes of an object.
    pub(super) fn attributes(&self, id: Id) -> Option<&[(Id, Id)]> {
        self.dict(*self.states.get(&id)?)
    }

    pub(super) fn global(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Global(name) => Some(name),
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    states: HashMap<Id, Id>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// Runs one operation; true at the end of the pickle.
    fn step(&mut self) -> Result<bool, String> {
        match self.byte()? {
            b'.' => return Ok(true),
            0x80 => self.skip(1)?, // protocol
            0x95 => self.skip(8)?, // frame
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            code @ (b'q' | b'r' | 0x94) => self.memorise(code)?,
            code @ (b'h' | b'j') => {
                let key = self.unsigned(if code == b'h' { 1 } else { 4 })?;
                let id = *self.memo.get(&key).ok_or("refers to a value that it has not stored")?;
                self.stack.push(id);
            }
            code @ (b'a' | b'e' | 0x90) => self.append(code == b'a')?,
            code @ (b's' | b'u') => self.set_items(code == b's')?,
            b'b' => {
                let state = self.pop()?;
                if let Some(&object) = self.stack.last() {
                    self.states.insert(object, state);
                }
            }
            code => {
                let value = self.value(code)?;
                self.push(value);
            }
        }
        Ok(false)
    }

    /// Operations that leave one new value.
    fn value(&mut self, code: u8) -> Result<Value<'a>, String> {
        Ok(match code {
            b'N' | 0x88 | 0x89 => Value::Opaque,
            b'K' => Value::Int(self.signed(1)? & 0xff),
            b'M' => Value::Int(self.signed(2)? & 0xffff),
            b'J' => Value::Int(self.signed(4)?),
            0x8a => {
                let length = self.length(1)?;
                self.long(length)?
            }
            0x8b => {
                let length = self.length(4)?;
                self.long(length)?
            }
            b'G' => self.opaque(8)?,
            0x8c => self.utf8(1)?,
            b'X' => self.utf8(4)?,
            0x8d => self.utf8(8)?,
            b'C' | b'U' => self.opaque_of_length(1)?,
            b'B' | b'T' => self.opaque_of_length(4)?,
            0x8e | 0x96 => self.opaque_of_length(8)?,
            b']' | b')' | 0x8f => Value::Sequence(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b't' | b'l' | 0x91 => Value::Sequence(self.pop_to_mark()?),
            0x85 => Value::Sequence(self.pop_many(1)?),
            0x86 => Value::Sequence(self.pop_many(2)?),
            0x87 => Value::Sequence(self.pop_many(3)?),
            b'd' => {
                let items = self.pop_to_mark()?;
                Value::Dict(pairs(&items)?)
            }
            b'c' => Value::Global(format!("{} {}", self.line()?, self.line()?)),
            0x93 => self.stack_global()?,
            b'R' | 0x81 => self.call(2)?,
            0x92 => self.call(3)?,
            b'Q' => Value::Persistent(self.pop()?),
            code => return Err(format!("has the unknown operation 0x{code:02x}")),
        })
    }

    fn memorise(&mut self, code: u8) -> Result<(), String> {
        let key = match code {
            b'q' => self.unsigned(1)?,
            b'r' => self.unsigned(4)?,
            _ => self.memo.len() as u64,
        };
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn append(&mut self, single: bool) -> Result<(), String> {
        let items = if single { self.pop_many(1)? } else { self.pop_to_mark()? };
        let top = self.top()?;
        // Lists of other objects (deques, user classes) are left as they are.
        if let Value::Sequence(list) = &mut self.values[top] {
            list.extend(items);
        }
        Ok(())
    }

    fn set_items(&mut self, single: bool) -> Result<(), String> {
        let items = if single { self.pop_many(2)? } else { self.pop_to_mark()? };
        let items = pairs(&items)?;
        let top = self.top()?;
        if let Value::Dict(dict) = &mut self.values[top] {
            dict.extend(items);
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Result<Value<'a>, String> {
        let names = self.pop_many(2)?;
        match (&self.values[names[0]], &self.values[names[1]]) {
            // Text can be referred to many times, so that long names would make much of a small file.
            (Value::Text(module), Value::Text(name)) if module.len() + name.len() > LONGEST_NAME => {
                Err(format!("names a class by more than {LONGEST_NAME} letters"))
            }
            (Value::Text(module), Value::Text(name)) => Ok(Value::Global(format!("{module} {name}"))),
            _ => Err("names a class by something else than text".to_owned()),
        }
    }

    fn call(&mut self, operands: usize) -> Result<Value<'a>, String> {
        let operands = self.pop_many(operands)?;
        let (callable, arguments) = (operands[0], operands[1]);
        let makes_dict = matches!(&self.values[callable],
            Value::Global(name) if name == "collections OrderedDict" || name == "collections defaultdict");
        Ok(if makes_dict { Value::Dict(Vec::new()) } else { Value::Call { callable, arguments } })
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "takes a value from an empty stack".to_owned())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let start = self.stack.len().checked_sub(count).ok_or("takes a value from an empty stack")?;
        Ok(self.stack.split_off(start))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or("misses a mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len()).ok_or("is truncated")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn skip(&mut self, count: usize) -> Result<(), String> {
        self.take(count).map(drop)
    }

    /// A little-endian number of up to eight bytes.
    fn unsigned(&mut self, bytes: usize) -> Result<u64, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// As [`Self::unsigned`], in two's complement.
    fn signed(&mut self, bytes: usize) -> Result<i64, String> {
        let unused = 64 - 8 * bytes as u32;
        Ok((self.unsigned(bytes)? << unused) as i64 >> unused)
    }

    fn length(&mut self, bytes: usize) -> Result<usize, String> {
        usize::try_from(self.unsigned(bytes)?).map_err(|_| "is truncated".to_owned())
    }

    fn long(&mut self, bytes: usize) -> Result<Value<'a>, String> {
        match bytes {
            0 => Ok(Value::Int(0)),
            1..=8 => Ok(Value::Int(self.signed(bytes)?)),
            _ => self.opaque(bytes),
        }
    }

    fn opaque(&mut self, bytes: usize) -> Result<Value<'a>, String> {
        self.skip(bytes)?;
        Ok(Value::Opaque)
    }

    fn opaque_of_length(&mut self, bytes: usize) -> Result<Value<'a>, String> {
        let length = self.length(bytes)?;
        self.opaque(length)
    }

    fn utf8(&mut self, bytes: usize) -> Result<Value<'a>, String> {
        let length = self.length(bytes)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "has text that is not UTF-8")?;
        Ok(Value::Text(text))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("is truncated")?;
        let line = std::str::from_utf8(self.take(length)?).map_err(|_| "has text that is not UTF-8")?;
        self.skip(1)?;
        Ok(line)
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    } else {
        Err("has a key without a value".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_dicts_are_filled_for_every_user() {
        // {'a': d, 'b': d} with d = {'k': 300} memorised before it is filled.
        let bytes = b"\x80\x02}(X\x01\x00\x00\x00a}q\x01X\x01\x00\x00\x00kM\x2c\x01sX\x01\x00\x00\x00bh\x01u.";
        let pickle = Pickle::parse(bytes).unwrap();
        let root = pickle.dict(pickle.root()).unwrap();
        assert_eq!(root.len(), 2);
        for (&(key, value), name) in root.iter().zip(["a", "b"]) {
            assert_eq!(pickle.text(key), Some(name));
            let &[(key, value)] = pickle.dict(value).unwrap() else { panic!("one entry expected") };
            assert_eq!((pickle.text(key), pickle.int(value)), (Some("k"), Some(300)));
        }
    }

    #[test]
    fn numbers_keep_their_sign() {
        let bytes = b"\x80\x02(K\xffM\xff\xffJ\xfe\xff\xff\xff\x8a\x01\x80\x8a\x00t.";
        let pickle = Pickle::parse(bytes).unwrap();
        let numbers = pickle.sequence(pickle.root()).unwrap();
        let numbers = numbers.iter().map(|&id| pickle.int(id).unwrap()).collect::<Vec<_>>();
        assert_eq!(numbers, [255, 65535, -2, -128, 0]);
    }

    #[test]
    fn newer_protocols_name_classes_from_the_stack() {
        let bytes = b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x01m\x94\x8c\x01C\x94\x93\x94).";
        let with_arguments = Pickle::parse(bytes).unwrap();
        assert_eq!(with_arguments.sequence(with_arguments.root()), Some([].as_slice()));
        let alone = [&bytes[..bytes.len() - 2], b"."].concat();
        let pickle = Pickle::parse(&alone).unwrap();
        assert_eq!(pickle.global(pickle.root()), Some("m C"));
    }

    #[test]
    fn long_names_are_refused() {
        let named = |letters: u8| [b"\x8c", &[letters][..], &vec![b'm'; letters.into()], b"2\x93."].concat();
        assert!(Pickle::parse(&named(128)).is_ok());
        assert!(Pickle::parse(&named(129)).unwrap_err().contains("by more than 256 letters"));
    }

    #[test]
    fn damage_is_an_error() {
        for bytes in
            [&b""[..], b"\x80", b".", b"a.", b"t.", b"(K\x01u.", b"X\xff\xff\xff\xffa.", b"h\x05.", b"\xfe.", b"cos\n"]
        {
            assert!(Pickle::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
