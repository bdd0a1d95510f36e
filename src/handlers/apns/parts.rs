//! What differs from push to push in a request, in one piece of memory: path, `apns-id` and a body that was put together.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderValue;
use http::uri::PathAndQuery;
use uuid::Uuid;

use super::merge::Merged;

const DEVICE: &str = "/3/device/";

/// A body before it is bytes of its own.
pub(super) enum Body<'a> {
    /// These bytes of the record.
    AsItCame(&'a [u8]),
    /// The payload with metadata in it.
    Merged(Merged<'a>),
}

impl Body<'_> {
    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Body::AsItCame(bytes) => bytes.len(),
            Body::Merged(merged) => merged.len(),
        }
    }
}

/// Path, `apns-id` and body.
pub(super) struct Parts {
    /// `/3/device/<token>`.
    pub(super) path: PathAndQuery,
    /// `apns-id`. Differs from push to push, and must not push other values out of the connection's header table: sent as never
    /// indexed.
    pub(super) apns_id: HeaderValue,
    /// The body as it goes out.
    pub(super) body: Bytes,
}

impl Parts {
    /// For this token; `None` when it cannot stand in a path. `record` is what the body is a part of.
    pub(super) fn new(token: &str, id: Uuid, body: Body<'_>, record: &Bytes) -> Option<Parts> {
        let mut buffer = Uuid::encode_buffer();
        let id = id.hyphenated().encode_lower(&mut buffer);
        let merged = if let Body::Merged(merged) = &body { merged.len() } else { 0 };
        let mut memory = BytesMut::with_capacity(DEVICE.len() + token.len() + id.len() + merged);
        memory.put_slice(DEVICE.as_bytes());
        memory.put_slice(token.as_bytes());
        let path = PathAndQuery::from_maybe_shared(memory.split().freeze()).ok()?;
        memory.put_slice(id.as_bytes());
        let mut apns_id = HeaderValue::from_maybe_shared(memory.split().freeze()).ok()?;
        apns_id.set_sensitive(true);
        let body = match body {
            Body::AsItCame(own) => record.slice_ref(own),
            Body::Merged(merged) => {
                merged.parts().into_iter().for_each(|part| memory.put_slice(part));
                memory.freeze()
            }
        };
        Some(Parts { path, apns_id, body })
    }
}
