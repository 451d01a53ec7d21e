use serde::{Deserialize, Serialize};

use crate::{ClassId, Error, LabelMap, PointLabel, Result, UNLABELED};

/// One class of a [`ClassSet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// The id in label maps, 0–254.
    pub id: ClassId,
    /// The name, unique in the set (compared without case and surrounding blanks).
    pub name: String,
    /// The colour in pictures, RGB.
    pub color: [u8; 3],
    /// The broader class this one belongs to, e.g. a growth form for a genus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ClassId>,
}

/// The classes of a survey: ids, names, colours, and a hierarchy
/// (coral / growth form / genus) by parents.
///
/// Ids need not be consecutive. The set is checked whenever it changes or is
/// deserialised: ids and names are unique, parents exist and form no cycle.
///
/// # Examples
/// ```
/// use coral_core::ClassSet;
/// let mut classes = ClassSet::from_names(["sand", "coral"])?;
/// let acropora = classes.add("Acropora")?;
/// classes.set_parent(acropora, Some(1))?;
/// assert_eq!(classes.id("acropora"), Some(2));
/// assert_eq!(classes.ancestors(acropora), [1]);
/// assert_eq!(classes.remap_to_roots().get(acropora), 1);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Class>", into = "Vec<Class>")]
pub struct ClassSet {
    /// Sorted by id.
    classes: Vec<Class>,
}

impl ClassSet {
    /// A set of these classes, in any order.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for id 255, a repeated id, a repeated or empty name, an
    /// unknown parent or a cycle of parents.
    pub fn new(classes: impl IntoIterator<Item = Class>) -> Result<Self> {
        let mut classes: Vec<_> = classes.into_iter().collect();
        classes.sort_by_key(|class| class.id);
        let set = Self { classes };
        set.check()?;
        Ok(set)
    }

