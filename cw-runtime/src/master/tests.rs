//! A master in this process, over loopback, and its endpoint taken from under it.

use std::{
    future::pending,
    path::{Path, PathBuf},
    time::Duration,
};

use cw_core::{
    master::Config,
    wire::{Role, Standing, ToWorker, Welcome, WorkerState},
};

use super::run::{self, Setup};
use crate::{
    access::ClusterDir,
    exit::Trouble,
    net::{
        connect::{Joined, Patience, Search, Wanted, number_and_epoch},
        endpoint::{self, Opening},
        link::{Incoming, Link},
        tls::{self, Peer},
    },
    observe::Observer,
    program,
};

/// No test waits this long unless it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A master that is about to serve, and its folder.
struct Cluster {
    _home: tempfile::TempDir,
    dir: ClusterDir,
    setup: Setup,
}

/// Must be called within a runtime.
fn cluster() -> Cluster {
    let home = tempfile::tempdir().unwrap();
    let dir = ClusterDir::in_home(home.path(), "test").unwrap();
    let (keys, _lock) = dir.open_master().unwrap();
    let (socket, _) = endpoint::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let (clients, workers) = (keys.clients.certificate(), keys.workers.certificate());
    let config = tls::server_config(&keys.identity, clients, workers).unwrap();
    let opening = Opening { address, config, keys: keys.endpoint.clone() };
    let endpoint = endpoint::serve(socket, opening.config.clone(), &opening.keys).unwrap();
    dir.write_access(&keys, &[address]).unwrap();
    let (roster, _) = dir.open_roster().unwrap();
    let setup = Setup {
        endpoint,
        opening,
        keys,
        config: Config::default(),
        roster: Some(roster),
        cache_bytes: 1 << 30,
        keeper: None,
    };
    Cluster { _home: home, dir, setup }
}

fn search(access: PathBuf, role: Peer) -> Search {
    let wanted =
        Wanted { cluster: "test".to_owned(), access: Some(access), master: None, role, timeout: PATIENCE };
    let as_role = match role {
        Peer::Client => Role::Client,
        Peer::Worker => Role::Worker { slots: 1, programs: cw_core::wire::Programs::Any, left: None },
    };
    Search::new(wanted, program::hello(program::own_id().unwrap(), as_role).unwrap())
}

async fn join(search: &mut Search) -> Joined {
    search.join(search.patience()).await.unwrap()
}

fn is_known(welcome: &Welcome) -> bool {
    matches!(welcome, Welcome::Client { resumed: true, .. } | Welcome::Worker { returned: true, .. })
}

/// Runs on a runtime like a master's, and fails rather than hangs.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") })
}

#[test]
fn an_endpoint_that_ends_is_made_anew_and_all_peers_come_back() {
    run(async {
        let Cluster { _home, dir, setup } = cluster();
        let endpoint = setup.endpoint.clone();
        let master = tokio::spawn(run::run(setup, pending(), pending()));
        let mut peers = [Peer::Client, Peer::Worker].map(|role| search(dir.access_file(role), role));
        let mut before = Vec::new();
        for peer in &mut peers {
            before.push(join(peer).await);
        }
        endpoint.close(0u32.into(), b"a fault that a test made");
        drop(endpoint);
        for (peer, before) in peers.iter_mut().zip(before) {
            before.connection.closed().await;
            let after = join(peer).await;
            assert_eq!(number_and_epoch(&after.welcome), number_and_epoch(&before.welcome));
            assert_eq!(after.address, before.address);
            assert!(!is_known(&before.welcome) && is_known(&after.welcome), "{:?}", after.welcome);
        }
        assert!(!master.is_finished());
        master.abort();
    });
}

#[test]
fn a_master_that_is_followed_ends_and_tells_its_peers_why() {
    run(async {
        let Cluster { _home, dir, setup } = cluster();
        let (follow, successor) = tokio::sync::oneshot::channel();
        let successor = async { successor.await.expect("the test sends it") };
        let master = tokio::spawn(run::run(setup, pending(), successor));
        let joined = join(&mut search(dir.access_file(Peer::Worker), Peer::Worker)).await;
        follow.send(7).unwrap();
        let trouble = master.await.unwrap().unwrap_err();
        assert_eq!(trouble.code(), crate::exit::REFUSED);
        assert_eq!(trouble.to_string(), "another master took the cluster over (epoch 7)");
        let closed = joined.connection.closed().await;
        assert!(tls::explain(&closed).to_string().contains("took the cluster over (epoch 7)"), "{closed}");
    });
}

#[test]
fn a_peer_waits_for_the_newest_master_it_has_heard_of() {
    run(async {
        let Cluster { _home, dir, setup } = cluster();
        let (mut keys, address) = (setup.keys.clone(), setup.opening.address);
        let master = tokio::spawn(run::run(setup, pending(), pending()));
        let mut client = search(dir.access_file(Peer::Client), Peer::Client);
        keys.epoch = 2;
        dir.write_access(&keys, &[address]).unwrap();
        let little = Patience { time: Duration::from_millis(300), flag: "connect-timeout" };
        let why = "an older master answers; waiting for the one of epoch 2";
        // The last try of a search may be cut short before it is answered; then the next search hears it.
        while let refused = client.join(little).await.err().expect("a file says that there is a newer one")
            && !refused.to_string().contains(why)
        {
            assert!(refused.to_string().contains("no answer"), "{refused}");
        }
        keys.epoch = 1;
        dir.write_access(&keys, &[address]).unwrap();
        join(&mut client).await;
        assert!(!master.is_finished());
        master.abort();
    });
}

