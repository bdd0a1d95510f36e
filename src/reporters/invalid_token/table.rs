//! Which table holds an app's tokens. Pure.

use crate::message::Platform;

/// `PostgreSQL` cuts longer identifiers silently, which would name another table (documentation, 4.1.1 "Identifiers").
const LONGEST: usize = 63;

/// Why an app has no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A character outside the allow-list.
    #[error("{0:?} cannot be a table or column: only letters, digits, _ and - are allowed, not first a digit or -")]
    Characters(String),
    /// Longer than `PostgreSQL`'s identifiers.
    #[error("{0:?} cannot be a table or column: longer than 63 bytes, PostgreSQL would cut it")]
    TooLong(String),
}

/// A quoted identifier of an allowed form.
pub fn quoted(name: &str) -> Result<String, TableError> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return Err(TableError::Characters(name.into()));
    }
    if name.len() > LONGEST {
        return Err(TableError::TooLong(name.into()));
    }
    Ok(format!("\"{name}\""))
}

/// The quoted name of the table of `app` and `platform`: `<app>_<platform>` in lower case, as `PostgreSQL` folds the
/// unquoted names that such tables were created with; in `schema` when one is given, else where `search_path` finds it.
pub fn table(schema: Option<&str>, app: &str, platform: Platform) -> Result<String, TableError> {
    let name = quoted_app(app, platform)?;
    match schema {
        Some(schema) => Ok(format!("{}.{name}", quoted(schema)?)),
        None => Ok(name),
    }
}

fn quoted_app(app: &str, platform: Platform) -> Result<String, TableError> {
    let name = format!("{app}_{platform}").to_ascii_lowercase();
    // An app may begin with a digit ("2048"); quoted, so may a table.
    if app.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
        quoted(&format!("_{name}")).map_err(|_| TableError::Characters(name.clone()))?;
        return if name.len() > LONGEST { Err(TableError::TooLong(name)) } else { Ok(format!("\"{name}\"")) };
    }
    quoted(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const APNS: Platform = Platform("apns");

    #[test]
    fn names_are_lower_case_and_quoted() {
        assert_eq!(table(None, "Game", APNS).unwrap(), r#""game_apns""#);
        assert_eq!(table(None, "my-game", APNS).unwrap(), r#""my-game_apns""#);
        assert_eq!(table(Some("push"), "2048", APNS).unwrap(), r#""push"."2048_apns""#);
    }

    #[test]
    fn what_is_not_allowed_is_refused() {
        for app in ["", "a\"b", "a;b", "a b", "ä", "-a", "a.b", "a\0"] {
            assert!(matches!(table(None, app, APNS), Err(TableError::Characters(_))) || app.is_empty(), "{app:?}");
        }
        assert!(matches!(table(None, &"a".repeat(59), APNS), Err(TableError::TooLong(_))));
        assert!(table(None, &"a".repeat(58), APNS).is_ok());
        assert!(table(Some("a\"; drop"), "a", APNS).is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_short_quoted_identifier(app in "\\PC{0,70}") {
            if let Ok(name) = table(None, &app, APNS) {
                let inner = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
                prop_assert!(inner.len() <= LONGEST);
                prop_assert!(inner.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-'));
            }
        }
    }
}
