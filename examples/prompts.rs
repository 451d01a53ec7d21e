use std::collections::BTreeSet;
use std::path::Path;

use coral_core::{BoxPrompt, Error, PointPrompt, Prompt, Result};
use serde::Deserialize;

/// A prompt and what its mask is called.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedPrompt {
    /// Letters, digits, `-`, `_` and `.`: it becomes part of a file name.
    pub name: String,
    /// Clicks and a box, in pixels of the image.
    pub prompt: Prompt,
}

/// Reads prompts from CSV, or from JSON when the name ends in `.json`. Coordinates are pixels of the image, not
/// necessarily whole, from the top left corner.
///
/// CSV has a click or a box per line; lines with the same name in `prompt` form one prompt:
///
/// ```text
/// prompt,kind,x,y,x2,y2
/// brain,foreground,120,80,,
/// brain,background,300,200,,
/// table,box,10,20,200,220
/// ```
///
/// JSON has a list of prompts:
///
/// ```text
/// [{"prompt": "brain", "foreground": [[120, 80]], "background": [[300, 200]]},
///  {"prompt": "table", "box": [10, 20, 200, 220]}]
/// ```
///
/// # Errors
/// [`Error::Io`], or [`Error::Format`] naming the file and the line or prompt: an unknown kind, a coordinate that is no
/// number, a second box, a name that cannot be a file's, names that differ in case only, no prompt at all.
pub fn read_prompts(path: impl AsRef<Path>) -> Result<Vec<NamedPrompt>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let prompts = if is_json { from_json(path, &bytes) } else { from_csv(path, &bytes) }?;
    if prompts.is_empty() {
        return Err(Error::format(path, None, "expected at least one prompt, got none"));
    }
    let mut names = BTreeSet::new();
    match prompts.iter().find(|one| !names.insert(one.name.to_lowercase())) {
        Some(NamedPrompt { name, .. }) => Err(Error::format(path, None, format!("two prompts are named `{name}`"))),
        None => Ok(prompts),
    }
}

/// Why a text cannot be a part of a file name, if so.
fn fault_of_name(name: &str) -> Option<String> {
    let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let good = !name.is_empty() && name.len() <= 100 && name.chars().all(fits);
    (!good).then(|| format!("expected a name of at most 100 letters, digits, `-`, `_` and `.`, got `{name}`"))
}

fn from_csv(path: &Path, bytes: &[u8]) -> Result<Vec<NamedPrompt>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(bytes);
    let failed = |error: csv::Error| {
        let line = error.position().map(csv::Position::line);
        Error::format(path, line, error.to_string())
    };
    let columns = ["prompt", "kind", "x", "y", "x2", "y2"];
    let header = reader.headers().map_err(failed)?;
    if header.len() < 4 || !header.iter().eq(columns.into_iter().take(header.len())) {
        let found = header.iter().collect::<Vec<_>>().join(",");
        return Err(Error::format(path, Some(1), format!("expected the header prompt,kind,x,y,x2,y2, got {found}")));
    }
    let mut prompts: Vec<NamedPrompt> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let line = record.position().map(csv::Position::line);
        let fields: Vec<&str> = record.iter().collect();
        add_line(&mut prompts, &fields).map_err(|reason| Error::format(path, line, reason))?;
    }
    Ok(prompts)
}

fn add_line(prompts: &mut Vec<NamedPrompt>, fields: &[&str]) -> std::result::Result<(), String> {
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    if fields.len() > 6 {
        return Err(format!("expected at most 6 fields, got {}", fields.len()));
    }
    let (name, kind) = (field(0), field(1));
    fault_of_name(name).map_or(Ok(()), Err)?;
    let number = |at: usize, column: &str| {
        let text = field(at);
        let number = text.parse::<f32>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| format!("expected a number in `{column}`, got `{text}`"))
    };
    let (x, y) = (number(2, "x")?, number(3, "y")?);
    let at = prompts.iter().position(|one| one.name == name).unwrap_or_else(|| {
        prompts.push(NamedPrompt { name: name.into(), prompt: Prompt::default() });
        prompts.len() - 1
    });
    let prompt = &mut prompts[at].prompt;
    match kind {
        "foreground" | "background" if fields[4..].iter().any(|text| !text.is_empty()) => {
            return Err(format!("a {kind} point has no `x2` and `y2`"));
        }
        "foreground" | "background" => prompt.points.push(PointPrompt { x, y, foreground: kind == "foreground" }),
        "box" if prompt.rect.is_some() => return Err(format!("prompt `{name}` has a box already")),
        "box" => {
            prompt.rect = Some(BoxPrompt { x_min: x, y_min: y, x_max: number(4, "x2")?, y_max: number(5, "y2")? });
        }
        other => return Err(format!("expected foreground, background or box, got `{other}`")),
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPrompt {
    prompt: String,
    #[serde(default)]
    foreground: Vec<[f32; 2]>,
    #[serde(default)]
    background: Vec<[f32; 2]>,
    #[serde(default, rename = "box")]
    rect: Option<[f32; 4]>,
}

fn from_json(path: &Path, bytes: &[u8]) -> Result<Vec<NamedPrompt>> {
    let read: Vec<JsonPrompt> = serde_json::from_slice(bytes).map_err(|error| {
        Error::format(path, Some(error.line() as u64), format!("expected a list of prompts: {error}"))
    })?;
    let named = |(at, one): (usize, JsonPrompt)| {
        if let Some(reason) = fault_of_name(&one.prompt) {
            return Err(Error::format(path, None, format!("[{at}].prompt: {reason}")));
        }
        let point = |foreground| move |[x, y]: [f32; 2]| PointPrompt { x, y, foreground };
        let background = one.background.into_iter().map(point(false));
        let points = one.foreground.into_iter().map(point(true)).chain(background).collect();
        let rect = one.rect.map(|[x_min, y_min, x_max, y_max]| BoxPrompt { x_min, y_min, x_max, y_max });
        Ok(NamedPrompt { name: one.prompt, prompt: Prompt { points, rect, mask_logits: None } })
    };
    read.into_iter().enumerate().map(named).collect()
}

/// A number of things that cannot be none, from a command line.
///
/// # Errors
/// What was expected, when it is anything else.
pub fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "expected a number of at least 1".to_owned())
}

