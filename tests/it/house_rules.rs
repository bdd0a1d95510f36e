//! The house rules that no compiler knows, read from the sources: who may use whom, where a crate of the outside world may
//! be named, sizes, log style. Each table entry that widens a rule says why on its line.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use crate::support::root;

/// What every room may use.
const COMMON: &[&str] = &[
    "clock",
    "message",
    "members",
    "outcome",
    "proof",
    "config",
    "registry",
    "shutdown",
    "tls",
    "pulse",
    "rhythm",
    "histogram",
    "journal",
    "reload",
];

/// Room → the rooms it may use beside [`COMMON`]; `*`: all (it wires or shows the whole).
const MAY_USE: &[(&str, &[&str])] = &[
    ("queue", &["kafka_acl", "tally"]), // what may be read; its receipts keep the ledger
    // A provider's client stands on the transport, and declares the keys of its limits.
    ("handlers", &["http2", "admission"]),
    ("admission", &[]),
    ("control", &[]),
    ("reporters", &["control", "kafka_acl"]), // a closed valve outlives its process; what may be written
    ("kafka_acl", &[]),
    ("http2", &[]),
    ("simulator", &[]), // the other side of the wire: it must not share our reading of the protocol
    ("concurrency", &["queue"]), // how many attempts of an app may be under way, and so how much of it is lent
    ("circuit", &["concurrency", "handlers", "queue", "reporters"]), // breaker and retries of an app, joined to its share of the queue
    // Joins the rooms through their traits.
    ("delivery", &["circuit", "desk", "gate", "handlers", "jobs", "line", "queue", "reporters"]),
    ("gate", &["admission", "circuit", "delivery", "desk", "handlers", "line", "reporters"]), // joins admission to a delivery
    // What deliveries of one sender have at hand.
    ("desk", &["admission", "circuit", "delivery", "handlers", "jobs", "line", "reporters", "spread"]),
    ("sender", &["delivery", "desk", "line", "queue"]), // a thread of deliveries, fed with what the queue lends
    ("dispatch", &["queue", "sender", "spread"]),       // the poll thread: from the queue to the senders
    ("spread", &[]),
    ("line", &["concurrency", "handlers", "spread"]), // what stands in it leaves at its app's pace
    ("tally", &[]),
    ("observer", &["queue", "reporters", "tally"]), // the queue's facts, told to statistics and ledger
    ("feedback_listener", &["admin", "control", "levers", "observer", "proof", "queue", "reporters", "tally"]), // from the queue to the tables, with its own wiring
    // Writes what their snapshots say; gives orders.
    ("admin", &["http2", "jobs", "levers", "queue", "reporters", "tally"]),
    ("jobs", &["tally"]),                      // a job's ends are the ledger's
    ("levers", &["control", "jobs", "queue"]), // orders among the entries, put into force
    ("on_call", &["*"]),                       // what `pause`, `resume` and `job` run: orders, given and shown
    ("telemetry", &[]),
    ("settings", &["*"]),                                    // lists the keys of all rooms
    ("worker", &["*"]),                                      // the wiring
    ("pusher", &["*"]),                                      // what each command runs
    ("simulate", &["*"]),                                    // what `simulate` runs: settings, files, the simulators
    ("check", &["*"]),                                       // asks every room what it can prove
    ("peek", &["cli", "handlers", "queue"]), // what `peek` runs: records through the provider's own code
    ("redrive", &["cli", "handlers", "queue", "reporters"]), // what `redrive` runs: letters, on the queue's own bookkeeping
    ("status", &["admin", "cli"]),                           // what `status` runs: the admin server's document, shown
    ("valve", &["*"]),    // what `valve` runs: the entries of worker and listener, shown and opened
    ("cli", &["*"]),      // each subcommand is a room's front door
    ("main", &["*"]),     // starts the above
    ("allocator", &[]),   // of the binary and the bench
    ("lib", &["*"]),      // the map
    ("demo", &["*"]),     // runs the whole on embedded parts
    ("generate", &["*"]), // producer-format messages, for demo, benches and hands
];

