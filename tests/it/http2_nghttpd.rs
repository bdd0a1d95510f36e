//! The transport against the server of nghttp2, which pads its frames, sends trailers, keeps small windows and small tables, and gives
//! back what it was sent.

use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Request};
use pusher::http2::{Pool, PoolSettings, tls};

struct Nghttpd {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Nghttpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts nghttpd in one of its manners; `None` when the machine has none.
async fn start(manner: &[&str]) -> Option<Nghttpd> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(at("cert.pem"), key.cert.pem()).unwrap();
    std::fs::write(at("key.pem"), key.signing_key.serialize_pem()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let spawned = Command::new("nghttpd")
        .args(["-a", "127.0.0.1", "--echo-upload"])
        .args(manner)
        .args([port.to_string(), at("key.pem"), at("cert.pem")])
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => panic!("cannot start nghttpd: {error}"),
    };
    let server = Nghttpd { child, port, dir };
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nghttpd {manner:?} does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some(server)
}

fn body(serial: usize) -> Bytes {
    // From nothing to several frames, and not the same bytes at the same places.
    let len = [0, 1, 300, 4096, 16_384, 16_385, 60_000][serial % 7];
    (0..len).map(|at| (at * 31 + serial) as u8).collect()
}

async fn send(pool: &Pool, serial: usize) -> Bytes {
    let mut id = HeaderValue::from_str(&format!("{serial:08}")).unwrap();
    id.set_sensitive(true);
    let request = Request::post(format!("https://localhost/3/device/{serial:064x}"))
        .header("apns-id", id)
        .header("apns-topic", format!("topic-{}", serial % 50))
        .header("authorization", format!("bearer {}", "x".repeat(serial % 900)))
        .body(())
        .unwrap();
    let answer = pool.acquire().await.unwrap().send(request, body(serial)).await.unwrap();
    assert_eq!(answer.status, 200);
    answer.body
}

#[tokio::test]
async fn nghttpd_gives_back_what_it_was_sent_in_all_its_manners() {
    const REQUESTS: usize = 500;
    let manners: &[&[&str]] = &[
        &[],
        &["--padding=255", "--max-concurrent-streams=7"],
        &["--window-bits=9", "--connection-window-bits=17", "--trailer=grpc-status: 0"],
        &["--header-table-size=0", "--encoder-header-table-size=0", "--no-content-length"],
        &["--header-table-size=200", "--early-response", "--padding=32"],
    ];
    for manner in manners {
        let Some(server) = start(manner).await else {
            eprintln!(
                "SKIPPED: there is no nghttpd here; install it (apt-get install nghttp2-server) to test against it"
            );
            return;
        };
        let settings = PoolSettings { max_connections: 3, ..PoolSettings::new("localhost", server.port) };
        let pool = Pool::new(settings, tls::client_config(Some(&server.dir.path().join("cert.pem"))).unwrap());
        let pool = &pool;
        let answers = (0..REQUESTS).map(|serial| async move { (serial, send(pool, serial).await) });
        let mut answers = futures_util::stream::iter(answers).buffer_unordered(100);
        while let Some((serial, answer)) = answers.next().await {
            assert!(answer == body(serial), "{manner:?}: {} bytes of request {serial}", answer.len());
        }
        assert_eq!((pool.stats().lost, pool.stats().timeouts, pool.stats().goaways), (0, 0, 0), "{manner:?}");
    }
}
