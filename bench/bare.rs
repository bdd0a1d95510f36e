//! The floor: a client that does nothing but send the same requests with the bare `h2` crate. No Kafka, no parsing, no
//! outcome, no accounting; one runtime, one task per stream, headers cloned from prepared values.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::usage::Usage;

/// What the floor is measured with.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Plan {
    /// `127.0.0.1:port` of the server.
    pub address: String,
    /// The CA that it is signed by, PEM.
    pub ca: std::path::PathBuf,
    /// `authorization` header.
    pub authorization: String,
    /// `apns-topic` header.
    pub topic: String,
    /// The body of every request.
    pub body: String,
    /// Requests in all.
    pub count: u64,
    /// Streams at once, over all connections.
    pub streams: u64,
    /// Connections.
    pub connections: u64,
}

/// Sends everything and returns what that cost this process, connections and the first request of each not included.
pub(crate) fn run(plan: Plan) -> Result<Usage> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, send_all(plan))
}

async fn send_all(plan: Plan) -> Result<Usage> {
    let plan = Rc::new(plan);
    let tls = pusher::http2::tls::client_config(Some(&plan.ca)).context("reading the CA")?;
    let mut clients = Vec::new();
    for _ in 0..plan.connections {
        let client = connect(&plan, tls.clone()).await?;
        // The first answer proves the credential and lifts the limit of one stream.
        clients.push(post(client, &Headers::new(&plan)?, u64::MAX, Bytes::from(plan.body.clone())).await?);
    }
    let before = Usage::of_self();
    let next = Rc::new(Cell::new(0u64));
    let mut slots = JoinSet::new();
    for slot in 0..plan.streams {
        let client = clients[(slot % plan.connections) as usize].clone();
        slots.spawn_local(fill(client, plan.clone(), next.clone()));
    }
    while let Some(done) = slots.join_next().await {
        done??;
    }
    Ok(Usage::of_self() - before)
}

async fn connect(plan: &Plan, tls: Arc<rustls::ClientConfig>) -> Result<h2::client::SendRequest<Bytes>> {
    let tcp = TcpStream::connect(&plan.address).await?;
    tcp.set_nodelay(true)?;
    let host = plan.address.rsplit_once(':').map_or(plan.address.as_str(), |(host, _)| host);
    let tls = tokio_rustls::TlsConnector::from(tls).connect(ServerName::try_from(host.to_owned())?, tcp).await?;
    let (client, connection) = h2::client::Builder::new().initial_max_send_streams(1).handshake(tls).await?;
    tokio::task::spawn_local(connection);
    Ok(client)
}

/// One slot: a request after the other until all are sent.
async fn fill(mut client: h2::client::SendRequest<Bytes>, plan: Rc<Plan>, next: Rc<Cell<u64>>) -> Result<()> {
    let (headers, body) = (Headers::new(&plan)?, Bytes::from(plan.body.clone()));
    loop {
        let serial = next.get();
        if serial >= plan.count {
            return Ok(());
        }
        next.set(serial + 1);
        client = post(client, &headers, serial, body.clone()).await?;
    }
}

struct Headers {
    authorization: HeaderValue,
    topic: HeaderValue,
    authority: String,
}

impl Headers {
    fn new(plan: &Plan) -> Result<Self> {
        let authority = plan.address.clone();
        Ok(Headers { authorization: plan.authorization.parse()?, topic: plan.topic.parse()?, authority })
    }
}

/// One request as the worker sends it: its own path and identity, the shared headers.
async fn post(
    client: h2::client::SendRequest<Bytes>,
    headers: &Headers,
    serial: u64,
    body: Bytes,
) -> Result<h2::client::SendRequest<Bytes>> {
    let id = uuid::Uuid::from_u128(u128::from(serial) | 1 << 100).hyphenated().to_string();
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("https://{}/3/device/{:064x}", headers.authority, u128::from(serial) | 0xab << 100))
        .body(())?;
    let map = request.headers_mut();
    map.insert("authorization", headers.authorization.clone());
    map.insert("apns-topic", headers.topic.clone());
    map.insert("apns-push-type", HeaderValue::from_static("alert"));
    map.insert("apns-id", HeaderValue::from_str(&id)?);
    let mut client = client.ready().await?;
    let (answer, mut stream) = client.send_request(request, false)?;
    stream.send_data(body, true)?;
    let answer = answer.await?;
    ensure!(answer.status() == 200, "the server answered {}", answer.status());
    let mut rest = answer.into_body();
    while let Some(chunk) = rest.data().await {
        rest.flow_control().release_capacity(chunk?.len())?;
    }
    Ok(client)
}
