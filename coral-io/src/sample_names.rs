//! Names of samples: unique in a dataset and fit for file names.

use std::collections::HashSet;

/// `name` without what no file name may hold, numbered where it is taken.
pub(crate) fn free_name(name: &str, taken: &mut HashSet<String>) -> String {
    let safe = |c: char| if matches!(c, '/' | '\\' | '\0') { '_' } else { c };
    let mut name: String = name.chars().map(safe).collect();
    if matches!(name.as_str(), "" | "." | "..") {
        name.insert(0, '_');
    }
    // Case does not tell files apart everywhere.
    let numbered = (2..).map(|number: usize| format!("{name}_{number}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| taken.insert(name.to_lowercase()));
    free.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_safe() {
        let mut taken = HashSet::new();
        let names = ["a", "A", "a_2", "a", "", ".", "..", "x/y"].map(|name| free_name(name, &mut taken));
        assert_eq!(names, ["a", "A_2", "a_2_2", "a_3", "_", "_.", "_..", "x_y"]);
    }
}
