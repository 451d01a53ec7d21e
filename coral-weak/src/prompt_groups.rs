use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use coral_core::{ClassId, Error, Result, UNLABELED};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Sentences in named groups, one of which is the background. The groups are the classes of a
/// [`ZeroShotLabeler`](crate::ZeroShotLabeler), in their order.
///
/// Read from JSON, `{"background": ["a photo of sand"], "seagrass": ["a photo of seagrass"]}`, or from plain text:
/// ```text
/// # What the water hides.
/// [background]
/// a photo of sand
/// [seagrass]
/// a photo of seagrass
/// ```
///
/// # Examples
/// ```
/// use coral_weak::PromptGroups;
/// let groups = PromptGroups::parse("[seagrass]\na photo of seagrass\n[background]\nsand\nwater")?;
/// assert_eq!(groups.names().collect::<Vec<_>>(), ["seagrass", "background"]);
/// assert_eq!((groups.background(), groups.prompts().len()), (1, 3));
/// let error = PromptGroups::parse("[seagrass]\na photo of seagrass").unwrap_err();
/// assert_eq!(error.to_string(), "invalid input `prompts`: no group is named `background`");
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptGroups {
    groups: Vec<Group>,
    background: ClassId,
}

/// A name and its prompts.
type Group = (String, Vec<String>);

/// What is wrong, and in which line, where that is known.
struct Fault {
    line: Option<usize>,
    reason: String,
}

impl Fault {
    fn new(line: impl Into<Option<usize>>, reason: impl Into<String>) -> Self {
        Self { line: line.into(), reason: reason.into() }
    }
}

impl PromptGroups {
    /// The name of the group that is no class of interest.
    pub const BACKGROUND: &'static str = "background";

    /// Groups of prompts, in this order.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is no group named [`PromptGroups::BACKGROUND`] or no other, there are more
    /// than 255 or two of one name, a group, its name or a prompt is empty, or a prompt occurs twice (whatever its
    /// case and spaces).
    pub fn new(groups: impl IntoIterator<Item = (impl Into<String>, Vec<String>)>) -> Result<Self> {
        let groups = groups.into_iter().map(|(name, prompts)| (name.into(), prompts)).collect();
        Self::checked(groups).map_err(|reason| Error::input("prompts", reason))
    }

    /// The eleven prompts of SeaCLIP in its groups `background` and `seagrass`.
    ///
    /// # References
    /// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024.
    pub fn seaclip() -> Self {
        let background = [
            "a photo of sand",
            "a photo of water",
            "a photo of sand or water",
            "a blurry photo of water",
            "a blurry photo of sand",
        ];
        let seagrass = [
            "a blurry photo of seagrass",
            "a photo containing some seagrass",
            "a photo of underwater plants",
            "a photo of underwater grass",
            "a photo of green, grass-like leaves underwater",
            "a photo of seagrass",
        ];
        let group = |name: &str, prompts: &[&str]| (name.to_owned(), prompts.iter().map(|&p| p.to_owned()).collect());
        Self { groups: vec![group(Self::BACKGROUND, &background), group("seagrass", &seagrass)], background: 0 }
    }

