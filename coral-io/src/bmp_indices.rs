use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use coral_core::{ClassId, Error, Result, Size};

use crate::images::ImageLimits;

/// The palette indices of a BMP file, row by row from the top, or `None` when the
/// file has no palette.
///
/// The `image` crate gives a palette's colours, and indices only for some depths.
pub(crate) fn read_bmp_indices(
    path: &Path,
    mut source: impl Read + Seek,
    limits: &ImageLimits,
) -> Result<Option<(Size, Vec<ClassId>)>> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => Error::format(path, None, "the BMP file ends too early"),
        _ => Error::io(path, error),
    };
    let mut head = [0; 34];
    source.read_exact(&mut head).map_err(failed)?;
    let header = BmpHeader::parse(&head);
    if !matches!(header.bits, 1 | 2 | 4 | 8) {
        return Ok(None);
    }
    if header.compression != 0 {
        return Err(Error::format(path, None, "the BMP file is compressed: save it uncompressed or as PNG"));
    }
    let (Ok(width), Ok(height)) = (u32::try_from(header.width), u32::try_from(header.height.unsigned_abs())) else {
        return Err(Error::format(path, None, format!("the BMP file claims a width of {}", header.width)));
    };
    let size = Size { width, height };
    limits.check(path, size)?;
    limits.check_bytes(path, size.pixels() as u64)?;

    source.seek(SeekFrom::Start(u64::from(header.data_offset))).map_err(failed)?;
    // Rows are padded to four bytes.
    let mut row = vec![0; (width as usize * header.bits).div_ceil(32) * 4];
    let mut rows = Vec::new();
    for _ in 0..height {
        source.read_exact(&mut row).map_err(failed)?;
        rows.extend(unpack(&row, header.bits, width as usize));
    }
    if header.height > 0 {
        rows = rows.chunks(width as usize).rev().flatten().copied().collect();
    }
    Ok(Some((size, rows)))
}

struct BmpHeader {
    data_offset: u32,
    width: i64,
    /// Negative when the rows run from the top.
    height: i64,
    bits: usize,
    compression: u32,
}

impl BmpHeader {
    fn parse(head: &[u8; 34]) -> Self {
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let data_offset = long(10);
        // The oldest header is 12 bytes long and has 16-bit sizes.
        if long(14) == 12 {
            let (width, height) = (i64::from(short(18)), i64::from(short(20)));
            return Self { data_offset, width, height, bits: usize::from(short(24)), compression: 0 };
        }
        let (width, height) = (i64::from(long(18).cast_signed()), i64::from(long(22).cast_signed()));
        Self { data_offset, width, height, bits: usize::from(short(28)), compression: long(30) }
    }
}

/// The `width` samples of `bits` (1, 2, 4 or 8) bits each that a row packs into bytes,
/// first sample highest.
pub(crate) fn unpack(row: &[u8], bits: usize, width: usize) -> impl Iterator<Item = u8> + '_ {
    let per_byte = 8 / bits;
    let mask = ((1u16 << bits) - 1) as u8;
    row.iter().flat_map(move |byte| (1..=per_byte).map(move |nth| (byte >> (8 - bits * nth)) & mask)).take(width)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A palette BMP of these rows (from the top), with a palette in which no colour is its index.
    pub(crate) fn bmp(rows: &[&[u8]], bits: usize) -> Vec<u8> {
        let (width, colors) = (rows[0].len(), 1usize << bits);
        let offset = 54 + 4 * colors;
        let mut bytes = b"BM".to_vec();
        for value in [0, 0, offset as u32, 40, width as u32, rows.len() as u32, 1 | (bits as u32) << 16, 0, 0, 0, 0] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([0; 8]);
        (0..colors).for_each(|i| bytes.extend([255 - i as u8, 10, 20, 0]));
        for row in rows.iter().rev() {
            let mut packed = vec![0; (width * bits).div_ceil(32) * 4];
            for (x, value) in row.iter().enumerate() {
                packed[x * bits / 8] |= value << (8 - bits - x * bits % 8);
            }
            bytes.extend(packed);
        }
        bytes
    }

    #[test]
    fn all_depths_give_indices() {
        for (bits, rows) in [
            (1, [&[0u8, 1, 1, 0, 1, 1, 1, 1, 0][..], &[1; 9]]),
            (4, [&[0, 15, 7][..], &[1, 2, 3]]),
            (8, [&[0, 255, 7][..], &[1, 34, 3]]),
        ] {
            let bytes = bmp(&rows, bits);
            let read = |bytes: &[u8]| {
                read_bmp_indices(Path::new("a.bmp"), std::io::Cursor::new(bytes), &ImageLimits::default())
            };
            let (size, ids) = read(&bytes).unwrap().unwrap();
            assert_eq!((size.width as usize, size.height), (rows[0].len(), 2));
            assert_eq!(ids, rows.concat());
            // With a negative height the rows run from the top.
            let mut upside_down = bytes.clone();
            upside_down[22..26].copy_from_slice(&(-2i32).to_le_bytes());
            assert_eq!(read(&upside_down).unwrap().unwrap().1, [rows[1], rows[0]].concat());
            let error = read(&bytes[..bytes.len() - 1]).unwrap_err().to_string();
            assert_eq!(error, "a.bmp: the BMP file ends too early");
        }
    }
}
