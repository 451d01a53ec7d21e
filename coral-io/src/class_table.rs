use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use coral_core::{Class, ClassId, ClassSet, Error, Result, UNLABELED, default_color, write_atomically};

use crate::class_json::parse_json;
use crate::colors::{hex, parse_color};
use crate::text::{Row, decode_utf8, decode_windows, find_column, first_byte, parse_rows, read_bytes, reason_of};

/// Classes and the codes under which annotation programs know them.
///
/// Several codes may stand for one class, as in the code files of CPCe, where species belong to
/// categories.
///
/// # Examples
/// ```
/// use coral_io::read_class_table;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("codes.csv");
/// std::fs::write(&path, "code,class\nAPAL,coral\nACER,coral\nS,sand\n").unwrap();
/// let table = read_class_table(&path)?;
/// assert_eq!(table.classes.len(), 2);
/// assert_eq!([table.parse("acer")?, table.parse("sand")?, table.parse("1")?], [0, 1, 1]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassTable {
    /// The classes.
    pub classes: ClassSet,
    /// Code, in lower case, to class.
    pub codes: BTreeMap<String, ClassId>,
}

impl ClassTable {
    /// The class of a code or, failing that, of a name or number.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] listing what would have been accepted.
    pub fn parse(&self, text: &str) -> Result<ClassId> {
        if let Some(&id) = self.codes.get(&text.trim().to_lowercase()) {
            return Ok(id);
        }
        self.classes.parse(text).map_err(|error| match error {
            Error::UnknownClass { class, expected } if !self.codes.is_empty() => {
                let expected = format!("{expected}, or one of the table's {} codes", self.codes.len());
                Error::UnknownClass { class, expected }
            }
            other => other,
        })
    }

    fn add_code(&mut self, code: &str, id: ClassId) -> std::result::Result<(), String> {
        match self.codes.insert(code.to_lowercase(), id) {
            Some(other) if other != id => {
                Err(format!("code `{code}` stands for `{}` and `{}`", self.classes.name(other), self.classes.name(id)))
            }
            _ => Ok(()),
        }
    }
}

/// Reads the classes of a survey from CSV or JSON.
///
/// - CSV with a header: `id`, `name`, `color` (`#rrggbb`) and `parent` (a name or id) in any
///   order; only the name is needed, ids then count from 0. CoralNet label sets and other tables with a
///   `code` column fit, too: see [`read_class_table`].
/// - Lines of `id,name` without a header, or one name per line.
/// - JSON: a list of classes as [`ClassSet`] is serialised, or an object of names
///   (`{"sand": 0}`), of ids (`{"0": "sand"}`) or of colours (`{"(159, 18, 167)": 0}`, classes then are named
///   after their ids).
/// - A CPCe code file.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Format`] when it is none of these or its
/// classes do not make a [`ClassSet`] (a repeated name, over 255 classes, …).
///
/// # Examples
/// ```
/// use coral_io::read_class_set;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("classes.csv");
/// std::fs::write(&path, "id,name,color,parent\n3,coral,#ff8000,\n5,Acropora,,coral\n").unwrap();
/// let classes = read_class_set(&path)?;
/// assert_eq!(classes.color(3), [255, 128, 0]);
/// assert_eq!(classes.ancestors(5), [3]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_class_set(path: impl AsRef<Path>) -> Result<ClassSet> {
    Ok(read_class_table(path)?.classes)
}

