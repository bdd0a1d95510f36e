//! The control endpoint: plain HTTP/1.1 and JSON on a port of its own. Provider-blind; each provider adds its routes.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use tokio_util::sync::CancellationToken;

/// Binds the endpoint's address (port 0: any free one).
pub fn bind(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address} for the control endpoint: {error}"))
    })?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until stopped.
pub async fn serve(listener: std::net::TcpListener, routes: Router, stop: CancellationToken) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    tokio::select! {
        () = stop.cancelled() => {}
        served = axum::serve(listener, routes) => {
            if let Err(error) = served {
                tracing::warn!(%error, "simulator: the control endpoint ended");
            }
        }
    }
}
