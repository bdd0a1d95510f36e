//! The FCM simulator and its token endpoint against a client on the bare `h2` crate, and against curl.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pusher::simulator::fcm::faults::{AnswerFault, Faults, OAuthAnswer};
use pusher::simulator::fcm::{Settings, Simulator};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::simulator_apns::{Answer, answer, now_s, plain_http, tls_to, until};

const PROJECT: &str = "game-1";
const PLAIN: &str = "cXyzAbC123:APA91bHPRgkF3JUikC4ENAHEeMrd41Zxv3hVZjC9KtT8OvPVGJ";

async fn start(faults: Faults) -> Simulator {
    let projects = vec![PROJECT.to_owned(), "game-2".to_owned()];
    let control = Some(([127, 0, 0, 1], 0).into());
    Simulator::start(Settings { faults, projects, control, ..Settings::default() }).await.expect("simulator")
}

fn message(target: &str) -> String {
    json!({ "message": { "token": target, "data": { "a": "b" } } }).to_string()
}

/// An assertion as Google's documentation describes it, but for what `edit` says.
fn assertion(simulator: &Simulator, edit: &Value) -> String {
    let account: Value = serde_json::from_str(&simulator.credentials(PROJECT).expect("known")).expect("json");
    let text = |name: &str| account[name].as_str().unwrap_or_default().to_owned();
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(text("private_key_id"));
    let mut claims = json!({
        "iss": text("client_email"), "aud": text("token_uri"), "iat": now_s(), "exp": now_s() + 3600,
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
    });
    for (name, value) in edit.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    let key = EncodingKey::from_rsa_pem(text("private_key").as_bytes()).expect("key");
    jsonwebtoken::encode(&header, &claims, &key).expect("assertion")
}

fn oauth_address(simulator: &Simulator) -> SocketAddr {
    let uri = simulator.token_uri().trim_start_matches("https://").trim_end_matches("/token");
    uri.parse().expect("an address")
}

fn form(assertion: &str) -> String {
    format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}")
}

