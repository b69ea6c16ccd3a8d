//! A UDP proxy before a worker: it drops, delays and repeats datagrams, and cuts either way on demand.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::net::UdpSocket;

/// How bad a network is, in percent of all datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) dropped: u8,
    pub(crate) repeated: u8,
    pub(crate) delayed: u8,
}

/// What of a worker's traffic does not get through.
#[derive(Default)]
pub(crate) struct Cuts {
    pub(crate) to_master: AtomicBool,
    pub(crate) to_worker: AtomicBool,
}

/// A proxy that runs until its runtime ends.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) cuts: Arc<Cuts>,
}

/// One direction of a pair of sockets.
#[derive(Clone)]
struct Way {
    weather: Weather,
    cuts: Arc<Cuts>,
    is_to_master: bool,
}

impl Way {
    fn is_cut(&self) -> bool {
        let cut = if self.is_to_master { &self.cuts.to_master } else { &self.cuts.to_worker };
        cut.load(Ordering::Relaxed)
    }

    /// Passes a datagram on, or not, or twice, now or later.
    fn carry(&self, from: &Arc<UdpSocket>, to: Option<SocketAddr>, datagram: &[u8]) {
        let happens = |percent: u8| fastrand::u8(0..100) < percent;
        if self.is_cut() || happens(self.weather.dropped) {
            return;
        }
        for _ in 0..1 + u8::from(happens(self.weather.repeated)) {
            if happens(self.weather.delayed) {
                let (from, datagram) = (Arc::clone(from), datagram.to_vec());
                let delay = Duration::from_micros(fastrand::u64(100..20_000));
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    send(&from, to, &datagram);
                });
            } else {
                send(from, to, datagram);
            }
        }
    }
}

/// A full buffer loses the datagram, as a network would.
fn send(from: &UdpSocket, to: Option<SocketAddr>, datagram: &[u8]) {
    let _ = match to {
        Some(to) => from.try_send_to(datagram, to),
        None => from.try_send(datagram),
    };
}

impl Proxy {
    /// Starts one on the present runtime.
    pub(crate) async fn start(master: SocketAddr, weather: Weather) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("there is a free port"));
        let port = front.local_addr().expect("it is bound").port();
        let cuts = Arc::new(Cuts::default());
        let out = Way { weather, cuts: Arc::clone(&cuts), is_to_master: true };
        tokio::spawn(serve(front, master, out));
        Self { port, cuts }
    }
}

/// Carries what comes from workers, each of which gets a socket of its own towards the master.
async fn serve(front: Arc<UdpSocket>, master: SocketAddr, out: Way) {
    let mut sockets: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        // Errors are of earlier sends, to a process that has ended.
        let Ok((length, worker)) = front.recv_from(&mut buffer).await else { continue };
        let socket = match sockets.get(&worker) {
            Some(socket) => Arc::clone(socket),
            None => {
                let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("there is a free port"));
                socket
                    .connect(master)
                    .await
                    .expect("a socket can be connected to an address of this machine");
                let back = Way { is_to_master: false, ..out.clone() };
                tokio::spawn(answer(Arc::clone(&socket), Arc::clone(&front), worker, back));
                sockets.insert(worker, Arc::clone(&socket));
                socket
            }
        };
        out.carry(&socket, None, &buffer[..length]);
    }
}

async fn answer(socket: Arc<UdpSocket>, front: Arc<UdpSocket>, worker: SocketAddr, back: Way) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => back.carry(&front, Some(worker), &buffer[..length]),
            // The master is down: do not spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
