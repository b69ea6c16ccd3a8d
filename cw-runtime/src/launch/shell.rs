//! Words for shells. Only a POSIX `sh` ever reads what is quoted here.

use std::ffi::OsStr;

/// One word of a POSIX shell's that means just this text.
pub(crate) fn quote(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    // `=` in the first word would make it an assignment, `~` and all else are none of those.
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A command line of these words.
pub(crate) fn line(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_what_was_meant() {
        let words = [
            "plain-1.2_x/y:z",
            "",
            " ",
            "it's",
            "'",
            "''",
            "a\"b",
            "$HOME `id` $(id)",
            "back\\slash",
            "two\nlines",
            "*",
            "~",
            "!x",
            "#",
            "ü",
            "a;b|c&d>e<f",
            "-n",
        ];
        let script = format!("for word in {}; do printf '%s\\0' \"$word\"; done", line(words));
        let said = Command::new("sh").args(["-c", &script]).output().expect("there is a shell");
        let said = String::from_utf8(said.stdout).expect("text");
        assert_eq!(said.split_terminator('\0').collect::<Vec<_>>(), words);
    }

    #[test]
    fn what_needs_no_quotes_has_none() {
        assert_eq!(line(["/usr/bin/cw", "worker", "--slots=2", "a b"]), "/usr/bin/cw worker --slots=2 'a b'");
    }
}