    /// Reads a file: JSON if its name ends in `.json`, else plain text.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::Format`] with the line where it breaks the rules of
    /// [`PromptGroups::new`] or of its format.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let groups = if is_json { from_json(&text) } else { from_text(&text) };
        groups.map_err(|fault| Error::format(path, fault.line.map(|line| line as u64), fault.reason))
    }

    /// Groups in plain text: a heading in brackets per group, then one prompt per line. Empty lines and lines that
    /// begin with `#` do not count.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] with the line that breaks the rules of [`PromptGroups::new`].
    pub fn parse(text: &str) -> Result<Self> {
        from_text(text).map_err(|fault| {
            let line = fault.line.map(|line| format!("line {line}: ")).unwrap_or_default();
            Error::input("prompts", format!("{line}{}", fault.reason))
        })
    }

    /// How many groups there are: background and one or more others.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group; never true.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The position of the background group.
    pub fn background(&self) -> ClassId {
        self.background
    }

    /// The groups' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|(name, _)| name.as_str())
    }

    /// Every prompt, group by group.
    pub fn prompts(&self) -> Vec<&str> {
        self.groups.iter().flat_map(|(_, prompts)| prompts).map(String::as_str).collect()
    }

    /// The group of each of [`PromptGroups::prompts`].
    pub fn group_of_prompts(&self) -> Vec<ClassId> {
        let group = |(index, (_, prompts)): (usize, &Group)| std::iter::repeat_n(index as ClassId, prompts.len());
        self.groups.iter().enumerate().flat_map(group).collect()
    }

    fn checked(groups: Vec<Group>) -> std::result::Result<Self, String> {
        let (mut names, mut seen) = (HashSet::new(), HashSet::new());
        for (index, (name, prompts)) in groups.iter().enumerate() {
            if name.trim().is_empty() {
                return Err(format!("group {} has an empty name", index + 1));
            }
            if !names.insert(name) {
                return Err(format!("the group `{name}` occurs twice"));
            }
            if prompts.is_empty() {
                return Err(format!("the group `{name}` has no prompt"));
            }
            for prompt in prompts {
                let key = key(prompt);
                if key.is_empty() {
                    return Err(format!("the group `{name}` has an empty prompt"));
                }
                if !seen.insert(key) {
                    return Err(format!("the prompt `{prompt}` occurs twice"));
                }
            }
        }
        let Some(background) = groups.iter().position(|(name, _)| name == Self::BACKGROUND) else {
            return Err(format!("no group is named `{}`", Self::BACKGROUND));
        };
        if !(2..=usize::from(UNLABELED)).contains(&groups.len()) {
            return Err(format!("{} groups; expected 2 to {UNLABELED}", groups.len()));
        }
        Ok(Self { groups, background: background as ClassId })
    }
}

/// What two prompts have in common that a text encoder does not tell apart.
fn key(prompt: &str) -> String {
    prompt.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn from_text(text: &str) -> std::result::Result<PromptGroups, Fault> {
    let mut groups: Vec<Group> = Vec::new();
    let mut heading = 0;
    let mut prompt_lines = std::collections::HashMap::new();
    let without = |name: &str, line| Fault::new(line, format!("the group `{name}` has no prompt"));
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| Fault::new(number, format!("expected `[group]`, got `{line}`")))?;
            match groups.last() {
                Some((last, prompts)) if prompts.is_empty() => return Err(without(last, heading)),
                _ if groups.iter().any(|(other, _)| other == name) => {
                    return Err(Fault::new(number, format!("the group `{name}` occurs twice")));
                }
                _ => groups.push((name.to_owned(), Vec::new())),
            }
            heading = number;
            continue;
        }
        let Some((_, prompts)) = groups.last_mut() else {
            return Err(Fault::new(number, "a prompt before the first `[group]`"));
        };
        if let Some(first) = prompt_lines.insert(key(line), number) {
            return Err(Fault::new(number, format!("the prompt `{line}` is already in line {first}")));
        }
        prompts.push(line.to_owned());
    }
    match groups.last() {
        Some((last, prompts)) if prompts.is_empty() => Err(without(last, heading)),
        _ => PromptGroups::checked(groups).map_err(|reason| Fault::new(None, reason)),
    }
}

fn from_json(text: &str) -> std::result::Result<PromptGroups, Fault> {
    let Ordered(groups) = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| Fault::new((error.line() > 0).then(|| error.line()), error.to_string()))?;
    PromptGroups::checked(groups).map_err(|reason| Fault::new(None, reason))
}