/// One request to the token endpoint, over HTTP/1.1.
async fn ask(simulator: &Simulator, form: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = tls_to(oauth_address(simulator), simulator.ca_pem(), &[b"http/1.1"]).await?;
    let request = format!(
        "POST /token HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok()).expect("status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}

async fn token(simulator: &Simulator) -> String {
    let (status, body) = ask(simulator, &form(&assertion(simulator, &json!({})))).await.expect("answer");
    assert_eq!(status, 200, "{body}");
    body["access_token"].as_str().expect("a token").to_owned()
}

struct Client {
    h2: SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<Result<(), h2::Error>>,
    authorization: String,
    ping: h2::PingPong,
}

impl Client {
    async fn connect(simulator: &Simulator) -> Client {
        let stream = tls_to(simulator.address(), simulator.ca_pem(), &[b"h2"]).await.expect("tls");
        let (h2, mut connection) = h2::client::handshake(stream).await.expect("http/2");
        let ping = connection.ping_pong().expect("first call");
        let driver = tokio::spawn(connection);
        let token = simulator.access_token(PROJECT, now_s() * 1000, 60).expect("known");
        Client { h2, driver, authorization: format!("Bearer {token}"), ping }
    }

    fn request(&self, project: &str) -> http::request::Builder {
        Request::post(format!("https://localhost/v1/projects/{project}/messages:send"))
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
    }

    async fn open(
        &mut self,
        request: http::request::Builder,
        body: &str,
    ) -> Result<h2::client::ResponseFuture, h2::Error> {
        self.h2 = self.h2.clone().ready().await?;
        let (response, mut stream) = self.h2.send_request(request.body(()).expect("request"), false)?;
        stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        Ok(response)
    }

    async fn send(&mut self, request: http::request::Builder, body: &str) -> Result<Answer, h2::Error> {
        answer(self.open(request, body).await?).await
    }

    async fn push(&mut self, target: &str) -> Result<Answer, h2::Error> {
        self.send(self.request(PROJECT), &message(target)).await
    }

    /// Status, canonical status and error code of an answer to a push.
    async fn say(&mut self, target: &str) -> String {
        said(&self.push(target).await.expect("answer"))
    }
}

fn said(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let details = body["error"]["details"].as_array().cloned().unwrap_or_default();
    let code = details.iter().find_map(|detail| detail["errorCode"].as_str()).unwrap_or("-");
    format!("{} {} {code}", answer.status.as_u16(), body["error"]["status"].as_str().unwrap_or("-"))
}

#[tokio::test]
async fn from_the_credentials_to_an_accepted_message() {
    let simulator = start(Faults::default()).await;
    let mut client = Client::connect(&simulator).await;
    client.authorization = format!("Bearer {}", token(&simulator).await);
    let body = r#"{"message":{"token":"cXyz:APA91b","data":{"m":"{\"serial\":7}"}}}"#;
    let accepted = client.send(client.request(PROJECT), body).await.expect("answer");
    assert_eq!(accepted.status, 200);
    let name: Value = serde_json::from_slice(&accepted.body).expect("json");
    assert!(name["name"].as_str().expect("a name").starts_with("projects/game-1/messages/0:"), "{name}");

    let dry = r#"{"validate_only":true,"message":{"token":"cXyz:APA91b","data":{"serial":"8"}}}"#;
    let dry = client.send(client.request("100000000001"), dry).await.expect("answer");
    assert!(String::from_utf8_lossy(&dry.body).contains("projects/game-1/messages/fake_message_id"));
    client.send(client.request(PROJECT), body).await.expect("answer");
    let stats = simulator.stats();
    assert_eq!((stats.messages.accepted, stats.messages.repeated, stats.validated), (1, 1, 1));
    assert_eq!(simulator.handle().ledger().missing(6..10), vec![6..7, 8..10]);
    assert_eq!((stats.oauth.requests, stats.oauth.answers["token"]), (1, 1));
    simulator.shutdown().await;
}

#[tokio::test]
async fn targets_steer_their_answers() {
    let simulator = start(Faults::default()).await;
    let mut client = Client::connect(&simulator).await;
    assert_eq!(client.say("dead0404x").await, "404 NOT_FOUND UNREGISTERED");
    assert_eq!(client.say("dead2404x").await, "404 NOT_FOUND -");
    assert_eq!(client.say("dead1401x").await, "401 UNAUTHENTICATED THIRD_PARTY_AUTH_ERROR");
    assert_eq!(client.say("dead0403x").await, "403 PERMISSION_DENIED SENDER_ID_MISMATCH");
    let limited = client.push("dead142901x").await.expect("answer");
    assert_eq!(
        (said(&limited).as_str(), &limited.headers["retry-after"]),
        ("429 RESOURCE_EXHAUSTED QUOTA_EXCEEDED", &"1".parse().expect("value"))
    );
    assert_eq!(client.say("dead142901x").await, "200 - -");
    assert!(client.push("dead0502").await.expect("answer").body.starts_with(b"<!DOCTYPE html>"));
    assert_eq!(client.push("dead9000").await.expect("answer").body, "{}\n");
    assert!(serde_json::from_slice::<Value>(&client.push("dead7000").await.expect("answer").body).is_err());
    let to_topic = r#"{"message":{"topic":"dead0503"}}"#;
    let to_topic = client.send(client.request(PROJECT), to_topic).await.expect("answer");
    assert_eq!(said(&to_topic), "503 UNAVAILABLE UNAVAILABLE");

    let refused = client.push("dead200001").await.expect_err("reset");
    assert_eq!(refused.reason(), Some(h2::Reason::REFUSED_STREAM));
    assert_eq!(client.say("dead200001").await, "200 - -");
    let began = Instant::now();
    assert_eq!(client.say("dead000005").await, "200 - -");
    assert!(began.elapsed() >= Duration::from_millis(50));
    tokio::time::timeout(Duration::from_millis(200), client.push("deada000")).await.expect_err("stalls");
    tokio::time::timeout(Duration::from_millis(200), client.push("dead1000")).await.expect_err("silence");
    let error = client.push("dead5000").await.expect_err("goaway");
    assert!(error.is_go_away() && error.to_string().contains("max_age"), "{error}");
    simulator.shutdown().await;
}

#[tokio::test]
async fn bodies_and_paths_are_judged_strictly() {
    let simulator = start(Faults::default()).await;
    let mut client = Client::connect(&simulator).await;
    let mut seen = Vec::new();
    for body in [
        r#"{"message":{"token":"a","data":{"n":1}}}"#,
        r#"{"message":{"to":"a"}}"#,
        r#"{"message":{"token":"a","topic":"b"}}"#,
        r#"{"message":{"data":{}}}"#,
        r#"{"message":{"token":"a b"}}"#,
        r#"{"message":{"token":"a","data":{"from":"x"}}}"#,
        "{\"message\":",
    ] {
        let answer = client.send(client.request(PROJECT), body).await.expect("answer");
        let said = said(&answer);
        let error: Value = serde_json::from_slice(&answer.body).expect("json");
        seen.push(format!("{body}\n    {said} {}", error["error"]["message"]));
    }
    insta::assert_snapshot!(seen.join("\n"));
    let large = message(PLAIN).replace("\"b\"", &format!("\"{}\"", "x".repeat(4096)));
    let large = client.send(client.request(PROJECT), &large).await.expect("answer");
    let error: Value = serde_json::from_slice(&large.body).expect("json");
    assert_eq!((large.status.as_u16(), &error["error"]["details"]), (400, &Value::Null));
    let huge = format!("{}{}", message(PLAIN), " ".repeat(70_000));
    assert_eq!(said(&client.send(client.request(PROJECT), &huge).await.expect("answer")), "400 INVALID_ARGUMENT -");

    let other_path = client.request(PROJECT).uri("https://localhost/v1/projects//messages:send");
    assert_eq!(
        client.send(other_path, "{}").await.expect("answer").headers["content-type"],
        "text/html; charset=UTF-8"
    );
    let form = Request::post("https://localhost/v1/projects/game-1/messages:send");
    let form = form.header("authorization", &client.authorization);
    assert_eq!(said(&client.send(form, &message(PLAIN)).await.expect("answer")), "400 INVALID_ARGUMENT -");
    simulator.shutdown().await;
}

#[tokio::test]
async fn access_tokens_expire_are_revoked_and_belong_to_a_project() {
    let simulator = start(Faults::default()).await;
    let mut client = Client::connect(&simulator).await;
    assert_eq!(said(&client.send(client.request("game-2"), "{}").await.expect("answer")), "403 PERMISSION_DENIED -");
    assert_eq!(said(&client.send(client.request("nobody"), "{}").await.expect("answer")), "404 NOT_FOUND -");
    assert_eq!(client.say(PLAIN).await, "200 - -");
    simulator.handle().revoke_tokens();
    let refused = client.push(PLAIN).await.expect("answer");
    assert_eq!(said(&refused), "401 UNAUTHENTICATED -");
    assert!(refused.headers.contains_key("www-authenticate"));
    let old = simulator.access_token(PROJECT, now_s() * 1000 - 60_000, 60).expect("known");
    client.authorization = format!("bearer {old}");
    assert_eq!(client.say(PLAIN).await, "401 UNAUTHENTICATED -");
    client.authorization = "key=legacy".into();
    assert_eq!(client.say(PLAIN).await, "401 UNAUTHENTICATED -");

    let storage = json!({ "scope": "https://www.googleapis.com/auth/devstorage.read_only" });
    let (_, body) = ask(&simulator, &form(&assertion(&simulator, &storage))).await.expect("answer");
    client.authorization = format!("Bearer {}", body["access_token"].as_str().expect("a token"));
    assert_eq!(client.say(PLAIN).await, "403 PERMISSION_DENIED -");

    simulator.handle().change(|faults| faults.oauth.lifetime_s = 1).expect("faults");
    client.authorization = format!("Bearer {}", token(&simulator).await);
    assert_eq!(client.say(PLAIN).await, "200 - -");
    let end = Instant::now() + Duration::from_secs(10);
    while client.say(PLAIN).await == "200 - -" {
        assert!(Instant::now() < end, "the token never expires");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.say(PLAIN).await, "401 UNAUTHENTICATED -");
    simulator.shutdown().await;
}

#[tokio::test]
async fn the_token_endpoint_misbehaves_on_request() {
    let simulator = start(Faults::default()).await;
    let handle = simulator.handle();
    let good = form(&assertion(&simulator, &json!({})));
    handle
        .change(|faults| (faults.oauth.answer, faults.oauth.times) = (Some(OAuthAnswer::InvalidGrant), 1))
        .expect("faults");
    let (status, body) = ask(&simulator, &good).await.expect("answer");
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")));
    assert_eq!(ask(&simulator, &good).await.expect("answer").0, 200, "once only");
    for (answer, status) in [(OAuthAnswer::Internal, 500), (OAuthAnswer::Unavailable, 503), (OAuthAnswer::Html, 502)] {
        handle.change(|faults| (faults.oauth.answer, faults.oauth.times) = (Some(answer), 0)).expect("faults");
        assert_eq!(ask(&simulator, &good).await.expect("answer").0, status);
    }
    handle.change(|faults| faults.oauth.answer = Some(OAuthAnswer::NoToken)).expect("faults");
    assert_eq!(ask(&simulator, &good).await.expect("answer"), (200, json!({ "token_type": "Bearer" })));

    handle.reset();
    handle.change(|faults| faults.oauth.clock_ahead_s = -7200).expect("faults");
    let (_, body) = ask(&simulator, &good).await.expect("answer");
    assert!(body["error_description"].as_str().expect("text").contains("reasonable timeframe"), "{body}");

    handle.reset();
    handle.change(|faults| faults.oauth.delay_ms = 100).expect("faults");
    let (one, two) = tokio::join!(ask(&simulator, &good), ask(&simulator, &good));
    assert_eq!((one.expect("answer").0, two.expect("answer").0), (200, 200));
    let oauth = simulator.stats().oauth;
    assert_eq!((oauth.requests, oauth.most_at_once, oauth.tokens[PROJECT]), (2, 2, 2));

    handle.change(|faults| faults.oauth.refuse_connections = true).expect("faults");
    until("connecting is refused", || std::net::TcpStream::connect(oauth_address(&simulator)).is_err()).await;
    handle.reset();
    until("it listens again", || std::net::TcpStream::connect(oauth_address(&simulator)).is_ok()).await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn the_token_endpoint_speaks_http_2_as_well() {
    let simulator = start(Faults::default()).await;
    let stream = tls_to(oauth_address(&simulator), simulator.ca_pem(), &[b"h2"]).await.expect("tls");
    let (mut h2, connection) = h2::client::handshake(stream).await.expect("http/2");
    let driver = tokio::spawn(connection);
    let kind = "application/x-www-form-urlencoded";
    let request = Request::post(simulator.token_uri()).header("content-type", kind).body(()).expect("request");
    let (response, mut body) = h2.send_request(request, false).expect("stream");
    let form = form(&assertion(&simulator, &json!({ "sub": null })));
    body.send_data(form.into(), true).expect("body");
    let answer = answer(response).await.expect("answer");
    let body: Value = serde_json::from_slice(&answer.body).expect("json");
    assert_eq!((body["token_type"].as_str(), body["expires_in"].as_u64()), (Some("Bearer"), Some(3599)));
    driver.abort();
    simulator.shutdown().await;
}

#[tokio::test]
async fn quota_is_per_project_and_says_when_to_come_again() {
    let simulator = start(Faults { quota_per_minute: 2, ..Faults::default() }).await;
    let mut client = Client::connect(&simulator).await;
    assert_eq!(client.say("dead0404").await, "404 NOT_FOUND UNREGISTERED", "refusals count");
    assert_eq!(client.say(PLAIN).await, "200 - -");
    let refused = client.push(PLAIN).await.expect("answer");
    assert_eq!(said(&refused), "429 RESOURCE_EXHAUSTED QUOTA_EXCEEDED");
    let seconds: u32 = refused.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((50..=60).contains(&seconds), "{seconds}");
    assert!(String::from_utf8_lossy(&refused.body).contains("google.rpc.QuotaFailure"));
    let token = simulator.access_token("game-2", now_s() * 1000, 60).expect("known");
    client.authorization = format!("Bearer {token}");
    let other = client.send(client.request("game-2"), &message(PLAIN)).await.expect("answer");
    assert_eq!(other.status, 200, "another project has its own");
    simulator.shutdown().await;
}

#[tokio::test]
async fn connections_have_the_manners_of_googles() {
    let simulator = start(Faults { processing_ms: 200, ..Faults::default() }).await;
    let mut client = Client::connect(&simulator).await;
    let request = client.request(PROJECT);
    let response = client.open(request, &message(PLAIN)).await.expect("stream").await.expect("answer");
    let mut stream = response.into_body();
    let mut frames = Vec::new();
    while let Some(data) = stream.data().await {
        frames.push(data.expect("data").len());
    }
    assert!(frames.len() == 2 && frames[0] > 0 && frames[1] == 0, "{frames:?}: an empty last DATA frame");
    until("the ping was answered", || simulator.stats().counts.pings_answered == 1).await;
    assert_eq!(client.h2.current_max_send_streams(), 100);

    let mut open = Vec::new();
    for _ in 0..100 {
        let request = client.request(PROJECT);
        open.push(client.open(request, &message(PLAIN)).await.expect("stream"));
    }
    for response in open {
        assert_eq!(answer(response).await.expect("answer").status, 200);
    }
    assert_eq!(simulator.stats().counts.max_streams, 100);

    let without_alpn = tls_to(simulator.address(), simulator.ca_pem(), &[]).await;
    let mut without_alpn = without_alpn.expect("the handshake itself is done");
    assert!(!matches!(without_alpn.read(&mut [0; 64]).await, Ok(1..)), "nothing is said to a client without ALPN");
    simulator.shutdown().await;
}

#[tokio::test]
async fn goaway_for_pings_idleness_and_age() {
    let simulator = start(Faults::default()).await;
    let mut client = Client::connect(&simulator).await;
    for _ in 0..2 {
        client.ping.ping(h2::Ping::opaque()).await.expect("pong");
    }
    assert_eq!(client.say(PLAIN).await, "200 - -", "a request makes it good");
    client.ping.ping(h2::Ping::opaque()).await.expect("pong");
    client.ping.ping(h2::Ping::opaque()).await.expect("pong");
    let _ = client.ping.ping(h2::Ping::opaque()).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), client.driver).await.expect("ends").expect("task");
    let error = ended.expect_err("goaway");
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error}");

    for (edit, words) in [
        ((|faults| faults.connection.idle_ms = 100) as fn(&mut Faults), "session_timed_out"),
        (|faults| faults.connection.max_age_ms = 100, "max_age"),
    ] {
        simulator.handle().reset();
        simulator.handle().change(edit).expect("faults");
        let client = Client::connect(&simulator).await;
        let mut stream = client.h2;
        tokio::time::timeout(Duration::from_secs(5), client.driver)
            .await
            .expect("ends")
            .expect("task")
            .expect("in order");
        let error = std::future::poll_fn(|cx| stream.poll_ready(cx)).await.expect_err("gone");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(simulator.stats().counts.goaways, 1);
    }
    simulator.shutdown().await;
}

