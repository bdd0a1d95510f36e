//! What a check found, as text for people and JSON for programs. Pure.

use std::fmt::{self, Display};

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::config::{Notice, Row, Source};
use crate::proof::{Finding, State};

/// Everything there is to say.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was checked: workers by their platforms, or the listener.
    pub checked: Vec<&'static str>,
    /// Against the provider's production hosts.
    pub production: bool,
    /// The configuration in effect.
    pub rows: Vec<Row>,
    /// What is odd about it.
    pub notices: Vec<Notice>,
    /// What was proved and what not.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings must be mended before a worker can do its job.
    pub fn failures(&self) -> usize {
        self.findings.iter().filter(|finding| is_failure(finding.state)).count()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let row = |row: &Row| json!({ "key": row.name, "value": row.value, "from": from(&row.source) });
        let finding = |one: &Finding| json!({ "subject": one.subject, "state": word(one.state), "said": one.said, "fix": one.fix });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "checked": self.checked,
            "production": self.production,
            "configuration": self.rows.iter().map(row).collect::<Vec<_>>(),
            "notices": self.notices.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "ok": self.failures() == 0,
        })
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["key", "value", "from"]);
        for row in &self.rows {
            table.add_row([row.name.as_str(), row.value.as_deref().unwrap_or("–"), &row.source.to_string()]);
        }
        table
    }
}

impl Display for Report {
    /// For people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = if self.production { "production" } else { "development" };
        writeln!(f, "pusher {}: check {} ({hosts} hosts)\n", env!("CARGO_PKG_VERSION"), self.checked.join(", "))?;
        for line in self.table().to_string().lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        for notice in &self.notices {
            writeln!(f, "! {notice}")?;
        }
        if !self.notices.is_empty() {
            writeln!(f)?;
        }
        let widest = self.findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or_default();
        for finding in &self.findings {
            writeln!(f, "{} {:widest$}  {}", mark(finding.state), finding.subject, finding.said)?;
            if let Some(fix) = &finding.fix {
                writeln!(f, "  {:widest$}  → {fix}", "")?;
            }
        }
        let count = |state| self.findings.iter().filter(|finding| finding.state == state).count();
        let [proved, wrong, away] = [State::Proved, State::Wrong, State::Away].map(count);
        let unproved = count(State::Unproved);
        write!(f, "\n{proved} proved, {wrong} wrong, {away} without an answer, {unproved} not provable")
    }
}

fn is_failure(state: State) -> bool {
    matches!(state, State::Wrong | State::Away)
}

fn mark(state: State) -> char {
    match state {
        State::Proved => '✓',
        State::Wrong | State::Away => '✗',
        State::Unproved => '–',
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Proved => "proved",
        State::Wrong => "wrong",
        State::Away => "away",
        State::Unproved => "unproved",
    }
}

fn from(source: &Source) -> Value {
    match source {
        Source::Default => json!({ "kind": "default" }),
        Source::File { path, line } => json!({ "kind": "file", "path": path, "line": line }),
        Source::Environment { variable } => json!({ "kind": "environment", "variable": variable }),
        Source::Given => json!({ "kind": "given" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row =
            |name: &str, value: Option<&str>, source| Row { name: name.into(), value: value.map(Into::into), source };
        Report {
            checked: vec!["apns"],
            production: true,
            rows: vec![
                row("queue.group", Some("push"), Source::File { path: "config.yaml".into(), line: 3 }),
                row("sentry.url", Some("(secret)"), Source::Environment { variable: "PUSHER_SENTRY_URL".into() }),
                row("apns.caFile", None, Source::Default),
            ],
            notices: vec![Notice::Unknown {
                name: "qeue.group".into(),
                line: Some(7),
                nearest: Some("queue.group".into()),
            }],
            findings: vec![
                Finding::proved("kafka", "kafka:9092 answers"),
                Finding::wrong("feedback topic", "push-a-apns-feedbacks does not exist").fix("create it"),
                Finding::unproved("redis", "nothing is limited"),
            ],
        }
    }

    #[test]
    fn for_people() {
        insta::assert_snapshot!(report().to_string().replace(env!("CARGO_PKG_VERSION"), "<version>"), @r"
pusher <version>: check apns (production hosts)

 key          value     from
 queue.group  push      config.yaml line 3
 sentry.url   (secret)  PUSHER_SENTRY_URL
 apns.caFile  –         default

! qeue.group (line 7): unknown, did you mean queue.group?

✓ kafka           kafka:9092 answers
✗ feedback topic  push-a-apns-feedbacks does not exist
                  → create it
– redis           nothing is limited

1 proved, 1 wrong, 0 without an answer, 1 not provable
");
        assert_eq!(report().failures(), 1);
    }

    #[test]
    fn for_programs() {
        let expected = json!({
            "version": env!("CARGO_PKG_VERSION"), "checked": ["apns"], "production": true, "ok": false,
            "configuration": [
                {"key": "queue.group", "value": "push", "from": {"kind": "file", "path": "config.yaml", "line": 3}},
                {"key": "sentry.url", "value": "(secret)", "from": {"kind": "environment", "variable": "PUSHER_SENTRY_URL"}},
                {"key": "apns.caFile", "value": null, "from": {"kind": "default"}},
            ],
            "notices": ["qeue.group (line 7): unknown, did you mean queue.group?"],
            "findings": [
                {"subject": "kafka", "state": "proved", "said": "kafka:9092 answers", "fix": null},
                {"subject": "feedback topic", "state": "wrong", "said": "push-a-apns-feedbacks does not exist", "fix": "create it"},
                {"subject": "redis", "state": "unproved", "said": "nothing is limited", "fix": null},
            ],
        });
        assert_eq!(report().json(), expected);
    }
}
