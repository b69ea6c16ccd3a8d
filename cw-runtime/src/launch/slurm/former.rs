//! Fleets that were ended, and whose jobs are there again: a controller that comes back from an older state has them.
//!
//! Their ids are kept in the cluster's folder. So they are told from those of a cluster by the same name in another
//! `CW_HOME`, which has ids of its own: those are nobody's here to end.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{end_all, listed, parse, parse::Phase, script};
use crate::{
    access::ClusterDir,
    launch::{Refused, command::Failed},
};

/// So many are kept, each for so long: a controller's state is hours old, not months. While there is none Slurm is not asked.
const KEPT: usize = 64;
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Notes that this fleet has ended, or is about to.
pub(in crate::launch) fn note(dir: &ClusterDir, id: &str) {
    let mut ids = dated(dir);
    ids.retain(|(known, _)| known != id);
    ids.push((id.to_owned(), now()));
    let kept = &ids[ids.len().saturating_sub(KEPT)..];
    if let Err(error) = dir.write_own(&file(dir), &json!({ "version": 1, "ids": kept })) {
        tracing::warn!("cannot {error}; should Slurm have jobs of it again, they will not be known");
    }
}

/// Ends what Slurm has of them. Gives how many jobs those were, and what is left of them.
///
/// # Errors
/// In Slurm's words: it does not tell.
pub(crate) fn end(dir: &ClusterDir) -> Result<(usize, Result<(), Refused>), Refused> {
    let ids = ids(dir);
    if ids.is_empty() {
        return Ok((0, Ok(())));
    }
    let list = || {
        let mut lines = listed(dir.cluster())?;
        lines.retain(|line| is_of(line, &ids) && is_live(line));
        Ok(lines)
    };
    let found = match list() {
        Ok(lines) => lines.len(),
        // Nobody here has started anything with it.
        Err(Failed::Missing { .. }) => return Ok((0, Ok(()))),
        Err(failed) => return Err(failed.into()),
    };
    let list = || list().map_err(Refused::from);
    Ok((found, if found > 0 { end_all(dir.cluster(), &list) } else { Ok(()) }))
}

/// Those of these jobs that are there, of fleets that were ended here, and of others.
pub(super) fn split(dir: &ClusterDir, mut lines: Vec<parse::Line>) -> (Vec<parse::Line>, Vec<parse::Line>) {
    lines.retain(|line| line.comment.starts_with(script::COMMENT) && is_live(line));
    let ids = if lines.is_empty() { Vec::new() } else { ids(dir) };
    lines.into_iter().partition(|line| is_of(line, &ids))
}

fn is_of(line: &parse::Line, ids: &[String]) -> bool {
    line.comment.strip_prefix(script::COMMENT).is_some_and(|id| ids.iter().any(|it| it == id))
}

fn is_live(line: &parse::Line) -> bool {
    matches!(parse::phase(&line.state), Phase::Pending | Phase::Running)
}

fn file(dir: &ClusterDir) -> PathBuf {
    dir.path().join("ended.json")
}

fn ids(dir: &ClusterDir) -> Vec<String> {
    dated(dir).into_iter().map(|(id, _)| id).collect()
}

/// Each with the second of its end, but those that ended long ago. What cannot be read is as good as none.
fn dated(dir: &ClusterDir) -> Vec<(String, u64)> {
    let Ok(Some(Value::Object(mut found))) = dir.read_own::<Value>(&file(dir)) else { return Vec::new() };
    let Some(Value::Array(ids)) = found.remove("ids") else { return Vec::new() };
    let oldest = now().saturating_sub(KEPT_FOR.as_secs());
    let dated = |entry: &Value| Some((entry.get(0)?.as_str()?.to_owned(), entry.get(1)?.as_u64()?));
    ids.iter().filter_map(dated).filter(|(_, ended)| *ended > oldest).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, state: &str, comment: &str) -> parse::Line {
        parse::lines(&format!("{id}|{state}|cw1|cw-lab-worker|{comment}|None")).remove(0)
    }

    #[test]
    fn those_of_this_folder_are_told_from_those_of_another() {
        let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [here, there] = homes.each_ref().map(|home| {
            let dir = ClusterDir::in_home(home.path(), "lab").unwrap();
            dir.make().unwrap();
            dir
        });
        note(&here, "aa");
        note(&there, "bb");
        let lines = [
            line("1", "PENDING", "cw:aa"),
            line("2", "RUNNING", "cw:bb"),
            line("3", "COMPLETED", "cw:aa"),
            line("4", "PENDING", "mine"),
            line("5", "PENDING", "cw:aaa"),
            line("6", "PENDING", "cw:"),
        ];
        let ids = |lines: Vec<parse::Line>| lines.into_iter().map(|line| line.id).collect::<Vec<_>>();
        let (ours, others) = split(&here, lines.to_vec());
        assert_eq!(
            (ids(ours), ids(others)),
            (vec!["1".to_owned()], vec!["2".into(), "5".into(), "6".into()])
        );
        let (ours, _) = split(&there, lines.to_vec());
        assert_eq!(ids(ours), ["2"]);
    }

    #[test]
    fn the_last_are_kept_and_a_damaged_file_is_none() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "lab").unwrap();
        dir.make().unwrap();
        assert_eq!(ids(&dir), [] as [&str; 0]);
        for id in 0..KEPT + 2 {
            note(&dir, &id.to_string());
        }
        note(&dir, "2");
        let kept = ids(&dir);
        assert_eq!((kept.len(), kept[0].as_str(), kept[KEPT - 1].as_str()), (KEPT, "3", "2"));
        std::fs::write(file(&dir), "{\"version\": 1, \"ids\": 7}").unwrap();
        assert_eq!(ids(&dir), [] as [&str; 0]);
        note(&dir, "9");
        assert_eq!(ids(&dir), ["9"]);
    }

    #[test]
    fn those_that_ended_long_ago_are_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "lab").unwrap();
        dir.make().unwrap();
        let ago = |days: u64| now() - days * 24 * 60 * 60;
        let found = json!({ "version": 1, "ids": [["aa", ago(31)], ["bb", ago(29)], ["cc"], 7] });
        dir.write_own(&file(&dir), &found).unwrap();
        assert_eq!(ids(&dir), ["bb"]);
        note(&dir, "dd");
        assert_eq!(ids(&dir), ["bb", "dd"]);
    }
}
