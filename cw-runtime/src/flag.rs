//! The names of cw's flags as they are typed: a program may have given them a prefix.

use std::sync::OnceLock;

static PREFIX: OnceLock<&'static str> = OnceLock::new();

/// Sets the prefix of this process's flags, once, before any flag is read or named.
pub(crate) fn set_prefix(prefix: &'static str) {
    // One program has one `main`; a second call could only come from a test, and changes nothing.
    let _ = PREFIX.set(prefix);
}

/// A flag as it is typed: `flag("role")` is `--role`, or `--cw-role` with the prefix `cw-`.
pub(crate) fn flag(name: &str) -> String {
    format!("--{}", with_prefix(name))
}

/// The same without dashes, as a parser names it.
pub(crate) fn with_prefix(name: &str) -> String {
    format!("{}{name}", PREFIX.get().copied().unwrap_or_default())
}
