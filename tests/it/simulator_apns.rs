//! The APNs simulator against a client on the bare `h2` crate, one connection per question, and against foreign clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pusher::simulator::apns::faults::{AnswerFault, BodyKind, Faults};
use pusher::simulator::apns::{Key, Settings, Simulator};
use pusher::simulator::levers::Levers;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const PLAIN: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
pub(crate) const BODY: &str = r#"{"aps":{"alert":"hi"}}"#;

pub(crate) async fn start(faults: Faults) -> Simulator {
    let control = Some(([127, 0, 0, 1], 0).into());
    Simulator::start(Settings { faults, control, ..Settings::default() }).await.expect("simulator")
}

/// A faithful simulator that grants many streams from the start, for tests about other things.
pub(crate) fn wide() -> Faults {
    Faults { connection: Levers { initial_streams: 1000, ..Levers::default() }, ..Faults::default() }
}

pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_secs() as i64
}

pub(crate) fn jwt(key: &Key, issued_at: i64) -> String {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(key.key_id.clone());
    let signing = EncodingKey::from_ec_pem(key.pem.as_bytes()).expect("key");
    let claims = serde_json::json!({ "iss": key.team_id, "iat": issued_at });
    format!("bearer {}", jsonwebtoken::encode(&header, &claims, &signing).expect("token"))
}

pub(crate) async fn tls(simulator: &Simulator, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    tls_to(simulator.address(), simulator.ca_pem(), alpn).await
}

pub(crate) async fn tls_to(address: SocketAddr, ca_pem: &str, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("pem")).expect("ca");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").expect("name"), tcp).await
}

pub(crate) struct Client {
    pub(crate) h2: SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<Result<(), h2::Error>>,
    authorization: String,
    ping: h2::PingPong,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn reason(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["reason"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub(crate) async fn connect(simulator: &Simulator) -> Client {
        Client::try_connect(simulator).await.expect("connection")
    }

    async fn try_connect(simulator: &Simulator) -> std::io::Result<Client> {
        let stream = tls(simulator, &[b"h2"]).await?;
        let (h2, mut connection) = h2::client::handshake(stream).await.map_err(std::io::Error::other)?;
        let ping = connection.ping_pong().expect("first call");
        let driver = tokio::spawn(connection);
        Ok(Client { h2, driver, authorization: jwt(simulator.key(), now_s()), ping })
    }

    pub(crate) fn request(&self, device: &str) -> http::request::Builder {
        Request::post(format!("https://localhost/3/device/{device}"))
            .header("authorization", &self.authorization)
            .header("apns-topic", "com.example.game")
    }

    /// Opens a stream and leaves its answer to be awaited.
    async fn open(&mut self, request: Request<()>, body: &str) -> Result<h2::client::ResponseFuture, h2::Error> {
        self.h2 = self.h2.clone().ready().await?;
        let (response, mut stream) = self.h2.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        Ok(response)
    }

    pub(crate) async fn send(&mut self, request: http::request::Builder, body: &str) -> Result<Answer, h2::Error> {
        let response = self.open(request.body(()).expect("request"), body).await?;
        answer(response).await
    }

    async fn push(&mut self, device: &str) -> Result<Answer, h2::Error> {
        self.send(self.request(device), BODY).await
    }

    async fn reason(&mut self, device: &str) -> String {
        let answer = self.push(device).await.expect("answer");
        format!("{} {}", answer.status.as_u16(), answer.reason())
    }
}

pub(crate) async fn answer(response: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    Ok(Answer { status: parts.status, headers: parts.headers, body: body.into() })
}

/// Looks at a condition until it holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One request of the control endpoint.
async fn control(simulator: &Simulator, method: &str, path: &str, body: &str) -> (u16, String) {
    plain_http(simulator.control_address().expect("control endpoint"), method, path, body).await
}

pub(crate) async fn plain_http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("connection");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answer");
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok()).expect("status");
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn a_push_is_accepted_under_its_id_and_counted_by_its_serial() {
    let simulator = start(Faults::default()).await;
    let mut client = Client::connect(&simulator).await;
    let id = "0f5d1e3b-1111-2222-3333-444455556666";
    let request = client.request(PLAIN).header("apns-id", id);
    let answer = client.send(request, r#"{"aps":{},"m":{"serial":7}}"#).await.expect("answer");
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b""[..]));
    assert_eq!(answer.headers["apns-id"], id);
    let answer = client.push(PLAIN).await.expect("answer");
    assert_eq!(answer.headers["apns-id"].len(), 36, "an id is made when none is given");

