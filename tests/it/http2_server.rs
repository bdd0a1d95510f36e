//! A raw HTTP/2 server over TLS for the transport's tests: it writes frames by hand, so that it can misbehave in every
//! way, and it keeps books on what a client does: streams at once, bytes above the window, requests by their bodies.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const NO_ERROR: u32 = 0;

/// What the server does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Status and body, with `END_STREAM`.
    Answer(u32, u16, Vec<u8>),
    /// Headers and a part of a body, without `END_STREAM`.
    Begin(u32, u16, Vec<u8>),
    Reset(u32, u32),
    /// Last stream id, code, debug data.
    GoAway(u32, u32, &'static str),
    MaxStreams(u32),
    Window(u32),
    /// Bytes as they are.
    Raw(Vec<u8>),
    /// All of these in one write.
    AtOnce(Vec<Act>),
    /// Ends the TCP connection.
    Close,
    /// From now on reads nothing and writes nothing.
    Freeze,
    After(Duration, Box<Act>),
}

impl Act {
    pub(super) fn after(self, millis: u64) -> Act {
        Act::After(Duration::from_millis(millis), Box::new(self))
    }
}

/// A request as the server sees it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Connection, from 0.
    pub(super) connection: usize,
    pub(super) stream: u32,
    /// Which request on its connection, from 0.
    pub(super) nth: usize,
    pub(super) body: Vec<u8>,
}

type Script = Arc<dyn Fn(&Seen) -> Vec<Act> + Send + Sync>;

#[derive(Clone)]
pub(super) struct Manner {
    /// `MAX_CONCURRENT_STREAMS` in the first SETTINGS; `None`: not sent; the whole SETTINGS are withheld when `mute`.
    pub(super) max_streams: Option<u32>,
    pub(super) mute: bool,
    /// How long `WINDOW_UPDATEs` are withheld; `None`: for ever.
    pub(super) window_delay: Option<Duration>,
}

impl Default for Manner {
    fn default() -> Self {
        Manner { max_streams: Some(1000), mute: false, window_delay: Some(Duration::ZERO) }
    }
}

#[derive(Default)]
pub(super) struct Books {
    pub(super) connections: usize,
    pub(super) open: HashSet<usize>,
    pub(super) requests: Vec<Seen>,
    /// Most streams at once, by connection.
    pub(super) most: HashMap<usize, usize>,
    /// What the client did that it must not.
    pub(super) violations: Vec<String>,
    pub(super) pings: usize,
    pub(super) resets: usize,
    /// Connections that said GOAWAY before they went.
    pub(super) farewells: usize,
    controls: HashMap<usize, mpsc::Sender<Act>>,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) books: Arc<Mutex<Books>>,
    ca: tempfile::NamedTempFile,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(manner: Manner, script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), key.cert.pem()).unwrap();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let books = Arc::new(Mutex::new(Books::default()));
        let script: Script = Arc::new(script);
        let kept = books.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, books) = (acceptor.clone(), kept.clone());
                let (manner, script) = (manner.clone(), script.clone());
                connections.spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    if let Ok(stream) = acceptor.accept(stream).await {
                        Peer::serve(stream, manner, script, books).await;
                    }
                });
            }
        });
        Server { address, books, ca, task }
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.ca.path().to_owned()
    }

    /// Makes every open connection do something.
    pub(super) fn tell_all(&self, act: &Act) {
        for control in self.books.lock().controls.values() {
            let _ = control.try_send(act.clone());
        }
    }

    /// How often each body was seen.
    pub(super) fn serials(&self) -> HashMap<Vec<u8>, usize> {
        let mut serials = HashMap::new();
        for seen in &self.books.lock().requests {
            *serials.entry(seen.body.clone()).or_default() += 1;
        }
        serials
    }
}

struct Peer {
    id: usize,
    stream: TlsStream<TcpStream>,
    manner: Manner,
    script: Script,
    books: Arc<Mutex<Books>>,
    control: mpsc::Sender<Act>,
    bodies: HashMap<u32, Vec<u8>>,
    open: HashSet<u32>,
    limit: usize,
    window: i64,
    nth: usize,
}

impl Peer {
    async fn serve(stream: TlsStream<TcpStream>, manner: Manner, script: Script, books: Arc<Mutex<Books>>) {
        let (control, mut acts) = mpsc::channel(4096);
        let id = {
            let mut books = books.lock();
            let id = books.connections;
            books.connections += 1;
            books.open.insert(id);
            books.controls.insert(id, control.clone());
            id
        };
        let limit = manner.max_streams.map_or(usize::MAX, |limit| limit as usize);
        let (bodies, open) = (HashMap::new(), HashSet::new());
        let mut peer = Peer { id, stream, manner, script, books, control, bodies, open, limit, window: 65_535, nth: 0 };
        let _ = peer.run(&mut acts).await;
        let mut books = peer.books.lock();
        books.open.remove(&id);
        books.controls.remove(&id);
    }