/// Reads classes as [`read_class_set`] does and keeps the codes.
///
/// The codes stand in a column `code`, `short code` or similar or, beside a
/// column `class` or `class_name`, in the column `name`. The classes' ids may stand in a column
/// `class_number`.
///
/// # Errors
/// As [`read_class_set`]; also when one code stands for two classes.
///
/// # Examples
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("labelset.csv");
/// std::fs::write(&path, "Name,Short Code\nAcropora,ACR\nPorites,POR\n").unwrap();
/// assert_eq!(coral_io::read_class_table(&path)?.codes["por"], 1);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_class_table(path: impl AsRef<Path>) -> Result<ClassTable> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    match first_byte(&bytes) {
        None => return Err(Error::format(path, None, "the file is empty: expected classes")),
        Some(b'[' | b'{') => {
            let classes = parse_json(path, decode_utf8(path, &bytes)?)?;
            return Ok(ClassTable { classes, codes: BTreeMap::new() });
        }
        Some(_) => {}
    }
    if let Some(table) = parse_cpce_codes(path, &decode_windows(&bytes))? {
        return Ok(table);
    }
    let rows = parse_rows(path, decode_utf8(path, &bytes)?)?;
    let Some(first) = rows.first() else {
        return Err(Error::format(path, None, "the file is empty: expected classes"));
    };
    let (columns, rows) = match Columns::of_header(&first.fields) {
        Some(columns) => (columns, &rows[1..]),
        None => (Columns::without_header(path, first)?, &rows[..]),
    };
    let mut listed = Listed::default();
    for row in rows {
        listed.add(path, &columns, row)?;
    }
    listed.finish(path)
}

#[derive(Debug)]
struct Columns {
    id: Option<usize>,
    name: usize,
    code: Option<usize>,
    color: Option<usize>,
    parent: Option<usize>,
}

impl Columns {
    fn of_header(header: &[String]) -> Option<Self> {
        let find = |aliases: &[&str]| find_column(header, aliases);
        let class = find(&["classname", "class", "label", "labelname", "category"]);
        let name = find(&["name"]);
        // Beside a column of classes, `name` holds the codes.
        let code = find(&["code", "shortcode", "labelcode"]).or(class.and(name));
        let name = class.filter(|_| code == name).or(name).or(class)?;
        Some(Self {
            id: find(&["id", "classid", "classnumber", "value", "index", "number"]),
            name,
            code,
            color: find(&["color", "colour", "rgb", "hex"]),
            parent: find(&["parent"]),
        })
    }

    fn without_header(path: &Path, first: &Row) -> Result<Self> {
        let none = Self { id: None, name: 0, code: None, color: None, parent: None };
        match first.fields.as_slice() {
            [_] => Ok(none),
            [id, _, ..] if id.parse::<u64>().is_ok() => Ok(Self { id: Some(0), name: 1, color: Some(2), ..none }),
            fields => {
                let reason = format!(
                    "not a table of classes: expected a header with name (and id, color, parent), lines of id,name, \
                     or one name per line, found `{}`",
                    fields.join(",")
                );
                Err(Error::format(path, Some(first.line), reason))
            }
        }
    }
}

/// The lines of a table, before names are looked up in it.
#[derive(Debug, Default)]
struct Listed {
    classes: Vec<Class>,
    /// By name in lower case.
    ids: HashMap<String, ClassId>,
    /// Class, line and name or id of the parent.
    parents: Vec<(ClassId, u64, String)>,
    codes: Vec<(ClassId, u64, String)>,
}

impl Listed {
    fn add(&mut self, path: &Path, columns: &Columns, row: &Row) -> Result<()> {
        let fail = |reason: String| Error::format(path, Some(row.line), reason);
        let optional =
            |column: Option<usize>| column.and_then(|column| row.fields.get(column)).filter(|field| !field.is_empty());
        let name = row.field(path, columns.name)?;
        // A table of codes names each class many times.
        let known = self.ids.get(&name.to_lowercase()).copied().filter(|_| columns.code.is_some());
        let id = match (optional(columns.id), known) {
            (Some(text), _) => class_id(text).map_err(fail)?,
            (None, Some(id)) => id,
            (None, None) => next_id(&self.classes).ok_or_else(|| fail("at most 255 classes (0–254) fit".into()))?,
        };
        if let Some(code) = optional(columns.code) {
            self.codes.push((id, row.line, code.to_owned()));
        }
        if known == Some(id) {
            return Ok(());
        }
        if let Some(parent) = optional(columns.parent) {
            self.parents.push((id, row.line, parent.to_owned()));
        }
        let color = optional(columns.color).map(|text| parse_color(text).map_err(fail)).transpose()?;
        self.ids.insert(name.to_lowercase(), id);
        self.classes.push(Class { id, name: name.to_owned(), color: color.unwrap_or(default_color(id)), parent: None });
        Ok(())
    }

