use std::collections::HashMap;
use std::path::Path;

use coral_core::{ClassId, ClassSentences, ClassSet, Error, Result, write_atomically};

use crate::text::{decode_utf8, read_bytes, reason_of};

/// Reads sentences about classes from a text file: a heading in brackets per class, then one sentence per line.
///
/// ```text
/// # Five sentences a species do well.
/// [Acropora hyacinthus]
/// a wide flat table of fine upright twigs
/// a plate-shaped coral seen from above
/// [Diploria labyrinthiformis]
/// a dome with winding grooves like a brain
/// ```
///
/// A heading is the name of a class or its number. Empty lines and lines that begin with `#` do not count. Classes may
/// be missing, of any level of the hierarchy, and in any order.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] with the line of an unknown class, a class that occurs twice or has no sentence, a
/// sentence that occurs twice (whatever its case and blanks) or stands before the first heading, and for a file
/// without any sentence.
///
/// # Examples
/// See [`write_sentences`].
pub fn read_sentences(path: impl AsRef<Path>, classes: &ClassSet) -> Result<ClassSentences> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    let text = decode_utf8(path, &bytes)?;
    parse(text, classes).map_err(|(line, reason)| Error::format(path, line, reason))
}

/// What is wrong, and in which line, from 1.
type Fault = (Option<u64>, String);

struct Section {
    class: ClassId,
    line: u64,
    sentences: Vec<String>,
}

fn parse(text: &str, classes: &ClassSet) -> std::result::Result<ClassSentences, Fault> {
    let mut sections: Vec<Section> = Vec::new();
    let mut seen = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let fail = |reason: String| Err((Some(number), reason));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let Some(name) = rest.strip_suffix(']') else {
                return fail(format!("expected `[class]`, got `{line}`"));
            };
            let class = classes.parse(name).map_err(|error| (Some(number), reason_of(error)))?;
            if let Some(first) = sections.iter().find(|section| section.class == class) {
                return fail(format!("the class `{}` is already in line {}", name.trim(), first.line));
            }
            sections.push(Section { class, line: number, sentences: Vec::new() });
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return fail("a sentence before the first `[class]`".into());
        };
        let key = line.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        if let Some(first) = seen.insert(key, number) {
            return fail(format!("the sentence `{line}` is already in line {first}"));
        }
        section.sentences.push(line.to_owned());
    }
    if let Some(empty) = sections.iter().find(|section| section.sentences.is_empty()) {
        return Err((Some(empty.line), format!("the class `{}` has no sentence", classes.name(empty.class))));
    }
    if sections.is_empty() {
        return Err((None, "the file holds no sentence".into()));
    }
    let sentences = ClassSentences::new(sections.into_iter().map(|section| (section.class, section.sentences)));
    sentences.map_err(|error| (None, reason_of(error)))
}

