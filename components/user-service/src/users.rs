//! The customers of the shop.

use std::str::FromStr;

use serde::Serialize;

/// The id of a user: any integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserId(i64);

impl FromStr for UserId {
    type Err = NotAnInteger;

    fn from_str(text: &str) -> Result<Self, NotAnInteger> {
        text.parse().map(Self).map_err(|_| NotAnInteger)
    }
}

/// The error for a user id such as `abc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an integer")]
pub struct NotAnInteger;

/// A customer.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub id: i64,
    /// First and last name.
    pub name: &'static str,
    /// The email address.
    pub email: &'static str,
}

const USERS: [User; 2] = [
    User { id: 1, name: "John Doe", email: "john@example.com" },
    User { id: 2, name: "Jane Smith", email: "jane@example.com" },
];

/// All customers.
pub fn all() -> &'static [User] {
    &USERS
}

/// The customer with this id.
pub fn find(id: UserId) -> Option<&'static User> {
    USERS.iter().find(|user| user.id == id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_number() {
        assert_eq!(find(UserId(2)).unwrap().name, "Jane Smith");
        assert_eq!(find(UserId(3)), None);
    }

    #[test]
    fn a_user_id_is_an_integer() {
        assert_eq!("-1".parse(), Ok(UserId(-1)));
        for text in ["abc", "1.5", "", "1 "] {
            assert_eq!(text.parse::<UserId>(), Err(NotAnInteger), "{text}");
        }
    }
}
