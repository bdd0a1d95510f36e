//! The transport against a server that misbehaves in every known way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::Request;
use pusher::http2::{Answer, Failure, Fate, MAX_ANSWER_BODY, Pool, PoolSettings, SendError, tls};

use super::http2_server::{Act, Manner, NO_ERROR, REFUSED_STREAM, Seen, Server};

const SOON: Duration = Duration::from_secs(20);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn settings(server: &Server) -> PoolSettings {
    PoolSettings { backoff: (ms(20), ms(200)), ..PoolSettings::new("localhost", server.address.port()) }
}

fn pool(server: &Server, change: impl FnOnce(&mut PoolSettings)) -> Pool {
    let mut settings = settings(server);
    change(&mut settings);
    Pool::new(settings, tls::client_config(Some(&server.ca())).unwrap())
}

fn request() -> Request<()> {
    Request::post("https://localhost/3/device/abc").body(()).unwrap()
}

async fn push(pool: &Pool, body: impl Into<Bytes>) -> Result<Answer, SendError> {
    pool.acquire().await?.send(request(), body.into()).await
}

fn answer_at_once(seen: &Seen) -> Vec<Act> {
    vec![Act::Answer(seen.stream, 200, vec![])]
}

/// Waits for a condition; the message says what was waited for.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < SOON, "waited in vain: {what}");
        tokio::time::sleep(ms(2)).await;
    }
}

/// Sends all bodies at once; resends what was certainly not processed; returns what failed otherwise.
async fn push_all(pool: &Pool, bodies: Vec<Bytes>) -> Vec<SendError> {
    let pushes = bodies.into_iter().map(|body| async move {
        for _ in 0..50 {
            match push(pool, body.clone()).await {
                Ok(_) => return None,
                Err(error) if error.fate == Fate::NotProcessed => tokio::time::sleep(ms(20)).await,
                Err(error) => return Some(error),
            }
        }
        panic!("never taken")
    });
    futures_util::future::join_all(pushes).await.into_iter().flatten().collect()
}

/// Pushes until the pool has got over what went before.
async fn push_at_last(pool: &Pool, body: &'static str) -> Answer {
    let begun = Instant::now();
    loop {
        match push(pool, body).await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.failure == Failure::Connect && begun.elapsed() < SOON, "{error}"),
        }
        tokio::time::sleep(ms(5)).await;
    }
}

fn serials(count: usize) -> Vec<Bytes> {
    (0..count).map(|serial| Bytes::from(format!("{serial:08}"))).collect()
}

