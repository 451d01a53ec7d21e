use std::io::{BufRead, ErrorKind, Seek, SeekFrom};
use std::path::Path;

use coral_core::{Error, Result};

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Refuses a JPEG file that was cut off, and goes back to its start.
///
/// The decoder paints what is missing grey and reports nothing. A whole file has an end marker after
/// its first scan; within a scan these two bytes cannot occur.
pub(crate) fn expect_jpeg_end(path: &Path, source: &mut (impl BufRead + Seek)) -> Result<()> {
    let whole = match skip_to_scan(source) {
        Ok(true) => has_end(source),
        // What is damaged in another way is the decoder's to explain.
        Ok(false) => Ok(true),
        Err(error) => Err(error),
    };
    match whole {
        Ok(true) => source.rewind().map_err(|source| Error::io(path, source)),
        Ok(false) => Err(Error::format(path, None, "the image file ends too early: expected the end marker of a JPEG")),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(Error::format(path, None, "the image file ends too early"))
        }
        Err(error) => Err(Error::io(path, error)),
    }
}

/// Passes over the segments before the first scan, where a thumbnail may have an end of its own.
/// False when there is no scan.
fn skip_to_scan(source: &mut (impl BufRead + Seek)) -> std::io::Result<bool> {
    source.seek(SeekFrom::Start(2))?;
    loop {
        let mut byte = [0; 1];
        source.read_exact(&mut byte)?;
        if byte != [0xff] {
            return Ok(false);
        }
        // Any number of 0xff may stand before a marker.
        while byte == [0xff] {
            source.read_exact(&mut byte)?;
        }
        match byte[0] {
            START_OF_SCAN => return Ok(true),
            END_OF_IMAGE => return Ok(false),
            0x01 | 0xd0..=0xd7 => {}
            _ => {
                let mut length = [0; 2];
                source.read_exact(&mut length)?;
                source.seek_relative(i64::from(u16::from_be_bytes(length)).saturating_sub(2).max(0))?;
            }
        }
    }
}

fn has_end(source: &mut impl BufRead) -> std::io::Result<bool> {
    let mut last = 0;
    loop {
        let bytes = source.fill_buf()?;
        let Some(&end) = bytes.last() else { return Ok(false) };
        let split = last == 0xff && bytes[0] == END_OF_IMAGE;
        if split || bytes.windows(2).any(|pair| pair == [0xff, END_OF_IMAGE]) {
            return Ok(true);
        }
        last = end;
        let read = bytes.len();
        source.consume(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Cursor};

    fn check(bytes: &[u8], buffer: usize) -> Result<()> {
        let mut source = BufReader::with_capacity(buffer, Cursor::new(bytes));
        expect_jpeg_end(Path::new("a.jpg"), &mut source)?;
        assert_eq!(source.stream_position().unwrap(), 0);
        Ok(())
    }

    #[test]
    fn the_end_counts_only_after_the_scan_began() {
        // A thumbnail's end within the first segment, a gap filled with 0xff, a restart marker, then the scan.
        let start = [0xff, 0xd8, 0xff, 0xe1, 0, 6, 1, 0xff, 0xd9, 1, 0xff, 0xff, 0xff, 0xd0, 0xff, 0xda, 7, 7, 7];
        for buffer in 1..8 {
            let cut = check(&start, buffer).unwrap_err().to_string();
            assert_eq!(cut, "a.jpg: the image file ends too early: expected the end marker of a JPEG");
            check(&[&start[..], &[0xff, 0xd9]].concat(), buffer).unwrap();
            check(&[&start[..], &[0xff, 0xd9], b"what a camera appends"].concat(), buffer).unwrap();
            let header = check(&start[..13], buffer).unwrap_err().to_string();
            assert_eq!(header, "a.jpg: the image file ends too early");
            // Other damage is left to the decoder.
            check(&[0xff, 0xd8, 1, 2, 3], buffer).unwrap();
            check(&[0xff, 0xd8, 0xff, 0xd9], buffer).unwrap();
        }
    }
}