/// The rooms of [`COMMON`] are leaves: what each may use.
const LEAVES: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("message", &[]),
    ("members", &[]),
    ("proof", &[]),
    ("outcome", &["message"]), // an outcome names its message's origin
    ("config", &[]),
    ("registry", &["config"]), // chooses by configuration, fails with its error
    ("notify", &[]),
    // Its deadline is a key; the service manager hears of it; who is at work shows signs of life.
    ("shutdown", &["config", "notify", "pulse"]),
    ("pulse", &["rhythm"]),
    ("rhythm", &[]),
    ("histogram", &[]),
    ("journal", &[]),
    ("tls", &["reload"]), // a CA file may change
    ("reload", &[]),
];

/// A crate of the outside world → the beginnings of the paths that may name it.
const CRATES: &[(&str, &[&str])] = &[
    (
        "rdkafka",
        &[
            "src/queue/kafka",
            "src/queue/client",        // its options and fatal errors
            "src/queue/commit.rs",     // the clock of commits; what to commit (`commit_plan`) is pure
            "src/queue/commit/answer", // what became of one
            "src/queue/commit/lists",  // what goes in one
            "src/queue/in_vain",       // which refusals of one are for good
            "src/queue/context",       // the client's callbacks
            "src/queue/logs",          // for how long they keep
            "src/queue/membership",    // its beginning and end
            "src/queue/native",        // calls that the crate does not wrap
            "src/queue/record",        // copies what it read
            "src/queue/partition",     // takes from one partition's queue
            "src/queue/probe",         // looks without joining the group
            "src/queue/rebalance",     // assignments
            "src/queue/scout",         // asks the brokers
            "src/queue/seek",          // positions that must change
            "src/queue/subscription",
            "src/queue/turn",       // the poll thread's work
            "src/reporters/kafka",  // the producer of all records that are waited for
            "src/kafka_acl",        // calls that the crate does not wrap
            "src/control/kafka",    // reads and writes the entries
            "src/control/topic",    // makes their topic
            "src/peek/kafka",       // records of a push topic, for people
            "src/redrive/kafka",    // letters out, records back in, in one transaction
            "src/generate/produce", // --brokers
            "src/demo",             // the mock cluster
        ],
    ),
    ("h2", &["src/simulator"]), // its server; what we send is our own (`src/http2/wire`)
    ("cadence", &["src/reporters/stats/statsd", "src/reporters/stats/datagrams"]), // its client, and the sink below it
    ("sqlx", &["src/reporters/invalid_token/postgres"]),
    ("redis", &["src/admission/redis"]),
    ("sentry", &["src/telemetry"]),
    ("clap", &["src/cli", "src/main.rs"]),
    ("axum", &["src/admin", "src/simulator"]), // the admin server; the control and token endpoints
    ("prometheus_client", &["src/admin/page"]),
    ("utoipa", &["src/admin"]), // the description of the admin server's answers
    ("tracing_subscriber", &["src/telemetry"]),
    ("hyper", &["src/handlers/gcm/metadata"]), // plain HTTP/1.1, which our transport does not speak
    ("jsonwebtoken", &["src/handlers", "src/simulator"]),
];

const PRODUCTION_LINES: usize = 300;
const FUNCTION_LINES: usize = 70;

/// Where bare spawning is allowed: everything else goes through a tracker that shutdown can wait for and name.
const MAY_SPAWN: &[&str] = &["src/shutdown"];
/// Where standard output is the product.
const MAY_PRINT: &[&str] =
    &["src/cli", "src/main.rs", "src/demo", "src/on_call", "src/pusher", "src/simulate.rs", "src/valve.rs"];
/// The modules with `unsafe`: calls of librdkafka that its crate does not wrap, and the name by which the allocator finds its settings.
const MAY_BE_UNSAFE: &[&str] = &["src/queue/native", "src/kafka_acl", "src/allocator.rs"];
/// Names that keep their capital at the start of a message (words in capitals may always).
const PROPER_NAMES: &[&str] =
    &["Kafka", "APNs", "PostgreSQL", "StatsD", "Redis", "Sentry", "Apple", "Google", "Firebase"];

