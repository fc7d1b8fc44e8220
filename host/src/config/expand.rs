//! `${NAME}` and `${NAME:-default}` in the manifest's strings; `$$` stands for a dollar sign.

use super::environment::Environment;

/// The text with every variable replaced, or what is wrong and what to do.
pub(super) fn expand(text: &str, environment: &Environment) -> Result<String, (String, String)> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after.split_once('}').ok_or_else(|| {
                (
                    "`${` has no closing brace".to_owned(),
                    "write `${NAME}`, `${NAME:-default}`, or `$$` for `$`".to_owned(),
                )
            })?;
            expanded.push_str(&value(inside, environment)?);
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn value(inside: &str, environment: &Environment) -> Result<String, (String, String)> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    match environment.get(name).or(default) {
        Some(value) => Ok(value.to_owned()),
        None => Err((
            format!("the environment variable {name} is not set"),
            format!("set {name}, or give a default: `${{{name}:-default}}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced() {
        let environment = Environment::from_pairs([("HOST", "example"), ("EMPTY", "")]);
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &environment).unwrap(), expected, "{text}");
        check("http://${HOST}:1", "http://example:1");
        check("${NONE:-a}${EMPTY:-b}${HOST:-c}", "abexample");
        check("cost: $$5 $x", "cost: $5 $x");
        assert!(expand("${NONE}", &environment).unwrap_err().0.contains("NONE is not set"));
        assert!(expand("${HOST", &environment).is_err());
    }
}
