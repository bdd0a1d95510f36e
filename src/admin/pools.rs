//! Connections on the page.

use super::{Page, family};
use crate::http2::Stats;

/// Writes the pools of one credential, summed; `pool` is its name.
pub fn write(page: &mut Page, platform: &str, pool: &str, pools: &[Stats]) {
    let sum = |of: fn(&Stats) -> u64| pools.iter().map(of).sum::<u64>();
    let connections = [
        ("open", sum(|stats| stats.connections as u64)),
        ("draining", sum(|stats| stats.draining as u64)),
        ("connecting", sum(|stats| stats.connecting as u64)),
    ];
    for (state, n) in connections {
        page.gauge(&family::CONNECTIONS, &[platform, pool, state], n as f64);
    }
    let labels = [platform, pool];
    page.gauge(&family::STREAMS, &labels, sum(|stats| stats.in_flight as u64) as f64);
    page.gauge(&family::STREAM_WAITERS, &labels, sum(|stats| stats.waiting as u64) as f64);
    page.count(&family::HANDSHAKES, &labels, sum(|stats| stats.handshakes));
    page.count(&family::CONNECT_FAILURES, &labels, sum(|stats| stats.connect_failures));
    page.count(&family::GOAWAYS, &labels, sum(|stats| stats.goaways));
    page.count(&family::WINDOW_STALLS, &labels, sum(|stats| stats.window_stalls));
    page.count(&family::TIMEOUTS, &labels, sum(|stats| stats.timeouts));
    page.count(&family::CONNECTIONS_LOST, &labels, sum(|stats| stats.lost));
}
