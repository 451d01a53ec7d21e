use std::collections::BTreeSet;
use std::path::Path;

use coral_core::{Error, Result};

use super::table::{FoundPoint, FoundPoints, Matching, file_name, listing, matching_name};
use crate::text::{Row, find_column, parse_rows, plain_name};

const X: [&str; 9] = ["x", "column", "col", "px", "pixelx", "xpixel", "pointx", "xcoord", "xcoordinate"];
const Y: [&str; 8] = ["y", "row", "py", "pixely", "ypixel", "pointy", "ycoord", "ycoordinate"];
const CLASS: [&str; 12] = [
    "class",
    "label",
    "labelcode",
    "classname",
    "labelname",
    "category",
    "code",
    "shortcode",
    "classid",
    "labelid",
    "species",
    "substrate",
];
const IMAGE: [&str; 8] = ["image", "imagename", "imagefile", "imagefilename", "filename", "file", "photo", "picture"];

struct Columns {
    image: Option<usize>,
    x: usize,
    y: usize,
    class: usize,
    /// CoralNet exports may hold points that nobody labelled yet.
    may_be_unlabeled: bool,
    /// Fields a row may have.
    width: usize,
}

impl Columns {
    /// The columns of a table and whether its first row is a header.
    fn find(path: &Path, first: &Row) -> Result<(Self, bool)> {
        let header = &first.fields;
        if header.len() >= 2 && header[..2].iter().all(|field| field.parse::<f64>().is_ok()) {
            if header.len() != 3 {
                let reason = format!("without a header, expected 3 fields (x,y,class), found {}", header.len());
                return Err(Error::format(path, Some(first.line), reason));
            }
            return Ok((Self { image: None, x: 0, y: 1, class: 2, may_be_unlabeled: false, width: 3 }, false));
        }
        let (x, y) = (find_column(header, &X), find_column(header, &Y));
        let (class, image) = (find_column(header, &CLASS), find_column(header, &IMAGE));
        // `Name` is the image in CoralNet's exports; it can only be the class where nothing else is.
        let name = find_column(header, &["name"]);
        let (class, image) = match class {
            Some(_) => (class, image.or(name)),
            None => (name, image),
        };
        let missing = |column: &str| {
            let reason = format!(
                "not a table of points: no {column} column; expected a header with x, y and class \
                 (or CoralNet's Name, Row, Column, Label), found `{}`",
                shortened(&header.join(","))
            );
            Error::format(path, Some(first.line), reason)
        };
        let x = x.ok_or_else(|| missing("x"))?;
        let y = y.ok_or_else(|| missing("y"))?;
        let class = class.ok_or_else(|| missing("class"))?;
        let may_be_unlabeled = plain_name(&header[x]) == "column" && plain_name(&header[y]) == "row";
        Ok((Self { image, x, y, class, may_be_unlabeled, width: header.len() }, true))
    }

    fn image<'a>(&self, path: &Path, row: &'a Row) -> Result<Option<&'a str>> {
        self.image.map(|column| row.field(path, column)).transpose()
    }

    /// The point of a row, or none when it has no label and needs none.
    fn point(&self, path: &Path, row: &Row) -> Result<Option<FoundPoint>> {
        let fail = |reason: String| Error::format(path, Some(row.line), reason);
        if row.fields[self.width.min(row.fields.len())..].iter().any(|field| !field.is_empty()) {
            return Err(fail(format!(
                "expected {} fields, found {} (a name with a comma must stand in quotes)",
                self.width,
                row.fields.len()
            )));
        }
        let coordinate = |axis: &str, column: usize| -> Result<f64> {
            let text = row.field(path, column)?;
            let value: Option<f64> = text.parse().ok().filter(|value: &f64| value.is_finite());
            value.ok_or_else(|| fail(format!("expected a number for {axis}, found `{}`", shortened(text))))
        };
        let (x, y) = (coordinate("x", self.x)?, coordinate("y", self.y)?);
        let class = row.field(path, self.class)?.to_owned();
        if class.is_empty() {
            return if self.may_be_unlabeled { Ok(None) } else { Err(fail("the class is empty".into())) };
        }
        Ok(Some(FoundPoint { x, y, line: row.line, class, class_line: row.line }))
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn rows_and_columns(path: &Path, text: &str) -> Result<(Vec<Row>, Columns)> {
    let mut rows = parse_rows(path, text)?;
    let first = rows.first().ok_or_else(|| Error::format(path, None, "the file is empty: expected labelled points"))?;
    let (columns, has_header) = Columns::find(path, first)?;
    if has_header {
        rows.remove(0);
    }
    Ok((rows, columns))
}

fn images_of(path: &Path, rows: &[Row], columns: &Columns) -> Result<BTreeSet<String>> {
    let names = rows.iter().map(|row| columns.image(path, row));
    names.filter_map(|name| name.map(|name| name.map(str::to_owned)).transpose()).collect()
}

/// The photographs that a CSV text names.
pub(crate) fn image_names(path: &Path, text: &str) -> Result<Vec<String>> {
    let (rows, columns) = rows_and_columns(path, text)?;
    Ok(images_of(path, &rows, &columns)?.into_iter().collect())
}

/// The points of a plain or CoralNet CSV text that belong to `image`.
pub(crate) fn parse_delimited(path: &Path, text: &str, image: Option<&str>) -> Result<FoundPoints> {
    let (rows, columns) = rows_and_columns(path, text)?;
    let names = images_of(path, &rows, &columns)?;
    let chosen = choose_image(path, &names, image)?;
    let mut found =
        FoundPoints { image: chosen.as_deref().map(|name| file_name(name).to_owned()), ..Default::default() };
    for row in &rows {
        if chosen.is_some() && columns.image(path, row)? != chosen.as_deref() {
            continue;
        }
        match columns.point(path, row)? {
            Some(point) => found.points.push(point),
            None => found.unlabeled += 1,
        }
    }
    Ok(found)
}

fn choose_image(path: &Path, names: &BTreeSet<String>, wanted: Option<&str>) -> Result<Option<String>> {
    let listed = || listing(&names.iter().cloned().collect::<Vec<_>>());
    let fail = |reason: String| Err(Error::format(path, None, reason));
    match wanted {
        _ if names.is_empty() => Ok(None),
        None if names.len() == 1 => Ok(names.first().cloned()),
        None => fail(format!("the points belong to {} images ({}): name the one to read", names.len(), listed())),
        Some(wanted) => match matching_name(names, wanted) {
            Matching::One(name) => Ok(Some(name)),
            Matching::None => fail(format!("no points for image `{}`: found {}", file_name(wanted), listed())),
            Matching::Several(found) => {
                fail(format!("several images fit `{}`: {}", file_name(wanted), listing(&found)))
            }
        },
    }
}
