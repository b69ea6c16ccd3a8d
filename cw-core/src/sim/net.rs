//! Links: two lanes each way, kept in order each, that delay, break, and can be cut in one direction.
//!
//! As in QUIC, nothing is lost while a connection lasts: what is sent over a cut way arrives when it is whole again. A
//! side that hears nothing for [`SILENCE`] takes the connection for ended, and then its other side learns of that as soon
//! as a packet gets through.

use std::time::Duration;

use bytes::BytesMut;

use super::{
    hosts::{Input, Role},
    world::{Happening, World},
};
use crate::{
    Payload, Time, client,
    wire::{self, FromClient, FromWorker, Head, ToClient, ToWorker},
    worker,
};

/// A side that hears nothing for so long takes its connection for ended.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// Bodies from here on take the second lane.
const SECOND_LANE: usize = 64 << 10;

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) enum Word {
    ToWorker(ToWorker, Payload),
    FromWorker(FromWorker, Payload),
    ToClient(ToClient, Payload),
    FromClient(FromClient, Payload),
    /// The acknowledgement of a beat.
    Heard,
}

/// One direction of a link.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// How many cuts are upon it.
    pub(super) cuts: u32,
    stash: Vec<(Option<usize>, Word, Time)>,
    /// The latest arrival on each lane.
    last: [Time; 2],
    /// Since when nothing can come this way.
    silent: Option<Time>,
}

/// A peer's way to the master and back.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The connection, as each side sees it.
    pub(super) at_peer: Option<u32>,
    pub(super) at_master: Option<u32>,
    /// The newest connection.
    pub(super) conn: u32,
    pub(super) joining: bool,
    pub(super) to_master: Way,
    pub(super) to_peer: Way,
}

impl Link {
    pub(super) fn is_whole(&self) -> bool {
        self.to_master.cuts == 0 && self.to_peer.cuts == 0
    }

    fn way(&mut self, to_master: bool) -> &mut Way {
        if to_master { &mut self.to_master } else { &mut self.to_peer }
    }
}

impl Word {
    /// The lanes it takes; none if it is no message and keeps no order.
    fn lanes(&self) -> &'static [usize] {
        fn of<H: Head>(head: &H, body: &Payload) -> &'static [usize] {
            match (head.on_every_lane(), body.len() >= SECOND_LANE) {
                (true, _) => &[0, 1],
                (false, true) => &[1],
                (false, false) => &[0],
            }
        }
        match self {
            Self::ToWorker(head, body) => of(head, body),
            Self::FromWorker(head, body) => of(head, body),
            Self::ToClient(head, body) => of(head, body),
            Self::FromClient(head, body) => of(head, body),
            Self::Heard => &[],
        }
    }

    /// The head as it comes out at the other end, and a sum of its bytes.
    fn carried(self, buffer: &mut BytesMut) -> (Self, u64) {
        fn of<H: Head>(head: &H, buffer: &mut BytesMut) -> (H, u64) {
            buffer.clear();
            wire::encode(head, &[], buffer);
            let sum = buffer.iter().fold(0u64, |sum, byte| sum.rotate_left(7) ^ u64::from(*byte));
            let frame = bytes::Bytes::copy_from_slice(&buffer[4..]);
            (wire::decode(&frame).expect("what was encoded can be decoded").0, sum)
        }
        match self {
            Self::ToWorker(head, body) => {
                let (head, sum) = of(&head, buffer);
                (Self::ToWorker(head, body), sum)
            }
            Self::FromWorker(head, body) => {
                let (head, sum) = of(&head, buffer);
                (Self::FromWorker(head, body), sum)
            }
            Self::ToClient(head, body) => {
                let (head, sum) = of(&head, buffer);
                (Self::ToClient(head, body), sum)
            }
            Self::FromClient(head, body) => {
                let (head, sum) = of(&head, buffer);
                (Self::FromClient(head, body), sum)
            }
            Self::Heard => (Self::Heard, 1),
        }
    }
}

impl World {
    pub(super) fn delay(&mut self) -> Duration {
        let usual = self.knobs.delay.min(Duration::from_millis(2)).max(Duration::from_micros(100));
        if self.chance.permille(self.knobs.slow_permille) {
            self.chance.time(self.knobs.delay / 2, self.knobs.delay)
        } else {
            self.chance.time(Duration::from_micros(50), usual)
        }
    }

