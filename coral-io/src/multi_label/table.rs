use std::collections::HashMap;
use std::path::{Path, PathBuf};

use coral_core::{ClassId, ClassSet, Error, Result};
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use crate::text::{Row, decode_utf8, find_column, parse_rows, plain_name, read_bytes, reason_of};

/// Headers of columns of file names.
pub(crate) const FILE_NAMES: [&str; 12] = [
    "filename",
    "file",
    "image",
    "imagename",
    "imagefile",
    "imagepath",
    "filepath",
    "relativefilepath",
    "photograph",
    "photo",
    "path",
    "name",
];
/// Headers of columns that tell training, validation and test apart.
const SUBSET_NAMES: [&str; 5] = ["subset", "split", "set", "partition", "fold"];

/// Which columns of a table of labels are what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiLabelConfig {
    /// The column of file names. Default: one called `FileName`, `image` or similar, else the first column if it does not
    /// hold numbers.
    pub file_column: Option<String>,
    /// The column that tells training, validation and test apart. Default: one called `subset`, `split` or similar.
    pub subset_column: Option<String>,
    /// Columns that are no classes, to be passed over.
    pub ignore: Vec<String>,
    /// The classes, in any order: each needs a column, each column a class. Default: the columns in their order.
    pub classes: Option<ClassSet>,
}

/// Files with a value in 0..=1 for every class, as read by [`read_multi_labels`].
#[derive(Debug, Clone, PartialEq)]
pub struct MultiLabelTable {
    /// The file it came from.
    pub path: PathBuf,
    /// The classes; column `j` of the targets is the `j`-th by ascending id.
    pub classes: ClassSet,
    /// The photographs' files as the table names them, N, each once.
    pub files: Vec<String>,
    /// N×C: 0 or 1 for hard labels, a probability for soft ones.
    pub targets: Array2<f32>,
    /// The subset of each file, where there is such a column.
    pub subsets: Option<Vec<String>>,
    /// The line of each file, from 1.
    pub lines: Vec<u64>,
}

/// Reads a table of several labels per photograph: CSV with a column of file names and a column per class, which holds
/// 0 or 1, or a probability.
///
/// Fields may be separated by `,`, `;` or tabs. Columns without a header, as row numbers often are, are passed over.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Format`], naming the line where there is one, when the header or
/// the column of files is missing, a class has no column or a column no class, a file occurs twice, or
/// a value is no number in 0..=1.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_io::{MultiLabelConfig, read_multi_labels};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("labels.csv");
/// std::fs::write(&path, "FileName,sand,seagrass,split\na.jpg,1,0,train\nb.jpg,0.5,1.0,test\n").unwrap();
/// let table = read_multi_labels(&path, &MultiLabelConfig::default())?;
/// assert_eq!(table.targets, array![[1.0, 0.0], [0.5, 1.0]]);
/// assert_eq!(table.subset("test")?.files, ["b.jpg"]);
/// assert_eq!(table.subset("train")?.labels()?, [0]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_multi_labels(path: impl AsRef<Path>, config: &MultiLabelConfig) -> Result<MultiLabelTable> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    let rows = parse_rows(path, decode_utf8(path, &bytes)?)?;
    let [header, rows @ ..] = rows.as_slice() else {
        return Err(Error::format(path, None, "the file is empty: expected a header and a line per photograph"));
    };
    if rows.is_empty() {
        return Err(Error::format(path, Some(header.line), "no line after the header: expected one per photograph"));
    }
    let columns = Columns::of(path, header, rows, config)?;
    let mut table = MultiLabelTable {
        path: path.into(),
        classes: columns.classes.clone(),
        files: Vec::with_capacity(rows.len()),
        targets: Array2::zeros((rows.len(), columns.values.len())),
        subsets: columns.subset.map(|_| Vec::with_capacity(rows.len())),
        lines: rows.iter().map(|row| row.line).collect(),
    };
    let mut seen = HashMap::new();
    for (row, mut target) in rows.iter().zip(table.targets.rows_mut()) {
        let fail = |reason: String| Error::format(path, Some(row.line), reason);
        if row.fields.len() != header.fields.len() {
            return Err(fail(format!("expected {} fields, found {}", header.fields.len(), row.fields.len())));
        }
        let file = row.field(path, columns.file)?;
        if file.is_empty() {
            return Err(fail("expected the name of a file, found nothing".into()));
        }
        if let Some(line) = seen.insert(file, row.line) {
            return Err(fail(format!("`{file}` stands in line {line} already")));
        }
        table.files.push(file.to_owned());
        for (value, &column) in target.iter_mut().zip(&columns.values) {
            *value = probability(row.field(path, column)?)
                .map_err(|found| fail(format!("`{}`: expected 0..1, found {found}", header.fields[column])))?;
        }
        if let (Some(subsets), Some(column)) = (&mut table.subsets, columns.subset) {
            subsets.push(row.field(path, column)?.to_owned());
        }
    }
    Ok(table)
}

