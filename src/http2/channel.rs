//! Between a connection's socket and its state: what comes is handed to it, what is to leave is taken from it.
//!
//! All that was said since the last look leaves together, in as few TLS records and system calls as hold it: requests are begun by
//! many tasks, and the connection's own comes after them. What is said in return to frames that brought answers (FCM asks for a sign of
//! life behind each) waits for one turn, in which the tasks with these answers may begin their next requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::link::Link;
use super::wire::Broken;

/// Room for what comes: more than the longest frame that a peer may send us, which must fit.
const ROOM: usize = 20 << 10;
/// Looks at the socket in one turn: a peer that never stops must not keep us from saying anything.
const READS: usize = 16;
/// A vector that has grown beyond this for a burst is not kept for the next.
const KEPT: usize = 64 << 10;

/// How long a socket that takes nothing more is still read. What lies in it is seen only after the runtime has asked the system again,
/// which it does between the turns of its tasks, and always before it finds that a time is over.
const LAST_READS: Duration = Duration::from_millis(20);

/// A connection's bytes, in both directions.
pub(super) struct Channel<T> {
    link: Arc<Link>,
    io: T,
    input: Box<[u8]>,
    filled: usize,
    output: Vec<u8>,
    left: usize,
    /// Whether what is to leave has waited for a turn.
    has_waited: bool,
    broken: Option<Break>,
}

/// Nothing can leave any more, while there may still be something to read.
struct Break {
    why: io::Error,
    last_reads: Pin<Box<Sleep>>,
}

/// Why nothing comes and goes any more.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed.
    Closed,
    /// The socket broke.
    Io(io::Error),
    /// The peer broke the protocol's rules; it was told.
    Protocol(Broken),
}

/// What there is to read after a turn.
enum Input {
    /// Nothing, for now.
    None,
    /// Perhaps more.
    More,
    End(End),
}

impl End {
    /// In words; a peer that said GOAWAY has said why.
    pub(super) fn told(&self, goaway: Option<&str>) -> String {
        match (goaway, self) {
            (Some(said), End::Closed | End::Io(_)) => said.to_owned(),
            (None, End::Closed) => "closed by the peer".to_owned(),
            (None, End::Io(error)) => error.to_string(),
            (_, End::Protocol(broken)) => broken.to_string(),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Channel<T> {
    pub(super) fn new(link: Arc<Link>, io: T) -> Self {
        Channel {
            link,
            io,
            input: vec![0; ROOM].into(),
            filled: 0,
            output: Vec::new(),
            left: 0,
            has_waited: false,
            broken: None,
        }
    }

    /// Takes in what has come and lets go of what is to leave. Pending as long as the connection lives.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let answers = self.link.answers();
        // Before the reads: what it says holds for them.
        let is_read = self.broken.as_mut().is_some_and(|broken| broken.last_reads.as_mut().poll(cx).is_ready());
        let input = self.take_input(cx);
        if let Input::End(end) = input {
            return Poll::Ready(self.answer(end, cx));
        }
        if let Input::More = input {
            cx.waker().wake_by_ref();
        }
        // What the peer said before it broke the connection comes first.
        if let Some(broken) = self.broken.take_if(|_| is_read && matches!(input, Input::None)) {
            return Poll::Ready(End::Io(broken.why));
        }
        if self.broken.is_some() {
            return Poll::Pending;
        }
        if !self.lets_wait(answers) {
            return self.let_go(cx);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether nothing can leave any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Whether what is to leave waits for the next turn.
    fn lets_wait(&mut self, answers: u64) -> bool {
        let has_answers = self.link.answers() > answers;
        self.has_waited = has_answers && !self.has_waited && self.link.session().backlog() > 0;
        self.has_waited
    }

    fn let_go(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let left = self.poll_output(cx);
        let is_all = left.is_ready();
        if let Poll::Ready(Err(why)) = left {
            self.broken = Some(Break { why, last_reads: Box::pin(tokio::time::sleep(LAST_READS)) });
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut session = self.link.session();
        session.set_driver(cx.waker());
        // A request may have been begun on another thread since.
        if is_all && session.backlog() > 0 {
            session.wake();
        }
        Poll::Pending
    }

    /// An end as it is; a peer that broke the rules is told, and nothing else is said to it any more.
    fn answer(&mut self, end: End, cx: &mut Context<'_>) -> End {
        if let End::Protocol(broken) = &end {
            let mut session = self.link.session();
            session.lose(&broken.to_string());
            session.say_goaway(Some(*broken));
            drop(session);
            let _ = self.poll_output(cx); // it may listen no more
        }
        end
    }

    /// Lets the last bytes leave, and ends the connection.
    pub(super) fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Ok(()) = ready!(self.poll_output(cx)) {
            let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx)); // it is over in any case
        }
        Poll::Ready(())
    }

    /// Takes in what has come, as far as one turn goes.
    fn take_input(&mut self, cx: &mut Context<'_>) -> Input {
        for _ in 0..READS {
            let mut room = ReadBuf::new(&mut self.input[self.filled..]);
            match Pin::new(&mut self.io).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Input::End(End::Io(error)),
                Poll::Pending => return Input::None,
            }
            let came = room.filled().len();
            if came == 0 {
                return Input::End(End::Closed);
            }
            self.link.heard(came);
            self.filled += came;
            match self.link.receive(&self.input[..self.filled]) {
                Ok(taken) => {
                    self.input.copy_within(taken..self.filled, 0);
                    self.filled -= taken;
                }
                Err(broken) => return Input::End(End::Protocol(broken)),
            }
        }
        Input::More
    }

    /// Ready when everything has left.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.left < self.output.len() {
                match ready!(Pin::new(&mut self.io).poll_write(cx, &self.output[self.left..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    some => self.left += some,
                }
            }
            let mut spare = std::mem::take(&mut self.output);
            spare.clear();
            spare.shrink_to(KEPT);
            self.left = 0;
            self.output = self.link.session().take_out(spare);
            if self.output.is_empty() {
                return Pin::new(&mut self.io).poll_flush(cx);
            }
        }
    }
}

