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
    pub(super) fn circles(mut self) -> Vec<Vec<(&'a str, usize)>> {
        let mut circles = Vec::new();
        while let Some(files) = self.shortest_circle() {
            let next = files.iter().cycle().skip(1);
            circles.push(files.iter().zip(next).map(|(from, to)| (*from, self.take(from, to))).collect());
        }
        circles
    }

    fn take(&mut self, from: &str, to: &str) -> usize {
        self.dependencies.get_mut(from).and_then(|targets| targets.remove(to)).unwrap_or_default()
    }

    fn shortest_circle(&self) -> Option<Vec<&'a str>> {
        let circles = self.dependencies.keys().filter_map(|start| self.way_back(start));
        circles.min_by_key(Vec::len)
    }

    /// The shortest path from a file back to itself, without the repeated end.
    fn way_back(&self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut seen = BTreeSet::new();
        let mut ways = VecDeque::from([vec![start]]);
        while let Some(way) = ways.pop_front() {
            let last = way[way.len() - 1];
            for next in self.dependencies.get(last).into_iter().flat_map(BTreeMap::keys) {
                if *next == start {
                    return Some(way);
                }
                if seen.insert(*next) {
                    ways.push_back([way.as_slice(), &[*next]].concat());
                }
            }
        }
        None
    }
}
