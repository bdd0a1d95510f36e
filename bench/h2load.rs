//! A second floor, where it is installed: `h2load`, nghttp2's load generator, a client in C that other servers and clients are
//! measured with. It sends the first of the bodies only, and no `apns-id`: it can tell requests apart by their addresses alone.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::bare::{self, Plan};
use crate::neighbours;
use crate::usage::Usage;

/// Different addresses, in turn.
const DEVICES: u64 = 1000;
const PROGRAM: &str = "h2load";

/// Whether it is here.
pub(crate) fn is_installed() -> bool {
    Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Sends everything and returns what that cost, its start and its connections included, and how much was accepted: it begins with a
/// hundred streams, and a connection of APNs takes one before its first answer and refuses the others.
pub(crate) fn run(plan: &Plan, scratch: &Path) -> Result<(Usage, u64)> {
    let (body, addresses) = (scratch.join("h2load.body"), scratch.join("h2load.addresses"));
    std::fs::write(&body, plan.bodies.first().context("a body")?)?;
    let lines: Vec<_> = (0..DEVICES).map(|serial| bare::uri(plan, serial)).collect();
    std::fs::write(&addresses, lines.join("\n"))?;
    let mut command = neighbours::pinned(1, Path::new(PROGRAM));
    for (flag, number) in [("-n", plan.count), ("-c", plan.connections), ("-m", plan.streams)] {
        command.arg(flag).arg(number.to_string());
    }
    for (name, value) in &bare::headers(plan)? {
        command.arg("-H").arg(format!("{name}: {}", value.to_str()?));
    }
    command.arg("-d").arg(&body).arg("-i").arg(&addresses);
    let before = Usage::of_ended_children();
    let output = command.output().context("starting h2load")?;
    let used = Usage::of_ended_children() - before;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "h2load failed: {}", String::from_utf8_lossy(&output.stderr));
    let accepted = said.lines().find_map(|line| {
        let (count, _) = line.strip_prefix("status codes: ")?.split_once(" 2xx, 0 3xx, 0 4xx, 0 5xx")?;
        count.parse().ok()
    });
    let accepted: u64 = accepted.with_context(|| format!("h2load was refused something: {said}"))?;
    ensure!(accepted + plan.connections * 100 >= plan.count, "h2load had few answers: {said}");
    Ok((used, accepted))
}
