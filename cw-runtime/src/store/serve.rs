//! Reading a store that a program has to itself, as it lies on a network file system: through the program, over a socket
//! on its machine, in a folder that nobody else may enter.
//!
//! A question and its answer are a length (u32, little endian) and postcard.

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Store, ToStore,
    reads::{Answer, Question},
};
use crate::{executor::scratch, net::identity};

/// No question is longer, and no answer: rows are at most 2 GiB.
const QUESTION_MAX: usize = 64 << 10;
const ANSWER_MAX: usize = usize::MAX;

/// A socket that goes with its store.
pub(super) struct Socket {
    file: Served,
    listener: UnixListener,
}

/// Removes the file.
pub(super) struct Served(PathBuf);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// A new one. Nobody can read meanwhile if there is none.
    pub(super) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // A process of another name space may have the same number.
        let random = u64::from_le_bytes(identity::random().ok()?);
        let path = scratch::private_file(&format!("store{number}-{random:08x}")).ok()?;
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).ok()?;
        Some(Self { file: Served(path), listener })
    }

    pub(super) fn path(&self) -> &Path {
        &self.file.0
    }

    /// Answers whoever asks, until the process ends.
    pub(super) fn serve(self, store: &Arc<Store>) -> io::Result<Served> {
        let Self { file, listener } = self;
        let store = Arc::clone(store);
        let accept = move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else {
                    // Out of files, say: that passes.
                    thread::sleep(std::time::Duration::from_millis(100));
                    continue;
                };
                let store = Arc::clone(&store);
                let serve = move || while serve_one(&store, &stream).is_ok() {};
                // Without a thread it is hung up on.
                let _ = thread::Builder::new().name("cw-store-reader".to_owned()).spawn(serve);
            }
        };
        thread::Builder::new().name("cw-store-serve".to_owned()).spawn(accept)?;
        Ok(file)
    }
}

fn serve_one(store: &Store, stream: &UnixStream) -> io::Result<()> {
    let question: Question = receive(stream, QUESTION_MAX)?;
    let (send_answer, answer) = mpsc::channel();
    store.push(ToStore::Read { question, answer: send_answer });
    let answer = answer.recv().map_err(io::Error::other)?;
    send(stream, &answer)
}

fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_allocvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&bytes)
}

fn receive<T: DeserializeOwned>(mut stream: &UnixStream, most: usize) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > most {
        return Err(io::Error::other("a message is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// The way to a program that has a store.
pub(super) struct Asked(Mutex<UnixStream>);

impl Asked {
    pub(super) fn connect(socket: &Path) -> io::Result<Self> {
        UnixStream::connect(socket).map(Mutex::new).map(Self)
    }

    /// # Errors
    /// A line: the program has ended, or cannot read its store.
    pub(super) fn ask(&self, question: &Question) -> Result<Answer, String> {
        let stream = self.0.lock().expect("no holder panics");
        let answered = send(&stream, question).and_then(|()| receive(&stream, ANSWER_MAX));
        answered.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                "the program that wrote to it has ended; read it again".to_owned()
            }
            _ => format!("the program that has the store cannot be understood: {error}"),
        })?
    }
}
