//! The transport against a foreign HTTP/2 server: nginx, which answers before it has read a body, and says GOAWAY after
//! `keepalive_requests`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request};
use pusher::http2::Fate;

use super::http2_foreign::Foreign;

/// Starts nginx; `None` when the machine has none.
async fn start(keepalive_requests: u32) -> Option<Foreign> {
    Foreign::start("nginx", |port, at| {
        let config = format!(
            "daemon off; master_process off; pid {pid}; error_log {errors};
             events {{ worker_connections 256; }}
             http {{
               log_format serial '$http_apns_id $status $request_length';
               access_log {access} serial;
               client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp}; uwsgi_temp_path {tmp};
               scgi_temp_path {tmp};
               keepalive_requests {keepalive_requests}; http2_max_concurrent_streams 128;
               server {{
                 listen 127.0.0.1:{port} ssl http2;
                 ssl_certificate {cert}; ssl_certificate_key {key};
                 location /3/device/ {{ return 200; }}
                 location / {{ return 404 '{{\"reason\":\"BadPath\"}}'; }}
               }}
             }}",
            pid = at("pid"),
            errors = at("error.log"),
            access = at("access.log"),
            tmp = at("tmp"),
            cert = at("cert.pem"),
            key = at("key.pem"),
        );
        std::fs::write(at("nginx.conf"), config).unwrap();
        ["-e", &at("error.log"), "-p", &at(""), "-c", &at("nginx.conf")].map(str::to_owned).into()
    })
    .await
}

fn served(log: &str) -> HashMap<String, usize> {
    let mut served = HashMap::new();
    for line in log.lines() {
        let mut words = line.split(' ');
        let (serial, status) = (words.next().unwrap(), words.next().unwrap());
        assert_eq!(status, "200", "{line}");
        *served.entry(serial.to_owned()).or_default() += 1;
    }
    served
}

#[tokio::test]
async fn nginx_takes_everything_exactly_once_across_its_goaways() {
    const REQUESTS: usize = 3000;
    let Some(nginx) = start(200).await else {
        eprintln!("SKIPPED: there is no nginx here; install it (apt-get install nginx-light) to test against it");
        return;
    };
    let pool = nginx.pool();
    let pushes = (0..REQUESTS).map(|serial| {
        let pool = pool.clone();
        async move {
            for _ in 0..20 {
                let mut id = HeaderValue::from_str(&format!("{serial:08}")).unwrap();
                id.set_sensitive(true);
                let request = Request::post(format!("https://localhost/3/device/{serial:064x}"))
                    .header("apns-id", id)
                    .header("authorization", "bearer x")
                    .body(())
                    .unwrap();
                let slot = match pool.acquire().await {
                    Ok(slot) => slot,
                    Err(error) => panic!("{error}"),
                };
                match slot.send(request, Bytes::from(vec![b'x'; 300])).await {
                    Ok(answer) => return assert_eq!(answer.status, 200),
                    Err(error) if error.fate == Fate::NotProcessed => {}
                    Err(error) => panic!("{error}"),
                }
            }
            panic!("never taken");
        }
    });
    futures_util::future::join_all(pushes).await;
    pool.close();
    pool.ended().await;
    assert!(pool.stats().handshakes >= (REQUESTS / 200) as u64, "{:?}", pool.stats());
    let begun = Instant::now();
    while served(&nginx.read("access.log")).len() < REQUESTS && begun.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let served = served(&nginx.read("access.log"));
    assert_eq!(served.len(), REQUESTS);
    assert!(served.values().all(|times| *times == 1), "a request was sent twice");
}

#[tokio::test]
async fn nginx_error_bodies_arrive() {
    let Some(nginx) = start(1000).await else {
        eprintln!("SKIPPED: there is no nginx here; install it (apt-get install nginx-light) to test against it");
        return;
    };
    let pool = nginx.pool();
    let request = Request::post("https://localhost/4/elsewhere").body(()).unwrap();
    let answer = pool.acquire().await.unwrap().send(request, Bytes::from(vec![b'x'; 4096])).await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(&answer.body[..], br#"{"reason":"BadPath"}"#);
}