    /// Sends a message over the connection that its sender has, if it has one.
    pub(super) fn send(&mut self, peer: usize, to_master: bool, word: Word) {
        let link = &self.hosts[peer].link;
        let conn = if to_master { link.at_peer } else { link.at_master };
        let Some(conn) = conn else { return };
        let (word, sum) = word.carried(&mut self.buffer);
        self.mix(&[peer as u64, u64::from(to_master), sum]);
        let lanes = word.lanes();
        if lanes.is_empty() {
            return self.put(peer, to_master, conn, None, word, self.now);
        }
        for lane in lanes {
            self.put(peer, to_master, conn, Some(*lane), word.clone(), self.now);
        }
    }

    fn put(&mut self, peer: usize, to_master: bool, conn: u32, lane: Option<usize>, word: Word, sent: Time) {
        let delay = self.delay();
        let now = self.now;
        let way = self.hosts[peer].link.way(to_master);
        if way.cuts > 0 {
            return way.stash.push((lane, word, sent));
        }
        let mut arrival = now + delay;
        if let Some(lane) = lane {
            arrival = arrival.max(way.last[lane]);
            way.last[lane] = arrival;
        }
        let (who, input) = if to_master {
            (None, Input::FromPeer { peer, conn, word })
        } else {
            (Some(peer), Input::FromMaster { conn, word, sent })
        };
        self.at(arrival, Happening::Input { who, input });
    }

    /// Looks which ways carry nothing now, after something stopped or went on.
    pub(super) fn look_at_ways(&mut self, peer: usize) {
        let now = self.now;
        let master_runs = self.master.node.runs();
        let host = &mut self.hosts[peer];
        let runs = host.node.carries();
        for (to_master, carries) in [(true, runs), (false, master_runs)] {
            let way = host.link.way(to_master);
            let is_silent = way.cuts > 0 || !carries;
            if is_silent == way.silent.is_some() {
                continue;
            }
            way.silent = is_silent.then_some(now);
            self.ledger.note_change();
            if is_silent {
                self.arrivals.insert(
                    (now + SILENCE, self.sequence),
                    Happening::Silence { peer, to_master, since: now },
                );
                self.sequence += 1;
            }
        }
        self.flush_stash(peer);
        self.reset_halves(peer);
    }

    pub(super) fn look_at_all_ways(&mut self) {
        (0..self.hosts.len()).for_each(|peer| self.look_at_ways(peer));
    }

    fn flush_stash(&mut self, peer: usize) {
        for to_master in [true, false] {
            let link = &mut self.hosts[peer].link;
            let conn = if to_master { link.at_peer } else { link.at_master };
            let way = link.way(to_master);
            if way.cuts > 0 || way.stash.is_empty() {
                continue;
            }
            let stash = std::mem::take(&mut way.stash);
            if let Some(conn) = conn {
                for (lane, word, sent) in stash {
                    self.put(peer, to_master, conn, lane, word, sent);
                }
            }
        }
    }

    /// A side whose other side is gone learns of it by a reset, once packets get through.
    pub(super) fn reset_halves(&mut self, peer: usize) {
        let host = &self.hosts[peer];
        let link = &host.link;
        if !link.is_whole() || !self.master.node.runs() || !host.node.runs() {
            return;
        }
        let (at_peer, at_master) = (link.at_peer, link.at_master);
        let soon = Duration::from_micros(self.chance.between(200, 50_000));
        if let Some(conn) = at_peer.filter(|_| at_peer != at_master) {
            self.after(soon, Happening::Input { who: Some(peer), input: Input::MasterEnds { conn } });
        }
        if let Some(conn) = at_master.filter(|_| at_peer != at_master && !self.hosts[peer].link.joining) {
            self.after(soon, Happening::Input { who: None, input: Input::PeerEnds { peer, conn } });
        }
    }

    /// Nothing came over a way for so long that its receiver takes the connection for ended.
    pub(super) fn on_silence(&mut self, peer: usize, to_master: bool, since: Time) {
        let link = &mut self.hosts[peer].link;
        if link.way(to_master).silent != Some(since) {
            return;
        }
        if to_master {
            if let Some(conn) = link.at_master {
                self.input(None, Input::PeerEnds { peer, conn });
            }
        } else if let Some(conn) = link.at_peer {
            self.input(Some(peer), Input::MasterEnds { conn });
        }
    }

