//! What is known of a cluster, for programs. Fields may be added; none is renamed or taken away.
//!
//! | field | what |
//! | --- | --- |
//! | `cluster`, `folder` | its name and the folder of its files |
//! | `master` | `is_up`; then `address`, `name` (`host:pid`), `version`, `epoch`, `seconds` (up so long), else null; of one that is not up `why`, `has_ended` (known to have), `last` (`host:pid` of the last one), `log` (its last lines) |
//! | `workers` | each with `id`, `name` (`host:pid`), `program`, `address` (null while it has no connection), `state` (`well`, `silent`, `set_aside`, `leaving`, `away`), `slots`, `running`, `waiting` (tasks), `seconds_left` (of its allocation, or null) |
//! | `clients` | each with `id`, `name`, `program` (null if not known yet), `is_away`, `done`, `failed`, `running`, `queued` (tasks), `stall` (why nothing moves, or null) |
//! | `outlook` | why workers that were started are not here, or null |
//! | `fleet` | what `cw start` started, or null: `engine` (`slurm`, `local`, `ssh`), `id`, `workers` (started at once), `min`, `max`, `slots` (of each), `idle_seconds` (or null), `jobs` (or null), `trouble` (why those are not known, or null) |
//! | `fleet.jobs` | each with `id`, `is_master`, `state` (`pending`, `running`, `ended`, `unknown`), `node`, `why` (it pends, or nobody knows), `is_well`, `how` (it ended), `last_lines` |
//! | `notes` | processes that cannot reach the master: `name`, `why`, `has_ended`, `at` (seconds since 1970 by their clock) |

use cw_core::wire::{ClientStanding, WorkerStanding};
use serde_json::{Value, json};

use super::{
    text,
    view::{Found, Gone, View},
};
use crate::launch::{
    Launched, State, What,
    fleet::{Fleet, How},
};

/// As people read it.
pub(super) fn pretty(view: &View) -> String {
    format!("{:#}\n", of(view))
}

/// In one line.
pub(super) fn line(view: &View) -> String {
    format!("{}\n", of(view))
}

fn of(view: &View) -> Value {
    let standing = view.master.as_ref().ok().map(|found| &found.standing);
    json!({
        "cluster": view.cluster,
        "folder": view.folder.to_string_lossy(),
        "master": match &view.master {
            Ok(found) => master(found),
            Err(gone) => no_master(gone),
        },
        "workers": standing.map_or_else(Vec::new, |it| it.workers.iter().map(worker).collect()),
        "clients": standing.map_or_else(Vec::new, |it| it.clients.iter().map(client).collect()),
        "outlook": standing.and_then(|it| it.outlook.as_ref()),
        "fleet": fleet(view),
        "notes": view.notes.iter().map(|note| json!({
            "name": note.name,
            "why": note.why,
            "has_ended": note.has_ended,
            "at": note.seconds,
        })).collect::<Vec<_>>(),
    })
}

fn master(Found { address, standing }: &Found) -> Value {
    json!({
        "is_up": true,
        "address": address.to_string(),
        "name": standing.name,
        "version": standing.version,
        "epoch": standing.epoch,
        "seconds": standing.seconds,
        "why": null,
        "has_ended": false,
        "last": null,
        "log": [],
    })
}

fn no_master(Gone { why, has_ended, last, log, .. }: &Gone) -> Value {
    json!({
        "is_up": false,
        "address": null,
        "name": null,
        "version": null,
        "epoch": null,
        "seconds": null,
        "why": why,
        "has_ended": has_ended,
        "last": last.as_ref().map(|(pid, host)| format!("{host}:{pid}")),
        "log": log,
    })
}

fn worker(worker: &WorkerStanding) -> Value {
    json!({
        "id": worker.worker.0,
        "name": worker.name,
        "program": worker.program_name,
        "address": some(&worker.address),
        "state": text::state(worker.state).replace(' ', "_"),
        "slots": worker.slots,
        "running": worker.running,
        "waiting": worker.ahead,
        "seconds_left": worker.left,
    })
}

fn client(client: &ClientStanding) -> Value {
    json!({
        "id": client.client.0,
        "name": some(&client.name),
        "program": some(&client.program_name),
        "is_away": client.is_away,
        "done": client.done,
        "failed": client.failed,
        "running": client.running,
        "queued": client.queued,
        "stall": client.stall,
    })
}

fn fleet(view: &View) -> Value {
    let of = match &view.fleet {
        Ok(None) => return Value::Null,
        Ok(Some(fleet)) => Some(fleet),
        Err(_) => None,
    };
    let (jobs, trouble) = match &view.jobs {
        Some(Ok(jobs)) => (Some(jobs.iter().map(job).collect::<Vec<_>>()), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, view.fleet.as_ref().err()),
    };
    let engine = of.map(|Fleet { how, .. }| match how {
        How::Slurm(_) => "slurm",
        How::Local(_) => "local",
        How::Ssh(_) => "ssh",
    });
    json!({
        "engine": engine,
        "id": of.map(|it| &it.id),
        "workers": of.map(|it| it.workers),
        "min": of.map(|it| it.min),
        "max": of.map(|it| it.max),
        "slots": of.map(|it| it.slots),
        "idle_seconds": of.and_then(|it| it.idle).map(|idle| idle.as_secs()),
        "jobs": jobs,
        "trouble": trouble,
    })
}

fn job(job: &Launched) -> Value {
    let (state, node, why, end) = match &job.state {
        State::Pending { why, .. } => ("pending", None, Some(why), None),
        State::Running { on } => ("running", Some(on), None, None),
        State::Ended(end) => ("ended", end.on.as_ref(), None, Some(end)),
        State::Unknown { why } => ("unknown", None, Some(why), None),
    };
    json!({
        "id": job.id,
        "is_master": job.what == What::Master,
        "state": state,
        "node": node,
        "why": why,
        "is_well": end.map(|end| end.is_well),
        "how": end.map(|end| &end.how),
        "last_lines": end.map(|end| &end.last),
    })
}

/// A text that is known.
fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
