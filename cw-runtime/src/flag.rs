//! The names of cw's flags as they are typed: a program may have given them a prefix.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicBool, Ordering},
};

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

/// The cluster that this process is of, if its name has to be typed.
static CLUSTER: Mutex<Option<String>> = Mutex::new(None);

/// The word after a program's name that makes it do what the installed `cw` does.
pub(crate) const CLUSTER_VERB: &str = "cw";

/// The name of a cluster that nobody names.
pub(crate) const DEFAULT_CLUSTER: &str = "default";

/// Notes the cluster that this process is of.
pub(crate) fn set_cluster(name: &str) {
    let named = (name != DEFAULT_CLUSTER).then(|| name.to_owned());
    *CLUSTER.lock().expect("no holder panics") = named;
}

/// Whether this is the installed `cw`, which has verbs in place of roles.
static HAS_VERBS: AtomicBool = AtomicBool::new(false);

/// Notes that it is.
pub(crate) fn set_verbs() {
    HAS_VERBS.store(true, Ordering::Relaxed);
}

/// A role as it is typed behind this program's name, on this cluster: `--role worker --cluster lab`, or of the installed
/// binary `worker --cluster lab`.
pub(crate) fn role(name: &str) -> String {
    match HAS_VERBS.load(Ordering::Relaxed) {
        true => format!("{name}{}", cluster("--cluster")),
        false => format!("{} {name}{}", flag("role"), cluster(&flag("cluster"))),
    }
}

/// The same of the installed binary: `cw worker --cluster lab`.
pub(crate) fn verb(name: &str) -> String {
    format!("cw {name}{}", cluster("--cluster"))
}

fn cluster(flag: &str) -> String {
    let cluster = CLUSTER.lock().expect("no holder panics");
    cluster.as_ref().map(|name| format!(" {flag} {name}")).unwrap_or_default()
}