/// Numbers with commas between them, from a command line.
///
/// # Errors
/// What was expected, when there is anything else.
pub fn numbers<const N: usize>(text: &str) -> std::result::Result<[f32; N], String> {
    let numbers: std::result::Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    numbers.ok().and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| format!("expected {N} numbers with commas"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<NamedPrompt>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_prompts(&path)
    }

    #[test]
    fn csv_and_json_say_the_same() {
        let csv = "prompt,kind,x,y,x2,y2\r\nbrain,foreground,120,80.5,,\r\n\r\ntable,box,10,20,200,220\nbrain,background,3,4\n";
        let json = r#"[{"prompt": "brain", "foreground": [[120, 80.5]], "background": [[3, 4]]},
                       {"prompt": "table", "box": [10, 20, 200, 220]}]"#;
        let prompts = read("prompts.csv", csv).unwrap();
        assert_eq!(prompts.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["brain", "table"]);
        let point = |x, y, foreground| PointPrompt { x, y, foreground };
        assert_eq!(prompts[0].prompt.points, [point(120.0, 80.5, true), point(3.0, 4.0, false)]);
        let rect = BoxPrompt { x_min: 10.0, y_min: 20.0, x_max: 200.0, y_max: 220.0 };
        assert_eq!((prompts[1].prompt.rect, prompts[1].prompt.points.len()), (Some(rect), 0));
        assert_eq!(read("prompts.json", json).unwrap(), prompts);
        assert_eq!(read("a.csv", "\u{feff}prompt,kind,x,y\nbrain,foreground,120,80.5\n").unwrap().len(), 1);
    }

    #[test]
    fn faults_are_named_with_their_line() {
        let head = "prompt,kind,x,y,x2,y2\na,foreground,1,2\n";
        let cases = [
            ("a,middle,1,2", ":3: expected foreground, background or box, got `middle`"),
            ("a,foreground,left,2", ":3: expected a number in `x`, got `left`"),
            ("a,foreground,1,NaN", ":3: expected a number in `y`, got `NaN`"),
            ("a,foreground,1", ":3: expected a number in `y`, got ``"),
            ("a,background,1,2,3,4", ":3: a background point has no `x2` and `y2`"),
            ("a,box,1,2,3", ":3: expected a number in `y2`, got ``"),
            ("a,box,1,2,3,4\na,box,1,2,3,4", ":4: prompt `a` has a box already"),
            ("a,box,1,2,3,4,5", ":3: expected at most 6 fields, got 7"),
            ("../a,foreground,1,2", ":3: expected a name of at most 100 letters"),
            (",foreground,1,2", ":3: expected a name"),
            ("A,foreground,1,2", "p.csv: two prompts are named `A`"),
        ];
        for (line, expected) in cases {
            let text = read("p.csv", &format!("{head}{line}\n")).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
        let error = |name: &str, text: &str| read(name, text).unwrap_err().to_string();
        assert!(error("p.csv", "x,y\n1,2\n").contains(":1: expected the header prompt,kind,x,y,x2,y2, got x,y"));
        assert!(error("p.csv", "prompt,kind,x,y\n").contains("expected at least one prompt"));
        assert!(error("p.csv", "").contains("expected the header"));
        assert!(error("p.json", "[{\"prompt\": \"a\",\n \"points\": []}]").contains(":2: expected a list of prompts"));
        assert!(error("p.json", r#"[{"prompt": "a/b"}]"#).contains("[0].prompt: expected a name"));
        assert!(read_prompts("gone.csv").unwrap_err().to_string().starts_with("gone.csv: "));
    }
}