/// A file below `src`, as the rules see it.
struct Source {
    path: String,
    /// The lines before the tests.
    production: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let tests = path.ends_with("/tests.rs");
        let production = text.lines().take_while(|line| !tests && *line != "#[cfg(test)]").map(ToOwned::to_owned);
        Source { path: path.to_owned(), production: production.collect() }
    }

    /// `src/queue/kafka.rs` → `queue`.
    fn room(&self) -> &str {
        let path = self.path.trim_start_matches("src/");
        path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
    }

    /// Production code without lines that are comments: the same count of lines.
    fn code(&self) -> Vec<&str> {
        let blank = |line: &String| line.trim_start().starts_with("//");
        self.production.iter().map(|line| if blank(line) { "" } else { line.as_str() }).collect()
    }

    fn lies_in(&self, beginnings: &[&str]) -> bool {
        beginnings.iter().any(|beginning| self.path.starts_with(beginning))
    }

    fn at(&self, index: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, index + 1)
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join("src"), &mut paths);
    let paths = paths.into_iter().filter(|path| Path::new(path).extension().is_some_and(|end| end == "rs"));
    paths.map(|path| Source::new(&path, &fs::read_to_string(root().join(&path)).expect("a source"))).collect()
}

/// All files below `folder`, relative to the root, without what is built or belongs to git.
fn walk(folder: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && !["target", ".git", ".cache"].contains(&name.to_string_lossy().as_ref()) {
            walk(&path, into);
        } else if path.is_file() && name != ".git" {
            into.push(path.strip_prefix(root()).expect("below the root").display().to_string());
        }
    }
}

#[track_caller]
fn enforce(rule: fn(&Source) -> Vec<String>) {
    let broken: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

/// The rooms that a text of code names: `crate::room`, `pusher::room`, `use crate::{room, room::Thing}`.
fn rooms_named(code: &str) -> Vec<String> {
    static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(?:crate|pusher)::(\w+)").expect("a pattern"));
    static GROUP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(?:crate|pusher)::\{").expect("a pattern"));
    let mut named: Vec<String> = PATH.captures_iter(code).map(|found| found[1].to_owned()).collect();
    for group in GROUP.find_iter(code) {
        let (mut depth, mut item) = (1, String::new());
        for c in code[group.end()..].chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 || (depth == 1 && c == ',') {
                named.push(item.trim().split("::").next().unwrap_or_default().to_owned());
                item.clear();
            } else {
                item.push(c);
            }
            if depth == 0 {
                break;
            }
        }
    }
    named.retain(|room| !room.is_empty() && room.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '2'));
    named
}

fn imports(source: &Source) -> Vec<String> {
    let room = source.room();
    let leaf = LEAVES.iter().find(|(name, _)| *name == room);
    let Some((_, allowed)) = leaf.or_else(|| MAY_USE.iter().find(|(name, _)| *name == room)) else {
        return vec![format!("{}: room {room} is not in the table: say whom it may use", source.path)];
    };
    let common = if leaf.is_some() { &[] } else { COMMON };
    let may = |used: &str| used == room || [*allowed, common].iter().any(|l| l.contains(&used) || l.contains(&"*"));
    let known = |used: &str| LEAVES.iter().chain(MAY_USE).any(|(name, _)| *name == used);
    let named = rooms_named(&source.code().join("\n"));
    let broken = named.iter().filter(|used| known(used) && !may(used));
    broken.map(|used| format!("{}: {room} may not use {used}", source.path)).collect()
}

/// A row about what is gone would let something else in one day.
#[test]
fn tables_name_rooms_and_files_that_exist() {
    let sources = sources();
    for (room, _) in MAY_USE.iter().chain(LEAVES) {
        assert!(sources.iter().any(|source| source.room() == *room), "no room {room}");
    }
    let places = CRATES.iter().flat_map(|(_, places)| *places);
    for place in places.chain(MAY_SPAWN).chain(MAY_PRINT).chain(MAY_BE_UNSAFE) {
        assert!(sources.iter().any(|source| source.path.starts_with(place)), "nothing at {place}");
    }
}

fn crates(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, places) in CRATES.iter().filter(|(_, places)| !source.lies_in(places)) {
        let named = Regex::new(&format!(r"(?:^|[^\w:.])(?:::)?{name}::\w|^\s*use {name}\b")).expect("a pattern");
        let lines = source.code().into_iter().enumerate().filter(|(_, line)| named.is_match(line));
        broken.extend(lines.map(|(at, _)| source.at(at, &format!("{name} belongs in {places:?}"))));
    }
    broken
}

