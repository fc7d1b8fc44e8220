//! "Did you mean": the known word that is written most like another.

/// The known key that is written most like `name`, unless none is.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|key| (strsim::damerau_levenshtein(name, key), *key)).min()?;
    (near.0 <= name.len().max(3) / 2).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_unless_it_is_far() {
        let known = ["name", "listen", "memory"];
        for (typed, expected) in
            [("listn", Some("listen")), ("nmae", Some("name")), ("memroy", Some("memory")), ("zzzz", None)]
        {
            assert_eq!(nearest(typed, &known), expected, "{typed}");
        }
        assert_eq!(nearest("x", &[]), None);
    }
}
