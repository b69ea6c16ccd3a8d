//! Calling all addresses of a master at once, each again and again, until one of them lets this process in.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use cw_core::wire::{self, Hello, Refusal as Refused, Reply, Session};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use super::{
    Failed, GREETING_BYTES_MAX, Joined,
    board::{Board, State, in_system_words},
    number_and_epoch, probe,
};
use crate::{
    access::Access,
    net::{
        endpoint,
        link::read_frame,
        tls::{self, SERVER_NAME},
    },
};

/// Pause before an address that failed is called again, while others are waited for.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What all calls of a try have in common.
struct Race {
    config: quinn::ClientConfig,
    hello: Hello,
    access: Access,
    board: Arc<Board>,
    /// Only one is greeted at a time, and none any more once this is true: or this process would join once for each
    /// address.
    is_in: Mutex<bool>,
    joined: mpsc::Sender<Joined>,
}

/// Calls all addresses and takes the first that lets us in. May be dropped at any point: a call that is given up closes its
/// connection.
///
/// # Errors
/// All have failed at least once; the board has the causes.
pub(super) async fn call_all(
    (addresses, source): (&[String], &str),
    config: quinn::ClientConfig,
    hello: &Hello,
    access: &Access,
    board: &Arc<Board>,
) -> Result<Joined, Failed> {
    let (sender, mut joined) = mpsc::channel(1);
    board.begin(source);
    let race = Arc::new(Race {
        config,
        hello: hello.clone(),
        access: access.clone(),
        board: Arc::clone(board),
        is_in: Mutex::new(false),
        joined: sender,
    });
    let mut calls = JoinSet::new();
    for address in addresses {
        race.enter(&mut calls, address);
    }
    // What is queued by the one is not lost when the other comes first: then it is not read.
    tokio::select! {
        biased;
        Some(joined) = joined.recv() => Ok(joined),
        () = board.all_failed() => match board.is_final() {
            true => Err(Failed { why: board.calls(), is_final: true }),
            false => Err(Failed::again(board.words())),
        },
    }
}

impl Race {
    fn enter(self: &Arc<Self>, calls: &mut JoinSet<()>, address: &str) {
        let race = Arc::clone(self);
        match address.parse::<SocketAddr>() {
            Ok(ip) if self.board.call(address, State::Called) => {
                calls.spawn(async move { race.call_again(ip).await });
            }
            Err(_) if self.board.call(address, State::Asked) => {
                let name = address.to_owned();
                calls.spawn(async move { race.call_name(&name).await });
            }
            // Named twice.
            _ => {}
        }
    }