fn sizes(source: &Source) -> Vec<String> {
    static FUNCTION: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"^(\s*)(?:pub(?:\([^)]*\))? )?(?:(?:const|async|unsafe|extern "C") )*fn (\w+)"#)
            .expect("a pattern")
    });
    let lines = &source.production;
    let mut broken = Vec::new();
    if lines.len() > PRODUCTION_LINES {
        broken.push(format!("{}: {} lines of production code, at most {PRODUCTION_LINES}", source.path, lines.len()));
    }
    for (start, line) in lines.iter().enumerate() {
        let Some(found) = FUNCTION.captures(line) else { continue };
        // rustfmt closes a function at the indentation it began with.
        let end = format!("{}}}", &found[1]);
        let whole_on_one_line = line.ends_with('}') || line.ends_with(';');
        let length = lines[start..].iter().position(|l| *l == end).unwrap_or(0);
        if !whole_on_one_line && length + 1 > FUNCTION_LINES {
            let what = format!("fn {} has {} lines, at most {FUNCTION_LINES}", &found[2], length + 1);
            broken.push(source.at(start, &what));
        }
    }
    broken
}

/// `unwrap` and `expect` say why they cannot fail: `expect` in a message of four words or more, or both in a comment within
/// the statement or just above it.
fn reasons(source: &Source) -> Vec<String> {
    static SENTENCE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"\.expect\("(?:[^\s"]+\s+){3}"#).expect("a pattern"));
    let lines = &source.production;
    let reasoned = |at: usize| {
        let above = lines[..at].iter().rev().map(|line| line.trim());
        let statement = above.take_while(|line| line.starts_with("//") || !line.ends_with([';', '{', '}']));
        SENTENCE.is_match(&lines[at])
            || lines[at].contains("// ")
            || statement.into_iter().any(|line| line.contains("// "))
    };
    let risky = |line: &str| line.contains(".unwrap()") || line.contains(".expect(");
    let found = source.code().into_iter().enumerate().filter(|(at, line)| risky(line) && !reasoned(*at));
    found.map(|(at, _)| source.at(at, "unwrap or expect without the reason why it cannot fail")).collect()
}

fn forbidden_calls(source: &Source) -> Vec<String> {
    let rules: &[(&str, &[&str], &str)] = &[
        (r"\btokio::(task::)?spawn\b|\btokio::task::spawn_local\b", MAY_SPAWN, "spawn through a tracker"),
        (r"\bthread::spawn\b", &[], "use thread::Builder, so that the thread has a name"),
        (r"\be?print(ln)?!", MAY_PRINT, "log instead of printing"),
        (r"\bunbounded(_channel)?\b", &[], "every channel has a bound"),
        (r"\bunsafe\b|\bunsafe_code\b", MAY_BE_UNSAFE, "no unsafe code"),
        (r"\b(todo|unimplemented)!|\b(TODO|FIXME|XXX)\b", &[], "no loose ends"),
    ];
    let mut broken = Vec::new();
    for (pattern, _, what) in rules.iter().filter(|(_, places, _)| !source.lies_in(places)) {
        let pattern = Regex::new(pattern).expect("a pattern");
        let lines = source.code().into_iter().enumerate().filter(|(_, line)| pattern.is_match(line));
        broken.extend(lines.map(|(at, _)| source.at(at, what)));
    }
    broken
}

/// A macro call's text from its opening to its closing parenthesis.
fn call_at(text: &str, open: usize) -> &str {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text[open..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[open..=open + at];
        }
    }
    &text[open..]
}

fn log_style(source: &Source) -> Vec<String> {
    static CALL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(trace|debug|info|warn|error)!\(").expect("a pattern"));
    static MESSAGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"[(,]\s*"((?:[^"\\]|\\.)*)""#).expect("a pattern"));
    static SECRET: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)[(,]\s*[%?]?(\w+\.)*(device_?token|token|payload|password|secret|body)\b").expect("a pattern")
    });
    let code = source.code().join("\n");
    let mut broken = Vec::new();
    for found in CALL.captures_iter(&code) {
        let whole = found.get(0).expect("group 0 is the match");
        let (call, at) = (call_at(&code, whole.end() - 1), code[..whole.start()].matches('\n').count());
        for message in MESSAGE.captures_iter(call) {
            broken.extend(wording(&message[1]).map(|what| source.at(at, &format!("log message {what}"))));
            // A message that is one value as a whole (an error that says it all) has no fields to be kept apart from.
            let whole_value = message[1].starts_with('{') && message[1].find('}') == Some(message[1].len() - 1);
            if message[1].contains('{') && !whole_value {
                broken.push(source.at(at, "log message interpolates: use a field"));
            }
        }
        if !["trace", "debug"].contains(&&found[1]) && SECRET.is_match(call) {
            broken.push(source.at(at, "a token, payload or secret above debug"));
        }
    }
    broken
}

fn error_style(source: &Source) -> Vec<String> {
    static ERROR: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"#\[error\(\s*"((?:[^"\\]|\\.)*)""#).expect("a pattern"));
    let code = source.code().join("\n");
    let at = |found: &regex::Captures| code[..found.get(0).map_or(0, |m| m.start())].matches('\n').count();
    let broken = ERROR.captures_iter(&code).filter_map(|found| Some((at(&found), wording(&found[1])?)));
    broken.map(|(at, what)| source.at(at, &format!("error message {what}"))).collect()
}

/// What is wrong with the wording of a message, if anything.
fn wording(message: &str) -> Option<&'static str> {
    let word = message.split([' ', ':', '\'', ',']).next().unwrap_or_default();
    let capital = word.chars().next().is_some_and(char::is_uppercase);
    let may = PROPER_NAMES.contains(&word) || !word.chars().any(char::is_lowercase);
    match () {
        () if capital && !may => Some("begins with a capital"),
        () if message.ends_with('.') => Some("ends with a full stop"),
        () => None,
    }
}

fn opening(source: &Source) -> Vec<String> {
    let opens = source.production.first().is_none_or(|line| line.starts_with("//! "));
    if opens { Vec::new() } else { vec![source.at(0, "open with //! what lives here")] }
}

#[test]
fn rooms_use_only_whom_they_may() {
    enforce(imports);
}

#[test]
fn crates_of_the_outside_world_stay_in_their_rooms() {
    enforce(crates);
}

#[test]
fn files_and_functions_stay_small() {
    enforce(sizes);
}

#[test]
fn what_cannot_fail_says_why() {
    enforce(reasons);
}

#[test]
fn spawning_printing_and_loose_ends_stay_out() {
    enforce(forbidden_calls);
}

#[test]
fn logs_and_errors_keep_their_style() {
    enforce(log_style);
    enforce(error_style);
}

#[test]
fn every_file_opens_with_what_it_is() {
    enforce(opening);
}

#[test]
fn nothing_names_a_machine() {
    // Paths of somebody's machine, and hosts of package registries (a build follows the user's own settings).
    let places =
        ["/work/", "/root/", "/home/", "../shared", "artifactory", "registry.npmjs", "repo.maven", "index.crates.io"];
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    let mut broken = Vec::new();
    for path in paths.iter().filter(|path| !path.ends_with("house_rules.rs")) {
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        let found = text.lines().enumerate().filter(|(_, line)| places.iter().any(|place| line.contains(place)));
        broken.extend(found.map(|(at, line)| format!("{path}:{}: {}", at + 1, line.trim())));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A panic in a handler is one failed message: a process that aborted at it would take all others with it.
#[test]
fn no_profile_aborts_at_a_panic() {
    let aborts = Regex::new(r"(?m)^\s*panic\s*=|panic=abort|-C\s*panic").expect("a pattern");
    assert!(aborts.is_match("[profile.release]\npanic = \"abort\"\n") && aborts.is_match("RUSTFLAGS=-Cpanic=abort"));
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    let builds = |path: &&String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        ["Cargo.toml", "config.toml", "Makefile", "Dockerfile", "run"].contains(&name)
    };
    let read: Vec<_> = paths.iter().filter(builds).collect();
    assert!(read.len() >= 4, "{read:?}");
    for path in read {
        let text = fs::read_to_string(root().join(path)).expect("a file of the build");
        assert!(!aborts.is_match(&text), "{path} has panics abort the process");
    }
}

/// Each rule finds what it is there to find.
mod tests {
    use super::*;

    fn broken(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> bool {
        !rule(&Source::new(path, text)).is_empty()
    }

    #[test]
    fn imports_are_read_in_every_form() {
        for text in [
            "use crate::http2::Pool;",
            "use crate::{message::Origin, http2};",
            "use crate::{\n    message::{Lane, Origin},\n    http2::{self, Pool},\n};",
            "fn f() -> crate::http2::Pool {}",
        ] {
            assert!(broken(imports, "src/queue/kafka.rs", text), "{text}");
            assert!(!broken(imports, "src/handlers/apns/client.rs", text), "{text}");
        }
        assert!(!broken(imports, "src/queue/kafka.rs", "/// See crate::http2::Pool.\nuse crate::{message::Origin};"));
        assert!(broken(imports, "src/attic.rs", ""), "a room that is not in the table");
        assert!(broken(imports, "src/message.rs", "use crate::outcome::Outcome;"));
    }

    #[test]
    fn crates_are_found_outside_their_rooms() {
        for text in ["use rdkafka::Offset;", "fn f(x: rdkafka::Offset) {}", "use rdkafka as kafka;"] {
            assert!(broken(crates, "src/delivery.rs", text), "{text}");
            assert!(!broken(crates, "src/queue/kafka.rs", text), "{text}");
        }
        assert!(!broken(crates, "src/delivery.rs", "use crate::queue::rdkafka_like;"));
    }

    #[test]
    fn long_functions_and_files_are_found() {
        let long = |lines: usize| format!("fn f() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
        assert!(!broken(sizes, "src/a.rs", &long(FUNCTION_LINES)));
        assert!(broken(sizes, "src/a.rs", &long(FUNCTION_LINES + 1)));
        assert!(broken(sizes, "src/a.rs", &"\n".repeat(PRODUCTION_LINES + 1)));
        assert!(!broken(sizes, "src/a.rs", &format!("#[cfg(test)]\n{}", "\n".repeat(PRODUCTION_LINES))));
    }

    #[test]
    fn a_reason_counts_on_the_line_above_and_within_the_statement() {
        assert!(broken(reasons, "src/a.rs", "let a = 1;\nlet x = y.unwrap();"));
        assert!(broken(reasons, "src/a.rs", "// about a\nlet a = 1;\nlet x = y\n    .expect(\"why\");"));
        for text in [
            "y.expect(\"checked when it was made\");",
            "y.unwrap(); // never empty",
            "// never empty\nlet x = y\n    .z()\n    .expect(\"a\");",
            "y.unwrap_or(1);",
        ] {
            assert!(!broken(reasons, "src/a.rs", text), "{text}");
        }
        assert!(!broken(reasons, "src/a.rs", "#[cfg(test)]\nmod tests {\n    fn f() { y.unwrap(); }\n}"));
    }

    #[test]
    fn forbidden_calls_are_found() {
        for text in [
            "tokio::spawn(f);",
            "thread::spawn(f);",
            "println!(\"\");",
            "mpsc::unbounded_channel();",
            "unsafe { f() }",
            "todo!()",
        ] {
            assert!(broken(forbidden_calls, "src/delivery.rs", text), "{text}");
        }
        assert!(!broken(forbidden_calls, "src/shutdown.rs", "tokio::spawn(f);"));
        assert!(!broken(forbidden_calls, "src/cli.rs", "println!(\"\");"));
        assert!(!broken(forbidden_calls, "src/queue/native.rs", "unsafe { f() }"));
    }

    #[test]
    fn log_and_error_wording_is_judged() {
        for text in [
            "tracing::warn!(\"Broker lost\");",
            "info!(app, \"broker {} lost\", x);",
            "tracing::error!(\n    app = %app,\n    \"lost.\",\n);",
            "warn!(device_token = %t, \"refused\");",
            "warn!(?payload, \"refused\");",
        ] {
            assert!(broken(log_style, "src/a.rs", text), "{text}");
        }
        for text in [
            "tracing::warn!(app = %app, reason = \"Unregistered\", \"broker lost\");",
            "info!(\"APNs answers again\");",
            "debug!(token = %t, \"refused\");",
            "warn!(\"GOAWAY received\");",
            "error!(reason = \"configuration\", \"{error:#}\");",
        ] {
            assert!(!broken(log_style, "src/a.rs", text), "{text}");
        }
        assert!(broken(error_style, "src/a.rs", "#[error(\"Cannot connect\")]"));
        assert!(!broken(error_style, "src/a.rs", "#[error(\"cannot connect to {0}\")]"));
    }
}
