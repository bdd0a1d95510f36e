//! Reads what callgrind writes: instructions and system calls by the part of the program that they belong to.
//!
//! A cost line belongs to a function and to the file that its instruction was written in, which differ where code was
//! inlined. The file tells more, so it is asked first; the standard library's belongs to whose function it was inlined into.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, ensure};

/// What a part cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Instructions.
    pub instructions: u64,
    /// System calls.
    pub calls: u64,
}

/// Costs by part, and by function within it.
pub(crate) type Costs = BTreeMap<(&'static str, String), Cost>;

/// Part → what is in the names of its functions, in C and in assembler, where no file is known.
const BY_FUNCTION: &[(&str, &[&str])] = &[
    (
        "allocator",
        &[
            "malloc",
            "calloc",
            "realloc",
            "free",
            "unlink_chunk",
            "memalign",
            "__rust_alloc",
            "__rdl_",
            "tcache",
            "_rjem_",
        ],
    ),
    ("copying and comparing", &["memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen", "memchr"]),
    ("librdkafka", &["rd_", "rdk:", "LZ4", "XXH", "ZSTD", "crc32c", "inflate", "deflate", "thrd_", "mtx_", "cnd_"]),
    ("TLS", &["aws_lc", "gcm_", "aes_", "AES_", "sha256", "sha512", "ghash"]),
    (
        "system calls and locks of libc",
        &["pthread", "epoll", "send", "recv", "read", "write", "poll", "futex", "clock_", "vdso", "syscall"],
    ),
];

/// Part → what is in the path of a source file, or in the path of a Rust function.
const BY_PATH: &[(&str, &[&str], &[&str])] = &[
    ("parsing, request, answer", &["src/handlers/"], &["pusher::handlers"]),
    ("our transport", &["src/http2/"], &["pusher::http2"]),
    ("queue and ledger", &["src/queue/"], &["pusher::queue"]),
    ("statistics, feedback", &["src/reporters/", "/cadence-"], &["pusher::reporters", "cadence::"]),
    (
        "delivery",
        &[
            "src/delivery",
            "src/desk",
            "src/gate",
            "src/circuit",
            "src/sender",
            "src/dispatch",
            "src/spread",
            "src/tally",
            "src/outcome",
            "src/message",
            "src/worker",
            "/hdrhistogram-",
        ],
        &["pusher::", "hdrhistogram"],
    ),
    ("bare client", &["bench/"], &["push::bare"]),
    (
        "JSON",
        &["/serde_json-", "/serde-", "/serde_core-", "/itoa-", "/ryu-", "/zmij-"],
        &["serde_json::", "serde::", "serde_core::"],
    ),
    ("UUIDs", &["/uuid-", "/sha1_smol-"], &["uuid::", "sha1_smol"]),
    ("h2", &["/h2-", "/fnv-", "/slab-"], &["h2::"]),
    ("http", &["/http-"], &["http::"]),
    ("bytes", &["/bytes-"], &["bytes::"]),
    ("TLS", &["/rustls-", "/aws-lc-", "/tokio-rustls-"], &["tokio_rustls::", "rustls::", "aws_lc_rs"]),
    ("librdkafka", &["/rdkafka-", "librdkafka", "/rdkafka-sys-"], &["rdkafka"]),
    (
        "tokio",
        &["/tokio-", "/tokio-util-", "/mio-", "/futures-", "/parking_lot", "/socket2-"],
        &["tokio::", "tokio_util::", "mio::", "futures_", "parking_lot"],
    ),
    ("tracing", &["/tracing"], &["tracing"]),
];

fn part(file: &str, function: &str) -> &'static str {
    let named = |names: &[&str], text: &str| names.iter().any(|name| text.contains(name));
    let is_rust = function.contains("::");
    if !is_rust && let Some((part, _)) = BY_FUNCTION.iter().find(|(_, names)| named(names, function)) {
        return part;
    }
    if let Some((part, ..)) = BY_PATH.iter().find(|(_, files, _)| named(files, file)) {
        return part;
    }
    // The function's own crate stands first in its path.
    let first = |names: &[&str]| names.iter().filter_map(|name| function.find(name)).min();
    let owners = BY_PATH.iter().filter_map(|(part, _, crates)| Some((first(crates)?, *part)));
    owners.min_by_key(|(at, _)| *at).map_or("other", |(_, part)| part)
}

/// Names are given once and then by number.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn resolve(&mut self, text: &str) -> String {
        let Some((id, name)) = text.split_once(')') else { return text.to_owned() };
        let name = name.trim_start();
        if !name.is_empty() {
            self.0.insert(id.to_owned(), name.to_owned());
        }
        self.0.get(id).cloned().unwrap_or_default()
    }
}

/// Adds up a profile, given as the text of its file.
pub(crate) fn read(text: &str) -> Result<Costs> {
    let events = text.lines().find_map(|line| line.strip_prefix("events: ")).context("no events in the profile")?;
    let events: Vec<&str> = events.split_whitespace().collect();
    ensure!(events.first() == Some(&"Ir"), "the profile counts no instructions: {events:?}");
    let calls_at = events.iter().position(|event| *event == "sysCount");
    let (mut files, mut functions) = (Names::default(), Names::default());
    let (mut file, mut function, mut part_now) = (String::new(), String::new(), "other");
    let (mut costs, mut is_call) = (Costs::new(), false);
    for line in text.lines() {
        match line.split_once('=') {
            Some(("fl" | "fi" | "fe", name)) => file = files.resolve(name),
            Some(("fn", name)) => function = functions.resolve(name),
            Some(("cfn", name)) => drop(functions.resolve(name)),
            Some(("cfi" | "cfl", name)) => drop(files.resolve(name)),
            Some(("calls", _)) => is_call = true,
            None if line.starts_with(['+', '-', '*']) || line.starts_with(|c: char| c.is_ascii_digit()) => {
                // What a call cost is told by the lines of whom it called.
                if !std::mem::take(&mut is_call) {
                    let figures: Vec<u64> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
                    let cost = costs.entry((part_now, function.clone())).or_default();
                    cost.instructions += figures.first().unwrap_or(&0);
                    cost.calls += calls_at.and_then(|at| figures.get(at)).unwrap_or(&0);
                }
                continue;
            }
            _ => continue,
        }
        part_now = part(&file, &function);
    }
    Ok(costs)
}
