//! Function names in backtraces, as they are written in the source.

/// The most bytes of a function name in a backtrace, and of a symbol that is demangled.
const MAX_NAME: usize = 512;
const MAX_SYMBOL: usize = 8 << 10;

/// Demangles a Rust symbol; other names are returned as they are. Long names are truncated.
pub(super) fn demangled(function: &str) -> String {
    let symbol = &function[..function.floor_char_boundary(MAX_SYMBOL)];
    let mut name = format!("{:#}", rustc_demangle::demangle(symbol));
    name.truncate(name.floor_char_boundary(MAX_NAME));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_demangled_to_its_source_name() {
        assert_eq!(demangled("_ZN5stock7reserve17h0123456789abcdefE"), "stock::reserve");
        assert_eq!(demangled("_RNvCs1234_5stock7reserve"), "stock::reserve");
        assert_eq!(demangled("reserve"), "reserve");
        assert_eq!(demangled(&"é".repeat(10_000)).len(), 512);
    }
}