    async fn run(&mut self, acts: &mut mpsc::Receiver<Act>) -> std::io::Result<()> {
        let mut buffer = vec![0; 24];
        self.stream.read_exact(&mut buffer).await?;
        assert_eq!(buffer, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        buffer.clear();
        if !self.manner.mute {
            let settings = self.manner.max_streams.map_or(vec![], setting);
            self.stream.write_all(&frame(4, 0, 0, &settings)).await?;
        }
        loop {
            tokio::select! {
                read = self.stream.read_buf(&mut buffer) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    while let Some((kind, flags, stream, payload)) = next_frame(&mut buffer) {
                        let acts = self.receive(kind, flags, stream, payload).await?;
                        for act in acts {
                            if !self.act(act).await? {
                                return Ok(());
                            }
                        }
                    }
                }
                Some(act) = acts.recv() => if !self.act(act).await? {
                    return Ok(());
                }
            }
        }
    }

    /// Books a frame of the client; returns what the script wants done about a whole request.
    async fn receive(&mut self, kind: u8, flags: u8, stream: u32, payload: Vec<u8>) -> std::io::Result<Vec<Act>> {
        match kind {
            0 => {
                self.window -= payload.len() as i64;
                if self.window < 0 {
                    self.books.lock().violations.push(format!("window exceeded by {}", -self.window));
                }
                if let Some(delay) = self.manner.window_delay
                    && !payload.is_empty()
                {
                    let _ = self.control.try_send(Act::After(delay, Box::new(Act::Window(payload.len() as u32))));
                }
                self.bodies.entry(stream).or_default().extend(payload);
            }
            1 => {
                self.open.insert(stream);
                let mut books = self.books.lock();
                if self.open.len() > self.limit {
                    books.violations.push(format!("{} streams where {} are allowed", self.open.len(), self.limit));
                }
                let most = books.most.entry(self.id).or_default();
                *most = self.open.len().max(*most);
            }
            3 => {
                self.open.remove(&stream);
                self.bodies.remove(&stream);
                self.books.lock().resets += 1;
            }
            4 if flags & 1 == 0 => self.stream.write_all(&frame(4, 1, 0, &[])).await?,
            6 if flags & 1 == 0 => {
                self.books.lock().pings += 1;
                self.stream.write_all(&frame(6, 1, 0, &payload)).await?;
            }
            7 => self.books.lock().farewells += 1,
            _ => {}
        }
        if (kind == 0 || kind == 1) && flags & 1 != 0 {
            let body = self.bodies.remove(&stream).unwrap_or_default();
            let seen = Seen { connection: self.id, stream, nth: self.nth, body };
            self.nth += 1;
            self.books.lock().requests.push(seen.clone());
            return Ok((self.script)(&seen));
        }
        Ok(Vec::new())
    }

    /// `false`: the end of this connection.
    async fn act(&mut self, act: Act) -> std::io::Result<bool> {
        match act {
            Act::After(delay, act) => {
                let control = self.control.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = control.try_send(*act);
                });
            }
            Act::Close => return Ok(false),
            Act::Freeze => std::future::pending().await,
            said => {
                let bytes = self.bytes(said);
                self.stream.write_all(&bytes).await?;
            }
        }
        Ok(true)
    }

    /// What the connection says.
    fn bytes(&mut self, act: Act) -> Vec<u8> {
        match act {
            Act::Answer(stream, status, body) => {
                self.open.remove(&stream);
                let end = u8::from(body.is_empty());
                let mut bytes = frame(1, 4 | end, stream, &status_block(status));
                let mut parts = body.chunks(16_000).peekable();
                while let Some(part) = parts.next() {
                    bytes.extend(frame(0, u8::from(parts.peek().is_none()), stream, part));
                }
                bytes
            }
            Act::Begin(stream, status, body) => {
                let mut bytes = frame(1, 4, stream, &status_block(status));
                bytes.extend(frame(0, 0, stream, &body));
                bytes
            }
            Act::Reset(stream, code) => {
                self.open.remove(&stream);
                frame(3, 0, stream, &code.to_be_bytes())
            }
            Act::GoAway(last, code, debug) => {
                let mut payload = last.to_be_bytes().to_vec();
                payload.extend(code.to_be_bytes());
                payload.extend(debug.as_bytes());
                self.open.retain(|stream| *stream <= last);
                frame(7, 0, 0, &payload)
            }
            Act::MaxStreams(limit) => {
                self.limit = self.limit.max(limit as usize); // lower ones count from the acknowledgement on
                frame(4, 0, 0, &setting(limit))
            }
            Act::Window(bytes) => {
                self.window += i64::from(bytes);
                frame(8, 0, 0, &bytes.to_be_bytes())
            }
            Act::Raw(bytes) => bytes,
            Act::AtOnce(acts) => acts.into_iter().flat_map(|act| self.bytes(act)).collect(),
            Act::Close | Act::Freeze | Act::After(..) => panic!("{act:?} says nothing"),
        }
    }
}

fn setting(max_streams: u32) -> Vec<u8> {
    let mut setting = vec![0, 3];
    setting.extend(max_streams.to_be_bytes());
    setting
}

/// `:status` as a literal without indexing, its name by index.
fn status_block(status: u16) -> Vec<u8> {
    let mut block = vec![0x08, 3];
    block.extend(status.to_string().as_bytes());
    block
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn next_frame(buffer: &mut Vec<u8>) -> Option<(u8, u8, u32, Vec<u8>)> {
    let head = buffer.get(..9)?;
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (kind, flags) = (head[3], head[4]);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let payload = buffer.get(9..9 + len)?.to_vec();
    buffer.drain(..9 + len);
    Some((kind, flags, stream, payload))
}