    /// A connection breaks: both sides learn of it, one after the other, and what is under way then is lost.
    pub(super) fn break_link(&mut self, peer: usize) {
        let link = &self.hosts[peer].link;
        let (at_peer, at_master) = (link.at_peer, link.at_master);
        let (first, second) = (self.delay(), self.delay());
        if let Some(conn) = at_peer {
            self.after(first, Happening::Input { who: Some(peer), input: Input::MasterEnds { conn } });
        }
        if let Some(conn) = at_master {
            self.after(second, Happening::Input { who: None, input: Input::PeerEnds { peer, conn } });
        }
    }

    /// One side of a connection has ended: the other learns of it, at once or by silence.
    pub(super) fn on_half_ended(&mut self, peer: usize) {
        let link = &self.hosts[peer].link;
        let late = SILENCE + Duration::from_millis(self.chance.below(500));
        let (at_peer, at_master) = (link.at_peer, link.at_master);
        if let Some(conn) = at_peer.filter(|_| at_master.is_none()) {
            self.after(late, Happening::Input { who: Some(peer), input: Input::MasterEnds { conn } });
        }
        if let Some(conn) = at_master.filter(|_| at_peer.is_none()) {
            self.after(late, Happening::Input { who: None, input: Input::PeerEnds { peer, conn } });
        }
        self.reset_halves(peer);
    }

    /// A peer without a connection looks for the master.
    pub(super) fn try_join(&mut self, peer: usize) {
        let host = &mut self.hosts[peer];
        let gone = matches!(&host.role, Role::Worker(worker) if worker.left);
        if !host.node.up || gone || host.link.at_peer.is_some() || host.link.joining {
            return;
        }
        if !host.node.runs() || !host.link.is_whole() || !self.master.node.runs() {
            let pause = Duration::from_millis(self.chance.between(100, 1_000));
            return self.after(pause, Happening::TryJoin { peer });
        }
        host.link.conn += 1;
        host.link.joining = true;
        let (conn, session) = (host.link.conn, host.session);
        let handshake = self.delay() + self.delay() + self.delay();
        self.after(handshake, Happening::Input { who: None, input: Input::Hello { peer, conn, session } });
        self.after(handshake + SILENCE, Happening::JoinTimeout { peer, conn });
    }

    /// A master lets a peer in.
    pub(super) fn on_welcome(
        &mut self,
        peer: usize,
        conn: u32,
        id: u32,
        returned: bool,
        window: wire::Window,
        epoch: u64,
    ) {
        let host = &mut self.hosts[peer];
        if !host.link.joining || host.link.conn != conn {
            return;
        }
        host.link.joining = false;
        if !host.link.is_whole() {
            // The answer is lost.
            return self.after(Duration::from_millis(100), Happening::TryJoin { peer });
        }
        host.link.at_peer = Some(conn);
        host.session.known = Some(id);
        let local = host.node.clock.local(self.now);
        match &mut host.role {
            Role::Worker(worker) => {
                worker.unacknowledged.clear();
                worker.machine.handle(local, worker::Event::Joined { returned });
                if let Some(endings) = self.endings.as_mut().filter(|_| !returned) {
                    endings.forget_client(peer, None);
                }
            }
            Role::Client(client) => {
                let session = match (returned, std::mem::replace(&mut client.epoch, epoch) == epoch) {
                    (false, _) => client::Resumed::No,
                    (true, true) => client::Resumed::SameMaster,
                    (true, false) => client::Resumed::NextMaster,
                };
                client.in_flight.clear();
                client.window = window.tasks;
                client.machine.handle(local, client::Event::Connected { window, session });
            }
            Role::Rogue { .. } => {}
        }
        self.ledger.note_welcome(peer, epoch);
        self.look_at_ways(peer);
    }

    /// A greeting was not answered.
    pub(super) fn on_join_timeout(&mut self, peer: usize, conn: u32) {
        let link = &mut self.hosts[peer].link;
        if link.joining && link.conn == conn {
            link.joining = false;
            self.reset_halves(peer);
            self.after(Duration::from_millis(100), Happening::TryJoin { peer });
        }
    }

    /// Both directions begin anew for a connection.
    pub(super) fn renew_ways(&mut self, peer: usize) {
        let now = self.now;
        let link = &mut self.hosts[peer].link;
        for to_master in [true, false] {
            let way = link.way(to_master);
            way.stash.clear();
            way.last = [now; 2];
        }
    }

    /// What the master sends on a new connection comes after its welcome.
    pub(super) fn hold_lanes_until(&mut self, peer: usize, time: Time) {
        self.hosts[peer].link.to_peer.last = [time; 2];
    }
}
