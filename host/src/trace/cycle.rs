//! Cycles of parents. Guests and senders of spans choose the parents, so that the spans of a trace may not form a tree:
//! no walk from the roots reaches a cycle or what hangs below it.

/// The first span of each cycle, in order. A tree that treats them as roots contains every span. `parents` holds the
/// position of the parent of each span, if it is among the spans.
pub(crate) fn first_of_cycles(parents: &[Option<usize>]) -> Vec<usize> {
    // The walk in which a span was reached, so that each span is passed once.
    let mut reached = vec![None; parents.len()];
    let mut first = Vec::new();
    for walk in 0..parents.len() {
        let mut at = Some(walk);
        while let Some(span) = at.filter(|span| reached[*span].is_none()) {
            reached[span] = Some(walk);
            at = parents[span];
        }
        if let Some(span) = at.filter(|span| reached[*span] == Some(walk)) {
            first.push(first_of_cycle(parents, span));
        }
    }
    first.sort_unstable();
    first
}

/// The first span of the cycle of which `member` is a part.
fn first_of_cycle(parents: &[Option<usize>], member: usize) -> usize {
    let above = std::iter::successors(parents[member], |span| parents[*span]);
    above.take_while(|span| *span != member).fold(member, usize::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cycle_is_found_once_by_its_first_span() {
        let check = |parents: &[Option<usize>], expected: &[usize]| assert_eq!(first_of_cycles(parents), expected);
        check(&[], &[]);
        check(&[None, Some(0), Some(1), None], &[]);
        check(&[None, Some(1)], &[1]);
        check(&[Some(1), Some(0), Some(3), Some(4), Some(2)], &[0, 2]);
        // The first three spans hang below the cycle of the last two.
        check(&[Some(1), Some(3), Some(4), Some(4), Some(3)], &[3]);
    }

    #[test]
    fn a_long_cycle_takes_no_stack() {
        let last = 100_000;
        let parents: Vec<_> = (0..=last).map(|span| Some(if span == 0 { last } else { span - 1 })).collect();
        assert_eq!(first_of_cycles(&parents), [0]);
    }
}
