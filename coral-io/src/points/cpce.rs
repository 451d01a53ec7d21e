use std::path::Path;

use coral_core::{Error, Result, Size};

use super::table::{FoundPoint, FoundPoints, Matching, file_name, matching_name};

/// The first line of a CPCe file.
struct CpceHeader {
    /// The photograph's file name without folders.
    image: String,
    /// The photograph's width and height in the file's units.
    extent: [f64; 2],
}

/// Whether a text starts with the header of a CPCe file.
pub(crate) fn has_cpce_header(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let fields = split_quoted(first);
    let is_number = |field: &String| field.parse::<f64>().is_ok();
    fields.len() >= 6 && fields[fields.len() - 4..].iter().all(is_number) && !is_number(&fields[0])
}

/// The photograph that a CPCe text names.
pub(crate) fn cpce_image(path: &Path, text: &str) -> Result<String> {
    Ok(Lines::new(path, text).header()?.image)
}

/// The points of a CPCe text, scaled from its units to pixels of an image of `size`.
///
/// The file holds: a header (code file, image, width and height in units, size of the window), four
/// corners of the frame, the number of points, a position per point, a label per point
/// (number, code, `Notes`, note), and notes that do not matter here.
pub(crate) fn parse_cpce(path: &Path, text: &str, size: Size, image: Option<&str>) -> Result<FoundPoints> {
    let mut lines = Lines::new(path, text);
    let header = lines.header()?;
    if let Some(wanted) = image
        && matching_name(&[header.image.clone()].into(), wanted) == Matching::None
    {
        let reason = format!("the points belong to image `{}`, not `{}`", header.image, file_name(wanted));
        return Err(Error::format(path, Some(1), reason));
    }
    header.expect_shape(path, size)?;
    for _ in 0..4 {
        let (line, fields) = lines.next("the four corners of the frame")?;
        lines.numbers(line, &fields)?;
    }
    let (line, fields) = lines.next("the number of points")?;
    let count: usize = match fields.as_slice() {
        [count] => count.parse().ok(),
        _ => None,
    }
    .ok_or_else(|| {
        Error::format(path, Some(line), format!("expected the number of points, found `{}`", fields.join(",")))
    })?;

    let mut positions = Vec::new();
    for nth in 1..=count {
        let (line, fields) = lines.next(&format!("the position of point {nth} of {count}"))?;
        let &[x, y] = lines.numbers(line, &fields)?.as_slice() else {
            let reason = format!("expected the position x,y of point {nth}, found `{}`", fields.join(","));
            return Err(Error::format(path, Some(line), reason));
        };
        positions.push((line, x, y));
    }
    let scaled = |units: f64, pixels: u32, extent: f64| (units * f64::from(pixels) / extent).floor();
    let mut found = FoundPoints { image: Some(header.image), ..Default::default() };
    for (nth, (line, x, y)) in positions.into_iter().enumerate() {
        let (class_line, fields) = lines.next(&format!("the label of point {} of {count}", nth + 1))?;
        let cut = fields.len() == 2 && lines.ends_in_quotes;
        let Some(code) = fields.get(1).filter(|_| !cut) else {
            let reason =
                format!("expected the label of point {} (number, code, …), found `{}`", nth + 1, fields.join(","));
            return Err(Error::format(path, Some(class_line), reason));
        };
        if code.is_empty() {
            found.unlabeled += 1;
            continue;
        }
        let (x, y) = (scaled(x, size.width, header.extent[0]), scaled(y, size.height, header.extent[1]));
        found.points.push(FoundPoint { x, y, line, class: code.clone(), class_line });
    }
    Ok(found)
}