/// Does this, which blocks, while the master runs.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(what).await.expect("it does not panic")
}

fn observer(access: &Path) -> Result<Observer, Trouble> {
    let (cluster, access) = ("test".to_owned(), Some(access.to_owned()));
    Observer::find(Wanted { cluster, access, master: None, role: Peer::Client, timeout: PATIENCE })
}

fn look(access: &Path) -> impl FnOnce() -> Standing + Send + 'static {
    let access = access.to_owned();
    move || observer(&access).unwrap().look().unwrap()
}

#[test]
fn an_observer_sees_who_is_there_and_is_no_client() {
    run(async {
        let Cluster { _home, dir, setup } = cluster();
        let address = setup.opening.address;
        let master = tokio::spawn(run::run(setup, pending(), pending()));
        let file = dir.access_file(Peer::Client);
        let nobody = blocking(look(&file)).await;
        assert_eq!((nobody.workers.len(), nobody.clients.len(), nobody.epoch), (0, 0, 1));
        assert_eq!((nobody.version.as_str(), nobody.name), (program::VERSION, program::process_name()));
        let peers = [Peer::Client, Peer::Worker].map(|role| search(dir.access_file(role), role));
        let mut joined = Vec::new();
        for mut peer in peers {
            joined.push(join(&mut peer).await);
        }
        let standing = blocking(look(&file)).await;
        let [worker] = &standing.workers[..] else { panic!("{standing:?}") };
        let [client] = &standing.clients[..] else { panic!("{standing:?}") };
        assert_eq!(
            (worker.name.clone(), worker.slots, worker.state),
            (program::process_name(), 1, WorkerState::Well)
        );
        let port = joined[1].endpoint.local_addr().unwrap().port();
        assert_eq!(worker.address, format!("{}:{port}", address.ip()));
        assert_eq!((&client.name, &client.program_name), (&program::process_name(), &program::file_name()));
        master.abort();
    });
}

#[test]
fn a_cluster_that_is_stopped_dismisses_its_workers_and_ends() {
    run(async {
        let Cluster { _home, dir, setup } = cluster();
        let master = tokio::spawn(run::run(setup, pending(), pending()));
        let client = join(&mut search(dir.access_file(Peer::Client), Peer::Client)).await;
        let worker = join(&mut search(dir.access_file(Peer::Worker), Peer::Worker)).await;
        let file = dir.access_file(Peer::Client);
        let stopping = tokio::spawn(blocking(move || observer(&file).unwrap().stop(PATIENCE)));
        let (deliver, mut said) = tokio::sync::mpsc::channel::<((), Incoming<ToWorker>)>(8);
        let _link = Link::over(worker.lanes, worker.read, (), &deliver);
        loop {
            match said.recv().await {
                Some(((), Incoming::Messages(all))) if all.iter().any(|(it, _)| *it == ToWorker::Leave) => {
                    break;
                }
                Some(((), Incoming::Messages(_))) => {}
                other => panic!("it was not told to leave: {other:?}"),
            }
        }
        assert!(!master.is_finished(), "it waits for its worker");
        worker.connection.close(0u32.into(), b"gone");
        stopping.await.unwrap().unwrap();
        master.await.unwrap().unwrap();
        let why = tls::explain(&client.connection.closed().await).to_string();
        assert!(why.contains("the cluster was stopped"), "{why}");
    });
}

#[test]
fn a_worker_s_key_is_no_observer_s() {
    run(async {
        let Cluster { _home, dir, setup } = cluster();
        let master = tokio::spawn(run::run(setup, pending(), pending()));
        let hello = program::hello(Default::default(), Role::Observer).unwrap();
        let (cluster, access) = ("test".to_owned(), Some(dir.access_file(Peer::Worker)));
        let wanted = Wanted { cluster, access, master: None, role: Peer::Worker, timeout: PATIENCE };
        let mut search = Search::quiet(wanted, hello);
        let patience = search.patience();
        let refused = search.join(patience).await.err().expect("it has no right to look").to_string();
        assert!(refused.contains("the key is for a worker"), "{refused}");
        master.abort();
    });
}

/// One who looks on and asks nothing.
fn idler(access: PathBuf) -> Search {
    let wanted = Wanted {
        cluster: "test".to_owned(),
        access: Some(access),
        master: None,
        role: Peer::Client,
        timeout: PATIENCE,
    };
    Search::quiet(wanted, program::hello(Default::default(), Role::Observer).unwrap())
}

#[test]
fn there_is_a_place_for_so_many_observers_and_one_that_goes_leaves_its_own() {
    run(async {
        let Cluster { _home, dir, setup } = cluster();
        let master = tokio::spawn(run::run(setup, pending(), pending()));
        let file = dir.access_file(Peer::Client);
        let mut idlers = Vec::new();
        for _ in 0..64 {
            idlers.push(join(&mut idler(file.clone())).await);
        }
        let little = Patience { time: Duration::from_millis(500), flag: "connect-timeout" };
        // The last try of a search may be cut short before it is answered.
        while let shown_out =
            idler(file.clone()).join(little).await.err().expect("there is no place").to_string()
            && !shown_out.contains("too many look at this cluster")
        {
            assert!(shown_out.contains("it answers") || shown_out.contains("no answer"), "{shown_out}");
        }
        idlers.pop().expect("there are some").connection.close(0u32.into(), b"");
        assert_eq!(blocking(look(&file)).await.clients, []);
        master.abort();
    });
}
