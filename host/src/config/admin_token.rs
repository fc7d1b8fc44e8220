//! The token of the console, which does not show itself.

use std::fmt;

/// `SPANDREL_ADMIN_TOKEN`. Does not show itself in logs.
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
    fn a_token_does_not_show_itself() {
        assert_eq!(format!("{:?}", AdminToken::from("secret")), "AdminToken(..)");
    }
}