    /// Classes 0, 1, 2, … of these names with [`default_color`]s and no parents.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a repeated or empty name or more than 255 names.
    pub fn from_names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut set = Self::default();
        for name in names {
            set.push_unchecked(name.into())?;
        }
        set.check()?;
        Ok(set)
    }

    /// Classes named after these ids (`"7"` for 7), for labels without a table.
    /// [`UNLABELED`] is left out.
    pub fn from_ids(ids: impl IntoIterator<Item = ClassId>) -> Self {
        let mut ids: Vec<_> = ids.into_iter().filter(|&id| id != UNLABELED).collect();
        ids.sort_unstable();
        ids.dedup();
        let class = |id| Class { id, name: id.to_string(), color: default_color(id), parent: None };
        Self { classes: ids.into_iter().map(class).collect() }
    }

    /// Adds a class under the next free id (one past the largest) and returns that id.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the name is taken or empty or all ids are used.
    pub fn add(&mut self, name: impl Into<String>) -> Result<ClassId> {
        let mut grown = self.clone();
        let id = grown.push_unchecked(name.into())?;
        grown.check()?;
        *self = grown;
        Ok(id)
    }

    fn push_unchecked(&mut self, name: String) -> Result<ClassId> {
        let id = self.num_ids();
        if id >= usize::from(UNLABELED) {
            return Err(Error::input(
                "classes",
                format!("no id is left for `{name}`: at most 255 classes (0–254) fit"),
            ));
        }
        let id = id as ClassId;
        self.classes.push(Class { id, name, color: default_color(id), parent: None });
        Ok(id)
    }

    /// Puts class `id` under `parent`, or makes it a root.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] when `id` is not in the set; [`Error::InvalidInput`] when
    /// `parent` is not, or when a cycle would arise.
    pub fn set_parent(&mut self, id: ClassId, parent: Option<ClassId>) -> Result<()> {
        self.change(id, |class| class.parent = parent)
    }

    /// Changes the colour of class `id`, RGB.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] when `id` is not in the set.
    pub fn set_color(&mut self, id: ClassId, color: [u8; 3]) -> Result<()> {
        self.change(id, |class| class.color = color)
    }

    fn change(&mut self, id: ClassId, edit: impl FnOnce(&mut Class)) -> Result<()> {
        let mut changed = self.clone();
        let class = changed.classes.iter_mut().find(|class| class.id == id);
        edit(class.ok_or_else(|| self.unknown(id.to_string()))?);
        changed.check()?;
        *self = changed;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let fail = |reason: String| Err(Error::input("classes", reason));
        let mut names = std::collections::HashSet::new();
        for class in &self.classes {
            if class.id == UNLABELED {
                return fail(format!("class `{}` has id {UNLABELED}, which means unlabelled", class.name));
            }
            if class.name.trim().is_empty() {
                return fail(format!("class {} has no name", class.id));
            }
            if !names.insert(class.name.trim().to_lowercase()) {
                return fail(format!("the name `{}` occurs twice", class.name));
            }
        }
        if let Some(pair) = self.classes.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return fail(format!("id {} occurs twice: `{}` and `{}`", pair[0].id, pair[0].name, pair[1].name));
        }
        for class in &self.classes {
            let mut above = class.parent;
            for _ in 0..=self.classes.len() {
                let Some(id) = above else { break };
                let Some(parent) = self.get(id) else {
                    return fail(format!("the parent {id} of `{}` is not in the set", class.name));
                };
                above = parent.parent;
            }
            if above.is_some() {
                return fail(format!("the parents of `{}` form a cycle", class.name));
            }
        }
        Ok(())
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// One past the largest id: the length of a table indexed by class id.
    pub fn num_ids(&self) -> usize {
        self.classes.last().map_or(0, |class| usize::from(class.id) + 1)
    }

    /// The classes by ascending id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Class> {
        self.classes.iter()
    }

    /// The class of this id.
    pub fn get(&self, id: ClassId) -> Option<&Class> {
        self.classes.binary_search_by_key(&id, |class| class.id).ok().map(|at| &self.classes[at])
    }

    /// The id of the class of this name, compared without case and surrounding blanks.
    pub fn id(&self, name: &str) -> Option<ClassId> {
        let wanted = name.trim().to_lowercase();
        self.classes.iter().find(|class| class.name.trim().to_lowercase() == wanted).map(|class| class.id)
    }

    /// The id for a text that is a class's name or, failing that, its number.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] listing the names that would have been accepted.
    pub fn parse(&self, text: &str) -> Result<ClassId> {
        let by_number = || text.trim().parse().ok().filter(|&id| self.get(id).is_some());
        self.id(text).or_else(by_number).ok_or_else(|| self.unknown(text.trim().to_owned()))
    }

    /// The name of class `id`, or its number when the set does not hold it.
    pub fn name(&self, id: ClassId) -> String {
        match self.get(id) {
            Some(class) => class.name.clone(),
            None if id == UNLABELED => "unlabelled".into(),
            None => id.to_string(),
        }
    }

    /// The colour of class `id`, RGB: its own, [`default_color`] when the set does not
    /// hold it, black for [`UNLABELED`].
    pub fn color(&self, id: ClassId) -> [u8; 3] {
        self.get(id).map_or_else(|| default_color(id), |class| class.color)
    }

    /// The classes above `id`, nearest first; empty for a root or an unknown id.
    pub fn ancestors(&self, id: ClassId) -> Vec<ClassId> {
        std::iter::successors(self.get(id).and_then(|class| class.parent), |&id| self.get(id)?.parent).collect()
    }

    /// The classes directly below `id`, by ascending id.
    pub fn children(&self, id: ClassId) -> Vec<ClassId> {
        self.classes.iter().filter(|class| class.parent == Some(id)).map(|class| class.id).collect()
    }

    /// Replaces every class by its topmost ancestor; ids not in the set become [`UNLABELED`].
    pub fn remap_to_roots(&self) -> Remapping {
        self.remap_to_level(0)
    }

    /// Replaces every class by its ancestor `level` steps below its root (0 is the root);
    /// classes that are not that deep keep their id, ids not in the set become [`UNLABELED`].
    pub fn remap_to_level(&self, level: usize) -> Remapping {
        let mut remapping = Remapping::to_unlabeled();
        for class in &self.classes {
            let mut path = self.ancestors(class.id);
            path.reverse();
            path.push(class.id);
            remapping.set(class.id, path[level.min(path.len() - 1)]);
        }
        remapping
    }

    /// Replaces every class by the class of the same name in `target`, or else by its nearest
    /// ancestor with one; what `target` does not have at all becomes [`UNLABELED`].
    pub fn remap_to(&self, target: &ClassSet) -> Remapping {
        let mut remapping = Remapping::to_unlabeled();
        for class in &self.classes {
            let mut path = std::iter::once(class.id).chain(self.ancestors(class.id));
            if let Some(id) = path.find_map(|id| target.id(&self.name(id))) {
                remapping.set(class.id, id);
            }
        }
        remapping
    }

    fn unknown(&self, class: String) -> Error {
        let names: Vec<_> = self.classes.iter().take(12).map(|class| class.name.as_str()).collect();
        let more = if self.len() > names.len() { ", …" } else { "" };
        Error::UnknownClass { class, expected: format!("one of {}{more}", names.join(", ")) }
    }
}

