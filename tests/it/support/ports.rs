//! Free ports.

use std::collections::BTreeSet;
use std::net::TcpListener;

use parking_lot::Mutex;

/// A TCP port on 127.0.0.1 that nobody listens on and that this run has not handed out before. It is taken below Linux's
/// ephemeral range (32768 and up), so that no outgoing connection occupies it between now and the server's start.
pub(crate) fn free() -> u16 {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock();
    for _ in 0..1000 {
        let port = fastrand::u16(15_000..32_000);
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.insert(port);
            return port;
        }
    }
    panic!("no free port between 15000 and 32000");
}
