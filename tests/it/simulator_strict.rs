//! The APNs simulator against clients that break the protocol, byte by byte, and against foreign clients that do not.

use std::process::Command;

use bytes::{BufMut as _, BytesMut};
use pusher::simulator::apns::Simulator;
use pusher::simulator::frames::{GOAWAY, HEADER, HEADERS, Head, PREFACE, RST_STREAM, SETTINGS};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::simulator_apns::{BODY, Client, PLAIN, jwt, now_s, start, tls, until, wide};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.put_uint(payload.len() as u64, 3);
    bytes.put_slice(&[kind, flags]);
    bytes.put_u32(stream);
    bytes.put_slice(payload);
    bytes.to_vec()
}

/// HEADERS of a push whose body is still to come, every field a literal without indexing (RFC 7541, 6.2.2).
fn push_headers(stream: u32) -> Vec<u8> {
    let mut block = Vec::new();
    let path = format!("/3/device/{PLAIN}");
    for (name, value) in
        [(":method", "POST"), (":scheme", "https"), (":path", path.as_str()), ("apns-topic", "com.example.game")]
    {
        block.extend([0, name.len() as u8]);
        block.extend(name.bytes());
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    frame(HEADERS, 0x4, stream, &block)
}

/// The next frame of one of `kinds`.
async fn next(stream: &mut (impl AsyncRead + Unpin), kinds: &[u8]) -> (Head, Vec<u8>) {
    loop {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).await.expect("a frame");
        let head = Head::read(&header).expect("nine bytes");
        let mut payload = vec![0; head.length];
        stream.read_exact(&mut payload).await.expect("its payload");
        if kinds.contains(&head.kind) {
            return (head, payload);
        }
    }
}

/// Connects and sends the preface and empty SETTINGS; returns after the server's SETTINGS.
async fn raw(simulator: &Simulator) -> (impl AsyncRead + tokio::io::AsyncWrite + Unpin + use<>, Vec<u8>) {
    let mut stream = tls(simulator, &[b"h2"]).await.expect("tls");
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.expect("preface");
    let (_, settings) = next(&mut stream, &[SETTINGS]).await;
    (stream, settings)
}

#[tokio::test]
async fn the_first_settings_are_those_of_apns() {
    let simulator = start(pusher::simulator::apns::faults::Faults::default()).await;
    let (_stream, settings) = raw(&simulator).await;
    let mut named: Vec<(u16, u32)> = settings
        .chunks(6)
        .map(|pair| (u16::from_be_bytes([pair[0], pair[1]]), u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]])))
        .collect();
    named.sort_unstable();
    assert_eq!(named, [(1, 4096), (3, 1), (4, 65_535), (5, 16_384), (6, 8_000)]);
    simulator.shutdown().await;
}

#[tokio::test]
async fn going_over_an_acknowledged_limit_ends_the_connection() {
    let simulator = start(pusher::simulator::apns::faults::Faults::default()).await;
    let (mut stream, _) = raw(&simulator).await;
    stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.expect("acknowledgement");
    stream.write_all(&[push_headers(1), push_headers(3)].concat()).await.expect("two streams");
    let (_, payload) = next(&mut stream, &[GOAWAY, RST_STREAM]).await;
    assert_eq!(payload[..8], [0, 0, 0, 1, 0, 0, 0, 0], "last stream 1, NO_ERROR");
    assert!(payload[8..].starts_with(b"{\"reason\":\"Maximum active streams"));

    let (mut stream, _) = raw(&simulator).await;
    stream.write_all(&[push_headers(1), push_headers(3)].concat()).await.expect("two streams");
    let (head, payload) = next(&mut stream, &[GOAWAY, RST_STREAM]).await;
    assert_eq!((head.kind, head.stream, &payload[..]), (RST_STREAM, 3, &[0, 0, 0, 7][..]), "not acknowledged yet");

    // An acknowledgement in the same packet, but after the streams, does not count against them.
    let (mut stream, _) = raw(&simulator).await;
    let packet = [push_headers(1), push_headers(3), frame(SETTINGS, 1, 0, &[])].concat();
    stream.write_all(&packet).await.expect("two streams");
    let (head, _) = next(&mut stream, &[GOAWAY, RST_STREAM]).await;
    assert_eq!((head.kind, head.stream), (RST_STREAM, 3), "opened before the acknowledgement");
    simulator.shutdown().await;
}

