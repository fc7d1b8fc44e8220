//! The admin token of the console.

use std::fmt;

/// `SPANDREL_ADMIN_TOKEN`. Its `Debug` output does not contain the token.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// The token itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AdminToken {
    fn from(token: &str) -> AdminToken {
        AdminToken(token.to_owned())
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AdminToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_contain_the_token() {
        assert_eq!(format!("{:?}", AdminToken::from("secret")), "AdminToken(..)");
    }
}
