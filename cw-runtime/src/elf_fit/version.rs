//! The versions of glibc, as its symbols carry them.

use std::fmt;

/// A version of glibc. Ordered by number: 2.9 is older than 2.34.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    /// 0 where none is said, as in all since 2.4.
    patch: u32,
}

impl Version {
    /// From the name of a symbol version, `GLIBC_2.34` or `GLIBC_2.2.5`.
    ///
    /// `None` for all others: `GLIBC_PRIVATE` and `GLIBC_ABI_DT_RELR` have no number, `GCC_3.0` is of another library.
    pub(super) fn of_symbols(name: &str) -> Option<Self> {
        let (major, rest) = name.strip_prefix("GLIBC_")?.split_once('.')?;
        let (minor, patch) = rest.split_once('.').unwrap_or((rest, "0"));
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()?, patch: patch.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch > 0 { write!(f, ".{}", self.patch) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    fn version(name: &str) -> Option<Version> {
        Version::of_symbols(name)
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version("GLIBC_2.9") < version("GLIBC_2.34"));
        assert!(version("GLIBC_2.2.5") < version("GLIBC_2.3"));
        assert!(version("GLIBC_2.3.4") > version("GLIBC_2.3"));
    }

    #[test]
    fn a_version_is_shown_as_it_was_said() {
        for said in ["2.34", "2.2.5", "2.0"] {
            assert_eq!(version(&format!("GLIBC_{said}")).expect("a version").to_string(), said);
        }
    }

    #[test]
    fn what_has_no_number_is_no_version() {
        let names = ["", "GLIBC_", "GLIBC_2", "GLIBC_PRIVATE", "GLIBC_ABI_DT_RELR", "GLIBCXX_3.4", "GCC_3.0"];
        let odd = ["GLIBC_2.", "GLIBC_2.x", "GLIBC_2.99999999999", "GLIBC_2.3.4.5", "libc.so.6"];
        for name in names.iter().chain(&odd) {
            assert_eq!(version(name), None, "{name}");
        }
    }
}