impl TryFrom<Vec<Class>> for ClassSet {
    type Error = Error;
    fn try_from(classes: Vec<Class>) -> Result<Self> {
        Self::new(classes)
    }
}

impl From<ClassSet> for Vec<Class> {
    fn from(set: ClassSet) -> Self {
        set.classes
    }
}

/// A table that replaces class ids by others.
///
/// # Examples
/// ```
/// use coral_core::{ClassId, Remapping, UNLABELED, ndarray::array};
/// // A dataset that marks unlabelled pixels with 34:
/// let mut remapping = Remapping::identity();
/// remapping.set(34, UNLABELED);
/// assert_eq!(remapping.apply(&array![[0, 34], [7, 255]]), array![[0, 255], [7, 255]]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remapping {
    table: [ClassId; 256],
}

impl Remapping {
    /// Every id stays as it is.
    pub fn identity() -> Self {
        Self { table: std::array::from_fn(|id| id as ClassId) }
    }

    /// Every id becomes [`UNLABELED`] until set otherwise.
    pub fn to_unlabeled() -> Self {
        Self { table: [UNLABELED; 256] }
    }

    /// Lets `from` become `to`.
    pub fn set(&mut self, from: ClassId, to: ClassId) {
        self.table[usize::from(from)] = to;
    }

    /// What `id` becomes.
    pub fn get(&self, id: ClassId) -> ClassId {
        self.table[usize::from(id)]
    }

    /// The map with every id replaced.
    pub fn apply(&self, labels: &LabelMap) -> LabelMap {
        labels.mapv(|id| self.get(id))
    }

    /// The points with every class replaced; points that become [`UNLABELED`] are left out.
    pub fn apply_to_points(&self, points: &[PointLabel]) -> Vec<PointLabel> {
        let remapped = points.iter().map(|p| PointLabel { class: self.get(p.class), ..*p });
        remapped.filter(|p| p.class != UNLABELED).collect()
    }
}

