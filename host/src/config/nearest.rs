//! Suggests the known key that is most similar to a misspelled one.

/// The known key with the smallest edit distance to `name`. `None` if no key is similar.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|key| (strsim::damerau_levenshtein(name, key), *key)).min()?;
    (near.0 <= name.len().max(3) / 2).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_key_is_suggested_if_it_is_similar_enough() {
        let known = ["name", "listen", "memory"];
        for (typed, expected) in
            [("listn", Some("listen")), ("nmae", Some("name")), ("memroy", Some("memory")), ("zzzz", None)]
        {
            assert_eq!(nearest(typed, &known), expected, "{typed}");
        }
        assert_eq!(nearest("x", &[]), None);
    }
}