impl<T> Drop for Channel<T> {
    /// Nobody is left who could answer.
    fn drop(&mut self) {
        self.link.session().lose("the connection's task has ended");
    }
}

/// Against the server half of the crate `h2`, which knows nothing of ours.
#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::future::poll_fn;

    use bytes::Bytes;
    use http::{HeaderValue, Request, Response};
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::time::Instant;

    use super::*;
    use crate::http2::wire::Ended;

    /// A server's limits.
    #[derive(Clone, Copy, Debug)]
    struct Limits {
        table: u32,
        window: u32,
        connection_window: u32,
        frame: u32,
        streams: u32,
    }

    /// Answers every request with what it was: its path, one of its headers, and its body's length and sum.
    async fn echo(io: DuplexStream, limits: Limits) {
        let mut server = h2::server::Builder::new()
            .header_table_size(limits.table)
            .initial_window_size(limits.window)
            .initial_connection_window_size(limits.connection_window)
            .max_frame_size(limits.frame)
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(1 << 20)
            .handshake::<_, Bytes>(io)
            .await
            .unwrap();
        while let Some(Ok((request, mut respond))) = server.accept().await {
            tokio::spawn(async move {
                let (head, mut body) = request.into_parts();
                let (mut len, mut sum) = (0, 0u64);
                while let Some(part) = body.data().await {
                    let part = part.unwrap();
                    len += part.len();
                    sum += part.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                    body.flow_control().release_capacity(part.len()).unwrap();
                }
                let topic = head.headers.get("apns-topic").cloned().unwrap_or(HeaderValue::from_static("none"));
                let secret = head.headers.get("authorization").map_or(0, HeaderValue::len);
                let told = format!("{} {} {len} {sum} {secret}", head.uri, topic.to_str().unwrap());
                let response = Response::builder().status(210).header("apns-topic", topic).header("server", &told);
                let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
                stream.send_data(told.into(), true).unwrap();
            });
        }
    }

    struct Client {
        link: Arc<Link>,
        driver: tokio::task::JoinHandle<End>,
    }

    async fn connect(limits: Limits, buffer: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(buffer);
        tokio::spawn(echo(theirs, limits));
        let link = Arc::new(Link::new(&["apns-topic"]));
        let mut channel = Channel::new(link.clone(), ours);
        poll_fn(|cx| match channel.poll(cx) {
            Poll::Ready(end) => panic!("{end:?}"),
            Poll::Pending if link.session().is_open() => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        })
        .await;
        let driver = tokio::spawn(async move { poll_fn(|cx| channel.poll(cx)).await });
        Client { link, driver }
    }

    #[derive(Clone, Debug)]
    struct Push {
        serial: u8,
        topic: u8,
        secret: usize,
        body: usize,
    }

    impl Push {
        fn request(&self) -> Request<()> {
            let mut secret = HeaderValue::from_str(&"s".repeat(self.secret)).unwrap();
            secret.set_sensitive(true);
            Request::post(format!("https://localhost/{}", self.serial))
                .header("authorization", secret)
                .header("apns-topic", format!("topic-{}", self.topic))
                .body(())
                .unwrap()
        }

        fn body(&self) -> Bytes {
            vec![self.serial; self.body].into()
        }

        fn told(&self) -> String {
            let Push { serial, topic, secret, body } = self;
            format!("https://localhost/{serial} topic-{topic} {body} {} {secret}", body * usize::from(*serial))
        }
    }

    async fn send(link: &Link, push: &Push) -> Result<String, Ended> {
        let key = link.session().begin(Instant::now(), push.request(), push.body())?;
        let (status, headers, body) = poll_fn(|cx| link.session().poll_end(key, cx)).await?;
        assert_eq!(
            (status.as_u16(), headers["apns-topic"].as_bytes()),
            (210, format!("topic-{}", push.topic).as_bytes())
        );
        Ok(str::from_utf8(&body).unwrap().to_owned())
    }

    prop_compose! {
        fn pushes()(
            pushes in prop::collection::vec((any::<u8>(), 0u8..4, prop_oneof![0..300usize, 15_000..40_000usize], prop_oneof![0..500usize, 0..200_000usize]), 1..25)
        ) -> Vec<Push> {
            pushes.into_iter().map(|(serial, topic, secret, body)| Push { serial, topic, secret, body }).collect()
        }
    }

    prop_compose! {
        fn limits()(
            table in prop_oneof![Just(0u32), 0..200u32, Just(4096), Just(65_536)],
            window in prop_oneof![1..100u32, Just(65_535), Just(1 << 20)],
            connection_window in 65_535..200_000u32,
            frame in prop_oneof![Just(16_384u32), 16_384..60_000u32],
            streams in 1..30u32,
        ) -> Limits {
            Limits { table, window, connection_window, frame, streams }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn every_request_arrives_as_it_was_whatever_the_peer_allows(
            pushes in pushes(),
            limits in limits(),
            buffer in prop_oneof![1..200usize, Just(1 << 16)],
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // Of a byte at a time, or a window of some, less is enough.
                let is_slow = buffer < 200 || limits.window < 100;
                let pushes: Vec<Push> = pushes
                    .into_iter()
                    .map(|push| if is_slow { Push { body: push.body % 700, ..push } } else { push })
                    .collect();
                let client = connect(limits, buffer).await;
                for some in pushes.chunks(limits.streams as usize) {
                    let answers = some.iter().map(|push| send(&client.link, push));
                    for (push, answer) in some.iter().zip(futures_util::future::join_all(answers).await) {
                        assert_eq!(answer.unwrap(), push.told());
                    }
                }
                assert!(!client.driver.is_finished());
            });
        }
    }

    #[tokio::test]
    async fn what_was_begun_in_one_turn_leaves_together() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let link = Arc::new(Link::new(&[]));
        let mut channel = Channel::new(link.clone(), ours);
        assert!(poll_fn(|cx| Poll::Ready(channel.poll(cx).is_pending())).await);
        let mut bytes = vec![0; 1 << 20];
        let preface = theirs.read(&mut bytes).await.unwrap();
        for serial in 0..10 {
            let push = Push { serial, topic: 0, secret: 0, body: 300 };
            link.session().begin(Instant::now(), push.request(), push.body()).unwrap();
        }
        assert!(poll_fn(|cx| Poll::Ready(channel.poll(cx).is_pending())).await);
        let pushes = theirs.read(&mut bytes).await.unwrap();
        assert!(preface < 100 && pushes > 10 * 300, "{preface}, {pushes}");
    }

    /// Ends that a peer may make of a connection, and what is told of them.
    #[tokio::test]
    async fn every_end_is_told_and_loses_what_is_open() {
        const GOAWAY: &[u8] = b"\0\0\x0b\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0bye";
        const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
        let cases: HashMap<&str, Vec<u8>> = HashMap::from([
            ("closed by the peer", SETTINGS.to_vec()),
            ("goaway NO_ERROR bye", [SETTINGS, GOAWAY].concat()),
            (
                "the peer broke the rules of HTTP/2 with a frame that is longer than we allow (FRAME_SIZE_ERROR)",
                b"HTTP/1.1 ".into(),
            ),
        ]);
        for (told, said) in cases {
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            let link = Arc::new(Link::new(&[]));
            let mut channel = Channel::new(link.clone(), ours);
            link.session().take_out(Vec::new()); // as if it had left
            let push = Push { serial: 1, topic: 0, secret: 0, body: 9 };
            let key = link.session().begin(Instant::now(), push.request(), push.body());
            theirs.write_all(&said).await.unwrap();
            theirs.shutdown().await.unwrap();
            let end = poll_fn(|cx| channel.poll(cx)).await;
            let goaway = link.session().goaway();
            assert_eq!(end.told(goaway.as_deref()), told);
            drop(channel);
            let end = poll_fn(|cx| link.session().poll_end(*key.as_ref().unwrap(), cx)).await;
            // Nothing had been let go of: it was read before it was written.
            assert!(matches!(end, Err(Ended::Lost { has_left: false, .. })), "{end:?}");
        }
    }

    /// A socket that says something endlessly, or so often, and takes nothing, or all.
    struct Talker {
        says: Vec<u8>,
        times: usize,
        takes: bool,
        taken: usize,
    }

    impl AsyncRead for Talker {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Some(times) = self.times.checked_sub(1) else { return Poll::Pending };
            self.times = times;
            room.put_slice(&self.says);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Talker {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if !self.takes {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.taken += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A frame of no known kind.
    const NOTHING: [u8; 9] = [0, 0, 0, 0xfe, 0, 0, 0, 0, 0];

    #[tokio::test]
    async fn what_the_peer_said_comes_before_the_break_however_much_it_is() {
        let link = Arc::new(Link::new(&[]));
        let talker = Talker { says: NOTHING.into(), times: 10 * READS, takes: false, taken: 0 };
        let mut channel = Channel::new(link.clone(), talker);
        let push = Push { serial: 1, topic: 0, secret: 0, body: 9 };
        let key = link.session().begin(Instant::now(), push.request(), push.body()).unwrap();
        let end = poll_fn(|cx| channel.poll(cx)).await;
        assert!(matches!(&end, End::Io(error) if error.kind() == io::ErrorKind::BrokenPipe), "{end:?}");
        assert_eq!((channel.io.times, link.read()), (0, 90 * READS as u64), "all was read");
        link.session().lose("broken");
        let end = poll_fn(|cx| link.session().poll_end(key, cx)).await;
        assert!(matches!(end, Err(Ended::Lost { has_left: true, .. })), "TLS may have taken it: {end:?}");
    }

    /// The runtime has not asked the system since, and thinks that there is nothing to read.
    #[tokio::test]
    async fn what_lies_in_a_socket_when_it_breaks_is_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let link = Arc::new(Link::new(&[]));
        let mut channel = Channel::new(link.clone(), ours);
        let push = Push { serial: 1, topic: 0, secret: 0, body: 9 };
        let key = link.session().begin(Instant::now(), push.request(), push.body()).unwrap();
        assert!(poll_fn(|cx| Poll::Ready(channel.poll(cx).is_pending())).await);
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let ok = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88]; // HEADERS that end the stream: `:status: 200` of the static table
        io::Write::write_all(&mut theirs, &[&settings[..], &ok].concat()).unwrap();
        drop(theirs); // it has not read all: the system resets the connection
        link.session().ping();
        let turns = poll_fn(|cx| {
            let turns = (0..3).filter(|_| channel.poll(cx).is_pending()).count();
            Poll::Ready((turns, channel.is_broken()))
        });
        assert_eq!(turns.await, (3, true));
        let end = poll_fn(|cx| channel.poll(cx)).await;
        let answer = poll_fn(|cx| link.session().poll_end(key, cx)).await;
        assert_eq!(answer.map(|(status, ..)| status.as_u16()).ok(), Some(200), "{end:?}");
    }

    #[tokio::test]
    async fn a_peer_that_never_stops_does_not_silence_us() {
        let link = Arc::new(Link::new(&[]));
        let talker = Talker { says: NOTHING.into(), times: usize::MAX, takes: true, taken: 0 };
        let mut channel = Channel::new(link.clone(), talker);
        for turn in 1..4 {
            let before = channel.io.taken;
            link.session().ping();
            assert!(poll_fn(|cx| Poll::Ready(channel.poll(cx).is_pending())).await);
            assert!(channel.io.taken > before, "turn {turn}");
        }
    }
}
