//! What a message would become, without sending it: the same reading and the same request as when it is sent.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Uri};

use crate::outcome::Outcome;

/// Stands for the credential, which is nobody's to see.
pub(super) const NOT_SHOWN: HeaderValue = HeaderValue::from_static("(not shown)");

/// What becomes of a message.
#[derive(Debug)]
pub enum Preview {
    /// This request is sent.
    Request(Box<Previewed>),
    /// Nothing is sent: it ends so.
    Ends(Outcome),
}

/// A request that would be sent.
pub struct Previewed {
    /// Where to.
    pub uri: Uri,
    /// With what, but for the credential.
    pub headers: HeaderMap,
    /// What.
    pub body: Bytes,
    /// The device's token, which address and body hold; `None` when it goes to no single device.
    pub device: Option<String>,
    /// When it stops being worth sending, ms since the epoch.
    pub expires_at_ms: Option<i64>,
}

impl Previewed {
    /// Of the request as it is built for sending.
    pub(super) fn of(
        request: http::Request<()>,
        body: Bytes,
        device: Option<&str>,
        expires_at_ms: Option<i64>,
    ) -> Preview {
        let (head, ()) = request.into_parts();
        let (uri, mut headers) = (head.uri, head.headers);
        // Whatever was put there.
        headers.insert(AUTHORIZATION, NOT_SHOWN);
        Preview::Request(Box::new(Previewed { uri, headers, body, device: device.map(Into::into), expires_at_ms }))
    }
}

impl std::fmt::Debug for Previewed {
    /// Address and body hold tokens and personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Previewed").field("body", &self.body.len()).finish_non_exhaustive()
    }
}
