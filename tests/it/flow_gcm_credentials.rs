//! Where FCM's access tokens come from without a key in the configuration: Google's default credentials, for a worker that runs
//! as a process, because they are found through its environment.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use pusher::simulator::fcm::Simulator;
use pusher::simulator::fcm::faults::Faults;
use serde_json::json;

use crate::support::flow::Ends;
use crate::support::worker::Worker;

/// Pushes through a worker that is told the project and nothing else, but for these variables.
fn pushes_without_a_key(ends: &mut Ends<Simulator>, environment: &[(&str, &str)]) {
    ends.produce(Ends::<Simulator>::calm(200));
    let settings = ends.settings().into_iter().filter(|(key, _)| !key.contains("firebaseCredentials"));
    let settings = settings.chain([("gcm.projectId.game".to_owned(), "game".to_owned())]);
    let ours = settings.map(|(key, value)| (format!("PUSHER_{}", key.to_uppercase().replace('.', "_")), value));
    let theirs = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut worker = Worker::start("gcm", &ours.chain(theirs).collect::<Vec<_>>());
    worker.until("all accepted", Duration::from_mins(1), || ends.is_settled("game").then_some(()));
    assert_eq!(worker.stop().delivered, 200);
    let messages = ends.simulator.stats().messages;
    assert_eq!((messages.accepted, messages.repeated), (200, 0));
}

#[test]
fn the_file_that_the_environment_names() {
    let mut ends = Ends::<Simulator>::start(Faults::default());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("default.json");
    std::fs::write(&file, ends.simulator.credentials("game").expect("a project")).expect("the account's file");
    pushes_without_a_key(&mut ends, &[("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().expect("a path"))]);
    assert_eq!(ends.simulator.stats().oauth.requests, 1);
}

/// As on GKE: the metadata server gives the tokens, to whoever asks as Google prescribes.
#[test]
fn the_metadata_server() {
    let mut ends = Ends::<Simulator>::start(Faults::default());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let token = ends.simulator.access_token("game", now, 3_600).expect("a project");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime.block_on(metadata_server(token));
    pushes_without_a_key(&mut ends, &[("GCE_METADATA_HOST", &server.to_string()), ("HOME", "/nonexistent")]);
    assert_eq!(ends.simulator.stats().oauth.requests, 0, "no key, no assertion");
}

async fn metadata_server(token: String) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let give = move |request: Request| async move {
        let asked = request.headers().get("metadata-flavor").is_some_and(|flavor| flavor == "Google");
        let scope = "scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Ffirebase.messaging";
        if !asked || request.uri().query() != Some(scope) {
            return Response::builder().status(403).body("".into()).expect("a response");
        }
        let answer = json!({ "access_token": token, "expires_in": 3_599, "token_type": "Bearer" });
        ([("metadata-flavor", "Google")], answer.to_string()).into_response()
    };
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    tokio::spawn(async move { axum::serve(listener, Router::new().route(path, get(give))).await });
    address
}