    let other = client.request(PLAIN).header("apns-id", id.replace('0', "1"));
    client.send(other, r#"{"aps":{},"m":{"serial":7}}"#).await.expect("answer");
    let stats = simulator.stats();
    assert_eq!((stats.messages.accepted, stats.messages.repeated, stats.messages.identity_changes), (1, 1, 1));
    assert_eq!((stats.messages.without_serial, stats.provider_tokens), (1, 1));
    assert_eq!((stats.counts.requests, stats.counts.connections, stats.counts.tls_handshakes), (3, 1, 1));
    assert_eq!(simulator.handle().ledger().missing(5..10), vec![5..7, 8..10]);
    simulator.shutdown().await;
}

#[tokio::test]
async fn device_tokens_steer_their_answers() {
    let simulator = start(wide()).await;
    let mut client = Client::connect(&simulator).await;
    let gone = client.push("dead0410ff").await.expect("answer");
    assert_eq!((gone.status.as_u16(), gone.reason().as_str()), (410, "Unregistered"));
    assert_eq!(gone.headers["content-type"], "application/json; charset=utf-8");
    let body: Value = serde_json::from_slice(&gone.body).expect("json");
    assert!(body["timestamp"].as_i64().expect("ms") / 1000 - now_s() <= 1);

    assert_eq!(client.reason("dead042902aa").await, "429 TooManyRequests");
    assert_eq!(client.reason("dead042902aa").await, "429 TooManyRequests");
    assert_eq!(client.reason("dead042902aa").await, "200 ");
    assert_eq!(client.reason("dead1503").await, "503 Shutdown");
    let patient = client.push("dead2429").await.expect("answer");
    assert_eq!(patient.headers["retry-after"], "1");
    assert_eq!(client.reason("dead6000").await, "500 ");
    assert!(client.push("dead7000").await.expect("answer").body.starts_with(b"<html>"));
    assert_eq!(client.reason("dead9000").await, "400 UnheardOfReason");
    assert_eq!(client.reason("nothex").await, "400 BadDeviceToken");

    let refused = client.push("dead200001").await.expect_err("reset");
    assert_eq!(refused.reason(), Some(h2::Reason::REFUSED_STREAM));
    assert_eq!(client.reason("dead200001").await, "200 ");
    let lost = client.send(client.request("dead800001"), r#"{"serial":1}"#).await.expect_err("reset");
    assert_eq!(lost.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert!(simulator.handle().ledger().accepted(1), "accepted although no answer came");

    let began = Instant::now();
    assert_eq!(client.reason("dead000005").await, "200 ");
    assert!(began.elapsed() >= Duration::from_millis(50));
    client.push("dead4000").await.expect_err("the connection breaks");
    simulator.shutdown().await;
}

#[tokio::test]
async fn one_stream_until_the_first_valid_token_then_a_thousand() {
    let simulator = start(Faults { processing_ms: 30, ..Faults::default() }).await;
    let mut client = Client::connect(&simulator).await;
    assert_eq!(client.reason(PLAIN).await, "200 ");
    assert_eq!(client.h2.current_max_send_streams(), 1000);
    let mut open = Vec::new();
    for _ in 0..50 {
        let request = client.request(PLAIN).body(()).expect("request");
        open.push(client.open(request, BODY).await.expect("stream"));
    }
    for response in open {
        assert_eq!(answer(response).await.expect("answer").status, 200);
    }
    assert_eq!(simulator.stats().counts.max_streams, 50);

    let mut stranger = Client::connect(&simulator).await;
    stranger.authorization = "bearer a.b.c".into();
    assert_eq!(stranger.reason(PLAIN).await, "403 InvalidProviderToken");
    assert_eq!(stranger.h2.current_max_send_streams(), 1);
    simulator.shutdown().await;
}

#[tokio::test]
async fn provider_tokens_are_judged_as_apple_does() {
    let simulator = start(wide()).await;
    let key = simulator.key().clone();
    let mut client = Client::connect(&simulator).await;
    let good = client.authorization.clone();
    client.authorization = "basic abc".into();
    assert_eq!(client.reason(PLAIN).await, "403 MissingProviderToken");
    client.authorization = jwt(&Key { key_id: "OTHERKEY01".into(), ..key.clone() }, now_s());
    assert_eq!(client.reason(PLAIN).await, "403 InvalidProviderToken");
    client.authorization = jwt(&Key { team_id: "OTHERTEAM1".into(), ..key.clone() }, now_s());
    assert_eq!(client.reason(PLAIN).await, "403 InvalidProviderToken");
    client.authorization = good.replacen("bearer", "Bearer", 1);
    assert_eq!(client.reason(PLAIN).await, "200 ");
    client.authorization = jwt(&key, now_s() - 60);
    assert_eq!(client.reason(PLAIN).await, "429 TooManyProviderTokenUpdates");

    simulator.handle().change(|faults| faults.rejected_keys = vec!["*".into()]).expect("faults");
    client.authorization = good;
    assert_eq!(client.reason(PLAIN).await, "403 InvalidProviderToken");
    simulator.handle().reset();
    let mut other = Client::connect(&simulator).await;
    assert_eq!(other.reason(PLAIN).await, "200 ");
    simulator.shutdown().await;
}

#[tokio::test]
async fn an_expired_token_wedges_the_connection_until_a_valid_one_comes() {
    let mut faults = wide();
    faults.token_update_interval_s = 0;
    let simulator = start(faults).await;
    let mut client = Client::connect(&simulator).await;
    let good = client.authorization.clone();
    assert_eq!(client.reason(PLAIN).await, "200 ");
    let silent = client.request("dead1000").body(()).expect("request");
    let silent = client.open(silent, BODY).await.expect("stream");
    client.authorization = jwt(simulator.key(), now_s() - 3700);
    assert_eq!(client.reason(PLAIN).await, "403 ExpiredProviderToken");
    let refused = answer(silent).await.expect_err("refused");
    assert_eq!(refused.reason(), Some(h2::Reason::REFUSED_STREAM));
    assert_eq!(client.h2.current_max_send_streams(), 1);
    client.authorization = good;
    assert_eq!(client.reason(PLAIN).await, "200 ");
    assert_eq!(client.h2.current_max_send_streams(), 1000);
    simulator.shutdown().await;
}

/// What its clients may send again must be missed when they do not; what they cannot know of is one or the other.
#[tokio::test]
async fn what_is_refused_while_it_waits_was_not_accepted_and_of_what_breaks_a_half_was() {
    let simulator = start(Faults { token_update_interval_s: 0, ..wide() }).await;
    let ledger = |serials: std::ops::Range<u64>| {
        let handle = simulator.handle();
        serials.filter(|serial| handle.ledger().accepted(*serial)).count()
    };
    let mut client = Client::connect(&simulator).await;
    for (begin, ends_by, left) in [(0, "wedge", 0), (10, "close", 3)] {
        assert_eq!(client.reason(PLAIN).await, "200 ");
        let mut open = Vec::new();
        for serial in begin..begin + 6 {
            // Answered a second later.
            let request = client.request("dead000099").body(()).expect("request");
            open.push(client.open(request, &format!(r#"{{"serial":{serial}}}"#)).await.expect("stream"));
        }
        until("all have come", || ledger(begin..begin + 6) == 6).await;
        if ends_by == "wedge" {
            let good = std::mem::replace(&mut client.authorization, jwt(simulator.key(), now_s() - 3700));
            assert_eq!(client.reason(PLAIN).await, "403 ExpiredProviderToken");
            client.authorization = good;
        } else {
            simulator.handle().close_connections();
        }
        for open in open {
            answer(open).await.expect_err("no answer");
        }
        assert_eq!(ledger(begin..begin + 6), left, "{ends_by}");
    }
    simulator.shutdown().await;
}

#[tokio::test]
async fn goaway_carries_a_reason_and_answers_what_was_taken_in() {
    let simulator = start(Faults { processing_ms: 100, ..wide() }).await;
    let mut client = Client::connect(&simulator).await;
    let request = client.request(PLAIN).body(()).expect("request");
    let open = client.open(request, BODY).await.expect("stream");
    until("the request arrived", || simulator.stats().counts.requests == 1).await;
    simulator.handle().goaway("Shutdown");
    assert_eq!(answer(open).await.expect("answer").status, 200, "at or below the last stream id");
    let ended = tokio::time::timeout(Duration::from_secs(5), client.driver).await.expect("ends").expect("task");
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(simulator.stats().counts.goaways, 1);

    let mut client = Client::connect(&simulator).await;
    let error = client.push("dead5000").await.expect_err("goaway");
    assert!(error.is_go_away() && error.to_string().contains("Shutdown"), "{error}");
    simulator.shutdown().await;
}

#[tokio::test]
async fn goaway_every_so_many_requests_loses_nothing_that_is_covered() {
    let mut faults = wide();
    faults.goaway_every = 3;
    let simulator = start(faults).await;
    let mut client = Client::connect(&simulator).await;
    for _ in 0..3 {
        assert_eq!(client.reason(PLAIN).await, "200 ");
    }
    client.push(PLAIN).await.expect_err("the connection is going away");
    until("the connection is closed", || simulator.stats().counts.open_connections == 0).await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn shares_of_answers_resets_and_silence() {
    let simulator = start(wide()).await;
    let handle = simulator.handle();
    let mut client = Client::connect(&simulator).await;
    let limited = AnswerFault { share: 0.5, retry_after: Some(3), ..AnswerFault::all(429, "TooManyRequests") };
    handle.change(|faults| faults.answers = vec![limited]).expect("faults");
    let mut refused = 0;
    for _ in 0..200 {
        refused += u32::from(client.push(PLAIN).await.expect("answer").status == 429);
    }
    assert!((60..140).contains(&refused), "{refused} of 200");

    let bare = AnswerFault { body: BodyKind::Empty, ..AnswerFault::all(503, "ServiceUnavailable") };
    handle.set_faults(Faults { answers: vec![bare], ..wide() }).expect("faults");
    let answer = client.push(PLAIN).await.expect("answer");
    assert_eq!((answer.status.as_u16(), answer.body.len()), (503, 0));

    handle.change(|faults| faults.topic = Some("com.example.game".into())).expect("faults");
    assert_eq!(client.push(PLAIN).await.expect("answer").status, 503);
    handle.change(|faults| faults.topic = Some("com.example.other".into())).expect("faults");
    assert_eq!(client.push(PLAIN).await.expect("answer").status, 200, "another app is not hit");

    handle.set_faults(Faults { reset_share: 1.0, ..wide() }).expect("faults");
    assert_eq!(client.push(PLAIN).await.expect_err("reset").reason(), Some(h2::Reason::INTERNAL_ERROR));
    handle.set_faults(Faults { silent_share: 1.0, ..wide() }).expect("faults");
    tokio::time::timeout(Duration::from_millis(200), client.push(PLAIN)).await.expect_err("no answer");
    client.ping.ping(h2::Ping::opaque()).await.expect("alive all the same");
    until("the ping is counted", || simulator.stats().counts.pings == 1).await;
    assert!(handle.set_faults(Faults { silent_share: 2.0, ..wide() }).is_err());
    simulator.shutdown().await;
}

#[tokio::test]
async fn connections_can_be_closed_muted_refused_and_spoiled() {
    let simulator = start(wide()).await;
    let handle = simulator.handle();
    let mut client = Client::connect(&simulator).await;
    assert_eq!(client.reason(PLAIN).await, "200 ");
    handle.close_connections();
    client.push(PLAIN).await.expect_err("closed");

    let mut client = Client::connect(&simulator).await;
    assert_eq!(client.reason(PLAIN).await, "200 ");
    handle.mute_connections();
    tokio::time::timeout(Duration::from_millis(300), client.ping.ping(h2::Ping::opaque())).await.expect_err("no pong");

    handle.change(|faults| faults.connection.fail_tls = true).expect("faults");
    let error = Client::try_connect(&simulator).await.err().expect("no tls").to_string();
    assert!(error.to_lowercase().contains("handshake"), "{error}");
    handle.change(|faults| faults.connection.refuse_connections = true).expect("faults");
    until("connecting is refused", || std::net::TcpStream::connect(simulator.address()).is_err()).await;
    handle.reset();
    until("it listens again", || std::net::TcpStream::connect(simulator.address()).is_ok()).await;
    assert_eq!(Client::connect(&simulator).await.reason(PLAIN).await, "200 ");
    simulator.shutdown().await;
}

#[tokio::test]
async fn round_trip_time_delays_handshake_and_answers() {
    let mut faults = wide();
    faults.connection.rtt_ms = 60;
    let simulator = start(faults).await;
    let began = Instant::now();
    let mut client = Client::connect(&simulator).await;
    assert!(began.elapsed() >= Duration::from_millis(60), "the TLS handshake takes a round trip");
    let began = Instant::now();
    assert_eq!(client.reason(PLAIN).await, "200 ");
    assert!(began.elapsed() >= Duration::from_millis(60));
    simulator.shutdown().await;
}

#[tokio::test]
async fn the_control_endpoint_has_the_same_levers() {
    let simulator = start(wide()).await;
    let mut client = Client::connect(&simulator).await;
    let faults = r#"{"answers":[{"status":503,"reason":"ServiceUnavailable"}]}"#;
    assert_eq!(control(&simulator, "PUT", "/faults", faults).await.0, 200);
    assert_eq!(client.reason(PLAIN).await, "503 ServiceUnavailable");
    let (status, rule) = control(&simulator, "PUT", "/faults", r#"{"reset_share":7}"#).await;
    assert_eq!((status, rule.as_str()), (422, "reset_share: 7 must be from 0 to 1"));
    let (_, stats) = control(&simulator, "GET", "/stats", "").await;
    let stats: Value = serde_json::from_str(&stats).expect("json");
    assert_eq!(stats["answers"]["ServiceUnavailable"], 1);
    assert_eq!(control(&simulator, "POST", "/reset", "").await.0, 204);
    client.send(client.request(PLAIN), r#"{"serial":2}"#).await.expect("answer");
    assert_eq!(control(&simulator, "GET", "/missing/0/4", "").await.1, "[[0,2],[3,4]]");
    assert_eq!(control(&simulator, "GET", "/serials/2", "").await.1, r#"{"serial":2,"requests":1,"accepted":1}"#);
    assert_eq!(control(&simulator, "GET", "/repeated", "").await.1, "[]");
    assert_eq!(control(&simulator, "POST", "/goaway", r#"{"reason":"IdleTimeout"}"#).await.0, 204);
    until("goaway was sent", || simulator.stats().counts.goaways == 1).await;
    assert_eq!(control(&simulator, "POST", "/close", "").await.0, 204);
    until("all are closed", || simulator.stats().counts.open_connections == 0).await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_storm_of_goaways_is_honest_about_what_was_processed() {
    const MESSAGES: u64 = 2_000;
    let mut faults = wide();
    faults.goaway_every = 37;
    faults.processing_ms = 2;
    let simulator = start(faults).await;
    let mut waiting: Vec<u64> = (0..MESSAGES).collect();
    let mut connections = 0;
    while !waiting.is_empty() {
        let mut client = Client::connect(&simulator).await;
        connections += 1;
        assert!(connections < 500, "{} are still waiting", waiting.len());
        let mut open = Vec::new();
        while let Some(serial) = waiting.pop() {
            let request = client.request(PLAIN).body(()).expect("request");
            match client.open(request, &format!(r#"{{"serial":{serial}}}"#)).await {
                Ok(response) => open.push((serial, response)),
                Err(error) => {
                    assert!(error.is_go_away(), "{error}");
                    waiting.push(serial);
                    break;
                }
            }
            if open.len() % 50 == 0 {
                tokio::task::yield_now().await; // lets the connection write, so that GOAWAY crosses open streams
            }
        }
        for (serial, response) in open {
            match answer(response).await {
                Ok(answer) => assert_eq!(answer.status, 200),
                Err(error) => {
                    assert!(error.is_go_away(), "{error}");
                    assert!(!simulator.handle().ledger().accepted(serial), "{serial} was above the last stream id");
                    waiting.push(serial);
                }
            }
        }
    }
    let messages = simulator.stats().messages;
    assert_eq!((messages.accepted, messages.repeated), (MESSAGES, 0));
    assert!(simulator.stats().counts.goaways > 1);
    simulator.shutdown().await;
}

#[tokio::test]
async fn thousands_of_resets_do_not_end_the_connection() {
    let simulator = start(Faults { refuse_share: 0.9, ..wide() }).await;
    let mut client = Client::connect(&simulator).await;
    let (mut served, mut refused) = (0, 0);
    for _ in 0..3_000 {
        match client.push(PLAIN).await {
            Ok(_) => served += 1,
            Err(error) => {
                assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(served + refused, 3_000);
    assert!(served > 200 && refused > 2_500, "{served} served");
    assert_eq!(simulator.stats().counts.connections, 1);
    simulator.shutdown().await;
}

#[tokio::test]
async fn small_windows_slow_a_client_down_and_lose_nothing() {
    let mut faults = wide();
    faults.connection.stream_window = 16;
    faults.connection.connection_window = 100;
    let simulator = start(faults).await;
    let mut client = Client::connect(&simulator).await;
    let mut open = Vec::new();
    for serial in 0..100 {
        let request = client.request(PLAIN).body(()).expect("request");
        let body = format!(r#"{{"aps":{{"alert":"longer than the window"}},"serial":{serial}}}"#);
        open.push(client.open(request, &body).await.expect("stream"));
    }
    for response in open {
        assert_eq!(answer(response).await.expect("answer").status, 200);
    }
    assert_eq!(simulator.stats().messages.accepted, 100);
    simulator.shutdown().await;
}
