//! The wire, byte by byte. A change here is a change of protocol: raise the version and keep the old.

use std::time::Duration;

use bytes::BytesMut;

use crate::{
    Payload,
    ids::{Attempt, ClientId, JobIndex, ProgramId, SettingId, ShareId, SpecIndex, TaskId, WorkerId},
    wire::{
        self, Answer, Ask, Class, ClientStanding, Counts, Doing, Ending, Failure, FromClient, FromExecutor,
        FromObserver, FromWorker, Head, Hello, JobLine, Output, Programs, Refusal, Reply, Returned, Role,
        Session, Spec, Stall, Standing, ToClient, ToExecutor, ToObserver, ToWorker, Token, Welcome, Window,
        WorkerStanding, WorkerState,
    },
};

/// The message as bytes in hexadecimal, after checking that it survives the way there.
fn golden<H: Head + PartialEq + std::fmt::Debug>(message: H, body: &[u8]) -> String {
    let mut buffer = BytesMut::new();
    wire::encode(&message, body, &mut buffer);
    let text = hex(&buffer);
    let frame = wire::next_frame(&mut buffer).unwrap().unwrap();
    assert_eq!(wire::decode::<H>(&frame).unwrap(), (message, Payload::copy_from_slice(body)));
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TASK: TaskId = TaskId(300);
const ATTEMPT: Attempt = Attempt(2);
const CLIENT: ClientId = ClientId(5);

fn spec() -> Spec {
    Spec {
        job: JobIndex(3),
        retries: 1,
        crash_limit: 3,
        timeout: Some(Duration::from_millis(1_500)),
        priority: -2,
        loss_limit: 3,
        speculate: false,
        rerun: true,
        shares: Vec::new(),
        apart: false,
    }
}

#[test]
fn from_client() {
    assert_eq!(golden(FromClient::Submit { task: TASK, spec: SpecIndex(1) }, b"ab"), "0600000000ac02016162");
    let received = FromClient::Received { first: TASK, tasks: 3, attempt: ATTEMPT, worker: WorkerId(9) };
    assert_eq!(golden(received, b""), "0600000001ac02030209");
    let declare = FromClient::Declare { spec: SpecIndex(1), what: Box::new(spec()) };
    assert_eq!(golden(declare, b""), "120000000201030103010180cab5ee01030300010000");
    assert_eq!(golden(FromClient::Cancel { task: TASK }, b""), "0300000003ac02");
    assert_eq!(golden(FromClient::Leave, b""), "0100000004");
    assert_eq!(golden(FromClient::Watch { on: true }, b""), "020000000501");
    assert_eq!(
        golden(FromClient::Resubmit { task: TASK, spec: SpecIndex(1) }, b"ab"),
        "0600000006ac02016162"
    );
    assert_eq!(golden(FromClient::Resubmitted { tasks: 300 }, b""), "0300000007ac02");
    assert_eq!(golden(FromClient::Noted { spec: SpecIndex(1), below: TASK }, b""), "040000000801ac02");
    assert_eq!(golden(FromClient::Claim { task: TASK, spec: SpecIndex(1) }, b""), "0400000009ac0201");
    assert_eq!(golden(FromClient::Keep { seconds: 900 }, b""), "030000000a8407");
    let introduce = FromClient::Introduce { setting: SettingId(300), output: Output::Live };
    assert_eq!(golden(introduce, b"ab"), "060000000bac02026162");
    assert_eq!(golden(FromClient::Heard { bytes: 300 }, b""), "030000000cac02");
    let answers = FromClient::Answers { task: TASK, attempt: ATTEMPT, number: 7, answer: Answer::Nothing };
    assert_eq!(golden(answers, b"s"), "070000000eac0202070173");
    let learned = FromClient::Learned { spec: SpecIndex(1), p90: 300, mean: 2 };
    assert_eq!(golden(learned, b""), "050000000f01ac0202");
}

#[test]
fn to_client() {
    let finished = ToClient::Finished {
        task: TASK,
        attempt: ATTEMPT,
        attempts: 2,
        worker: Some(WorkerId(9)),
        class: Class::Ok,
        micros: 1,
        output: 3,
    };
    assert_eq!(golden(finished, b"r"), "0b00000000ac020202010900010372");
    let window = ToClient::Window(Window { tasks: 10, bytes: 1_000 });
    assert_eq!(golden(window, b""), "04000000010ae807");
    let none = Stall::NoWorker { why: None };
    assert_eq!(golden(ToClient::Stalled(Box::new(none)), b""), "03000000020000");
    let pending = Stall::NoWorker { why: Some("x".to_owned()) };
    assert_eq!(golden(ToClient::Stalled(Box::new(pending)), b""), "050000000200010178");
    assert_eq!(golden(ToClient::Stalled(Box::new(Stall::Busy { slots: 2 })), b""), "03000000020102");
    assert_eq!(golden(ToClient::Moving, b""), "0100000003");
    let counts = Counts { running: 8, workers: 2, slots: 300 };
    assert_eq!(golden(ToClient::Counts(counts), b""), "05000000040802ac02");
    assert_eq!(golden(ToClient::Progress { task: TASK, thousandths: 500 }, b""), "0500000005ac02f403");
    assert_eq!(golden(ToClient::Dispatched { below: TASK }, b""), "0300000006ac02");
    let aside = ToClient::SetAside { worker: "h:1".to_owned(), why: "x".to_owned() };
    assert_eq!(golden(aside, b""), "070000000703683a310178");
    let remark = ToClient::Remark { worker: "h:1".to_owned(), what: "x".into() };
    assert_eq!(golden(remark, b""), "070000000803683a310178");
    assert_eq!(golden(ToClient::Output { task: TASK, from: 300 }, b"o"), "0600000009ac02ac026f");
    let too_long = ToClient::TooLong { spec: SpecIndex(1), p90_seconds: 300, longest_seconds: 2 };
    assert_eq!(golden(too_long, b""), "050000000b01ac0202");
    let asks = ToClient::Asks { task: TASK, attempt: ATTEMPT, number: 7, ask: Ask::Load };
    assert_eq!(golden(asks, b"s"), "070000000cac0202070173");
    let learned = ToClient::Learned { spec: SpecIndex(1), p90: 300, mean: 2 };
    assert_eq!(golden(learned, b""), "050000000d01ac0202");
    let dispatched = ToClient::DispatchedOnce { spec: SpecIndex(1), below: TASK };
    assert_eq!(golden(dispatched, b""), "040000000e01ac02");
    for (why, bytes) in [
        (Stall::Silent { workers: 2 }, "03000000020302"),
        (Stall::Recovering { workers: 2 }, "03000000020402"),
        (Stall::SetAside { workers: 2, why: "x".to_owned() }, "05000000020502"),
        (Stall::Quarantined { tasks: 2 }, "03000000020602"),
        (Stall::NotBegun { tasks: 2 }, "03000000020702"),
        (Stall::Held { tasks: 2 }, "03000000020802"),
        (Stall::NoTime { p90_seconds: 300, left_seconds: 2 }, "05000000020aac0202"),
        (
            Stall::Unfit { workers: 2, worker: "h:1".to_owned(), why: "x".to_owned() },
            "0900000002090203683a310178",
        ),
    ] {
        assert!(golden(ToClient::Stalled(Box::new(why)), b"").starts_with(bytes));
    }
}

#[test]
fn to_worker() {
    let run =
        ToWorker::Run { client: CLIENT, task: TASK, attempt: ATTEMPT, spec: SpecIndex(1), alone: false };
    assert_eq!(golden(run, b"ab"), "090000000005ac020201006162");
    let received = ToWorker::Received { client: CLIENT, first: TASK, tasks: 3, attempt: ATTEMPT };
    assert_eq!(golden(received, b""), "060000000105ac020302");
    let declare = ToWorker::Declare { client: CLIENT, spec: SpecIndex(1), what: Box::new(spec()) };
    assert_eq!(golden(declare, b""), "13000000020501030103010180cab5ee01030300010000");
    assert_eq!(golden(ToWorker::Credit { client: CLIENT, bytes: 128 }, b""), "0400000003058001");
    let cancel = ToWorker::Cancel { client: CLIENT, task: TASK, attempt: ATTEMPT };
    assert_eq!(golden(cancel, b""), "050000000405ac0202");
    assert_eq!(golden(ToWorker::Recall { tasks: 4 }, b""), "020000000504");
    let make_way = ToWorker::MakeWay { client: CLIENT, below: Some(-1), tasks: 4 };
    assert_eq!(golden(make_way, b""), "050000000705010104");
    assert_eq!(golden(ToWorker::Forget { client: CLIENT }, b""), "020000000605");
    assert_eq!(golden(ToWorker::Beat { lease: 1_500 }, b""), "0300000008dc0b");
    assert_eq!(golden(ToWorker::Account { client: CLIENT }, b""), "020000000905");
    assert_eq!(golden(ToWorker::Leave, b""), "010000000c");
    let (program, setting) = (ProgramId([1; 16]), SettingId(300));
    let meet = ToWorker::Meet { client: CLIENT, program, setting, output: Output::AtEnd };
    assert_eq!(golden(meet, b"ab"), format!("170000000a05{}ac02016162", "01".repeat(16)));
    let (client, task, attempt) = (CLIENT, TASK, ATTEMPT);
    let answers = ToWorker::Answers { client, task, attempt, number: 7, answer: Answer::Failed };
    assert_eq!(golden(answers, b"s"), "080000000d05ac0202070273");
    assert_eq!(golden(ToWorker::AskAgain { client, task, attempt }, b""), "050000000e05ac0202");
}

#[test]
fn from_worker() {
    let finished = FromWorker::Finished {
        client: CLIENT,
        task: TASK,
        attempt: ATTEMPT,
        class: Class::Crashed,
        micros: 7,
        output: 0,
    };
    assert_eq!(golden(finished, b"r"), "090000000005ac020204070072");
    let returned =
        FromWorker::Returned { client: CLIENT, task: TASK, attempt: ATTEMPT, why: Returned::Suspect };
    assert_eq!(golden(returned, b""), "060000000105ac020203");
    assert_eq!(golden(FromWorker::Recalled, b""), "0100000002");
    assert_eq!(golden(FromWorker::Leaving, b""), "0100000003");
    assert_eq!(golden(FromWorker::Held { client: CLIENT, held: true }, b""), "03000000050501");
    let waiting = FromWorker::Waiting { client: CLIENT, task: TASK, attempt: ATTEMPT };
    assert_eq!(golden(waiting, b""), "050000000405ac0202");
    let progress = FromWorker::Progress { client: CLIENT, task: TASK, attempt: ATTEMPT, thousandths: 500 };
    assert_eq!(golden(progress, b""), "070000000605ac0202f403");
    let started = FromWorker::Started { client: CLIENT, task: TASK, attempt: ATTEMPT };
    assert_eq!(golden(started, b""), "050000000705ac0202");
    let have = FromWorker::Have { client: CLIENT, task: TASK, attempt: ATTEMPT, doing: Doing::Done };
    assert_eq!(golden(have, b""), "060000000805ac020202");
    assert_eq!(golden(FromWorker::Accounted { client: Some(CLIENT) }, b""), "03000000090105");
    let unfit = FromWorker::Unfit { program: ProgramId([1; 16]), why: "x".into() };
    assert_eq!(golden(unfit, b""), format!("130000000a{}0178", "01".repeat(16)));
    let remark = FromWorker::Remark { client: CLIENT, what: "x".into() };
    assert_eq!(golden(remark, b""), "040000000b050178");
    let output = FromWorker::Output { client: CLIENT, task: TASK, attempt: ATTEMPT, from: 300 };
    assert_eq!(golden(output, b"o"), "080000000c05ac0202ac026f");
    let killed = FromWorker::Returned { client: CLIENT, task: TASK, attempt: ATTEMPT, why: Returned::Killed };
    assert_eq!(golden(killed, b""), "060000000105ac020206");
    let no_time =
        FromWorker::Returned { client: CLIENT, task: TASK, attempt: ATTEMPT, why: Returned::NoTime };
    assert_eq!(golden(no_time, b""), "060000000105ac020207");
    assert_eq!(golden(FromWorker::Ends { left: Some(300) }, b""), "040000000e01ac02");
    let ran = FromWorker::Ran { client: CLIENT, task: TASK, attempt: ATTEMPT, seconds: 300 };
    assert_eq!(golden(ran, b""), "070000000f05ac0202ac02");
    let (client, task, attempt) = (CLIENT, TASK, ATTEMPT);
    let asks = FromWorker::Asks { client, task, attempt, number: 7, ask: Ask::Save };
    assert_eq!(golden(asks, b"s"), "080000001005ac0202070073");
    assert_eq!(golden(FromWorker::AsksNothing { client, task, attempt }, b""), "050000001105ac0202");
    assert_eq!(golden(FromWorker::Lasts { seconds: 300 }, b""), "0300000012ac02");
    assert_eq!(golden(FromWorker::Idle, b""), "0100000013");
}

#[test]
fn executor() {
    let run = ToExecutor::Run { job: JobIndex(3), task: TASK, attempt: ATTEMPT };
    assert_eq!(golden(run, b"ab"), "070000000003ac02026162");
    assert_eq!(
        golden(FromExecutor::Done { class: Class::Ok, micros: 7, output: 3 }, b"r"),
        "050000000000070372"
    );
    assert_eq!(golden(FromExecutor::Output { from: 300 }, b"o"), "0400000005ac026f");
    let share = ToExecutor::Share { share: ShareId([1; 32]) };
    assert_eq!(golden(share, b"/p"), format!("2300000001{}2f70", "01".repeat(32)));
    let apart = ToExecutor::RunApart { job: JobIndex(3), task: TASK, attempt: ATTEMPT };
    assert_eq!(golden(apart, b"/p"), "070000000203ac02022f70");
    assert_eq!(golden(FromExecutor::Ready { jobs: 2 }, b""), "020000000102");
    assert_eq!(golden(FromExecutor::NotStarted { tasks: 3 }, b""), "020000000203");
    assert_eq!(golden(FromExecutor::Progress { thousandths: 500 }, b""), "0300000003f403");
    assert_eq!(golden(FromExecutor::Starting, b""), "0100000004");
    let asks = FromExecutor::Asks { task: TASK, attempt: ATTEMPT, number: 7, ask: Ask::Folder };
    assert_eq!(golden(asks, b""), "0600000007ac02020702");
    assert_eq!(golden(ToExecutor::Answers { number: 7, answer: Answer::Done }, b"s"), "0400000004070073");
}

#[test]
fn observer() {
    assert_eq!(golden(FromObserver::Look, b""), "0100000000");
    assert_eq!(golden(FromObserver::Stop, b""), "0100000001");
    assert_eq!(golden(ToObserver::Stopping, b""), "0100000001");
    let worker = WorkerStanding {
        worker: WorkerId(9),
        name: "h:1".to_owned(),
        program_name: "sim".to_owned(),
        slots: 4,
        running: 3,
        ahead: 2,
        state: WorkerState::SetAside,
        left: Some(300),
        address: "a".to_owned(),
    };
    let client = ClientStanding {
        client: CLIENT,
        name: "h:2".to_owned(),
        program_name: "sim".to_owned(),
        queued: 1,
        running: 2,
        done: 300,
        failed: 4,
        stall: None,
        is_away: true,
    };
    let standing = Standing {
        epoch: 3,
        version: "0.1.0".to_owned(),
        name: "h:3".to_owned(),
        seconds: 300,
        workers: vec![worker],
        clients: vec![client],
        outlook: Some("x".to_owned()),
    };
    assert_eq!(
        golden(ToObserver::Standing(Box::new(standing)), b""),
        "35000000000305302e312e3003683a33ac02010903683a310373696d0403020201ac020161010503683a320373696d0102ac02040001010178"
    );
}

#[test]
fn bursts() {
    let submits = FromClient::Submits { first: TASK, tasks: 2, spec: SpecIndex(1) };
    assert_eq!(golden(submits, b"\x02ab\x01c"), "0a0000000dac0202010261620163");
    let runs = ToWorker::Runs { client: CLIENT, first: TASK, tasks: 2, attempt: ATTEMPT, spec: SpecIndex(1) };
    assert_eq!(golden(runs, b"\x01a\x00"), "0a0000000b05ac02020201016100");
    let finishes = FromWorker::Finishes { client: CLIENT, first: TASK, tasks: 1, attempt: ATTEMPT };
    assert_eq!(golden(finishes, b"\x07\x01r"), "090000000d05ac020102070172");
    let finishes =
        ToClient::Finishes { first: TASK, tasks: 1, attempt: ATTEMPT, attempts: 1, worker: WorkerId(9) };
    assert_eq!(golden(finishes, b"\x07\x01r"), "0a0000000aac0201020109070172");
    let runs = ToExecutor::Runs { job: JobIndex(3), first: TASK, tasks: 1, attempt: ATTEMPT };
    assert_eq!(golden(runs, b"\x01a"), "080000000303ac0201020161");
    assert_eq!(golden(FromExecutor::Dones { tasks: 1 }, b"\x07\x01r"), "050000000601070172");
}

/// What was told of consecutive tasks becomes one message, whose body is just this.
#[test]
fn entries() {
    let (mut head, mut body) = (FromClient::Submit { task: TASK, spec: SpecIndex(1) }, BytesMut::new());
    let next = FromClient::Submit { task: TaskId(TASK.0 + 1), spec: SpecIndex(1) };
    assert!(wire::join((&mut head, b"ab"), (&next, b"c"), &mut body));
    assert_eq!(head, FromClient::Submits { first: TASK, tasks: 2, spec: SpecIndex(1) });
    assert_eq!(body[..], *b"\x02ab\x01c");
    body.clear();
    wire::put_done(300, b"r", &mut body);
    assert_eq!(body[..], *b"\xac\x02\x01r");
}

#[test]
fn particulars() {
    let particulars = wire::Particulars {
        hash: [1; 32],
        bytes: 300,
        name: "sim".to_owned(),
        target: "t".to_owned(),
        executors: 1,
        path: b"/s".to_vec(),
        folder: b"/".to_vec(),
        environment: vec![(b"A".to_vec(), b"b".to_vec())],
    };
    let body = particulars.encode();
    assert_eq!(hex(&body), format!("{}ac020373696d017401022f73012f0101410162", "01".repeat(32)));
    assert_eq!(wire::Particulars::decode(&body), Some(particulars));
    assert_eq!(wire::Particulars::decode(&body[..body.len() - 1]), None);
}

#[test]
fn handshake() {
    let hello = Hello {
        version: "0.1.0".to_owned(),
        target: "t".to_owned(),
        program: ProgramId([1; 16]),
        program_name: "sim".to_owned(),
        name: "h:1".to_owned(),
        role: Role::Worker { slots: 4, programs: Programs::Any, left: Some(300) },
        session: Session { token: Token([3; 16]), known: Some(9) },
        jobs: vec![JobLine { id: 1, schema: 2, path: "a::b".to_owned() }],
        launched: Some("7_3".to_owned()),
    };
    let bytes = wire::encode_hello(&hello);
    assert_eq!(
        hex(&bytes),
        "63772f000100010005302e312e300174010101010101010101010101010101010373696d03683a3101040201ac02030303030303030303\
         03030303030303010901010204613a3a620103375f33"
    );
    assert_eq!(wire::decode_hello(&bytes).unwrap(), hello);

    let window = Window { tasks: 10, bytes: 20 };
    let welcome =
        Reply::Welcome(Welcome::Client { client: CLIENT, epoch: 3, window, slots: 2, resumed: true });
    let bytes = wire::encode_reply(&welcome);
    assert_eq!(hex(&bytes), "63772f0001000100000005030a140201");
    assert_eq!(wire::decode_reply(&bytes).unwrap(), welcome);
    let welcome = Reply::Welcome(Welcome::Observer { epoch: 3 });
    assert_eq!(hex(&wire::encode_reply(&welcome)), "63772f0001000100000203");
    let role = Role::Observer;
    let bytes = wire::encode_hello(&Hello { role, ..hello });
    assert_eq!(
        hex(&bytes[8..])[..68],
        *"05302e312e300174010101010101010101010101010101010373696d03683a310203"
    );
    let refused = Reply::Refused(Refusal::Malformed { why: "x".to_owned() });
    assert_eq!(hex(&wire::encode_reply(&refused)), "63772f000100010001020178");
}

#[test]
fn handshakes_of_strangers_are_told_apart() {
    assert_eq!(wire::decode_hello(b"GET / HTTP/1.1"), Err(wire::HelloError::NotCw));
    let newer = [&b"cw/\0"[..], &[9, 0, 12, 0]].concat();
    let error = wire::HelloError::Protocol { theirs_min: 9, theirs_max: 12 };
    assert_eq!(wire::decode_hello(&newer), Err(error));
    let cut = [&b"cw/\0"[..], &[1, 0, 1, 0, 5]].concat();
    assert_eq!(wire::decode_hello(&cut), Err(wire::HelloError::Garbled));
}

#[test]
fn failures() {
    let crashed = Failure::Crashed {
        ending: Ending::Signal(11),
        hint: None,
        stderr: "s".to_owned(),
        worker: "w".to_owned(),
    };
    assert_eq!(hex(&crashed.encode()), "0201160001730177");
    let failed = Failure::Failed {
        message: "m".to_owned(),
        chain: vec!["c".to_owned()],
        value: Some((1, vec![8, 9])),
    };
    assert_eq!(hex(&failed.encode()), "00016d0101630101020809");
    for failure in [crashed, failed, Failure::Cancelled, Failure::TimedOut { after: Duration::from_secs(1) }]
    {
        assert_eq!(Failure::decode(&failure.encode()), failure);
    }
    assert!(matches!(Failure::decode(b"\xff\xff"), Failure::Refused { .. }));
}
