//! The dependency graph of files, and its cycles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Dependencies between files, each with the line of its first mention.
pub(super) struct Graph<'a> {
    dependencies: BTreeMap<&'a str, BTreeMap<&'a str, usize>>,
}

impl<'a> Graph<'a> {
    pub(super) fn new() -> Self {
        Self { dependencies: BTreeMap::new() }
    }

    /// Adds a dependency. The line of the first mention is kept; a file does not depend on itself.
    pub(super) fn add(&mut self, from: &'a str, to: &'a str, line: usize) {
        if from != to {
            let first = self.dependencies.entry(from).or_default().entry(to).or_insert(line);
            *first = line.min(*first);
        }
    }

    /// Removes cycles until none is left, shortest first. Each is a list of files, with the line that leads to the next
    /// one.
    pub(super) fn cycles(mut self) -> Vec<Vec<(&'a str, usize)>> {
        let mut cycles = Vec::new();
        while let Some(files) = self.shortest_cycle() {
            let next = files.iter().cycle().skip(1);
            cycles.push(files.iter().zip(next).map(|(from, to)| (*from, self.remove(from, to))).collect());
        }
        cycles
    }

    fn remove(&mut self, from: &str, to: &str) -> usize {
        self.dependencies.get_mut(from).and_then(|targets| targets.remove(to)).unwrap_or_default()
    }

    fn shortest_cycle(&self) -> Option<Vec<&'a str>> {
        let cycles = self.dependencies.keys().filter_map(|start| self.shortest_cycle_through(start));
        cycles.min_by_key(Vec::len)
    }

    /// The shortest path from a file back to itself, without the repeated end.
    fn shortest_cycle_through(&self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut seen = BTreeSet::new();
        let mut paths = VecDeque::from([vec![start]]);
        while let Some(path) = paths.pop_front() {
            let last = path[path.len() - 1];
            for next in self.dependencies.get(last).into_iter().flat_map(BTreeMap::keys) {
                if *next == start {
                    return Some(path);
                }
                if seen.insert(*next) {
                    paths.push_back([path.as_slice(), &[*next]].concat());
                }
            }
        }
        None
    }
}
