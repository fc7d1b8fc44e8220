//! The names of functions in backtraces, as they are written in the source.

/// The bytes of a function's name that stand in a backtrace, and those of a symbol that are looked at for it.
const MAX_NAME: usize = 512;
const MAX_SYMBOL: usize = 8 << 10;

/// A Rust symbol as it is written in the source; any other as it is. Too long a one is cut.
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
    fn a_symbol_reads_like_the_source() {
        assert_eq!(demangled("_ZN5stock7reserve17h0123456789abcdefE"), "stock::reserve");
        assert_eq!(demangled("_RNvCs1234_5stock7reserve"), "stock::reserve");
        assert_eq!(demangled("reserve"), "reserve");
        assert_eq!(demangled(&"é".repeat(10_000)).len(), 512);
    }
}
