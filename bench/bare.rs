//! The floor: a client that does nothing but send the same requests with the bare `h2` crate. No Kafka, no parsing, no
//! outcome, no accounting; one runtime, one task per stream, headers cloned from prepared values.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
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
    /// What the requests look like.
    pub form: Form,
    /// Their bodies, in turn.
    pub bodies: Vec<String>,
    /// Requests in all.
    pub count: u64,
    /// Connections.
    pub connections: u64,
    /// Streams at once on each of them.
    pub streams: u64,
}

/// The requests of a platform, but for their bodies.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) enum Form {
    /// Each has a path and an identity of its own.
    Apns {
        /// `authorization` header.
        authorization: String,
        /// `apns-topic` header.
        topic: String,
    },
    /// All have the same head.
    Fcm {
        /// The path.
        path: String,
        /// Where the access token is given, `127.0.0.1:port`.
        tokens: String,
        /// What is sent there.
        grant: String,
    },
}

/// The headers that all requests of `plan` have, for another client to send.
pub(crate) fn headers(plan: &Plan) -> Result<HeaderMap> {
    let tls = pusher::http2::tls::client_config(Some(&plan.ca)).context("reading the CA")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let head = tokio::task::LocalSet::new().block_on(&runtime, Head::new(plan, &tls))?;
    Ok(head.headers)
}

/// Where the request of this number goes.
pub(crate) fn uri(plan: &Plan, serial: u64) -> String {
    match &plan.form {
        Form::Apns { .. } => {
            format!("https://{}/3/device/{:064x}", plan.address, u128::from(serial) | 0xab << 100)
        }
        Form::Fcm { path, .. } => format!("https://{}{path}", plan.address),
    }
}

/// Sends everything and returns what that cost this process, connections and the first request of each not included.
pub(crate) fn run(plan: Plan) -> Result<Usage> {
    // Without one, `h2` formats its spans for the `log` crate, which costs as much as a tenth of the rest.
    tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, send_all(plan))
}

async fn send_all(plan: Plan) -> Result<Usage> {
    let tls = pusher::http2::tls::client_config(Some(&plan.ca)).context("reading the CA")?;
    let head = Rc::new(Head::new(&plan, &tls).await?);
    let bodies: Rc<[Bytes]> = plan.bodies.iter().map(|body| Bytes::from(body.clone())).collect();
    let first = bodies.first().context("a body")?.clone();
    let mut clients = Vec::new();
    for _ in 0..plan.connections {
        let client = connect(&plan.address, tls.clone()).await?;
        // The first answer proves the credential and lifts the limit of one stream.
        clients.push(post(client, head.request(u64::MAX)?, first.clone()).await?.0);
    }
    let before = Usage::of_self();
    let next = Rc::new(Cell::new(0u64));
    let mut slots = JoinSet::new();
    for client in clients.iter().flat_map(|client| (0..plan.streams).map(|_| client.clone())) {
        slots.spawn_local(fill(client, head.clone(), bodies.clone(), next.clone(), plan.count));
    }
    while let Some(done) = slots.join_next().await {
        done??;
    }
    Ok(Usage::of_self() - before)
}

async fn connect(address: &str, tls: Arc<rustls::ClientConfig>) -> Result<SendRequest<Bytes>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let tls = tokio_rustls::TlsConnector::from(tls).connect(ServerName::try_from(host.to_owned())?, tcp).await?;
    let (client, connection) = h2::client::Builder::new().initial_max_send_streams(1).handshake(tls).await?;
    tokio::task::spawn_local(connection);
    Ok(client)
}

/// One slot: a request after the other until all are sent.
async fn fill(
    mut client: SendRequest<Bytes>,
    head: Rc<Head>,
    bodies: Rc<[Bytes]>,
    next: Rc<Cell<u64>>,
    count: u64,
) -> Result<()> {
    loop {
        let serial = next.get();
        if serial >= count {
            return Ok(());
        }
        next.set(serial + 1);
        let body = bodies[serial as usize % bodies.len()].clone();
        client = post(client, head.request(serial)?, body).await?.0;
    }
}

/// What the requests have in common, prepared.
struct Head {
    plan: Plan,
    headers: HeaderMap,
    /// The address of all of them; `None`: each has its own.
    uri: Option<Uri>,
}

impl Head {
    async fn new(plan: &Plan, tls: &Arc<rustls::ClientConfig>) -> Result<Head> {
        let mut headers = HeaderMap::new();
        let one = match &plan.form {
            Form::Apns { authorization, topic } => {
                headers.insert(AUTHORIZATION, authorization.parse()?);
                headers.insert("apns-topic", topic.parse()?);
                headers.insert("apns-push-type", HeaderValue::from_static("alert"));
                None
            }
            Form::Fcm { tokens, grant, .. } => {
                let token = access_token(tokens, grant, tls).await?;
                headers.insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Some(uri(plan, 0).parse()?)
            }
        };
        Ok(Head { plan: plan.clone(), headers, uri: one })
    }

    /// One request as the worker sends it.
    fn request(&self, serial: u64) -> Result<Request<()>> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.headers_mut() = self.headers.clone();
        if let Some(uri) = &self.uri {
            *request.uri_mut() = uri.clone();
            return Ok(request);
        }
        *request.uri_mut() = uri(&self.plan, serial).parse()?;
        let id = uuid::Uuid::from_u128(u128::from(serial) | 1 << 100).hyphenated().to_string();
        request.headers_mut().insert("apns-id", HeaderValue::from_str(&id)?);
        Ok(request)
    }
}

async fn access_token(address: &str, grant: &str, tls: &Arc<rustls::ClientConfig>) -> Result<String> {
    let mut request = Request::post(format!("https://{address}/token")).body(())?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let (_, answer) = post(connect(address, tls.clone()).await?, request, Bytes::from(grant.to_owned())).await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    Ok(answer["access_token"].as_str().context("no access token in the answer")?.to_owned())
}

/// One request and its whole answer.
async fn post(client: SendRequest<Bytes>, request: Request<()>, body: Bytes) -> Result<(SendRequest<Bytes>, Bytes)> {
    let mut client = client.ready().await?;
    let (answer, mut stream) = client.send_request(request, false)?;
    stream.send_data(body, true)?;
    let answer = answer.await?;
    ensure!(answer.status() == 200, "the server answered {}", answer.status());
    let (mut rest, mut whole) = (answer.into_body(), BytesMut::new());
    while let Some(chunk) = rest.data().await {
        let chunk = chunk?;
        rest.flow_control().release_capacity(chunk.len())?;
        whole.extend_from_slice(&chunk);
    }
    Ok((client, whole.freeze()))
}