#[tokio::test]
async fn broken_frames_end_the_connection_with_a_protocol_error() {
    let simulator = start(wide()).await;
    let (mut stream, _) = raw(&simulator).await;
    stream.write_all(&frame(0, 0, 0, b"data on the connection")).await.expect("frame");
    let (_, payload) = next(&mut stream, &[GOAWAY]).await;
    assert_eq!(payload[4..8], [0, 0, 0, 1], "PROTOCOL_ERROR");

    let (mut stream, _) = raw(&simulator).await;
    let acknowledgement = frame(SETTINGS, 1, 0, &[]);
    stream.write_all(&[acknowledgement.clone(), acknowledgement].concat()).await.expect("frames");
    let (_, payload) = next(&mut stream, &[GOAWAY]).await;
    assert_eq!(payload[4..8], [0, 0, 0, 1], "PROTOCOL_ERROR: nothing was left to acknowledge");

    let mut stream = tls(&simulator, &[]).await.expect("tls without alpn");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("request");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "no HTTP/1.1 is spoken");
    assert!(tls(&simulator, &[b"http/1.1"]).await.is_err(), "nor offered");
    until("all are counted", || simulator.stats().counts.protocol_errors == 3).await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn bodies_that_apns_refuses() {
    let simulator = start(wide()).await;
    let mut client = Client::connect(&simulator).await;
    for (body, encoding, expected) in [
        ("", None, "PayloadEmpty"),
        ("{", None, "PayloadEmpty"),
        (BODY, Some("gzip"), "PayloadEmpty"),
        ("x".repeat(4097).as_str(), None, "PayloadTooLarge"),
        ("x".repeat(1 << 20).as_str(), None, "PayloadTooLarge"),
    ] {
        let mut request = client.request(PLAIN);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        assert_eq!(client.send(request, body).await.expect("answer").reason(), expected, "{} bytes", body.len());
    }
    let twice = client.request(PLAIN).header("apns-topic", "com.example.game");
    assert_eq!(client.send(twice, BODY).await.expect("answer").reason(), "DuplicateHeaders");
    assert_eq!(simulator.stats().messages.accepted, 0);
    simulator.shutdown().await;
}

/// Runs a foreign client; says what to install when it is not there.
async fn run(program: &'static str, package: &'static str, arguments: Vec<String>) -> String {
    let run = move || Command::new(program).args(arguments).output();
    let output = tokio::task::spawn_blocking(run).await.expect("task");
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {package}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn curl_is_served() {
    let simulator = start(pusher::simulator::apns::faults::Faults::default()).await;
    let directory = tempfile::tempdir().expect("directory");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, simulator.ca_pem()).expect("ca");
    let url = |token: &str| format!("https://127.0.0.1:{}/3/device/{token}", simulator.address().port());
    let mut arguments: Vec<String> =
        ["-sS", "--http2", "-w", "\n%{http_code} %{http_version}\n", "-d", BODY, "--cacert"].map(Into::into).into();
    arguments.push(ca.display().to_string());
    for header in [format!("authorization: {}", jwt(simulator.key(), now_s())), "apns-topic: com.example.game".into()] {
        arguments.extend(["-H".into(), header]);
    }
    arguments.extend([url(PLAIN), url("dead1400")]);
    let output = run("curl", "curl", arguments).await;
    assert_eq!(output, "\n200 2\n{\"reason\":\"DeviceTokenNotForTopic\"}\n400 2\n");
    simulator.shutdown().await;
}

/// 5,000 pushes by h2load on 2 connections, up to 100 streams each. Returns its report.
async fn h2load(simulator: &Simulator) -> String {
    let directory = tempfile::tempdir().expect("directory");
    let body = directory.path().join("body.json");
    std::fs::write(&body, BODY).expect("body");
    let authorization = format!("authorization: {}", jwt(simulator.key(), now_s()));
    let mut arguments: Vec<String> = ["-n", "5000", "-c", "2", "-m", "100", "-d"].map(Into::into).into();
    arguments.push(body.display().to_string());
    arguments.extend(["-H".into(), authorization, "-H".into(), "apns-topic: com.example.game".into()]);
    arguments.push(format!("https://127.0.0.1:{}/3/device/{PLAIN}", simulator.address().port()));
    run("h2load", "nghttp2-client", arguments).await
}

#[tokio::test]
async fn h2load_is_served() {
    let simulator = start(wide()).await;
    let report = h2load(&simulator).await;
    assert!(report.contains("5000 succeeded, 0 failed, 0 errored"), "{report}");
    let counts = simulator.stats().counts;
    assert_eq!((counts.requests, counts.refused_streams, counts.goaways), (5000, 0, 0));
    assert!((2..=100).contains(&counts.max_streams), "{}", counts.max_streams);
    simulator.shutdown().await;
}

/// h2load does not wait for SETTINGS: what it opens before they arrive meets the limit of one stream, as at Apple's.
#[tokio::test]
async fn a_burst_on_a_fresh_connection_is_refused_but_for_one_stream() {
    let simulator = start(pusher::simulator::apns::faults::Faults::default()).await;
    let report = h2load(&simulator).await;
    let counts = simulator.stats().counts;
    assert!(report.contains(&format!("{} succeeded, {} failed", counts.requests, counts.refused_streams)), "{report}");
    assert_eq!((counts.requests + counts.refused_streams, counts.goaways), (5000, 0));
    assert!(counts.refused_streams <= 2 * 99, "{}", counts.refused_streams);
    simulator.shutdown().await;
}