/// A colour for class `id`, RGB: bright and far from those of neighbouring ids; black
/// for [`UNLABELED`].
pub fn default_color(id: ClassId) -> [u8; 3] {
    if id == UNLABELED {
        return [0, 0, 0];
    }
    // Steps of the golden angle around the hue circle never meet; saturation and value
    // alternate so that ids that come close in hue differ in lightness.
    let hue = (f64::from(id) * 0.618_033_988_75 + 0.11).fract() * 6.0;
    let saturation = [0.85, 0.55, 0.75][usize::from(id) % 3];
    let value = [0.95, 0.98, 0.70][usize::from(id / 2) % 3];
    let channel = |n: f64| {
        let k = (n + hue) % 6.0;
        let level = value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0));
        (level * 255.0).round() as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy() -> ClassSet {
        let class = |id, name: &str, parent| Class { id, name: name.into(), color: default_color(id), parent };
        ClassSet::new([
            class(9, "Acropora", Some(5)),
            class(2, "coral", None),
            class(5, "branching", Some(2)),
            class(1, "sand", None),
        ])
        .unwrap()
    }

    #[test]
    fn bad_sets_are_refused() {
        let class = |id, name: &str, parent| Class { id, name: name.into(), color: [0; 3], parent };
        for (classes, text) in [
            (vec![class(255, "a", None)], "which means unlabelled"),
            (vec![class(0, "a", None), class(0, "b", None)], "id 0 occurs twice"),
            (vec![class(0, "Sand", None), class(1, "sand", None)], "occurs twice"),
            (vec![class(0, "sand ", None), class(1, "sand", None)], "occurs twice"),
            (vec![class(0, " ", None)], "has no name"),
            (vec![class(0, "a", Some(4))], "parent 4 of `a` is not in the set"),
            (vec![class(0, "a", Some(1)), class(1, "b", Some(0))], "form a cycle"),
        ] {
            let error = ClassSet::new(classes).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let many = ClassSet::from_names((0..256).map(|i| format!("class {i}"))).unwrap_err().to_string();
        assert!(many.contains("at most 255 classes"), "{many}");
        assert_eq!(ClassSet::from_names((0..255).map(|i| format!("class {i}"))).unwrap().len(), 255);
    }

    #[test]
    fn a_refused_change_leaves_the_set_as_it_was() {
        let mut set = hierarchy();
        assert!(set.set_parent(2, Some(9)).is_err());
        assert!(set.add("Sand").is_err());
        assert!(matches!(set.set_color(77, [1, 2, 3]), Err(Error::UnknownClass { .. })));
        assert_eq!(set, hierarchy());
        assert_eq!(set.add("rubble").unwrap(), 10);
    }

    #[test]
    fn hierarchies_remap() {
        let set = hierarchy();
        assert_eq!(set.ancestors(9), [5, 2]);
        assert_eq!(set.children(2), [5]);
        let level = |n| [9, 5, 2, 1, 77].map(|id| set.remap_to_level(n).get(id));
        assert_eq!(level(0), [2, 2, 2, 1, UNLABELED]);
        assert_eq!(level(1), [5, 5, 2, 1, UNLABELED]);
        assert_eq!(level(2), [9, 5, 2, 1, UNLABELED]);
        let target = ClassSet::from_names(["Branching", "rock"]).unwrap();
        assert_eq!([9, 5, 2, 1].map(|id| set.remap_to(&target).get(id)), [0, 0, UNLABELED, UNLABELED]);
    }

    #[test]
    fn names_before_numbers() {
        let set = ClassSet::new([
            Class { id: 0, name: "7".into(), color: [0; 3], parent: None },
            Class { id: 7, name: "sand".into(), color: [0; 3], parent: None },
        ])
        .unwrap();
        assert_eq!(set.parse(" 7 ").unwrap(), 0);
        assert_eq!(set.parse("SAND").unwrap(), 7);
        let error = set.parse("mud").unwrap_err().to_string();
        assert_eq!(error, "unknown class `mud`: expected one of 7, sand");
    }

    #[test]
    fn json_round_trip_is_checked() {
        let set = hierarchy();
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(serde_json::from_str::<ClassSet>(&text).unwrap(), set);
        let twice = r#"[{"id":0,"name":"a","color":[0,0,0]},{"id":0,"name":"b","color":[0,0,0]}]"#;
        assert!(serde_json::from_str::<ClassSet>(twice).unwrap_err().to_string().contains("occurs twice"));
    }

    #[test]
    fn colors_differ() {
        let distance = |a: [u8; 3], b: [u8; 3]| a.iter().zip(b).map(|(a, b)| a.abs_diff(b) as u32).sum::<u32>();
        for a in 0..40 {
            for b in 0..a {
                assert!(distance(default_color(a), default_color(b)) > 20, "{a} {b}");
            }
        }
    }
}