#[tokio::test]
async fn an_answer_comes_whole() {
    let server = Server::start(Manner::default(), |seen| {
        vec![Act::Answer(seen.stream, 410, br#"{"reason":"Unregistered"}"#.to_vec())]
    })
    .await;
    let pool = pool(&server, |_| ());
    let answer = push(&pool, "{}").await.unwrap();
    assert_eq!(answer.status, 410);
    assert_eq!(&answer.body[..], br#"{"reason":"Unregistered"}"#);
    assert_eq!(answer.peer, server.address);
    assert_eq!(push(&pool, "").await.unwrap().status, 410, "a request without a body");
    let stats = pool.stats();
    assert_eq!((stats.connections, stats.in_flight, stats.handshakes), (1, 0, 1));
}

#[tokio::test]
async fn one_stream_until_proven_and_a_refusal_proves_nothing() {
    let server = Server::start(Manner::default(), |seen| {
        let status = if seen.nth < 3 { 403 } else { 200 };
        vec![Act::Answer(seen.stream, status, vec![]).after(15)]
    })
    .await;
    let pool = pool(&server, |settings| {
        settings.streams_until_proven = Some(1);
        settings.proves = |status| status != 403;
    });
    for _ in 0..3 {
        let two = tokio::join!(push(&pool, "a"), push(&pool, "b"));
        assert!(two.0.is_ok() && two.1.is_ok());
        if server.books.lock().requests.len() <= 3 {
            assert_eq!(server.books.lock().most[&0], 1);
        }
    }
    assert!(push_all(&pool, serials(300)).await.is_empty());
    let books = server.books.lock();
    assert!(books.most[&0] > 100, "{:?}", books.most);
    assert!(books.violations.is_empty(), "{:?}", books.violations);
}

#[tokio::test]
async fn the_peers_limit_is_never_exceeded_and_followed_live() {
    let manner = Manner { max_streams: Some(5), ..Manner::default() };
    let server = Server::start(manner, |seen| {
        let answer = Act::Answer(seen.stream, 200, vec![]).after(5);
        if seen.nth == 100 { vec![answer, Act::MaxStreams(50)] } else { vec![answer] }
    })
    .await;
    let pool = pool(&server, |settings| settings.max_connections = 1);
    assert!(push_all(&pool, serials(100)).await.is_empty());
    assert_eq!(server.books.lock().most[&0], 5);
    assert!(push_all(&pool, serials(500)).await.is_empty());
    assert_eq!(server.books.lock().most[&0], 50, "raised by SETTINGS");
    assert!(server.books.lock().violations.is_empty(), "{:?}", server.books.lock().violations);
    server.tell_all(&Act::MaxStreams(3));
    push(&pool, "notices").await.unwrap();
    server.books.lock().most.clear();
    assert!(push_all(&pool, serials(50)).await.is_empty());
    assert!(server.books.lock().most[&0] <= 3, "lowered by SETTINGS: {:?}", server.books.lock().most);
}

#[tokio::test]
async fn a_goaway_under_load_loses_nothing_and_doubles_nothing() {
    // Streams above the last id were read by the server, but are not processed: it forgets them.
    let processed = Arc::new(parking_lot::Mutex::new(std::collections::HashMap::<Vec<u8>, usize>::new()));
    let kept = processed.clone();
    let server = Server::start(Manner { max_streams: Some(100), ..Manner::default() }, move |seen| {
        let last = 2 * 150 + 1;
        if seen.stream > last && seen.connection < 4 {
            return if seen.stream == last + 50 {
                vec![Act::GoAway(last, NO_ERROR, r#"{"reason":"Shutdown"}"#), Act::Close.after(300)]
            } else {
                vec![]
            };
        }
        *kept.lock().entry(seen.body.clone()).or_default() += 1;
        vec![Act::Answer(seen.stream, 200, vec![]).after(30)]
    })
    .await;
    let pool = pool(&server, |settings| settings.max_connections = 3);
    let failures = push_all(&pool, serials(2000)).await;
    assert!(failures.is_empty(), "{failures:?}");
    let processed = processed.lock();
    assert_eq!(processed.len(), 2000);
    assert!(processed.values().all(|times| *times == 1));
    assert!(pool.stats().goaways >= 1, "{:?}", pool.stats());
}

#[tokio::test]
async fn a_goaway_names_its_reason_and_lets_the_rest_finish() {
    let server = Server::start(Manner::default(), |seen| match seen.nth {
        0 => vec![Act::Answer(seen.stream, 200, vec![]).after(100)],
        _ => vec![Act::GoAway(1, NO_ERROR, r#"{"reason":"BadCertificateEnvironment"}"#)],
    })
    .await;
    let pool = pool(&server, |settings| settings.max_connections = 1);
    let first = push(&pool, "1");
    let second = async {
        until("the first request", || server.books.lock().requests.len() == 1).await;
        push(&pool, "2").await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap().status, 200);
    let error = second.unwrap_err();
    assert_eq!((error.failure, error.fate), (Failure::GoAway, Fate::NotProcessed));
    assert!(error.detail.contains("BadCertificateEnvironment"), "{error}");
}

#[tokio::test]
async fn a_connection_that_is_ended_at_once_counts_as_no_connection() {
    let server = Server::start(Manner::default(), |_| {
        vec![Act::GoAway(0, NO_ERROR, r#"{"reason":"BadCertificateEnvironment"}"#), Act::Close.after(10)]
    })
    .await;
    let pool = pool(&server, |settings| settings.backoff = (Duration::from_mins(1), Duration::from_mins(1)));
    let error = push(&pool, "1").await.unwrap_err();
    assert_eq!(error.failure, Failure::GoAway);
    until("the end is noted", || pool.stats().connect_failures == 1).await;
    let error = push(&pool, "2").await.unwrap_err();
    assert_eq!((error.failure, error.fate), (Failure::Connect, Fate::NotProcessed));
    assert!(error.detail.contains("BadCertificateEnvironment"), "{error}");
    assert_eq!(server.books.lock().connections, 1, "not hammered");
}

/// A front end that goes down: it answers what it took, says GOAWAY and is gone, all in one packet.
#[tokio::test]
async fn a_goaway_after_work_is_no_failure_even_when_no_task_has_looked_at_the_answers() {
    let server = Server::start(Manner::default(), |seen| {
        if seen.nth < 9 {
            return vec![];
        }
        let answers = (0..10).map(|nth| Act::Answer(2 * nth + 1, 200, vec![]));
        vec![Act::AtOnce(answers.chain([Act::GoAway(19, NO_ERROR, "max_age")]).collect()), Act::Close]
    })
    .await;
    let pool = pool(&server, |settings| {
        settings.max_connections = 1;
        settings.backoff = (Duration::from_mins(1), Duration::from_mins(1));
    });
    for _ in 0..5 {
        let ten = (0..10).map(|_| push(&pool, "x"));
        let failed: Vec<_> = futures_util::future::join_all(ten).await.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{failed:?}");
        until("the end is noted", || pool.stats().connections == 0).await;
    }
    let stats = pool.stats();
    assert_eq!((stats.handshakes, stats.goaways, stats.connect_failures), (5, 5, 0));
}

#[tokio::test]
async fn resets_are_told_apart() {
    let server = Server::start(Manner::default(), |seen| match seen.nth {
        0 => vec![Act::Reset(seen.stream, REFUSED_STREAM)],
        1 => vec![Act::Reset(seen.stream, 2)],
        2 => vec![Act::Answer(seen.stream, 400, b"early".to_vec()), Act::Reset(seen.stream, NO_ERROR)],
        3 => vec![Act::Begin(seen.stream, 400, b"rest".to_vec()), Act::Reset(seen.stream, NO_ERROR)],
        4 => vec![Act::Begin(seen.stream, 400, b"rest".to_vec()), Act::Reset(seen.stream, 2)],
        _ => vec![Act::Begin(seen.stream, 200, b"half".to_vec()), Act::Close],
    })
    .await;
    let pool = pool(&server, |_| ());
    let error = push(&pool, "0").await.unwrap_err();
    assert_eq!((error.failure, error.fate), (Failure::Refused, Fate::NotProcessed));
    let error = push(&pool, "1").await.unwrap_err();
    assert_eq!((error.failure, error.fate), (Failure::Reset, Fate::Unknown));
    assert_eq!(&push(&pool, "2").await.unwrap().body[..], b"early");
    assert_eq!(&push(&pool, "3").await.unwrap().body[..], b"rest");
    assert_eq!(push(&pool, "4").await.unwrap_err().failure, Failure::Reset);
    let error = push(&pool, "5").await.unwrap_err();
    assert_eq!((error.failure, error.fate), (Failure::ConnectionLost, Fate::Unknown));
    assert!(error.detail.contains("localhost"), "{error}");
}

#[tokio::test]
async fn a_large_or_strange_answer_is_bounded() {
    let page = vec![b'x'; 200_000];
    let server = Server::start(Manner::default(), move |seen| match seen.nth {
        _ if seen.connection > 0 => answer_at_once(seen),
        0 => vec![Act::Answer(seen.stream, 502, page.clone())],
        1 => vec![Act::Answer(seen.stream, 502, b"<html>bad gateway</html>".to_vec())],
        _ => vec![Act::Raw(super::http2_server::frame(1, 5, seen.stream, &[0xff; 12]))],
    })
    .await;
    let pool = pool(&server, |_| ());
    let answer = push(&pool, "0").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len()), (502, MAX_ANSWER_BODY));
    assert_eq!(&push(&pool, "1").await.unwrap().body[..], b"<html>bad gateway</html>");
    assert!(push(&pool, "2").await.is_err(), "bad HPACK ends the connection");
    assert_eq!(push_at_last(&pool, "3").await.status, 200);
}

#[tokio::test]
async fn a_request_without_an_answer_ends_in_time_and_frees_its_place() {
    let server = Server::start(Manner { max_streams: Some(2), ..Manner::default() }, |seen| {
        if seen.body == b"lost" { vec![] } else { answer_at_once(seen) }
    })
    .await;
    let pool = pool(&server, |settings| {
        settings.max_connections = 1;
        settings.request_timeout = ms(200);
    });
    push(&pool, "first").await.unwrap();
    let begun = Instant::now();
    let (one, two, three) = tokio::join!(push(&pool, "lost"), push(&pool, "lost"), push(&pool, "ok"));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!((error.failure, error.fate), (Failure::Timeout, Fate::Unknown));
    }
    assert!(begun.elapsed() >= ms(200) && begun.elapsed() < Duration::from_secs(5));
    assert_eq!(three.unwrap().status, 200);
    until("the streams are reset", || server.books.lock().resets == 2).await;
    assert_eq!((pool.stats().timeouts, pool.stats().in_flight, pool.stats().connections), (2, 0, 1));
}

/// A proxy whose upstream is gone: PINGs are answered, the window comes back, and nothing else does.
#[tokio::test]
async fn a_connection_that_lives_and_answers_nothing_is_left_for_another() {
    let server = Server::start(Manner::default(), |seen| {
        if seen.connection == 0 && seen.nth > 0 { vec![] } else { answer_at_once(seen) }
    })
    .await;
    let pool = pool(&server, |settings| {
        settings.ping_after = Some(ms(20));
        settings.request_timeout = ms(300);
    });
    push(&pool, "first").await.unwrap();
    let (one, two) = tokio::join!(push(&pool, "lost"), push(&pool, "lost"));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!((error.failure, error.fate), (Failure::Timeout, Fate::Unknown));
    }
    until("another connection, though nobody waits", || pool.stats().connections == 2).await;
    for body in serials(5) {
        assert_eq!(push(&pool, body).await.unwrap().status, 200);
    }
    until("the first one is left", || pool.stats().connections == 1).await;
    assert_eq!((server.books.lock().connections, pool.stats().timeouts), (2, 2));
}

/// It is the provider that is silent: its connections, with all their places, are there when it comes back.
#[tokio::test]
async fn connections_outlive_the_silence_of_their_peer() {
    let is_silent = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let silent = is_silent.clone();
    let server = Server::start(Manner::default(), move |seen| {
        if silent.load(std::sync::atomic::Ordering::Relaxed) { vec![] } else { answer_at_once(seen) }
    })
    .await;
    let pool = pool(&server, |settings| {
        settings.request_timeout = ms(200);
        settings.streams_until_proven = Some(1);
    });
    push(&pool, "first").await.unwrap();
    is_silent.store(true, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(push(&pool, "lost").await.unwrap_err().failure, Failure::Timeout);
    }
    is_silent.store(false, std::sync::atomic::Ordering::Relaxed);
    let all = futures_util::future::join_all((0..50).map(|_| push(&pool, "next"))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(pool.stats().timeouts, 3);
}

#[tokio::test]
async fn a_silent_peer_is_noticed_with_pings_and_without() {
    for ping_after in [Some(ms(100)), None] {
        let server = Server::start(Manner::default(), |seen| {
            if seen.body == b"freeze" { vec![Act::Freeze] } else { answer_at_once(seen) }
        })
        .await;
        let pool = pool(&server, |settings| {
            settings.ping_after = ping_after;
            settings.dead_after = ms(400);
        });
        push(&pool, "ok").await.unwrap();
        let begun = Instant::now();
        let error = push(&pool, "freeze").await.unwrap_err();
        assert_eq!((error.failure, error.fate), (Failure::ConnectionLost, Fate::Unknown));
        assert!(error.detail.contains("silent"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(push_at_last(&pool, "again").await.status, 200);
        assert_eq!(server.books.lock().connections, 2);
    }
}

/// A process that stood still finds the clock and the answer in the same moment.
#[test]
fn an_answer_that_came_while_the_process_stood_still_is_an_answer() {
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // Nothing comes before the answer.
    let manner = Manner { window_delay: None, ..Manner::default() };
    let server = elsewhere.block_on(Server::start(manner, |seen| {
        vec![Act::Answer(seen.stream, 200, vec![]).after(if seen.nth == 0 { 0 } else { 100 })]
    }));
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    here.block_on(async {
        for ping_after in [None, Some(ms(20))] {
            let pool = pool(&server, |settings| {
                settings.ping_after = ping_after;
                settings.dead_after = ms(400);
            });
            push(&pool, "first").await.unwrap();
            tokio::time::sleep(ms(200)).await; // a look at the clock, which notes that answer
            let slow = push(&pool, "slow");
            let before = server.books.lock().requests.len();
            let stand_still = async {
                until("it has left", || server.books.lock().requests.len() > before).await;
                // Nothing is ever sent: this blocks the thread.
                let (_sender, nothing) = std::sync::mpsc::sync_channel::<()>(0);
                nothing.recv_timeout(ms(900)).unwrap_err();
            };
            let (answer, ()) = tokio::join!(slow, stand_still);
            assert_eq!(answer.unwrap().status, 200);
            assert_eq!((pool.stats().lost, pool.stats().handshakes), (0, 1));
        }
    });
}

/// It answers everything, only too late for us: other connections would be no better.
#[tokio::test]
async fn a_peer_whose_answers_come_too_late_is_not_mute() {
    let server = Server::start(Manner::default(), |seen| {
        vec![Act::Answer(seen.stream, 200, vec![]).after(if seen.body == b"slow" { 300 } else { 0 })]
    })
    .await;
    let pool = pool(&server, |settings| {
        settings.max_connections = 3;
        settings.request_timeout = ms(100);
    });
    push(&pool, "first").await.unwrap();
    for _ in 0..4 {
        assert_eq!(push(&pool, "slow").await.unwrap_err().failure, Failure::Timeout);
        tokio::time::sleep(ms(400)).await;
    }
    // The second one was opened before the first late answer.
    let stats = pool.stats();
    assert_eq!((server.books.lock().connections, stats.connections, stats.timeouts), (2, 2, 4));
}

/// A peer that is full says so with its limit; pushes must hear of it, and not wait for ever.
#[tokio::test]
async fn a_peer_that_allows_no_stream_from_the_beginning_is_no_connection() {
    let server = Server::start(Manner { max_streams: Some(0), ..Manner::default() }, answer_at_once).await;
    let pool = pool(&server, |settings| settings.connect_timeout = ms(200));
    let error = tokio::time::timeout(SOON, push(&pool, "1")).await.expect("an end").unwrap_err();
    assert_eq!((error.failure, error.fate), (Failure::Connect, Fate::NotProcessed));
    assert!(error.detail.contains("HTTP/2 handshake"), "{error}");
}

#[tokio::test]
async fn an_idle_connection_lives_on_pings_and_a_dead_one_is_replaced() {
    let server = Server::start(Manner::default(), answer_at_once).await;
    let pool = pool(&server, |settings| {
        settings.min_idle = 1;
        settings.ping_after = Some(ms(40));
        settings.dead_after = ms(300);
    });
    until("pings", || server.books.lock().pings >= 3).await;
    assert_eq!(server.books.lock().connections, 1);
    push(&pool, "works").await.unwrap();
    server.tell_all(&Act::Freeze);
    until("a new connection", || server.books.lock().connections == 2).await;
    assert_eq!(push(&pool, "1").await.unwrap().status, 200);
}

#[tokio::test]
async fn what_never_left_is_known_not_to_be_processed() {
    let server = Server::start(Manner::default(), answer_at_once).await;
    let pool = pool(&server, |_| ());
    push(&pool, "first").await.unwrap();
    let slot = pool.acquire().await.unwrap();
    server.tell_all(&Act::Close);
    until("the server's end", || server.books.lock().open.is_empty()).await;
    // The runtime has not looked at the socket with our task yet, or it has: neither may call it "perhaps".
    let error = slot.send(request(), Bytes::from_static(b"late")).await.unwrap_err();
    assert_eq!((error.failure, error.fate), (Failure::ConnectionLost, Fate::NotProcessed), "{error}");
    assert_eq!(push_at_last(&pool, "again").await.status, 200);
    assert_eq!(server.serials().get(&b"late"[..]), None);
}

#[tokio::test]
async fn nobody_there_is_told_at_once_and_found_again_later() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let settings = PoolSettings {
        backoff: (Duration::from_mins(1), Duration::from_mins(1)),
        ..PoolSettings::new("127.0.0.1", port)
    };
    let ca = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ca.cert.pem()).unwrap();
    let pool = Pool::new(settings, tls::client_config(Some(file.path())).unwrap());
    let waiters = futures_util::future::join_all((0..20).map(|_| pool.acquire())).await;
    for waiter in waiters {
        let error = waiter.unwrap_err();
        assert_eq!((error.failure, error.fate), (Failure::Connect, Fate::NotProcessed));
        assert!(error.detail.contains(&format!("127.0.0.1:{port}")), "{error}");
    }
    let begun = Instant::now();
    assert_eq!(pool.acquire().await.unwrap_err().failure, Failure::Connect);
    assert!(begun.elapsed() < ms(500), "told at once during the pause");
    assert_eq!(pool.stats().connect_failures, 1, "and not tried again");
}

#[tokio::test]
async fn a_refused_peer_is_tried_again_by_itself_for_the_idle_minimum() {
    let server = Server::start(Manner { mute: true, ..Manner::default() }, answer_at_once).await;
    let pool = pool(&server, |settings| {
        settings.min_idle = 1;
        settings.connect_timeout = ms(200);
        settings.backoff = (ms(10), ms(40));
    });
    until("tries", || pool.stats().connect_failures >= 3).await;
    let error = pool.acquire().await.unwrap_err();
    assert!(error.detail.contains("HTTP/2 handshake"), "a peer without SETTINGS: {error}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let server = Server::start(Manner::default(), answer_at_once).await;
    let pool = pool(&server, |settings| settings.host = "no-such-host.invalid".to_owned());
    let error = push(&pool, "1").await.unwrap_err();
    assert_eq!(error.failure, Failure::Connect);
    assert!(error.detail.contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn an_untrusted_certificate_names_the_host_and_the_cure() {
    let (server, other) = (
        Server::start(Manner::default(), answer_at_once).await,
        Server::start(Manner::default(), answer_at_once).await,
    );
    let pool = Pool::new(settings(&server), tls::client_config(Some(&other.ca())).unwrap());
    let error = push(&pool, "1").await.unwrap_err();
    assert_eq!(error.failure, Failure::Connect);
    let text = error.to_string();
    assert!(text.contains("localhost") && text.contains("not trusted") && text.contains("caFile"), "{text}");
    assert!(text.contains("SSL_CERT_FILE"), "{text}");
}

#[tokio::test]
async fn the_trust_store_is_the_one_that_the_environment_names() {
    let server = Server::start(Manner::default(), answer_at_once).await;
    // The environment of this process cannot be changed safely: another one looks.
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "http2_pool::child_that_trusts_the_environment", "--ignored"])
        .env("SSL_CERT_FILE", server.ca())
        .env("PUSHER_TEST_PORT", server.address.port().to_string());
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(server.serials().len(), 1);
}

#[tokio::test]
#[ignore = "started by the test above, with an environment"]
async fn child_that_trusts_the_environment() {
    let port = std::env::var("PUSHER_TEST_PORT").unwrap().parse().unwrap();
    let pool = Pool::new(PoolSettings::new("localhost", port), tls::client_config(None).unwrap());
    assert_eq!(push(&pool, "trusted").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_peer_that_drops_every_connection_is_not_hammered() {
    let server = Server::start(Manner::default(), |seen| vec![Act::Answer(seen.stream, 200, vec![]), Act::Close]).await;
    let pool = pool(&server, |settings| settings.backoff = (Duration::from_secs(30), Duration::from_mins(1)));
    assert_eq!(push(&pool, "1").await.unwrap().status, 200);
    until("the end is noted", || pool.stats().connect_failures == 1).await;
    assert_eq!(push(&pool, "2").await.unwrap_err().failure, Failure::Connect);
    assert_eq!(server.books.lock().connections, 1);
}

#[tokio::test]
async fn an_address_is_checked_against_the_certificate_too() {
    let server = Server::start(Manner::default(), answer_at_once).await;
    let pool = pool(&server, |settings| settings.host = "127.0.0.1".to_owned());
    assert_eq!(push(&pool, "1").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_narrow_window_widens_the_pool() {
    let manner = Manner { window_delay: Some(ms(100)), ..Manner::default() };
    let server = Server::start(manner, |seen| vec![Act::Answer(seen.stream, 200, vec![]).after(100)]).await;
    let pool = pool(&server, |settings| settings.max_connections = 6);
    push(&pool, "first").await.unwrap();
    let bodies = (0..400).map(|serial| Bytes::from(format!("{serial:04096}"))).collect();
    let begun = Instant::now();
    let failures = push_all(&pool, bodies).await;
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(server.serials().len(), 401);
    assert_eq!(server.books.lock().connections, 6);
    assert!(server.books.lock().violations.is_empty(), "{:?}", server.books.lock().violations);
    // One connection alone carries 16 of them in 100 ms.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// Pushes one after the other, and half as many more beside each other after each answer, as the worker widens, until as many as are
/// wanted are; and goes on with these.
async fn keep_under_way(pool: &Pool, wanted: usize, bytes: usize) {
    let body = Bytes::from(vec![b'x'; bytes]);
    let one = || push(pool, body.clone());
    let mut beside = FuturesUnordered::from_iter([one()]);
    let mut answers = 0;
    while let Some(answer) = beside.next().await {
        answer.unwrap();
        answers += 1;
        beside.push(one());
        if answers % 2 == 0 && beside.len() < wanted {
            beside.push(one());
        }
    }
}

#[tokio::test]
async fn the_width_is_what_latency_bodies_streams_and_window_ask_for() {
    // When the window comes back after its bytes, ms; streams; body; pushes under way in 100 ms; what one connection carries.
    let cases = [
        (0, 400, 300, 700, 400),
        (0, 1000, 4096, 100, 1000),
        (0, 100, 300, 350, 100),
        (100, 1000, 300, 700, 65_535 / 300),
        (100, 1000, 4096, 60, 65_535 / 4096),
    ];
    for (window_delay, streams, bytes, wanted, carried) in cases {
        let manner = Manner { window_delay: Some(ms(window_delay)), max_streams: Some(streams), ..Manner::default() };
        let server = Server::start(manner, |seen| vec![Act::Answer(seen.stream, 200, vec![]).after(100)]).await;
        let pool = pool(&server, |settings| {
            (settings.max_connections, settings.min_idle, settings.idle_timeout) = (32, 1, ms(300));
        });
        push(&pool, "first").await.unwrap();
        let needed = usize::div_ceil(wanted, carried);
        let case = format!(
            "{needed} connections: window after {window_delay} ms, {streams} streams, {bytes} bytes, {wanted} under way"
        );
        let is_found = || {
            let stats = pool.stats();
            stats.in_flight + stats.in_flight / 8 >= wanted && (needed..=needed + 1).contains(&stats.connections)
        };
        tokio::select! {
            () = keep_under_way(&pool, wanted, bytes) => {}
            () = until(&case, is_found) => {}
        }
        assert!(server.books.lock().violations.is_empty(), "{case}");
        until("the others close", || pool.stats().connections == 1).await;
    }
}

#[tokio::test]
async fn a_connection_that_allows_no_stream_any_more_is_left_for_another() {
    let server = Server::start(Manner::default(), |seen| {
        let answer = Act::Answer(seen.stream, 200, vec![]);
        if (seen.connection, seen.nth) == (0, 9) { vec![Act::MaxStreams(0), answer] } else { vec![answer] }
    })
    .await;
    let pool = pool(&server, |settings| settings.max_connections = 1);
    for serial in serials(10) {
        assert!(push(&pool, serial).await.is_ok());
    }
    let answer = tokio::time::timeout(SOON, push(&pool, "next")).await;
    assert!(answer.is_ok_and(|answer| answer.is_ok()));
    assert_eq!(server.books.lock().connections, 2);
}

/// Pushes must not wait for ever for one that closed before it had anything to answer.
#[tokio::test]
async fn a_connection_that_allows_no_stream_before_its_first_is_left_for_another() {
    let server = Server::start(Manner::default(), answer_at_once).await;
    let pool = pool(&server, |settings| (settings.max_connections, settings.min_idle) = (1, 1));
    until("a connection", || pool.stats().connections == 1).await;
    server.tell_all(&Act::MaxStreams(0));
    while tokio::time::timeout(ms(50), pool.acquire()).await.is_ok() {
        tokio::time::sleep(ms(5)).await; // until the connection has read it
    }
    let answer = tokio::time::timeout(SOON, push(&pool, "next")).await;
    assert!(answer.is_ok_and(|answer| answer.is_ok()));
    assert_eq!(server.books.lock().connections, 2);
}

#[tokio::test]
async fn a_connection_whose_window_never_opens_is_left_for_another() {
    let manner = Manner { window_delay: None, ..Manner::default() };
    let server = Server::start(manner, |seen| vec![Act::Answer(seen.stream, 200, vec![])]).await;
    let pool = pool(&server, |settings| {
        settings.max_connections = 1;
        settings.request_timeout = ms(500);
    });
    assert_eq!(push(&pool, vec![b'x'; 60_000]).await.unwrap().status, 200);
    let error = push(&pool, vec![b'y'; 8_000]).await.unwrap_err();
    assert_eq!(error.failure, Failure::Timeout, "{error}");
    assert_eq!(pool.stats().window_stalls, 1);
    assert_eq!(push(&pool, "next").await.unwrap().status, 200);
    assert_eq!(server.books.lock().connections, 2);
}

/// A peer with a window that has no end takes much, and then nothing: what waits for its socket has an end.
#[tokio::test]
async fn what_waits_for_a_socket_that_takes_nothing_is_bounded() {
    const BODY: usize = 32 << 10;
    let server = Server::start(Manner::default(), |seen| {
        let window = Act::Window(if seen.nth == 0 { 1 << 30 } else { 1 });
        vec![Act::AtOnce(vec![window, Act::Answer(seen.stream, 200, vec![])]).after(20)]
    })
    .await;
    let pool = pool(&server, |settings| settings.max_connections = 1);
    push(&pool, "first").await.unwrap();
    tokio::select! {
        () = keep_under_way(&pool, 600, BODY) => {}
        () = until("much is under way", || pool.stats().in_flight >= 600) => {}
    }
    server.tell_all(&Act::Freeze);
    while tokio::time::timeout(ms(300), push(&pool, "more")).await.is_ok() {}
    let (body, mut begun) = (Bytes::from(vec![b'x'; BODY]), FuturesUnordered::new());
    while let Ok(slot) = tokio::time::timeout(ms(300), pool.acquire()).await {
        begun.push(slot.unwrap().send(request(), body.clone()));
        assert!(begun.next().now_or_never().is_none(), "it answers");
        tokio::task::yield_now().await;
    }
    // The kernel's buffers of both ends hold some MiB; the peer allows 1,000 streams.
    assert!((32..900).contains(&begun.len()), "{} times 32 KiB wait", begun.len());
}

#[tokio::test]
async fn a_body_larger_than_the_window_is_fed_as_it_opens() {
    let server = Server::start(Manner::default(), answer_at_once).await;
    let pool = pool(&server, |_| ());
    // The server grants the connection's window again, but each stream has 65,535 bytes.
    assert_eq!(push(&pool, vec![b'x'; 65_000]).await.unwrap().status, 200);
    assert_eq!(push(&pool, vec![b'y'; 65_000]).await.unwrap().status, 200);
    assert_eq!(server.serials().keys().map(Vec::len).collect::<Vec<_>>(), [65_000, 65_000]);
}

#[tokio::test]
async fn full_connections_widen_and_idle_ones_close_politely() {
    let server = Server::start(Manner { max_streams: Some(10), ..Manner::default() }, |seen| {
        vec![Act::Answer(seen.stream, 200, vec![]).after(20)]
    })
    .await;
    let pool = pool(&server, |settings| {
        settings.max_connections = 4;
        settings.min_idle = 1;
        settings.idle_timeout = ms(150);
    });
    assert!(push_all(&pool, serials(600)).await.is_empty());
    assert_eq!(server.books.lock().connections, 4);
    assert!(server.books.lock().violations.is_empty());
    until("one connection is left", || pool.stats().connections == 1 && server.books.lock().open.len() == 1).await;
    assert_eq!(server.books.lock().farewells, 3);
    assert_eq!(push(&pool, "later").await.unwrap().status, 200);
    assert_eq!(server.books.lock().connections, 4);
}

#[tokio::test]
async fn no_storm_of_connections_before_the_first_one_is_proven() {
    let server = Server::start(Manner::default(), |seen| vec![Act::Answer(seen.stream, 403, vec![]).after(10)]).await;
    let pool = pool(&server, |settings| {
        settings.streams_until_proven = Some(1);
        settings.proves = |status| status != 403;
        settings.max_connections = 8;
    });
    assert!(push_all(&pool, serials(40)).await.is_empty());
    assert_eq!(server.books.lock().connections, 1);
    assert_eq!(server.books.lock().most[&0], 1);
}

#[tokio::test]
async fn a_closed_pool_refuses_who_waits_and_finishes_what_is_open() {
    let server = Server::start(Manner { max_streams: Some(1), ..Manner::default() }, |seen| {
        vec![Act::Answer(seen.stream, 200, vec![]).after(100)]
    })
    .await;
    let pool = pool(&server, |settings| settings.max_connections = 1);
    let open = push(&pool, "open");
    let waiting = async {
        until("the request is open", || server.books.lock().requests.len() == 1).await;
        pool.acquire().await
    };
    let close = async {
        until("somebody waits", || pool.stats().waiting == 1 && pool.stats().in_flight == 1).await;
        pool.close();
    };
    let (open, waiting, ()) = tokio::join!(open, waiting, close);
    assert_eq!(open.unwrap().status, 200);
    assert_eq!(waiting.unwrap_err().failure, Failure::Closed);
    assert_eq!(pool.acquire().await.unwrap_err().failure, Failure::Closed);
    tokio::time::timeout(SOON, pool.ended()).await.expect("connections end");
    until("the server sees the end", || server.books.lock().open.is_empty()).await;
    assert_eq!(server.books.lock().farewells, 1);
}

#[tokio::test]
async fn connections_are_recycled_before_their_streams_run_out() {
    let server = Server::start(Manner::default(), |seen| vec![Act::Answer(seen.stream, 200, vec![]).after(3)]).await;
    let pool = pool(&server, |settings| {
        settings.max_connections = 2;
        settings.max_requests = 50;
    });
    assert!(push_all(&pool, serials(500)).await.is_empty());
    assert_eq!(server.serials().len(), 500);
    let most = server.books.lock().requests.iter().map(|seen| seen.stream).max().unwrap();
    assert_eq!(most, 99, "the 50th stream");
    assert!(server.books.lock().connections >= 10);
    assert_eq!((pool.stats().lost, pool.stats().connect_failures), (0, 0));
}

#[tokio::test]
async fn old_connections_are_replaced_without_loss() {
    let server = Server::start(Manner::default(), |seen| vec![Act::Answer(seen.stream, 200, vec![]).after(20)]).await;
    let pool = pool(&server, |settings| {
        settings.max_age = Some(ms(300));
        settings.ping_after = Some(ms(50)); // makes the ticks short
    });
    let begun = Instant::now();
    while server.books.lock().connections < 3 {
        assert!(begun.elapsed() < SOON);
        push(&pool, "x").await.unwrap();
    }
    assert_eq!(pool.stats().lost, 0);
}

#[tokio::test]
async fn a_retired_connection_is_replaced_and_its_streams_finish() {
    let server = Server::start(Manner::default(), |seen| {
        let status = if seen.body == b"expired" { 403 } else { 200 };
        vec![Act::Answer(seen.stream, status, vec![]).after(20)]
    })
    .await;
    let pool = pool(&server, |_| ());
    let (slow, refused) = tokio::join!(push(&pool, "slow"), push(&pool, "expired"));
    assert_eq!(slow.unwrap().status, 200);
    refused.unwrap().connection.retire();
    assert_eq!(push(&pool, "next").await.unwrap().status, 200);
    assert_eq!(server.books.lock().connections, 2);
    let slot = pool.acquire().await.unwrap();
    pool.retire_all();
    assert_eq!(slot.send(request(), Bytes::from_static(b"open")).await.unwrap().status, 200);
    assert_eq!(push(&pool, "third").await.unwrap().status, 200);
    assert_eq!(server.books.lock().connections, 3);
    until("the retired ones end", || server.books.lock().open.len() == 1).await;
    assert_eq!(pool.stats().connect_failures, 0);
}

#[tokio::test]
async fn a_dropped_slot_and_a_dropped_request_give_their_places_back() {
    let server = Server::start(Manner { max_streams: Some(1), ..Manner::default() }, |seen| {
        if seen.body == b"never" { vec![] } else { answer_at_once(seen) }
    })
    .await;
    let pool = pool(&server, |settings| settings.max_connections = 1);
    drop(pool.acquire().await.unwrap());
    let given_up = tokio::time::timeout(ms(100), push(&pool, "never")).await;
    assert!(given_up.is_err());
    let waiter = tokio::time::timeout(SOON, push(&pool, "next")).await.expect("a place");
    assert_eq!(waiter.unwrap().status, 200);
    assert_eq!(pool.stats().in_flight, 0);
    assert!(server.books.lock().violations.is_empty());
}

#[tokio::test]
async fn places_are_given_first_come_first_served() {
    let server = Server::start(Manner { max_streams: Some(1), ..Manner::default() }, |seen| {
        vec![Act::Answer(seen.stream, 200, vec![]).after(2)]
    })
    .await;
    let pool = pool(&server, |settings| settings.max_connections = 1);
    assert!(push_all(&pool, serials(60)).await.is_empty());
    let order: Vec<Vec<u8>> = server.books.lock().requests.iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(order, serials(60));
}
