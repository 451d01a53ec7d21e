use std::path::Path;

use coral_core::ndarray::Array3;
use coral_core::{ClassId, ClassSet, CoarseMap, Error, Rect, Result, Size, write_atomically};

use crate::text::{Row, decode_utf8, parse_rows, read_bytes, reason_of};

/// The columns in front of the probabilities.
const COLUMNS: [&str; 9] = ["row", "column", "x", "y", "width", "height", "class", "name", "confidence"];

/// Writes a coarse map as CSV: a line per patch with its row and column, its box in pixels, the most probable class, its
/// name and probability, and the probability of every class in a column `p_NAME`.
///
/// The file appears whole or not at all. The cover of the classes comes from [`write_cover`](crate::write_cover) and
/// [`CoarseMap::label_map`].
///
/// # Errors
/// [`Error::Io`](coral_core::Error::Io) when the file cannot be written.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, CoarseMap, PatchGrid, Size, ndarray::arr3};
/// use coral_io::{write_coarse_map, write_cover};
/// let size = Size { width: 6, height: 2 };
/// let patches = PatchGrid::Split { rows: 1, columns: 2 }.patches(size)?;
/// let map = CoarseMap::new(arr3(&[[[0.9, 0.25]], [[0.1, 0.75]]]), patches, size)?;
/// let classes = ClassSet::from_names(["sand", "seagrass"])?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("coarse.csv");
/// write_coarse_map(&path, &map, &classes)?;
/// let lines = "row,column,x,y,width,height,class,name,confidence,p_sand,p_seagrass\n\
///              0,0,0,0,3,2,0,sand,0.9,0.9,0.1\n\
///              0,1,3,0,3,2,1,seagrass,0.75,0.25,0.75\n";
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), lines);
/// write_cover(folder.path().join("cover.csv"), &map.label_map(&map.classes())?, &classes)?;
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_coarse_map(path: impl AsRef<Path>, map: &CoarseMap, classes: &ClassSet) -> Result<()> {
    let (count, _, columns) = map.probabilities.dim();
    let (best, confidence) = (map.classes(), map.confidence());
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        for name in COLUMNS {
            csv.write_field(name)?;
        }
        let names = (0..count).map(|class| format!("p_{}", classes.name(class as ClassId)));
        csv.write_record(names)?;
        for (cell, patch) in map.patches.iter().enumerate() {
            let at = [cell / columns, cell % columns];
            let numbers = [at[0] as u32, at[1] as u32, patch.x, patch.y, patch.width, patch.height];
            for number in numbers.into_iter().chain([u32::from(best[at])]) {
                csv.write_field(number.to_string())?;
            }
            csv.write_field(classes.name(best[at]))?;
            csv.write_field(confidence[at].to_string())?;
            csv.write_record((0..count).map(|class| map.probabilities[[class, at[0], at[1]]].to_string()))?;
        }
        csv.flush()
    })
}

/// Reads a coarse map that [`write_coarse_map`] wrote, to the last bit. The photograph ends where its patches end.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Format`] naming the line that is no patch, is not the next one of
/// its row, or does not have one probability per class.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, CoarseMap, PatchGrid, Size, ndarray::arr3};
/// use coral_io::{read_coarse_map, write_coarse_map};
/// let size = Size { width: 6, height: 2 };
/// let patches = PatchGrid::Split { rows: 1, columns: 2 }.patches(size)?;
/// let map = CoarseMap::new(arr3(&[[[0.9, 0.25]], [[0.1, 0.75]]]), patches, size)?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("coarse.csv");
/// write_coarse_map(&path, &map, &ClassSet::from_names(["sand", "seagrass"])?)?;
/// assert_eq!(read_coarse_map(&path)?, map);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_coarse_map(path: impl AsRef<Path>) -> Result<CoarseMap> {
    let path = path.as_ref();
    let rows = parse_rows(path, decode_utf8(path, &read_bytes(path)?)?)?;
    let fail = |line, reason: String| Error::format(path, line, reason);
    let [header, cells @ ..] = &rows[..] else {
        return Err(fail(None, "the file is empty: expected a coarse map".into()));
    };
    let classes = header.fields.iter().skip(COLUMNS.len()).take_while(|name| name.starts_with("p_")).count();
    if !header.fields.iter().zip(COLUMNS).all(|(found, name)| found == name)
        || classes == 0
        || header.fields.len() != COLUMNS.len() + classes
    {
        let reason = format!("expected the columns {} and p_NAME of every class", COLUMNS.join(","));
        return Err(fail(Some(header.line), reason));
    }
    let columns = cells.iter().take_while(|cell| cell.fields.first().is_some_and(|row| row == "0")).count();
    let mut patches = Vec::with_capacity(cells.len());
    let mut values = Vec::with_capacity(cells.len() * classes);
    for (index, cell) in cells.iter().enumerate() {
        let [row, column, x, y, width, height] = numbers(path, cell, 0)?;
        if columns == 0 || (row as usize, column as usize) != (index / columns, index % columns) {
            return Err(fail(Some(cell.line), format!("row {row}, column {column} is not the next patch")));
        }
        patches.push(Rect { x, y, width, height });
        for class in 0..classes {
            let [p] = numbers::<f32, 1>(path, cell, COLUMNS.len() + class)?;
            values.push(p);
        }
    }
    let end = |of: fn(&Rect) -> Option<u32>| patches.iter().map(of).try_fold(0, |end, of| Some(end.max(of?)));
    let size = end(|p| p.x.checked_add(p.width)).zip(end(|p| p.y.checked_add(p.height)));
    let (width, height) = size.ok_or_else(|| fail(None, "a patch reaches too far".into()))?;
    let rows = cells.len().checked_div(columns).unwrap_or(0);
    let of_cells = Array3::from_shape_vec((rows, columns, classes), values);
    let of_cells = of_cells.map_err(|_| fail(None, format!("the last row does not have {columns} patches")))?;
    // In the layout that maps are made in.
    let probabilities = of_cells.permuted_axes([2, 0, 1]).as_standard_layout().into_owned();
    CoarseMap::new(probabilities, patches, Size { width, height }).map_err(|error| fail(None, reason_of(error)))
}

