//! A real SSH server on loopback, with keys and a home of its own.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Process, proc};

/// A machine that is reached by SSH: the one it runs on, in another home. Nothing that was started there survives it.
pub(crate) struct Machine {
    // Dropped first.
    sshd: Process,
    folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Machine {
    /// Starts one. `None`, and a line that says why, where there is no SSH server.
    pub(crate) fn start() -> Option<Self> {
        Self::start_in(&[])
    }

    /// One on which a folder of this machine is not seen.
    pub(crate) fn start_without(hidden: &Path) -> Option<Self> {
        let hide = "mount -t tmpfs none \"$1\" && shift && exec \"$@\"";
        let hidden = hidden.to_str().expect("plain names");
        if !crate::support::may_mount() {
            return None;
        }
        Self::start_in(&["unshare", "-m", "sh", "-c", hide, "sh", hidden])
    }

    fn start_in(before: &[&str]) -> Option<Self> {
        let Some(sshd) = find("sshd").filter(|_| find("ssh").is_some() && find("ssh-keygen").is_some())
        else {
            eprintln!("skipped: no sshd");
            return None;
        };
        if rustix::process::geteuid().is_root() {
            // Where packages have it made at boot.
            let _ = fs::create_dir_all("/run/sshd");
        }
        let folder = tempfile::tempdir().expect("there is a place for temporary folders");
        for name in ["home", "home/.cache", "tmp"] {
            fs::create_dir(folder.path().join(name)).expect("it was just made");
        }
        for name in ["host_key", "user_key"] {
            let key = folder.path().join(name);
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key).status();
            assert!(made.expect("it is there").success());
        }
        let words: Vec<&str> = before.iter().copied().chain([sshd.to_str().expect("a plain name")]).collect();
        (0..20).find_map(|_| Self::listen(&words, &folder)).map(|(sshd, port)| Self { sshd, folder, port })
    }

    /// Starts it on a port that was free a moment ago; none if it is not any more.
    fn listen(words: &[&str], folder: &tempfile::TempDir) -> Option<(Process, u16)> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is loopback");
        let port = free.local_addr().expect("it was bound").port();
        drop(free);
        let (folder, file) = (folder.path(), folder.path().join("sshd_config"));
        let at = folder.display();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host_key\nAuthorizedKeysFile {at}/user_key.pub\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             MaxStartups 100\nSetEnv HOME={at}/home TMPDIR={at}/tmp {}={at}\n",
            proc::MARK
        );
        fs::write(&file, text).expect("it can be written");
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["-D", "-e", "-f"]).arg(&file);
        let mut sshd = Process::start(&mut command);
        let is_up = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err();
        crate::support::until("it listens or has ended", || is_up() || !sshd.is_running());
        sshd.is_running().then_some((sshd, port))
    }

    /// Words by which hosts of these names are this machine; names that begin with `dead` are a port where nobody listens.
    pub(crate) fn config(&self, names: &str) -> String {
        let folder = self.folder.path();
        let key = fs::read_to_string(folder.join("host_key.pub")).expect("it was made");
        fs::write(folder.join("known_hosts"), format!("machine {key}")).expect("it can be written");
        let (at, port) = (folder.display(), self.port);
        let text = format!(
            "Host dead*\n  Port 1\nHost {names} dead*\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {at}/user_key\n  \
             IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {at}/known_hosts\n  GlobalKnownHostsFile /dev/null\n  \
             HostKeyAlias machine\n  StrictHostKeyChecking yes\n"
        );
        fs::write(folder.join("config"), text).expect("it can be written");
        format!("-F {at}/config")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("home/.cache/cw")
    }

    /// Processes of those who came by SSH, and what they started.
    pub(crate) fn processes(&self) -> Vec<u32> {
        proc::of(self.folder.path())
    }

    /// The noted processes of workers, by the folders of their fleets.
    pub(crate) fn workers(&self) -> Vec<(String, u32)> {
        let folders = fs::read_dir(self.cache()).into_iter().flatten().flatten();
        let mut found: Vec<(String, u32)> = folders
            .filter_map(|it| {
                let noted = fs::read_to_string(it.path().join("worker")).ok()?;
                Some((it.file_name().into_string().ok()?, noted.split(' ').next()?.parse().ok()?))
            })
            .collect();
        found.sort();
        found
    }

    /// Programs that were sent, each with its file's number.
    pub(crate) fn programs(&self) -> Vec<(String, u64)> {
        let files = fs::read_dir(self.cache().join("bin")).into_iter().flatten().flatten();
        let number = |it: &fs::DirEntry| std::os::unix::fs::DirEntryExt::ino(it);
        files.map(|it| (it.file_name().into_string().expect("a plain name"), number(&it))).collect()
    }

    /// Nothing runs there, and nothing is left of what was made.
    #[track_caller]
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.processes(), [0; 0]);
        for (folder, wanted) in [("home", vec![".cache"]), ("home/.cache", Vec::new()), ("tmp", Vec::new())] {
            let found = fs::read_dir(self.folder.path().join(folder)).expect("it is there").flatten();
            let found: Vec<_> = found.map(|it| it.file_name().into_string().expect("a plain name")).collect();
            assert_eq!(found, wanted, "{folder}");
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        assert!(self.sshd.pid() > 0);
        proc::kill_all(&self.processes());
    }
}

/// Where a program is: servers are not on everybody's path.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}
