//! Opens a connection: TCP, TLS where it is asked for, the password, and the scripts, whose answer shows that the server is
//! fast enough to be asked.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::batch::Scripts;
use super::settings::Settings;

/// Longest wait for a connection. No push waits for it so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// What moves a connection's bytes while it is polled; ends when the connection is lost.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that has shown that it answers. Its database is 0.
pub(super) struct Connection {
    pub(super) handle: MultiplexedConnection,
    pub(super) driver: Driver,
    pub(super) scripts: Scripts,
}

/// Connects; an error is one line for the log, without secrets.
pub(super) async fn open(settings: &Settings) -> Result<Connection, String> {
    let (handle, mut driver) = match timeout(PATIENCE, dial(settings)).await {
        Ok(dialled) => dialled?,
        Err(_) => return Err(format!("no connection within {PATIENCE:?}")),
    };
    let loaded = tokio::select! {
        biased;
        () = &mut driver => Err("the connection was closed".to_owned()),
        loaded = timeout(settings.timeout, load(handle.clone())) => {
            loaded.unwrap_or_else(|_| Err(format!("it needs more than {:?} for an answer", settings.timeout)))
        }
    };
    Ok(Connection { scripts: loaded?, handle, driver })
}

async fn dial(settings: &Settings) -> Result<(MultiplexedConnection, Driver), String> {
    let tcp = TcpStream::connect((settings.host.as_str(), settings.port)).await.map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    match &settings.tls {
        None => greet(tcp, settings).await,
        Some((trust, name)) => {
            let tls = TlsConnector::from(trust.current()).connect(name.clone(), tcp).await;
            greet(tls.map_err(|error| format!("TLS: {error}"))?, settings).await
        }
    }
}

/// Gives the password.
async fn greet<S>(stream: S, settings: &Settings) -> Result<(MultiplexedConnection, Driver), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    let info = match &settings.password {
        Some(password) => info.set_password(password),
        None => info,
    };
    // Calls have limits of their own, batch by batch.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let (handle, driver) =
        MultiplexedConnection::new_with_config(&info, stream, config).await.map_err(|error| describe(&error))?;
    Ok((handle, Box::pin(driver)))
}

async fn load(mut handle: MultiplexedConnection) -> Result<Scripts, String> {
    let pipeline = Scripts::load();
    let values = handle.send_packed_commands(&pipeline, 0, pipeline.len()).await.map_err(|error| describe(&error))?;
    let names = values.into_iter().map(|value| match value {
        Value::BulkString(name) => Ok(name),
        Value::ServerError(error) => Err(format!("it refuses scripts: {}", error.code())),
        _ => Err("it is no Redis: SCRIPT LOAD has no name for an answer".to_owned()),
    });
    Scripts::loaded(&names.collect::<Result<Vec<_>, _>>()?)
}

/// An error in one line, without what was sent.
pub(super) fn describe(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        None => error.to_string(),
    }
}
