//! The colours of services: the same on every page, if ten colours suffice.

use std::collections::BTreeMap;

/// Colours in the stylesheet, named `c0` to `c9`.
const COLOURS: usize = 10;

/// The CSS class of each service's colour.
pub(super) struct Colours(BTreeMap<String, usize>);

impl Colours {
    /// Assigns each service the colour that its name hashes to, or the next free one.
    pub fn of<'a>(services: impl IntoIterator<Item = &'a str>) -> Colours {
        let mut given = BTreeMap::<String, usize>::new();
        let mut names: Vec<_> = services.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let wanted = hash(name) % COLOURS;
            let free = (0..COLOURS).map(|step| (wanted + step) % COLOURS).find(|at| !given.values().any(|of| of == at));
            given.insert(name.to_owned(), free.unwrap_or(wanted));
        }
        Colours(given)
    }

    /// The CSS class of a service.
    pub fn class(&self, service: &str) -> String {
        format!("c{}", self.0.get(service).copied().unwrap_or_default())
    }
}

/// FNV-1a, which yields the same hash in every process.
fn hash(name: &str) -> usize {
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    name.bytes().fold(0x811c_9dc5, mix) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_ten_services_of_a_page_have_different_colours() {
        let names: Vec<_> = (0..COLOURS).map(|number| format!("service-{number}")).collect();
        let colours = Colours::of(names.iter().map(String::as_str));
        let mut classes: Vec<_> = names.iter().map(|name| colours.class(name)).collect();
        classes.sort_unstable();
        classes.dedup();
        assert_eq!(classes.len(), COLOURS);
    }
}
