//! A push as an HTTP/2 request. On the path of every push: values that do not change are built once and cloned.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

/// Where an app's pushes go.
#[derive(Clone, Debug)]
pub(super) struct Target(Uri);

impl Target {
    /// `messages:send` of a project. The project's id was checked to stand in a path.
    pub(super) fn new(authority: &Authority, project: &str) -> Self {
        let path = PathAndQuery::try_from(format!("/v1/projects/{project}/messages:send"))
            .expect("a project's id was checked to hold nothing that a path may not");
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(authority.clone()).path_and_query(path).build();
        Target(uri.expect("scheme, authority and path are all there, each checked when it was made"))
    }
}

/// The request of a push. The body is no part of it.
pub(super) fn build(target: &Target, authorization: HeaderValue) -> Request<()> {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.0.clone();
    *request.headers_mut() = headers;
    request
}
