//! The way into a [`super::Connection`]: a request becomes an [`Arrival`] when its body is there.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;

/// A request whose body has come; an error means that the stream was reset.
pub(super) struct Arrival {
    pub(super) request: Parts,
    pub(super) body: Result<BytesMut, ()>,
    pub(super) respond: SendResponse<Bytes>,
}

/// Reads the body of a request until its end or until `most` bytes. Most bodies are there already; others are awaited.
pub(super) fn read(
    cx: &mut Context<'_>,
    request: Parts,
    mut body: RecvStream,
    respond: SendResponse<Bytes>,
    most: usize,
) -> Result<Arrival, BoxFuture<'static, Arrival>> {
    let mut read = BytesMut::new();
    match poll_body(cx, &mut body, &mut read, most) {
        Poll::Ready(ended) => Ok(Arrival { request, body: ended.map(|()| read), respond }),
        Poll::Pending => Err(Box::pin(async move {
            let ended = std::future::poll_fn(|cx| poll_body(cx, &mut body, &mut read, most)).await;
            Arrival { request, body: ended.map(|()| read), respond }
        })),
    }
}

fn poll_body(cx: &mut Context<'_>, body: &mut RecvStream, read: &mut BytesMut, most: usize) -> Poll<Result<(), ()>> {
    while read.len() <= most {
        match ready!(body.poll_data(cx)) {
            None => return Poll::Ready(Ok(())),
            Some(Err(_)) => return Poll::Ready(Err(())),
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                read.extend_from_slice(&data);
            }
        }
    }
    Poll::Ready(Ok(()))
}