#[tokio::test]
async fn shares_limits_and_the_control_endpoint() {
    let simulator = start(Faults::default()).await;
    let mut client = Client::connect(&simulator).await;
    let control = simulator.control_address().expect("control endpoint");
    let faults = r#"{"answers":[{"status":503,"variant":1,"retry_after":9}],"streams":7}"#;
    assert_eq!(plain_http(control, "PUT", "/faults", faults).await.0, 200);
    let answer = client.push(PLAIN).await.expect("answer");
    assert_eq!(
        (said(&answer).as_str(), &answer.headers["retry-after"]),
        ("503 UNAVAILABLE UNAVAILABLE", &"9".parse().expect("value"))
    );
    assert_eq!(client.h2.current_max_send_streams(), 7);
    let (status, rule) = plain_http(control, "PUT", "/faults", r#"{"answers":[{"status":410}]}"#).await;
    assert_eq!((status, rule.contains("docs/simulator.md")), (422, true), "{rule}");
    assert_eq!(plain_http(control, "PUT", "/faults", r#"{"oauth":{"answer":"nonsense"}}"#).await.0, 422);
    let (_, stats) = plain_http(control, "GET", "/stats", "").await;
    let stats: Value = serde_json::from_str(&stats).expect("json");
    assert_eq!((&stats["answers"]["UNAVAILABLE"], &stats["oauth"]["requests"]), (&json!(1), &json!(0)));
    assert_eq!(plain_http(control, "POST", "/reset", "").await.0, 204);
    assert_eq!(plain_http(control, "POST", "/revoke", "").await.0, 204);
    assert_eq!(client.say(PLAIN).await, "401 UNAUTHENTICATED -");
    assert_eq!(plain_http(control, "POST", "/goaway", "").await.0, 204);
    tokio::time::timeout(Duration::from_secs(5), client.driver).await.expect("ends").expect("task").expect("in order");

    simulator
        .handle()
        .set_faults(Faults {
            answers: vec![AnswerFault { share: 0.5, ..AnswerFault::all(500, 0) }],
            ..Faults::default()
        })
        .expect("faults");
    let mut client = Client::connect(&simulator).await;
    let mut refused = 0;
    for _ in 0..200 {
        refused += u32::from(client.push(PLAIN).await.expect("answer").status == 500);
    }
    assert!((60..140).contains(&refused), "{refused} of 200");
    simulator.shutdown().await;
}

/// Runs curl without its progress; its output is the body and the status.
fn curl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("curl").args(["-sS", "-w", "\n%{http_version} %{http_code}"]).args(arguments).output();
    let output = output.ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn curl_is_served_by_both_endpoints() {
    let simulator = start(Faults::default()).await;
    let folder = tempfile::tempdir().expect("folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, simulator.ca_pem()).expect("ca");
    let ca = ca.to_str().expect("a path");
    let form = form(&assertion(&simulator, &json!({})));
    let Some(answer) = curl(&["--http1.1", "--cacert", ca, "-d", &form, simulator.token_uri()]) else {
        eprintln!("skipped: no curl on this machine");
        return;
    };
    assert!(answer.ends_with("\n1.1 200"), "{answer}");
    let body = answer.rsplit_once('\n').map(|(body, _)| body).unwrap_or_default();
    let token: Value = serde_json::from_str(body).expect("json");
    let authorization = format!("Authorization: Bearer {}", token["access_token"].as_str().expect("a token"));
    let send = format!("https://{}/v1/projects/{PROJECT}/messages:send", simulator.address());
    let kind = "Content-Type: application/json";
    let answer = curl(&["--http2", "--cacert", ca, "-H", &authorization, "-H", kind, "-d", &message(PLAIN), &send]);
    let answer = answer.expect("curl is there");
    assert!(answer.contains("\"name\": \"projects/game-1/messages/") && answer.ends_with("\n2 200"), "{answer}");
    let answer = curl(&["--http2", "--cacert", ca, "-H", kind, "-d", &message(PLAIN), &send]).expect("curl is there");
    assert!(answer.contains("UNAUTHENTICATED") && answer.ends_with("\n2 401"), "{answer}");
    simulator.shutdown().await;
}