/// The numbers of a line from a column on.
fn numbers<T: std::str::FromStr + Copy + Default, const N: usize>(
    path: &Path,
    row: &Row,
    first: usize,
) -> Result<[T; N]> {
    let mut values = [T::default(); N];
    for (offset, value) in values.iter_mut().enumerate() {
        let text = row.field(path, first + offset)?;
        let failed = |_| {
            let name = COLUMNS.get(first + offset).copied().unwrap_or("p_");
            Error::format(path, Some(row.line), format!("`{text}` in column `{name}`: expected a number"))
        };
        *value = text.parse().map_err(failed)?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::PatchGrid;
    use proptest::prelude::*;

    fn map(grid: PatchGrid, size: Size, classes: usize) -> CoarseMap {
        let cells = grid.cells(size).unwrap();
        let shape = (classes, cells.height as usize, cells.width as usize);
        let mut random = coral_core::SeededRng::new(7);
        let probabilities = Array3::from_shape_simple_fn(shape, || random.uniform() as f32);
        CoarseMap::new(probabilities, grid.patches(size).unwrap(), size).unwrap()
    }

    #[test]
    fn maps_come_back_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.csv");
        let size = |width, height| Size { width, height };
        let sliding = PatchGrid::Stride { patch: size(9, 8), stride: size(5, 4) };
        for grid in [PatchGrid::SEACLIP, PatchGrid::Split { rows: 1, columns: 1 }, sliding] {
            let map = map(grid, size(83, 31), 3);
            let classes = ClassSet::from_names(["sand, bare", "\"strap\"", "é"]).unwrap();
            write_coarse_map(&path, &map, &classes).unwrap();
            let read = read_coarse_map(&path).unwrap();
            assert_eq!(read, map);
            assert!(read.probabilities.is_standard_layout());
        }
    }

    #[test]
    fn what_is_no_map_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.csv");
        let header = format!("{},p_sand", COLUMNS.join(","));
        let text = |lines: &str| {
            std::fs::write(&path, lines.replace("HEADER", &header)).unwrap();
            read_coarse_map(&path).unwrap_err().to_string()
        };
        assert!(text("").contains("map.csv: the file is empty"));
        assert!(text("x,y,class\n1,2,3").contains("map.csv:1: expected the columns row,column,x,y"));
        assert!(text(&COLUMNS.join(",")).contains("p_NAME of every class"));
        let cell = "0,0,0,0,4,4,0,sand,1,1";
        assert!(
            text(&format!("HEADER\n{cell}\n0,2,4,0,4,4,0,sand,1,1")).contains(":3: row 0, column 2 is not the next")
        );
        assert!(text("HEADER\n0,0,0,0,four,4,0,sand,1,1").contains(":2: `four` in column `width`"));
        assert!(text("HEADER\n0,0,0,0,4,4,0,sand,1,often").contains(":2: `often` in column `p_`"));
        assert!(text("HEADER\n0,0,0,0,4,4,0,sand").contains(":2: expected at least 10 fields"));
        assert!(text("HEADER\n0,0,0,0,4,4,0,sand,1,NaN").contains("NaN"));
        assert!(text("HEADER\n0,0,0,0,4294967295,4,0,s,1,1\n0,1,9,0,4294967295,4,0,s,1,1").contains("too far"));
        let two = "0,1,4,0,4,4,0,sand,1,1";
        let short = text(&format!("HEADER\n{cell}\n{two}\n1,0,0,4,4,4,0,sand,1,1"));
        assert!(short.ends_with("the last row does not have 2 patches"), "{short}");
        assert!(text("HEADER").contains("map.csv"));
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_read(at in 0usize..400, byte in any::<u8>()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("map.csv");
            let map = map(PatchGrid::Split { rows: 2, columns: 3 }, Size { width: 9, height: 8 }, 2);
            write_coarse_map(&path, &map, &ClassSet::from_names(["a", "b"]).unwrap()).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            std::fs::write(&path, &bytes).unwrap();
            let _ = read_coarse_map(&path);
            std::fs::write(&path, &bytes[..at]).unwrap();
            let _ = read_coarse_map(&path);
        }
    }
}
