//! The difference of two texts by lines: `-` for expected lines, `+` for actual ones.

/// The merged lines of both texts, by their longest common subsequence. Empty if the texts are equal.
pub fn lines(expected: &str, actual: &str) -> String {
    if expected == actual {
        return String::new();
    }
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let lengths = common_lengths(&old, &new);
    let (mut at_old, mut at_new, mut text) = (0, 0, String::new());
    while at_old < old.len() || at_new < new.len() {
        let (mark, line) = if at_old < old.len() && at_new < new.len() && old[at_old] == new[at_new] {
            at_new += 1;
            at_old += 1;
            (' ', old[at_old - 1])
        } else if at_new == new.len()
            || at_old < old.len() && lengths[at_old + 1][at_new] >= lengths[at_old][at_new + 1]
        {
            at_old += 1;
            ('-', old[at_old - 1])
        } else {
            at_new += 1;
            ('+', new[at_new - 1])
        };
        text.push_str(&format!("{mark} {line}\n"));
    }
    text
}

/// `lengths[i][j]` is the length of the longest common subsequence of `old[i..]` and `new[j..]`.
fn common_lengths(old: &[&str], new: &[&str]) -> Vec<Vec<usize>> {
    let mut lengths = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i][j] = match old[i] == new[j] {
                true => lengths[i + 1][j + 1] + 1,
                false => lengths[i + 1][j].max(lengths[i][j + 1]),
            };
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_is_missing_and_what_is_new() {
        assert_eq!(lines("a\nb\nc", "a\nx\nc"), "  a\n- b\n+ x\n  c\n");
        assert_eq!(lines("a\nb", "a"), "  a\n- b\n");
        assert_eq!(lines("a", "a\nb"), "  a\n+ b\n");
        assert_eq!(lines("same", "same"), "");
    }
}
