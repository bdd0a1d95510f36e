//! Round trip time at the byte layer: everything is late, in both directions, TLS handshake, SETTINGS and `WINDOW_UPDATE`
//! included, as on a long wire. One timer per chunk of bytes, none per request.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Chunks under way in one direction: more than any window granted here lets a peer send.
const UNDER_WAY: usize = 1024;

/// Puts half of `rtt` into each direction of a connection. Returns the near end and the pump, which ends with the
/// connection and must be polled meanwhile.
pub fn delayed(stream: TcpStream, rtt: Duration) -> (DuplexStream, impl Future<Output = ()> + Send) {
    let (near, far) = tokio::io::duplex(CHUNK);
    let pump = async move {
        let (from_peer, to_peer) = stream.into_split();
        let (from_near, to_near) = split(far);
        tokio::join!(carry(from_peer, to_near, rtt / 2), carry(from_near, to_peer, rtt / 2));
    };
    (near, pump)
}

async fn carry<R, W>(mut from: R, mut to: W, late: Duration)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(UNDER_WAY);
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        // An error reads as the end: the other side learns of it by the shutdown below.
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let chunk = Bytes::copy_from_slice(&buffer[..count]);
            if sender.send((Instant::now() + late, chunk)).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