/// The entries of a JSON object in their order, repeated ones too.
struct Ordered(Vec<Group>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Groups;
        impl<'de> Visitor<'de> for Groups {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a list of prompts per group")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Ordered, A::Error> {
                let mut groups = Vec::new();
                while let Some(group) = map.next_entry()? {
                    groups.push(group);
                }
                Ok(Ordered(groups))
            }
        }
        deserializer.deserialize_map(Groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(name: &str, text: &str) -> std::result::Result<PromptGroups, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let shown = path.display().to_string();
        PromptGroups::read(&path).map_err(|error| error.to_string().replace(&shown, name))
    }

    #[test]
    fn seaclip_keeps_the_rules() {
        let groups = PromptGroups::seaclip();
        assert_eq!(PromptGroups::new(groups.groups.clone()).unwrap(), groups);
        assert_eq!(groups.group_of_prompts(), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
        assert_eq!((groups.prompts()[10], groups.len(), groups.is_empty()), ("a photo of seagrass", 2, false));
    }

    #[test]
    fn both_formats_say_the_same() {
        let text = "\u{feff}# note\n[background]\n a photo of sand \r\n\nwater\n[ kelp ]\nlong brown leaves\n";
        let json = r#"{"background": ["a photo of sand", "water"], "kelp": ["long brown leaves"]}"#;
        let groups = read("prompts.txt", text).unwrap();
        assert_eq!(groups.prompts(), ["a photo of sand", "water", "long brown leaves"]);
        assert_eq!(read("prompts.JSON", json).unwrap(), groups);
    }

    #[test]
    fn faults_name_file_and_line() {
        let text = |text| read("p.txt", text).unwrap_err();
        assert_eq!(text("sand"), "p.txt:1: a prompt before the first `[group]`");
        assert_eq!(text("[background]\n\n[kelp]\nleaves"), "p.txt:1: the group `background` has no prompt");
        assert_eq!(text("[background]\nsand\n[kelp]"), "p.txt:3: the group `kelp` has no prompt");
        assert_eq!(text("[background]\nsand\n[kelp]\nSand"), "p.txt:4: the prompt `Sand` is already in line 2");
        assert_eq!(text("[kelp]\na\n[kelp]\nb"), "p.txt:3: the group `kelp` occurs twice");
        assert_eq!(text("[kelp\na"), "p.txt:1: expected `[group]`, got `[kelp`");
        assert_eq!(text("[background]\nsand\n[ ]\nleaves"), "p.txt:3: expected `[group]`, got `[ ]`");
        assert_eq!(text(""), "p.txt: no group is named `background`");
        assert_eq!(text("[background]\nsand"), "p.txt: 1 groups; expected 2 to 255");
        let json = |text| read("p.json", text).unwrap_err();
        assert!(json("{\n\"background\": 3}").starts_with("p.json:2: invalid type: integer `3`"));
        assert!(json("[]").contains("expected an object with a list of prompts per group"));
        assert!(json(r#"{"background": ["a"], "background": ["b"]}"#).contains("`background` occurs twice"));
        assert_eq!(json(r#"{"background": ["a"], " ": ["b"]}"#), "p.json: group 2 has an empty name");
        assert!(json(r#"{"background": ["a"], "kelp": []}"#).contains("`kelp` has no prompt"));
        assert!(json(r#"{"background": ["a"], "kelp": ["b", " "]}"#).contains("`kelp` has an empty prompt"));
        assert!(json(r#"{"background": ["a photo"], "kelp": ["A  Photo"]}"#).contains("`A  Photo` occurs twice"));
        assert!(PromptGroups::read("nowhere.json").unwrap_err().to_string().starts_with("nowhere.json: "));
        let error = PromptGroups::parse("[background]\nsand\n[kelp]\nsand").unwrap_err().to_string();
        assert_eq!(error, "invalid input `prompts`: line 4: the prompt `sand` is already in line 2");
    }

    proptest! {
        #[test]
        fn readers_never_panic(text in "[\\[\\]{}\":,#a-c\n ]{0,60}") {
            let _ = PromptGroups::parse(&text);
            let _ = from_json(&text);
        }
    }
}
