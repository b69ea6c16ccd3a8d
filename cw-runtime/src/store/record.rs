//! What a store keeps of a task's end.

use std::panic::{self, AssertUnwindSafe};

use cw_core::{
    client::Completion,
    ids::TaskId,
    resume::Place,
    wire::{Class, Failure, Printed},
};

use super::{
    Kept,
    rows::{Ended, Write},
    thread::{Keeper, now_micros},
};
use crate::{
    error::{TaskError, text},
    job::{self, Json, Registry},
};

/// No JSON is so much shorter than what it shows.
const SHORTER: usize = 4;

impl Keeper {
    pub(super) fn record(&mut self, kept: Kept, place: Place, task: TaskId, completion: Completion) {
        let row = self.ended(&kept, place, task, completion);
        self.write(Write::Ended(Box::new(row)));
    }

    fn ended(&mut self, kept: &Kept, place: Place, task: TaskId, completion: Completion) -> Ended {
        let Kept { job, hash, ref args } = *kept;
        let entry = Registry::global().ok().and_then(|registry| registry.entry(job));
        let entry = entry.expect("the call had it from there");
        let is_ok = completion.class == Class::Ok;
        let most = entry.json_bytes as usize;
        let json = |show: fn(&[u8], &mut Json) -> Result<(), job::CodecError>, bytes: &[u8]| {
            if most == 0 || bytes.len() > most.saturating_mul(SHORTER) {
                return None;
            }
            let mut json = Json::new(most);
            // It is the user's code, and not worth a run that it panics.
            let shown = panic::catch_unwind(AssertUnwindSafe(|| show(bytes, &mut json)));
            matches!(shown, Ok(Ok(()))).then_some(json)
        };
        let args_json = json(entry.shows.args, args).and_then(Json::into_object);
        let value_json =
            is_ok.then(|| json(entry.shows.result, &completion.body).and_then(Json::into_value)).flatten();
        let error = (!is_ok).then(|| {
            let failure = Failure::decode(&completion.body);
            TaskError::new(entry.path, task, completion.attempts, failure).without_name()
        });
        Ended {
            place,
            job: self.job(job),
            hash,
            build: self.build,
            class: completion.class,
            value: is_ok.then_some(completion.body),
            error,
            output: (!completion.output.is_empty()).then(|| text(&Printed::decode(&completion.output))),
            // `null` may stand for what is no number.
            args: args_json.as_ref().is_none_or(|json| json.contains("null")).then(|| args.clone()),
            args_json,
            value_json,
            attempts: completion.attempts,
            worker: completion.worker.map(|worker| worker.0),
            micros: completion.micros,
            recorded: now_micros(),
        }
    }
}