    /// Asks for the addresses of a name until there are any, then calls all of them.
    async fn call_name(self: &Arc<Self>, name: &str) {
        let mut pause = PAUSE;
        loop {
            let why = match tokio::net::lookup_host(name).await {
                Ok(found) => {
                    let mut calls = JoinSet::new();
                    let found: Vec<_> = found.collect();
                    found.iter().for_each(|ip| self.enter(&mut calls, &ip.to_string()));
                    if !found.is_empty() {
                        self.board.set(name, State::Known);
                        while calls.join_next().await.is_some() {}
                        return;
                    }
                    "the name has no address".to_owned()
                }
                Err(error) => format!("the name cannot be resolved: {error}"),
            };
            self.board.set(name, State::Failed { why, is_final: false });
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Calls an address until it lets this process in, or never will.
    async fn call_again(&self, address: SocketAddr) {
        let mut pause = PAUSE;
        while let Err(Failed { why, is_final }) = self.call(address).await {
            self.board.set(&address.to_string(), State::Failed { why, is_final });
            if is_final {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn call(&self, address: SocketAddr) -> Result<(), Failed> {
        probe::route(address).map_err(|error| Failed::again(in_system_words(&error)))?;
        let answered = tokio::select! {
            answered = self.dial(address) => answered?,
            error = probe::refused(address) => return Err(Failed::again(in_system_words(&error))),
        };
        self.board.set(&address.to_string(), State::Answered);
        let mut is_in = self.is_in.lock().await;
        if !*is_in {
            let joined = answered.greet(&self.hello, &self.access).await?;
            *is_in = true;
            // If nobody takes it, it is closed by that.
            let _ = self.joined.send(joined).await;
        }
        Ok(())
    }

    async fn dial(&self, address: SocketAddr) -> Result<Answered, Failed> {
        let again = |error: &dyn std::fmt::Display| Failed::again(error.to_string());
        let (socket, buffers) =
            endpoint::bind(endpoint::local_for(address)).map_err(|error| again(&error))?;
        if let Some(advice) = buffers.advice() {
            tracing::debug!("{advice}");
        }
        let endpoint = endpoint::dial(socket).map_err(|error| again(&error))?;
        loop {
            let connecting = endpoint.connect_with(self.config.clone(), address, SERVER_NAME);
            match connecting.map_err(|error| again(&error))?.await {
                Ok(connection) => return Ok(Answered { endpoint, connection, address }),
                // It goes on being silent, and the board says for how long.
                Err(quinn::ConnectionError::TimedOut) => {}
                Err(error) => return Err(explain(&error, &self.access)),
            }
        }
    }
}

/// A master that has finished the TLS handshake.
struct Answered {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    address: SocketAddr,
}

impl Answered {
    async fn greet(self, hello: &Hello, access: &Access) -> Result<Joined, Failed> {
        let connection = self.connection.clone();
        greet(self, hello, access).await.map_err(|failed| {
            // The first word after the handshake shows whether the master took our key.
            connection.close_reason().map_or(failed, |error| explain(&error, access))
        })
    }
}

fn explain(error: &quinn::ConnectionError, access: &Access) -> Failed {
    let refusal = tls::explain(error);
    let hint = match refusal {
        tls::Refusal::PeerIsForeign | tls::Refusal::WeAreForeign => {
            format!(" (keys from {})", access.path.display())
        }
        _ => String::new(),
    };
    Failed { why: format!("{refusal}{hint}"), is_final: refusal.is_final() }
}

async fn greet(answered: Answered, hello: &Hello, access: &Access) -> Result<Joined, Failed> {
    let Answered { endpoint, connection, address } = answered;
    let again = |error: &dyn std::fmt::Display| Failed::again(error.to_string());
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| again(&error))?;
    let (mut send_long, receive_long) = connection.open_bi().await.map_err(|error| again(&error))?;
    send.set_priority(1).map_err(|error| again(&error))?;
    let greeting = wire::encode_hello(hello);
    let length = u32::try_from(greeting.len()).expect("greetings are short").to_le_bytes();
    send.write_all(&[&length[..], &greeting].concat()).await.map_err(|error| again(&error))?;
    // An empty frame, as the other side sees a stream only once something is on it.
    send_long.write_all(&0u32.to_le_bytes()).await.map_err(|error| again(&error))?;
    let mut read = BytesMut::new();
    let reply =
        read_frame(&mut receive, &mut read, GREETING_BYTES_MAX).await.map_err(|error| again(&error))?;
    let refused = |why: String| Failed { why, is_final: true };
    match wire::decode_reply(&reply).map_err(|error| refused(error.to_string()))? {
        Reply::Refused(refusal) => Err(refused(in_words(&refusal))),
        Reply::Welcome(welcome) => {
            let lanes = [(send, receive), (send_long, receive_long)];
            let session = Session { known: Some(number_and_epoch(&welcome).0), ..hello.session };
            let path = access.path.clone();
            Ok(Joined { endpoint, connection, lanes, read, welcome, session, address, path })
        }
    }
}

fn in_words(refusal: &Refused) -> String {
    match refusal {
        Refused::Role { key, asked } => {
            format!("the master refused: the key is for a {key}, and this process wants to be a {asked}")
        }
        Refused::Protocol { master } => {
            format!("the master refused: it is {master}, this is cw {}", crate::program::VERSION)
        }
        Refused::Malformed { why } => format!("the master refused: {why}"),
    }
}
