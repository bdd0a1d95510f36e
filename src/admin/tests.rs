use std::time::{Duration, Instant};

use serde_json::Value;

use super::ask::{Answer, ask};
use super::*;
use crate::pulse::Pulses;

/// A site that says what the test wants.
#[derive(Default)]
struct Told {
    silent: Vec<Silence>,
    reasons: Vec<Reason>,
}

impl Site for Told {
    fn standing_still(&self) -> Vec<Silence> {
        self.silent.clone()
    }
    fn not_ready(&self) -> Vec<Reason> {
        self.reasons.clone()
    }
    fn measure(&self, page: &mut Page) {
        page.gauge(&family::READY, &[], 0.0);
    }
    fn view(&self) -> View {
        View { program: "worker", ..View::default() }
    }
}

fn settings(listen: &str) -> Settings {
    Settings::from_config(&Config::from_pairs([("admin.listen", listen)])).unwrap()
}

fn start() -> Admin {
    Admin::start(&settings("127.0.0.1:0"), &tokio::runtime::Handle::current()).unwrap().expect("a server")
}

async fn get(admin: &Admin, path: &'static str) -> Answer {
    let address = admin.address().to_string();
    tokio::task::spawn_blocking(move || ask(&address, path)).await.unwrap().unwrap()
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn before_there_is_a_site_it_is_healthy_and_not_ready() {
    let admin = start();
    assert!(get(&admin, "/healthz").await.well);
    let ready = get(&admin, "/readyz").await;
    assert!(!ready.well);
    assert_eq!(json(&ready)["reasons"][0]["reason"], "starting");
    assert_eq!(get(&admin, "/metrics").await, Answer { well: true, body: String::new() });
}

#[tokio::test]
async fn answers_name_what_stands_still_and_why_nothing_can_be_sent() {
    let admin = start();
    let pulses = Pulses::default();
    let _poll = pulses.start("poll thread", Duration::from_mins(1));
    let silent = pulses.silent(Instant::now() + Duration::from_secs(90));
    admin.open(Arc::new(Told { silent, reasons: vec![Reason::new("feedback", "away")] }));
    admin.open(Arc::new(Told::default()));
    let (health, ready) = (get(&admin, "/healthz").await, get(&admin, "/readyz").await);
    assert!(!health.well && !ready.well, "the first site counts");
    assert_eq!(
        json(&health),
        json!({ "status": "standing still", "standing_still": [{ "name": "poll thread", "silent_s": 90.0, "limit_s": 60.0 }] })
    );
    assert_eq!(json(&ready), json!({ "status": "not ready", "reasons": [{ "reason": "feedback", "detail": "away" }] }));
    assert!(get(&admin, "/metrics").await.body.ends_with("pusher_ready 0.0"));
}

#[tokio::test]
async fn a_site_without_complaint_is_healthy_and_ready() {
    let admin = start();
    admin.open(Arc::new(Told::default()));
    for path in ["/healthz", "/readyz"] {
        assert!(get(&admin, path).await.well, "{path}");
    }
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_key_value_and_remedy() {
    let admin = start();
    let (address, runtime) = (admin.address().to_string(), tokio::runtime::Handle::current());
    let error = Admin::start(&settings(&address), &runtime).unwrap_err().to_string();
    assert_eq!(
        error.replace(&address, "ADDRESS"),
        r#"admin.listen: "ADDRESS" cannot be listened on (Address already in use (os error 98)): end who uses it, choose another port, or off"#
    );
    assert!(Admin::start(&settings("off"), &runtime).unwrap().is_none());
}

#[tokio::test]
async fn who_is_no_admin_server_is_recognised() {
    let admin = start();
    let address = admin.address().to_string();
    let other =
        tokio::task::spawn_blocking(move || ask(&address, "/elsewhere")).await.unwrap().unwrap_err().to_string();
    assert!(other.ends_with("answers /elsewhere with 404: it is another program's port"), "{other}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let nobody = tokio::task::spawn_blocking(move || ask(&free, "/healthz")).await.unwrap().unwrap_err().to_string();
    assert!(nobody.starts_with("no admin server at 127.0.0.1:"), "{nobody}");
    assert!(ask("nowhere", "/healthz").is_err());
}

#[test]
fn where_to_listen_is_an_address_or_nowhere() {
    let read =
        |text| Settings::from_config(&Config::from_pairs([("admin.listen", text)])).map(|settings| settings.listen);
    assert_eq!(Settings::from_config(&Config::default()).unwrap().listen.as_deref(), Some("127.0.0.1:8080"));
    assert_eq!((read(""), read(" Off "), read("[::1]:9 ")), (Ok(None), Ok(None), Ok(Some("[::1]:9".into()))));
    for wrong in ["8080", ":8080", "localhost", "localhost:http", "localhost:70000"] {
        insta::allow_duplicates! {
            let error = read(wrong).unwrap_err().to_string().replace(&format!("{wrong:?}"), "\"X\"");
            insta::assert_snapshot!(error, @r#"admin.listen: "X" must be host:port, for example 127.0.0.1:8080, or off"#);
        }
    }
}
