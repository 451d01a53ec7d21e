use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result, RleMask, Size};

/// Bits of a number in one character, one more that says that another character follows, and the code of zero.
const BITS: u32 = 5;
const MORE: i64 = 1 << BITS;
const ZERO: u8 = b'0';
/// The bit that is the sign in a number's last character.
const SIGN: i64 = 1 << (BITS - 1);
/// Characters that a difference of two counts can need.
const LONGEST: u32 = 7;

/// COCO's compressed counts: from the fourth on, each count is stored as its difference to the count two before it.
impl RleMask {
    /// A mask from its COCO string.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the character that cannot be there, a run of negative length, or a number of
    /// pixels other than that of `size`.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{RleMask, Size};
    /// let mask = RleMask::from_coco_string(Size { width: 1, height: 13 }, "441M10")?;
    /// assert_eq!(mask.counts(), [4, 4, 1, 1, 2, 1]);
    /// assert!(RleMask::from_coco_string(Size { width: 1, height: 13 }, "441M1").is_err());
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn from_coco_string(size: Size, text: &str) -> Result<Self> {
        Self::from_counts(size, &parse_counts(text)?)
    }

    /// The mask's COCO string, as pycocotools writes it.
    pub fn to_coco_string(&self) -> String {
        let mut text = String::with_capacity(2 * self.counts.len());
        for (at, &count) in self.counts.iter().enumerate() {
            let before = if at > 2 { self.counts[at - 2] } else { 0 };
            push_number(&mut text, i64::from(count) - i64::from(before));
        }
        text
    }
}

fn push_number(text: &mut String, mut number: i64) {
    loop {
        let low = number & (MORE - 1);
        number >>= BITS;
        let done = number == if low & SIGN != 0 { -1 } else { 0 };
        let code = if done { low } else { low | MORE };
        text.push(char::from(ZERO + code as u8));
        if done {
            return;
        }
    }
}

fn parse_counts(text: &str) -> Result<Vec<u32>> {
    let mut counts: Vec<u32> = Vec::with_capacity(text.len());
    let (mut number, mut shift) = (0i64, 0);
    for (at, byte) in text.bytes().enumerate() {
        let fail = |reason: &str| Err(Error::input("counts", format!("character {}: {reason}", at + 1)));
        let code = i64::from(byte) - i64::from(ZERO);
        if !(0..2 * MORE).contains(&code) {
            return fail("expected one of `0` to `o`");
        }
        if shift >= LONGEST * BITS {
            return fail("the number is too long for a run");
        }
        number |= (code & (MORE - 1)) << shift;
        shift += BITS;
        if code & MORE != 0 {
            continue;
        }
        if code & SIGN != 0 {
            number -= 1 << shift;
        }
        let before = if counts.len() > 2 { counts[counts.len() - 2] } else { 0 };
        match u32::try_from(number + i64::from(before)) {
            Ok(count) => counts.push(count),
            Err(_) => return fail("the run's length is negative or beyond 32 bits"),
        }
        (number, shift) = (0, 0);
    }
    if shift > 0 {
        return Err(Error::input("counts", "the last number is cut short"));
    }
    Ok(counts)
}

#[derive(Serialize, Deserialize)]
struct Encoded<'a> {
    /// Height, width.
    size: [u32; 2],
    counts: Counts<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected `counts` as a string or a list of run lengths")]
enum Counts<'a> {
    Text(Cow<'a, str>),
    Runs(Vec<u32>),
}

/// Written as COCO does: `{"size": [height, width], "counts": "…"}`.
impl Serialize for RleMask {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let size = [self.size.height, self.size.width];
        Encoded { size, counts: Counts::Text(self.to_coco_string().into()) }.serialize(serializer)
    }
}

/// Reads what is written, and counts as a list of numbers.
impl<'de> Deserialize<'de> for RleMask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let Encoded { size: [height, width], counts } = Encoded::deserialize(deserializer)?;
        let size = Size { width, height };
        match counts {
            Counts::Text(text) => Self::from_coco_string(size, &text),
            Counts::Runs(counts) => Self::from_counts(size, &counts),
        }
        .map_err(serde::de::Error::custom)
    }
}