/// A value in 0..=1, or what stands there instead.
fn probability(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ if text.is_empty() => Err("nothing".into()),
        _ => Err(format!("`{text}`")),
    }
}

impl MultiLabelTable {
    /// The lines of one subset, compared without case.
    ///
    /// # Errors
    /// [`Error::Format`] when the table has no column of subsets, or none of this name; the text lists those it has.
    pub fn subset(&self, name: &str) -> Result<Self> {
        let Some(subsets) = &self.subsets else {
            return Err(Error::format(&self.path, None, "has no column of subsets: expected e.g. `split`"));
        };
        let same = |subset: &String| subset.to_lowercase() == name.trim().to_lowercase();
        let kept: Vec<usize> = (0..subsets.len()).filter(|&row| same(&subsets[row])).collect();
        if kept.is_empty() {
            let known: std::collections::BTreeSet<_> = subsets.iter().map(String::as_str).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::format(
                &self.path,
                None,
                format!("no line of subset `{name}`: expected one of {known}"),
            ));
        }
        Ok(Self {
            path: self.path.clone(),
            classes: self.classes.clone(),
            files: kept.iter().map(|&row| self.files[row].clone()).collect(),
            targets: self.targets.select(Axis(0), &kept),
            subsets: Some(kept.iter().map(|&row| subsets[row].clone()).collect()),
            lines: kept.iter().map(|&row| self.lines[row]).collect(),
        })
    }

    /// The one class of every file, where each has exactly one.
    ///
    /// # Errors
    /// [`Error::Format`] naming the first line that has another number of ones, or a value between 0 and 1.
    pub fn labels(&self) -> Result<Vec<ClassId>> {
        let ids: Vec<ClassId> = self.classes.iter().map(|class| class.id).collect();
        let label = |(target, &line): (ndarray::ArrayView1<'_, f32>, &u64)| {
            let mut ones = ids.iter().zip(target).filter(|&(_, &value)| value > 0.0);
            match (ones.next(), ones.next()) {
                (Some((&id, &1.0)), None) => Ok(id),
                _ => {
                    let several = target.iter().filter(|&&value| value > 0.0).count();
                    let reason = format!("expected exactly one class with 1, found {several} above 0");
                    Err(Error::format(&self.path, Some(line), reason))
                }
            }
        };
        self.targets.rows().into_iter().zip(&self.lines).map(label).collect()
    }
}

/// Which column is what.
struct Columns {
    file: usize,
    subset: Option<usize>,
    classes: ClassSet,
    /// The column of each class, by ascending id.
    values: Vec<usize>,
}

impl Columns {
    fn of(path: &Path, header: &Row, rows: &[Row], config: &MultiLabelConfig) -> Result<Self> {
        let fail = |reason: String| Error::format(path, Some(header.line), reason);
        let named = |name: &String| {
            let found = header.fields.iter().position(|field| plain_name(field) == plain_name(name));
            found.ok_or_else(|| fail(format!("no column `{name}`: found {}", header.fields.join(", "))))
        };
        let holds_values = |column: usize| {
            rows.iter().all(|row| row.fields.get(column).is_none_or(|field| field.parse::<f64>().is_ok()))
        };
        let file = match &config.file_column {
            Some(name) => named(name)?,
            None => find_column(&header.fields, &FILE_NAMES)
                .filter(|&column| !holds_values(column))
                .or_else(|| (!holds_values(0)).then_some(0))
                .ok_or_else(|| fail("no column of file names: expected e.g. `FileName`".into()))?,
        };
        let subset = match &config.subset_column {
            Some(name) => Some(named(name)?),
            None => find_column(&header.fields, &SUBSET_NAMES).filter(|&column| !holds_values(column)),
        };
        let ignored = config.ignore.iter().map(named).collect::<Result<Vec<_>>>()?;
        let is_class = |&column: &usize| {
            column != file && Some(column) != subset && !ignored.contains(&column) && !header.fields[column].is_empty()
        };
        let columns: Vec<usize> = (0..header.fields.len()).filter(is_class).collect();
        if columns.is_empty() {
            return Err(fail("no column of a class: expected one at least".into()));
        }
        let names = columns.iter().map(|&column| header.fields[column].as_str());
        let own = ClassSet::from_names(names).map_err(|error| fail(reason_of(error)))?;
        let Some(classes) = &config.classes else {
            return Ok(Self { file, subset, classes: own, values: columns });
        };
        if let Some(unknown) = own.iter().find(|class| classes.id(&class.name).is_none()) {
            let error = classes.parse(&unknown.name).err().map_or_else(String::new, |error| error.to_string());
            return Err(fail(format!("`{}` is no class: {error}", unknown.name)));
        }
        let column = |class: &coral_core::Class| own.id(&class.name).map(|at| columns[usize::from(at)]);
        let missing = |class: &coral_core::Class| fail(format!("no column for the class `{}`", class.name));
        let values = classes.iter().map(|class| column(class).ok_or_else(|| missing(class))).collect::<Result<_>>()?;
        Ok(Self { file, subset, classes: classes.clone(), values })
    }
}
