use crate::{Class, ClassId, ClassSet, Error, Remapping, Result, UNLABELED, default_color};

impl ClassSet {
    /// The classes of objects at a level of the hierarchy, numbered 1, 2, 3, … behind a background 0, and the remapping
    /// of this set's ids to them: what a network that names objects is trained on.
    ///
    /// The classes are those `level` steps below `root` (0 is `root` itself), and the classes that end above that level.
    /// A class further down becomes the one it belongs to. A class above that level that others lie under is too coarse
    /// to be named there and becomes [`UNLABELED`], as do the classes above `root`. What else does not lie under `root` is
    /// background; ids that this set does not hold become [`UNLABELED`].
    ///
    /// # Errors
    /// [`Error::UnknownClass`] when `root` is not in the set; [`Error::InvalidInput`] when a class under it is called
    /// background.
    ///
    /// # Examples
    /// ```
    /// use coral_core::ClassSet;
    /// let mut classes = ClassSet::from_names(["sand", "coral", "branching", "massive", "Acropora"])?;
    /// for (id, parent) in [(2, 1), (3, 1), (4, 2)] {
    ///     classes.set_parent(id, Some(parent))?;
    /// }
    /// let (forms, remapping) = classes.objects_at_level(1, 1)?;
    /// let names: Vec<_> = forms.iter().map(|class| class.name.as_str()).collect();
    /// assert_eq!(names, ["background", "branching", "massive"]);
    /// // Sand is background, an Acropora branches, and a "coral" could be either form.
    /// assert_eq!([0, 4, 3, 1].map(|id| remapping.get(id)), [0, 1, 2, 255]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn objects_at_level(&self, root: ClassId, level: usize) -> Result<(ClassSet, Remapping)> {
        if self.get(root).is_none() {
            let class = root.to_string();
            return Err(Error::UnknownClass { class, expected: "the id of a class of the set".into() });
        }
        let row = |id, name: &str, color| Class { id, name: name.to_owned(), color, parent: None };
        let mut objects = vec![row(0, "background", default_color(0))];
        let mut remapping = Remapping::to_unlabeled();
        let above_root = self.ancestors(root);
        let mut number_of = [UNLABELED; 256];
        for class in self.iter() {
            // From `root` down to the class.
            let mut path: Vec<_> = std::iter::once(class.id).chain(self.ancestors(class.id)).collect();
            path.reverse();
            let Some(start) = path.iter().position(|&id| id == root) else {
                if !above_root.contains(&class.id) {
                    remapping.set(class.id, 0);
                }
                continue;
            };
            let path = &path[start..];
            let named = match path.get(level) {
                Some(&named) => named,
                None if self.children(class.id).is_empty() => class.id,
                None => continue,
            };
            let number = &mut number_of[usize::from(named)];
            if *number == UNLABELED {
                *number = objects.len() as ClassId;
                objects.push(row(*number, &self.name(named), self.color(named)));
            }
            remapping.set(class.id, *number);
        }
        Ok((ClassSet::new(objects)?, remapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy() -> ClassSet {
        let mut classes =
            ClassSet::from_names(["sand", "coral", "soft", "branching", "Acropora", "A. cervicornis"]).unwrap();
        for (id, parent) in [(2, 1), (3, 1), (4, 3), (5, 4)] {
            classes.set_parent(id, Some(parent)).unwrap();
        }
        classes
    }

    #[test]
    fn every_level_is_consecutive() {
        let expected: [(&[&str], [ClassId; 6]); 4] = [
            (&["background", "coral"], [0, 1, 1, 1, 1, 1]),
            (&["background", "soft", "branching"], [0, UNLABELED, 1, 2, 2, 2]),
            (&["background", "soft", "Acropora"], [0, UNLABELED, 1, UNLABELED, 2, 2]),
            (&["background", "soft", "A. cervicornis"], [0, UNLABELED, 1, UNLABELED, UNLABELED, 2]),
        ];
        for (level, (names, ids)) in expected.into_iter().enumerate() {
            let (classes, remapping) = hierarchy().objects_at_level(1, level).unwrap();
            assert_eq!(classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(), names, "{level}");
            assert_eq!([0, 1, 2, 3, 4, 5].map(|id| remapping.get(id)), ids, "{level}");
            assert_eq!((remapping.get(77), remapping.get(UNLABELED)), (UNLABELED, UNLABELED));
        }
        let (beyond, _) = hierarchy().objects_at_level(1, 9).unwrap();
        assert_eq!(beyond.len(), 3);
    }

    #[test]
    fn numbers_follow_the_ids_of_the_set() {
        // A parent may have a larger id than its children.
        let class = |id, name: &str, parent| Class { id, name: name.into(), color: [id, 0, 0], parent };
        let set = ClassSet::new([class(3, "b", Some(9)), class(9, "coral", None), class(4, "a", Some(9))]).unwrap();
        let (classes, remapping) = set.objects_at_level(9, 1).unwrap();
        assert_eq!((classes.name(1), classes.name(2), classes.color(2)), ("b".into(), "a".into(), [4, 0, 0]));
        assert_eq!([3, 4, 9].map(|id| remapping.get(id)), [1, 2, UNLABELED]);
    }

    #[test]
    fn classes_above_the_root_are_too_coarse() {
        let (_, remapping) = hierarchy().objects_at_level(3, 1).unwrap();
        assert_eq!([0, 1, 2, 3, 4, 5].map(|id| remapping.get(id)), [0, UNLABELED, 0, UNLABELED, 1, 1]);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        assert!(matches!(hierarchy().objects_at_level(77, 0), Err(Error::UnknownClass { .. })));
        let mut odd = hierarchy();
        let below = odd.add("Background").unwrap();
        odd.set_parent(below, Some(1)).unwrap();
        assert!(odd.objects_at_level(1, 1).unwrap_err().to_string().contains("`Background` occurs twice"));
    }
}
