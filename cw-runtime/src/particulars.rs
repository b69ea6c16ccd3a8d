//! What executors are started with: the working directory and the environment of their client, and some of the node's.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use cw_core::{
    client::Introduction,
    ids::SettingId,
    wire::{EXECUTOR_PROTOCOL, Output, Particulars},
};

use crate::{program, start::slots::THREAD_LIMITS};

/// Variables that executors have from their client, beside those that libraries read how many threads to use from.
const FROM_CLIENT: [&str; 6] = ["PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LANG", "TZ"];

/// And those whose names begin so.
const FROM_CLIENT_WITH: [&str; 2] = ["LC_", "RUST_"];

/// Variables that they have from their node.
const FROM_NODE: [&str; 2] = ["TMPDIR", "CUDA_VISIBLE_DEVICES"];

/// And those whose names begin so.
const FROM_NODE_WITH: [&str; 1] = ["SLURM_"];

/// What this process is and where: to be told to workers, or, in a worker, what is usual here. `named` are variables that
/// the user wants to be passed on too.
///
/// # Errors
/// The executable or the working directory cannot be read.
pub(crate) fn own(named: &[String]) -> io::Result<Introduction> {
    let executable = program::own_path()?;
    let is_wanted = |name: &OsStr| is_from_client(name) || named.iter().any(|it| OsStr::new(it) == name);
    let mut environment: Vec<(Vec<u8>, Vec<u8>)> = env::vars_os()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .collect();
    environment.sort_unstable();
    let particulars = Particulars {
        hash: program::own_blob()?.0,
        bytes: std::fs::metadata(&executable)?.len(),
        name: program::file_name(),
        target: program::target(),
        executors: EXECUTOR_PROTOCOL,
        path: env::current_exe()?.into_os_string().into_vec(),
        // One that was removed is on no node.
        folder: env::current_dir().unwrap_or_default().into_os_string().into_vec(),
        environment,
    };
    let output = Output::default();
    Ok(Introduction { setting: setting_of(&particulars), output, body: particulars.encode().into() })
}

/// The hash of what executors are started with.
fn setting_of(particulars: &Particulars) -> SettingId {
    let Particulars { folder, environment, .. } = particulars;
    let bytes =
        postcard::to_stdvec(&(folder, environment)).expect("plain data, which postcard always encodes");
    let hash = blake3::hash(&bytes);
    SettingId(u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes")))
}

fn is_from_client(name: &OsStr) -> bool {
    is_among(name, &FROM_CLIENT, &FROM_CLIENT_WITH) || is_among(name, &THREAD_LIMITS, &[])
}

fn is_among(name: &OsStr, names: &[&str], beginnings: &[&str]) -> bool {
    let name = name.as_bytes();
    names.iter().any(|it| it.as_bytes() == name)
        || beginnings.iter().any(|it| name.starts_with(it.as_bytes()))
}

/// What an executor is started with.
#[derive(Clone, Debug)]
pub(crate) struct Outfit {
    /// Its working directory, if it is there.
    pub(crate) folder: PathBuf,
    /// Its whole environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Outfit {
    /// What a client's executors are started with on this node; `limits` are variables with the number of threads a
    /// library may use, of which the client's own word counts more.
    pub(crate) fn of(particulars: Particulars, limits: &[(String, String)]) -> Self {
        let os = OsString::from_vec;
        let given = particulars.environment.into_iter().map(|(name, value)| (os(name), os(value)));
        let mut environment: Vec<(OsString, OsString)> = given.collect();
        for (name, value) in limits {
            if !environment.iter().any(|(given, _)| given == OsStr::new(name)) {
                environment.push((name.into(), value.into()));
            }
        }
        let of_node = env::vars_os().filter(|(name, _)| is_among(name, &FROM_NODE, &FROM_NODE_WITH));
        environment.retain(|(name, _)| !is_among(name, &FROM_NODE, &FROM_NODE_WITH));
        environment.extend(of_node);
        Self { folder: PathBuf::from(os(particulars.folder)), environment }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::local::MARK;

    fn particulars(environment: &[(&str, &str)]) -> Particulars {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let environment = environment.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        Particulars { folder: bytes("/work"), environment, ..Particulars::default() }
    }

    #[test]
    fn libraries_have_the_threads_of_a_slot_unless_the_client_says_otherwise() {
        let limits = [("OMP_NUM_THREADS", "2"), ("RAYON_NUM_THREADS", "2")];
        let limits = limits.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let outfit = Outfit::of(particulars(&[("OMP_NUM_THREADS", "7"), ("SLURM_JOB_ID", "1")]), &limits);
        let value = |name: &str| {
            let found = outfit.environment.iter().find(|(it, _)| it == name);
            found.map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        assert_eq!(value("OMP_NUM_THREADS").as_deref(), Some("7"));
        assert_eq!(value("RAYON_NUM_THREADS").as_deref(), Some("2"));
        assert_eq!(value("SLURM_JOB_ID"), env::var("SLURM_JOB_ID").ok(), "that is the node's to say");
    }

    #[test]
    fn what_is_not_named_is_not_passed_on() {
        let from_client = |name: &str| is_from_client(OsStr::new(name));
        assert!(["PATH", "LC_ALL", "RUST_LOG", "OMP_NUM_THREADS"].into_iter().all(from_client));
        assert!(
            !["LC", "CW_MASTER", "SLURM_JOB_ID", "TMPDIR", "SECRET", "PATHS"].into_iter().any(from_client)
        );
        // `cw stop` ends what has it: workers, and not what their tasks leave running.
        assert!(!from_client(MARK) && !is_among(OsStr::new(MARK), &FROM_NODE, &FROM_NODE_WITH));
    }

    #[test]
    fn settings_differ_by_folder_and_environment_only() {
        let one = particulars(&[("A", "b")]);
        let moved = Particulars { folder: b"/other".to_vec(), ..one.clone() };
        let renamed = Particulars { name: "other".to_owned(), path: b"/x".to_vec(), ..one.clone() };
        assert_ne!(setting_of(&one), setting_of(&moved));
        assert_eq!(setting_of(&one), setting_of(&renamed));
        assert_ne!(setting_of(&one), setting_of(&particulars(&[("Ab", "")])));
    }
}
