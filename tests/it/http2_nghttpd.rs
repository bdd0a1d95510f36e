//! The transport against the server of nghttp2, which pads its frames, sends trailers, keeps small windows and small tables, and gives
//! back what it was sent.

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Request};
use pusher::http2::Pool;

use super::http2_foreign::Foreign;

/// Starts nghttpd in one of its manners; `None` when the machine has none.
async fn start(manner: &[&str]) -> Option<Foreign> {
    Foreign::start("nghttpd", |port, at| {
        let ours = ["-a", "127.0.0.1", "--echo-upload"].iter().chain(manner).map(ToString::to_string);
        ours.chain([port.to_string(), at("key.pem"), at("cert.pem")]).collect()
    })
    .await
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
        let pool = server.pool();
        let pool = &pool;
        let answers = (0..REQUESTS).map(|serial| async move { (serial, send(pool, serial).await) });
        let mut answers = futures_util::stream::iter(answers).buffer_unordered(100);
        while let Some((serial, answer)) = answers.next().await {
            assert!(answer == body(serial), "{manner:?}: {} bytes of request {serial}", answer.len());
        }
        assert_eq!((pool.stats().lost, pool.stats().timeouts, pool.stats().goaways), (0, 0, 0), "{manner:?}");
    }
}