    fn finish(self, path: &Path) -> Result<ClassTable> {
        if self.classes.is_empty() {
            return Err(Error::format(path, None, "the table holds no class"));
        }
        let mut table = ClassTable {
            classes: ClassSet::new(self.classes).map_err(|error| Error::format(path, None, reason_of(error)))?,
            codes: BTreeMap::new(),
        };
        for (id, line, parent) in self.parents {
            let by_number = parent.parse().ok().filter(|&id| table.classes.get(id).is_some());
            let above = by_number.or_else(|| table.classes.id(&parent));
            let above = above.ok_or_else(|| format!("the parent `{parent}` is not in the table"));
            let set = above.and_then(|above| table.classes.set_parent(id, Some(above)).map_err(reason_of));
            set.map_err(|reason| Error::format(path, Some(line), reason))?;
        }
        for (id, line, code) in self.codes {
            table.add_code(&code, id).map_err(|reason| Error::format(path, Some(line), reason))?;
        }
        Ok(table)
    }
}

fn next_id(classes: &[Class]) -> Option<ClassId> {
    let next = classes.iter().map(|class| class.id).max().map_or(0, |id| id.saturating_add(1));
    (next != UNLABELED).then_some(next)
}

pub(crate) fn class_id(text: &str) -> std::result::Result<ClassId, String> {
    let id = text.parse().ok().filter(|&id| id != UNLABELED);
    id.ok_or_else(|| format!("class id `{text}`: expected a whole number 0–254 ({UNLABELED} means unlabelled)"))
}

/// A CPCe code file: the number of categories, that many lines `"code","name"`, then
/// `"code","name","category's code"` per code until `"NOTES"`.
fn parse_cpce_codes(path: &Path, text: &str) -> Result<Option<ClassTable>> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let starts_quoted = text.lines().map(str::trim).filter(|line| !line.is_empty()).nth(1);
    let (Ok(count), true) = (first.parse::<usize>(), starts_quoted.is_some_and(|line| line.starts_with('"'))) else {
        return Ok(None);
    };
    let rows = parse_rows(path, text)?;
    let mut table = ClassTable::default();
    for (nth, row) in rows[1..].iter().enumerate() {
        let fail = |reason: String| Error::format(path, Some(row.line), reason);
        let (code, name) = (row.field(path, 0)?, row.field(path, 1)?);
        if nth < count {
            let id = table.classes.add(name).map_err(|error| fail(reason_of(error)))?;
            table.add_code(code, id).map_err(fail)?;
            continue;
        }
        if code.eq_ignore_ascii_case("notes") {
            break;
        }
        let category = row.field(path, 2)?;
        let id = table.codes.get(&category.to_lowercase()).copied();
        let id = id.ok_or_else(|| fail(format!("category `{category}` of code `{code}` is not in the table")))?;
        table.add_code(code, id).map_err(fail)?;
    }
    if table.classes.len() < count {
        let reason = format!("expected {count} categories, found {}", table.classes.len());
        return Err(Error::format(path, None, reason));
    }
    Ok(Some(table))
}

/// Writes classes so that [`read_class_set`] reads them back: as JSON when the file name ends in
/// `.json`, else as CSV with columns `id`, `name`, `color`, `parent`. The file appears
/// whole or not at all.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
///
/// # Examples
/// ```
/// use coral_core::ClassSet;
/// use coral_io::{read_class_set, write_class_set};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("classes.csv");
/// let mut classes = ClassSet::from_names(["sand"])?;
/// classes.set_color(0, [240, 220, 170])?;
/// write_class_set(&path, &classes)?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "id,name,color,parent\n0,sand,#f0dcaa,\n");
/// assert_eq!(read_class_set(&path)?, classes);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_class_set(path: impl AsRef<Path>, classes: &ClassSet) -> Result<()> {
    let path = path.as_ref();
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    write_atomically(path, |out| {
        if is_json {
            serde_json::to_writer_pretty(&mut *out, classes)?;
            return out.write_all(b"\n");
        }
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(["id", "name", "color", "parent"])?;
        for class in classes.iter() {
            let parent = class.parent.map(|id| id.to_string()).unwrap_or_default();
            csv.write_record([class.id.to_string(), class.name.clone(), hex(class.color), parent])?;
        }
        csv.flush()
    })
}
