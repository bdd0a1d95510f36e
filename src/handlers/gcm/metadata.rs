//! The metadata server of Google's machines (GKE, Cloud Run, Compute Engine): access tokens without any key.
//!
//! Plain HTTP/1.1 on a link-local address, which our transport does not speak; `hyper` does, one connection per question, for
//! there is one in an hour. Source: Google, About VM metadata.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::credentials::{SCOPE, percent_encode};
use super::token::{FetchError, Fetched, Source};
use super::token_endpoint::given;
use crate::handlers::BoxFuture;

/// Longest wait for an answer: it is a hop away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read, bytes.
const LONGEST_ANSWER: usize = 64 * 1024;
/// The header that both sides must send, so that neither a page's script nor another server is mistaken for them.
const FLAVOR: (&str, &str) = ("metadata-flavor", "Google");

/// The metadata server at a host.
pub(super) struct MetadataServer {
    host: String,
}

impl MetadataServer {
    /// At `host` or `host:port`.
    pub(super) fn new(host: &str) -> Self {
        let named = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        MetadataServer { host: named }
    }

    async fn ask(&self) -> Result<Fetched, FetchError> {
        let failed = |what: String| FetchError::endpoint(format!("the metadata server at {} {what}", self.host));
        let answer = timeout(PATIENCE, self.exchange()).await.map_err(|_| failed("does not answer".into()))?;
        let answer = answer.map_err(|error| failed(format!("failed: {error}")))?;
        let (status, flavored, body) = answer;
        match status {
            _ if !flavored => Err(failed("is not one of Google's (no Metadata-Flavor)".into())),
            StatusCode::OK => given(&body).ok_or_else(|| failed("answers without an access token".into())),
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => {
                let what = "has no service account for this machine: attach one, or set gcm.firebaseCredentialsFile";
                Err(FetchError::credentials(failed(what.into()).detail))
            }
            other => Err(failed(format!("answers with status {}", other.as_u16()))),
        }
    }

    /// Status, whether it is Google's, and body of the answer.
    async fn exchange(&self) -> Result<(StatusCode, bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(&self.host).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let path = "/computeMetadata/v1/instance/service-accounts/default/token";
        let request = Request::get(format!("{path}?scopes={}", percent_encode(SCOPE)))
            .header("host", &self.host)
            .header(FLAVOR.0, FLAVOR.1)
            .body(Empty::<Bytes>::new())?;
        let answer = async move {
            let answer = sender.send_request(request).await?;
            let flavored = answer.headers().get(FLAVOR.0).is_some_and(|value| value == FLAVOR.1);
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await?.to_bytes();
            Ok((status, flavored, body))
        };
        // The connection ends when its sender does; how is of no interest once the answer is there.
        let (answer, _) = futures_util::future::join(answer, connection).await;
        answer
    }
}

impl Source for MetadataServer {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, FetchError>> {
        Box::pin(self.ask())
    }
}