/// Writes sentences about classes so that [`read_sentences`] reads the same.
///
/// # Errors
/// [`Error::UnknownClass`] when a class of the sentences is not in `classes`; [`Error::InvalidInput`] when a name has a
/// line break, or a sentence begins with `#` or `[`; [`Error::Io`] naming `path`.
///
/// # Examples
/// ```
/// use coral_core::{ClassSentences, ClassSet};
/// use coral_io::{read_sentences, write_sentences};
/// let classes = ClassSet::from_names(["sand", "table coral"])?;
/// let sentences = ClassSentences::new([(1, vec!["a wide flat plate".to_owned(), "a table of twigs".to_owned()])])?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("sentences.txt");
/// write_sentences(&path, &sentences, &classes)?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "[table coral]\na wide flat plate\na table of twigs\n");
/// assert_eq!(read_sentences(&path, &classes)?, sentences);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_sentences(path: impl AsRef<Path>, sentences: &ClassSentences, classes: &ClassSet) -> Result<()> {
    sentences.expect_known(classes)?;
    for (class, of_class) in sentences.iter() {
        let name = classes.name(class);
        if name.contains(['\n', '\r']) {
            return Err(Error::input("classes", format!("the name of class {class} has a line break")));
        }
        if let Some(odd) = of_class.iter().find(|sentence| sentence.starts_with(['#', '['])) {
            let reason = format!("`{odd}` begins with a sign that the file gives another meaning");
            return Err(Error::input("sentences", reason));
        }
    }
    write_atomically(path, |out| {
        for (class, of_class) in sentences.iter() {
            writeln!(out, "[{}]", classes.name(class).trim())?;
            for sentence in of_class {
                writeln!(out, "{sentence}")?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn classes() -> ClassSet {
        ClassSet::from_names(["sand", "brain coral", "A. palmata [old]"]).unwrap()
    }

    fn read(text: &[u8]) -> std::result::Result<ClassSentences, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.txt");
        std::fs::write(&path, text).unwrap();
        let shown = path.display().to_string();
        read_sentences(&path, &classes()).map_err(|error| error.to_string().replace(&shown, "s.txt"))
    }

    #[test]
    fn comments_blanks_and_numbers() {
        let text = "\u{feff}# all of them\r\n\r\n[ Brain Coral ]\r\n  winding  grooves \r\n# more\r\n[2]\r\nelk horns";
        let sentences = read(text.as_bytes()).unwrap();
        assert_eq!(
            (sentences.of(1), sentences.of(2)),
            (&["winding grooves".to_owned()][..], &["elk horns".into()][..])
        );
        assert_eq!(read(b"[A. palmata [old]]\nelk horns").unwrap().of(2), ["elk horns"]);
    }

    #[test]
    fn faults_name_file_and_line() {
        for (text, expected) in [
            ("\nwinding", "s.txt:2: a sentence before the first `[class]`"),
            ("[sand]\na\n[brain", "s.txt:3: expected `[class]`, got `[brain`"),
            ("[mud]\na", "s.txt:1: unknown class `mud`: expected one of sand, brain coral, A. palmata [old]"),
            ("[]\na", "s.txt:1: unknown class ``: expected one of sand, brain coral, A. palmata [old]"),
            ("[sand]\n\n[2]\na", "s.txt:1: the class `sand` has no sentence"),
            ("[sand]\na\n[2]\n# b", "s.txt:3: the class `A. palmata [old]` has no sentence"),
            ("[sand]\na\n[0]\nb", "s.txt:3: the class `0` is already in line 1"),
            ("[sand]\na b\n[2]\nA  b", "s.txt:4: the sentence `A  b` is already in line 2"),
            ("# nothing", "s.txt: the file holds no sentence"),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err(), expected);
        }
        assert!(read(b"[sand]\ncaf\xe9").unwrap_err().starts_with("s.txt:2: the text is not UTF-8"));
        assert!(matches!(read_sentences("nowhere.txt", &classes()), Err(Error::Io { .. })));
    }

    #[test]
    fn what_would_be_read_otherwise_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.txt");
        let fail = |class, sentence: &str, set: &ClassSet| {
            let sentences = ClassSentences::new([(class, vec![sentence.to_owned()])]).unwrap();
            write_sentences(&path, &sentences, set).unwrap_err().to_string()
        };
        assert!(fail(9, "a", &classes()).contains("unknown class `9`"));
        assert!(fail(0, "# a", &classes()).contains("`# a` begins with a sign"));
        assert!(fail(0, "[a", &classes()).contains("`[a` begins with a sign"));
        assert!(fail(0, "a", &ClassSet::from_names(["a\nb"]).unwrap()).contains("class 0 has a line break"));
        assert!(!path.exists());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]#sand012\n\r é]{0,60}") {
            let _ = parse(&text, &classes());
        }

        #[test]
        fn what_is_written_is_read(
            texts in proptest::collection::vec(proptest::collection::vec("[a-z ]{0,6}[a-z][^#\\[\n]{0,6}", 1..4), 3)
        ) {
            let groups = (0..).zip(texts).filter_map(|(class, sentences)| {
                // A number in front keeps the sentences apart.
                let numbered = (0..).zip(sentences).map(|(at, one): (u32, String)| format!("{class}{at} {one}"));
                (class != 1).then(|| (class, numbered.collect()))
            });
            let sentences = ClassSentences::new(groups).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s.txt");
            write_sentences(&path, &sentences, &classes()).unwrap();
            prop_assert_eq!(read_sentences(&path, &classes()).unwrap(), sentences);
        }
    }
}
