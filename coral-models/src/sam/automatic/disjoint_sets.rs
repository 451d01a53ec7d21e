/// Sets of numbers that only ever merge; each is named by its smallest member.
#[derive(Debug)]
pub(super) struct DisjointSets {
    parents: Vec<usize>,
}

impl DisjointSets {
    /// The sets {0}, {1}, … {`count` − 1}.
    pub(super) fn singletons(count: usize) -> Self {
        Self { parents: (0..count).collect() }
    }

    /// The smallest member of `item`'s set.
    pub(super) fn root(&mut self, mut item: usize) -> usize {
        while self.parents[item] != item {
            let above = self.parents[self.parents[item]];
            self.parents[item] = above;
            item = above;
        }
        item
    }

    /// Makes one set of the sets of `a` and `b`.
    pub(super) fn merge(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }

    /// Every set with its members in rising order, sorted by the first of them.
    pub(super) fn into_groups(mut self) -> Vec<Vec<usize>> {
        let mut place = vec![0; self.parents.len()];
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for item in 0..self.parents.len() {
            let root = self.root(item);
            if root == item {
                place[item] = groups.len();
                groups.push(Vec::new());
            }
            groups[place[root]].push(item);
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_sorted() {
        let mut sets = DisjointSets::singletons(7);
        for (a, b) in [(6, 2), (5, 4), (4, 6), (1, 3)] {
            sets.merge(a, b);
        }
        assert_eq!((sets.root(5), sets.root(3), sets.root(0)), (2, 1, 0));
        assert_eq!(sets.into_groups(), [vec![0], vec![1, 3], vec![2, 4, 5, 6]]);
        assert_eq!(DisjointSets::singletons(0).into_groups(), Vec::<Vec<usize>>::new());
    }
}
