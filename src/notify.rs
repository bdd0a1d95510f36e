//! Tells the service manager (systemd, `Type=notify`) how the process stands: `sd_notify(3)`, which is one datagram.
//!
//! Without a manager that asks for it (`NOTIFY_SOCKET`) nothing is told.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It works from now on.
    Ready,
    /// Its end has begun.
    Stopping,
}

/// Tells it; a failure is logged and changes nothing.
pub fn tell(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, ?state, "the service manager could not be told");
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let text: &[u8] = match state {
        State::Ready => b"READY=1",
        State::Stopping => b"STOPPING=1",
    };
    UnixDatagram::unbound()?.send_to_addr(text, &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(socket: &UnixDatagram) -> String {
        let mut datagram = [0; 64];
        let length = socket.recv(&mut datagram).unwrap();
        String::from_utf8_lossy(&datagram[..length]).into_owned()
    }

    #[test]
    fn a_manager_is_told_at_a_path_and_by_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), State::Ready).unwrap();
        assert_eq!(told(&at_path), "READY=1");
        let name = format!("pusher-test-{}", uuid::Uuid::new_v4());
        let abstract_one = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), State::Stopping).unwrap();
        assert_eq!(told(&abstract_one), "STOPPING=1");
        assert!(send(OsStr::new("/nonexistent/notify"), State::Ready).is_err());
    }
}