impl CpceHeader {
    fn expect_shape(&self, path: &Path, size: Size) -> Result<()> {
        let [width, height] = self.extent;
        let stretch = (width * f64::from(size.height)) / (height * f64::from(size.width));
        // A pixel more or less at the edge is no other picture.
        let slack = 0.01 + 1.0 / f64::from(size.width.min(size.height).max(1));
        if (stretch - 1.0).abs() <= slack {
            return Ok(());
        }
        let reason = format!(
            "the points were set on an image of {width}x{height} units, which does not fit the shape of the {size} \
             image: it was cropped or turned, or is another one"
        );
        Err(Error::format(path, Some(1), reason))
    }
}

/// The lines of a CPCe file that are not blank, with their numbers.
struct Lines<'a> {
    path: &'a Path,
    lines: Box<dyn Iterator<Item = (u64, &'a str)> + 'a>,
    last: u64,
    /// Whether the last line ended within quotes, as it does where a file was cut off.
    ends_in_quotes: bool,
}

impl<'a> Lines<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        let numbered = text.lines().zip(1u64..).map(|(line, number)| (number, line.trim()));
        Self { path, lines: Box::new(numbered.filter(|(_, line)| !line.is_empty())), last: 0, ends_in_quotes: false }
    }

    fn next(&mut self, what: &str) -> Result<(u64, Vec<String>)> {
        let Some((number, line)) = self.lines.next() else {
            let reason = format!("the CPCe file ends before {what}");
            return Err(Error::format(self.path, Some(self.last + 1), reason));
        };
        self.last = number;
        self.ends_in_quotes = line.matches('"').count() % 2 == 1;
        Ok((number, split_quoted(line)))
    }

    fn numbers(&self, line: u64, fields: &[String]) -> Result<Vec<f64>> {
        let number = |field: &String| {
            let value: Option<f64> = field.parse().ok().filter(|value: &f64| value.is_finite());
            value.ok_or_else(|| Error::format(self.path, Some(line), format!("expected a number, found `{field}`")))
        };
        fields.iter().map(number).collect()
    }

    fn header(&mut self) -> Result<CpceHeader> {
        let (line, fields) = self.next("its header")?;
        let fail = |reason: String| Error::format(self.path, Some(line), reason);
        // From the right, so that commas in paths without quotes do no harm.
        let [_, .., image, width, height, _, _] = fields.as_slice() else {
            let reason = "not a CPCe header: expected code file, image, width, height, window width, window height";
            return Err(fail(reason.into()));
        };
        let extent = self.numbers(line, &[width.clone(), height.clone()]).map_err(|_| {
            fail(format!("not a CPCe header: expected the image's width and height, found `{width},{height}`"))
        })?;
        let &[width, height] = extent.as_slice() else { return Err(fail("not a CPCe header".into())) };
        if width <= 0.0 || height <= 0.0 {
            return Err(fail(format!("the header gives the image {width}x{height} units: expected more than 0")));
        }
        let image = file_name(image).trim();
        if image.is_empty() {
            return Err(fail("the header names no image".into()));
        }
        Ok(CpceHeader { image: image.to_owned(), extent: [width, height] })
    }
}

/// The fields between commas outside quotes, without quotes and blanks around them.
fn split_quoted(line: &str) -> Vec<String> {
    let mut quoted = false;
    let fields = line.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    fields.map(|field| field.trim().trim_matches('"').trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_commas_in_quotes() {
        assert_eq!(split_quoted(r#""C:\a, b\c.txt", "x" ,1"#), [r"C:\a, b\c.txt", "x", "1"]);
        assert_eq!(split_quoted(""), [""]);
        assert_eq!(split_quoted("\"open, end"), ["open, end"]);
    }

    #[test]
    fn only_cpce_files_look_like_it() {
        assert!(has_cpce_header("\r\n\"C:\\codes.txt\",\"D:\\a.jpg\",12000,9000,800,600\r\n0,0"));
        for other in ["", "x,y,class\n1,2,3", "1,2,3,4,5,6,7", "a,b,c,1,2,3", "Name,Row,Column,Label"] {
            assert!(!has_cpce_header(other), "{other}");
        }
    }
}
