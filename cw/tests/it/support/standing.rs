//! Standing clusters: the installed `cw` as master and workers, on nodes that have a folder for temporary files each, and
//! so a cache of programs each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::getuid;

use super::{Home, Process, program};

/// A master and a home for what joins it.
pub(crate) struct Standing {
    // Dropped first: nothing is written to the home any more.
    pub(crate) master: Process,
    pub(crate) home: Home,
}

impl Standing {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A cluster whose master has these flags beside its address.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let home = Home::new();
        let words = [&["master", "--listen", "127.0.0.1:0"], flags].concat();
        let mut command = home.command(cw(), &words);
        let master = Process::start(command.env("TMPDIR", folder(&home, "master")));
        let line = master.said("join:");
        assert!(line.contains("join: cw worker; use: PROGRAM --cluster default"), "{line}");
        Self { master, home }
    }

    /// A command whose temporary files are those of a node.
    pub(crate) fn on(&self, node: &str, program: &Path, words: &[&str]) -> Command {
        let mut command = self.home.command(program, words);
        command.env("TMPDIR", folder(&self.home, node));
        command
    }

    /// Starts a worker of two slots.
    pub(crate) fn worker(&self, node: &str, flags: &[&str]) -> Process {
        let worker = Process::start(&mut self.on(node, cw(), &[&["worker", "--slots", "2"], flags].concat()));
        worker.complained("joined the master");
        worker
    }

    /// Starts a worker in mounts of its own, which `prepare` changes. Its words are `$1` and so on there.
    pub(crate) fn worker_amid(
        &self,
        prepare: &str,
        words: [&Path; 2],
        node: &str,
        flags: &[&str],
    ) -> Process {
        let script = format!("{prepare}; shift 2; exec \"$@\"");
        let mut command = self.on(node, Path::new("unshare"), &["-m", "sh", "-ec", &script, "sh"]);
        command.args(words).arg(cw()).args(["worker", "--slots", "2"]).args(flags);
        let worker = Process::start(&mut command);
        worker.complained("joined the master");
        worker
    }

    /// Starts a program as a client.
    pub(crate) fn client(&self, program: &Path, words: &[&str]) -> Process {
        let words = [&["--cluster", "default"], words].concat();
        Process::start(&mut self.on("client", program, &words))
    }

    /// A client that has come before any worker, and whose executable has been moved away since.
    pub(crate) fn hidden_client(&self, program: &Path, words: &[&str]) -> Process {
        let client = self.client(program, words);
        client.complained("the cluster has no worker");
        fs::rename(program, program.with_extension("moved")).expect("it was there");
        client
    }

    /// A client whose executable is removed as it starts: nobody else finds it anywhere.
    pub(crate) fn lone_client(&self, program: &Path, words: &[&str]) -> Process {
        let script = "exec 3< \"$1\"; rm \"$1\"; shift; exec /proc/self/fd/3 --cluster default \"$@\"";
        let mut command = self.on("client", Path::new("sh"), &["-ec", script, "sh"]);
        Process::start(command.arg(program).args(words))
    }

    /// The private folder of a node.
    pub(crate) fn private(&self, node: &str) -> PathBuf {
        folder(&self.home, node).join(format!("cw-{}", getuid().as_raw()))
    }

    /// What is in a node's cache, whole or on its way.
    pub(crate) fn cache(&self, node: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.private(node).join("blobs")).into_iter().flatten();
        entries.map(|entry| entry.expect("it can be read").path()).collect()
    }

    /// Nothing has come to a node.
    #[track_caller]
    pub(crate) fn assert_no_blob(&self, node: &str) {
        let found = self.cache(node);
        assert!(found.is_empty(), "{found:?}");
    }

    /// The only blob of a node, which is whole.
    #[track_caller]
    pub(crate) fn only_blob(&self, node: &str) -> PathBuf {
        let [blob] = <[_; 1]>::try_from(self.cache(node)).expect("one file");
        let name = blob.file_name().and_then(|name| name.to_str()).expect("a plain name");
        assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        blob
    }
}

/// The installed binary.
pub(crate) fn cw() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cw"))
}

/// Where a node keeps temporary files.
fn folder(home: &Home, node: &str) -> PathBuf {
    let folder = home.path().join("nodes").join(node);
    fs::create_dir_all(&folder).expect("the home can be written to");
    folder
}

/// Puts a small copy of an example into the home. By processes of their own: what this one has open for writing, a child of
/// another test may hold and so keep from being executed.
pub(crate) fn stripped(home: &Home, example: &str, name: &str) -> PathBuf {
    let path = home.path().join(name);
    let script = "strip -o \"$1\" \"$0\" 2> /dev/null || cp \"$0\" \"$1\"";
    shell(script, &[&program(example), &path]);
    path
}

/// Puts a build of `it_build` into the home.
pub(crate) fn build(home: &Home, name: &str, number: u32) -> PathBuf {
    let mark = format!("s/a build of tests: 000001/a build of tests: {number:06}/");
    altered(home, "it_build", name, &mark)
}

/// Puts a copy of an example into the home, in which some text is replaced by as much other text.
pub(crate) fn altered(home: &Home, example: &str, name: &str, replace: &str) -> PathBuf {
    let path = stripped(home, example, name);
    let new = path.with_extension("new");
    shell(
        "LC_ALL=C sed \"$2\" \"$0\" > \"$1\" && chmod 755 \"$1\" && mv \"$1\" \"$0\"",
        &[&path, &new, Path::new(replace)],
    );
    path
}

/// Puts a copy of an example into the home that has so many MiB more, so that it is on its way for a while.
pub(crate) fn large(home: &Home, example: &str, name: &str, mib: u32) -> PathBuf {
    let path = stripped(home, example, name);
    // Content that is not the same everywhere: what is found twice may have come once.
    let script = format!("dd if=/dev/urandom bs=1M count={mib} status=none >> \"$0\"");
    shell(&script, &[&path]);
    path
}

fn shell(script: &str, words: &[&Path]) {
    let status = Command::new("sh").args(["-ec", script]).args(words).status();
    assert!(status.expect("there is a shell").success(), "{script}");
}

/// Whether this user may have mounts of its own; says so if not.
pub(crate) fn may_mount() -> bool {
    let mut command = Command::new("unshare");
    let may = command.args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let may = may.is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("skipped: nobody may mount here");
    }
    may
}
