//! A push as an HTTP/2 request. On the path of every push: values that do not change are built once and cloned.

use http::header::{AUTHORIZATION, HeaderName};
use http::uri::{Authority, Parts, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

use super::message::Push;

const APNS_ID: HeaderName = HeaderName::from_static("apns-id");
const APNS_PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
const APNS_PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
const APNS_EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
const APNS_TOPIC: HeaderName = HeaderName::from_static("apns-topic");
const APNS_COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");

/// Where an app's pushes go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Host and port.
    pub(super) authority: Authority,
    /// `apns-topic` of a push that chooses none.
    pub(super) topic: HeaderValue,
}

/// The request of a push. The body is no part of it.
pub(super) fn build(push: &Push<'_>, target: &Target, authorization: HeaderValue) -> Request<()> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(APNS_TOPIC, push.topic.as_ref().unwrap_or(&target.topic).clone());
    headers.insert(APNS_PUSH_TYPE, push.kind.clone());
    headers.insert(APNS_ID, push.parts.apns_id.clone());
    if let Some(priority) = push.priority {
        headers.insert(APNS_PRIORITY, HeaderValue::from_static(priority));
    }
    if let Some(seconds) = push.expiration {
        headers.insert(APNS_EXPIRATION, unindexed(HeaderValue::from(seconds)));
    }
    if let Some(id) = &push.collapse_id {
        headers.insert(APNS_COLLAPSE_ID, unindexed(id.clone()));
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri(push, target);
    *request.headers_mut() = headers;
    request
}

fn uri(push: &Push<'_>, target: &Target) -> Uri {
    let mut parts = Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(target.authority.clone());
    parts.path_and_query = Some(push.parts.path.clone());
    Uri::from_parts(parts).expect("scheme, authority and path are all there, and each was checked when it was made")
}

/// A value that differs from push to push must not push the others out of the connection's header table: sensitive ones
/// are sent as never indexed.
fn unindexed(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
