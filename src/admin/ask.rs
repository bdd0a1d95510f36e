//! `pusher health` and `pusher status`: asks a running process, for images without a client of HTTP.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// Longest wait for each of connection, question and answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// More of an answer is not read: a status with thousands of partitions fits.
const LONGEST: u64 = 8 * 1024 * 1024;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether all is well.
    pub well: bool,
    /// What the process says: JSON in one line.
    pub body: String,
}

/// Why there is no answer: for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AskError(String);

/// Asks for `path` at `address` (`host:port`).
///
/// # Errors
/// Nobody listens there, or somebody else does.
pub fn ask(address: &str, path: &str) -> Result<Answer, AskError> {
    ask_with(address, path, None)
}

/// The same, with the token of the admin server.
///
/// # Errors
/// As [`ask`], and a token that is missing or wrong.
pub fn ask_with(address: &str, path: &str, token: Option<&str>) -> Result<Answer, AskError> {
    let answer = exchange(address, path, token)
        .map_err(|error| AskError(format!("no admin server at {address} (admin.listen says where it is): {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let well = match head.split(' ').nth(1) {
        Some("200") => true,
        Some("503") => false,
        Some("401" | "403") => return Err(AskError(format!("{address} refuses {path}: {}", body.trim()))),
        status => {
            let status = status.unwrap_or("no status");
            return Err(AskError(format!("{address} answers {path} with {status}: it is another program's port")));
        }
    };
    Ok(Answer { well, body: body.trim().to_owned() })
}

fn exchange(address: &str, path: &str, token: Option<&str>) -> io::Result<String> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let mut stream = TcpStream::connect_timeout(&address.to_socket_addrs()?.next().ok_or_else(unknown)?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n{token}connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    Ok(answer)
}
