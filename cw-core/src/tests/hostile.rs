//! Peers that break the rules: the machines go on, and the peer is shown the door.

use bytes::{Bytes, BytesMut};

use super::world::{Do, World, plain};
use crate::{
    Payload, Time,
    ids::{Attempt, ClientId, SpecIndex, TaskId, WorkerId},
    master,
    wire::{self, Class, FromClient, FromWorker, Returned, ToClient, ToWorker},
};

fn said(client: u32, message: FromClient) -> master::Event {
    master::Event::ClientSaid { client: ClientId(client), message, body: Payload::new() }
}

#[test]
fn a_task_of_an_undeclared_spec_ends_the_connection_not_the_master() {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, plain());
    let rogue = world.client();
    world.master.handle(Time::ZERO, said(1, FromClient::Submit { task: TaskId(0), spec: SpecIndex(9) }));
    world.master.handle(Time::ZERO, said(77, FromClient::Cancel { task: TaskId(0) }));
    world.worker(1);
    let task = world.submit(client, 0, Do::Return.args(1));
    world.run();
    assert_eq!(world.class(client, task), Class::Ok);
    assert_eq!(world.disconnected.len(), 1);
    assert_eq!(world.disconnected[0].0, ClientId(1));
    assert_eq!(rogue, 1);
}

#[test]
fn words_about_strangers_tasks_change_nothing() {
    let mut world = World::new();
    world.worker(1);
    let client = world.client();
    world.declare(client, plain());
    let task = world.submit(client, 0, Do::Return.args(50));
    world.run_until(Time::ZERO + std::time::Duration::from_millis(10));
    let (c, other) = (world.id(client), WorkerId(44));
    for attempt in [0, 1, 2, u32::MAX] {
        let attempt = Attempt(attempt);
        for message in [
            FromWorker::Finished { client: c, task, attempt, class: Class::Ok, micros: 1, output: 0 },
            FromWorker::Returned { client: c, task, attempt, why: Returned::Recalled },
            FromWorker::Returned { client: c, task: TaskId(99), attempt, why: Returned::Suspect },
            FromWorker::Recalled,
        ] {
            world.master.handle(
                world.now,
                master::Event::WorkerSaid { worker: other, message, body: Payload::new() },
            );
            world.master.check();
        }
    }
    world.run();
    assert_eq!(world.class(client, task), Class::Ok);
    assert_eq!(world.attempts(client, task), 1);
    world.assert_quiet();
}

#[test]
fn bytes_after_a_message_and_cut_messages_are_refused() {
    let mut buffer = BytesMut::new();
    wire::encode(&FromClient::Leave, b"more", &mut buffer);
    let frame = wire::next_frame(&mut buffer).unwrap().unwrap();
    assert_eq!(wire::decode::<FromClient>(&frame), Err(wire::WireError::Trailing(4)));
    assert_eq!(wire::decode::<FromClient>(&Bytes::new()), Err(wire::WireError::Head));
    assert_eq!(wire::decode::<ToWorker>(&Bytes::from_static(&[0xff; 3])), Err(wire::WireError::Head));
}

#[test]
fn any_bytes_are_decoded_or_refused_without_panic_or_great_allocation() {
    // A simple congruential sequence (Knuth's MMIX constants): random enough, and the same every time.
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for length in 0..200 {
        for _ in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|_| random()).collect();
            let frame = Bytes::from(bytes);
            let _ = wire::decode::<FromClient>(&frame);
            let _ = wire::decode::<ToClient>(&frame);
            let _ = wire::decode::<FromWorker>(&frame);
            let _ = wire::decode::<ToWorker>(&frame);
            let _ = wire::decode_hello(&frame);
            let _ = wire::decode_reply(&frame);
            let _ = wire::Failure::decode(&frame);
        }
    }
}
