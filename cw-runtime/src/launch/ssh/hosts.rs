//! `cw start --ssh FILE`: the file of hosts. One a line, as `ssh` takes it, and behind it perhaps `slots=N`.

use std::{fs, path::Path};

use crate::launch::fleet::Host;

/// Reads a file of hosts.
///
/// # Errors
/// It cannot be read, names no host, or a line makes no sense, in one line that names it.
pub(crate) fn read(path: &Path) -> Result<Vec<Host>, String> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse(&text).map_err(|wrong| format!("{}: {wrong}", path.display()))
}

/// Adds hosts to those of a fleet, each of which keeps its place: its folders are named by that.
pub(crate) fn add(there: &mut Vec<Host>, hosts: Vec<Host>) {
    for host in hosts {
        match there.iter_mut().find(|it| it.name == host.name) {
            Some(known) => known.slots = host.slots,
            None => there.push(host),
        }
    }
}

fn parse(text: &str) -> Result<Vec<Host>, String> {
    let mut hosts: Vec<(usize, Host)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let Some(host) = parse_line(line).map_err(|wrong| format!("line {number}: {wrong}"))? else {
            continue;
        };
        if let Some((before, _)) = hosts.iter().find(|(_, it)| it.name == host.name) {
            return Err(format!("line {number}: `{}` is in line {before} already", host.name));
        }
        hosts.push((number, host));
    }
    if hosts.is_empty() {
        return Err("it names no host".to_owned());
    }
    Ok(hosts.into_iter().map(|(_, host)| host).collect())
}

/// The host of a line, if there is one in it.
fn parse_line(line: &str) -> Result<Option<Host>, String> {
    // No name of a host has it.
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let Some(name) = words.next() else { return Ok(None) };
    if name.starts_with('-') || name.chars().any(char::is_control) {
        return Err(format!("`{}` is no host", name.escape_default()));
    }
    let mut host = Host { name: name.to_owned(), ..Host::default() };
    for word in words {
        let slots = word.strip_prefix("slots=").ok_or_else(|| {
            format!("what is `{word}`? Behind a host there may be `slots=N`; each host has a line of its own")
        })?;
        let count = slots.parse().ok().filter(|count| (1..=65_536).contains(count));
        host.slots = Some(count.ok_or_else(|| format!("`{slots}` is no number of slots: 1 to 65536"))?);
    }
    Ok(Some(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_what_ssh_takes() {
        let text =
            "# my machines\nnode7\n\n  ada@node8.example.org   slots=4 # the large one\r\nssh://n9:2222\n";
        let hosts = parse(text).unwrap();
        let found: Vec<_> = hosts.iter().map(|host| (host.name.as_str(), host.slots)).collect();
        assert_eq!(found, [("node7", None), ("ada@node8.example.org", Some(4)), ("ssh://n9:2222", None)]);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_line() {
        for (text, wrong) in [
            ("", "it names no host"),
            ("# none\n\n", "it names no host"),
            ("a\n-oProxyCommand=x\n", "line 2: `-oProxyCommand=x` is no host"),
            ("a\nb slots=0\n", "line 2: `0` is no number of slots: 1 to 65536"),
            ("a slots=many\n", "line 1: `many` is no number of slots: 1 to 65536"),
            (
                "a b\n",
                "line 1: what is `b`? Behind a host there may be `slots=N`; each host has a line of its own",
            ),
            ("a\nb\n\na slots=2", "line 4: `a` is in line 1 already"),
            ("a\x1b[2J\n", "line 1: `a\\u{1b}[2J` is no host"),
        ] {
            assert_eq!(parse(text).unwrap_err(), wrong, "{text:?}");
        }
    }

    #[test]
    fn hosts_that_are_there_keep_their_place() {
        let mut there = parse("a\nb slots=2\n").unwrap();
        there[1].folder = Some("/f".to_owned());
        add(&mut there, parse("c\nb\n").unwrap());
        let found: Vec<_> =
            there.iter().map(|it| (it.name.as_str(), it.slots, it.folder.is_some())).collect();
        assert_eq!(found, [("a", None, false), ("b", None, true), ("c", None, false)]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let wrong = read(Path::new("/no/such/hosts.txt")).unwrap_err();
        assert!(wrong.starts_with("cannot read /no/such/hosts.txt: No such file"), "{wrong}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hosts.txt");
        fs::write(&file, b"\xff\xfe").unwrap();
        assert!(read(&file).unwrap_err().contains("UTF-8"));
    }
}
