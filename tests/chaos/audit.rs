//! The judgement: every record of the push topic against the provider's ledger and the feedback records.

use std::collections::HashMap;

use pusher::message::identity;
use serde_json::Value;
use uuid::Uuid;

use super::books::{Books, Fate};
use super::log::Log;
use super::provider::Provider;

/// Examples that are named of a kind.
const NAMED: usize = 10;

/// What became of the messages of an episode.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) pushes: u64,
    /// Messages without their end: never accepted, or without a feedback record.
    pub(crate) lost: u64,
    /// Acceptances beyond a message's first.
    pub(crate) repeated: u64,
    /// Feedback records beyond a message's first.
    pub(crate) told_again: u64,
    /// Feedback records that say what must not be, such as the failure of a push that had not expired; dead letters.
    pub(crate) wrong: u64,
    /// Some of what is wrong or lost, in words.
    pub(crate) examples: Vec<String>,
}

impl Findings {
    fn note(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < NAMED {
            self.examples.push(example());
        }
    }

    fn lose(&mut self, example: impl FnOnce() -> String) {
        self.lost += 1;
        self.note(example);
    }

    pub(crate) fn wrong(&mut self, example: impl FnOnce() -> String) {
        self.wrong += 1;
        self.note(example);
    }
}

/// What the feedback says about one message; each different key once.
#[derive(Default)]
struct Told {
    times: u64,
    /// `None`: delivered.
    keys: Vec<Option<String>>,
}

/// What the feedback about each push of the last time was to say. A worker that was out of its group may tell late what it knows.
pub(crate) type Before = HashMap<Uuid, Option<&'static str>>;

/// Judges the records that have come to both topics since the last time.
pub(crate) fn judge(
    pushes: &mut Log,
    records: &mut Log,
    books: &Books,
    provider: &dyn Provider,
    before: &mut Before,
) -> Findings {
    let (mut findings, mut now) = (Findings::default(), Before::new());
    let mut told = told(records, provider, &mut findings);
    let topic = pushes.topic().to_owned();
    pushes.read(|record| {
        findings.pushes += 1;
        let place = || format!("{}/{}", record.partition, record.offset);
        let Some(fate) = books.of(record.value) else {
            return findings.wrong(|| format!("{} is not in the books", place()));
        };
        let id = identity(&topic, record.partition, record.offset);
        let about = told.remove(&id).unwrap_or_default();
        findings.told_again += about.times.saturating_sub(1);
        let expected = match fate {
            Fate::Delivered(serial) => {
                let accepted = provider.ledger().of(serial).1;
                if accepted == 0 {
                    findings.lose(|| format!("{} (serial {serial}) was never accepted", place()));
                }
                findings.repeated += u64::from(accepted.saturating_sub(1));
                None
            }
            Fate::Refused(key) => Some(key),
            Fate::Waiting if about.times == 0 => return,
            Fate::Waiting => None,
        };
        now.insert(id, expected);
        if about.times == 0 {
            findings.lose(|| format!("{} has no feedback record", place()));
        }
        for key in about.keys.iter().filter(|key| key.as_deref() != expected) {
            findings.wrong(|| format!("the feedback of {} says {key:?}, not {expected:?}", place()));
        }
    });
    for (id, about) in told {
        let Some(expected) = before.get(&id) else {
            findings.wrong(|| format!("feedback of no message: {id}"));
            continue;
        };
        findings.told_again += about.times;
        for key in about.keys.iter().filter(|key| key.as_deref() != *expected) {
            findings.wrong(|| format!("late feedback of {id} says {key:?}, not {expected:?}"));
        }
    }
    *before = now;
    findings
}

/// Of which message a feedback record tells.
pub(crate) fn pusher_id(record: &Value) -> Option<Uuid> {
    record["metadata"]["pusherId"].as_str()?.parse().ok()
}

fn told(records: &mut Log, provider: &dyn Provider, findings: &mut Findings) -> HashMap<Uuid, Told> {
    let mut told: HashMap<Uuid, Told> = HashMap::new();
    records.read(|record| {
        let Ok(value) = serde_json::from_slice::<Value>(record.value) else {
            return findings.wrong(|| "a feedback record is not JSON".into());
        };
        let Some(id) = pusher_id(&value) else { return findings.wrong(|| "a feedback record has no identity".into()) };
        let (about, key) = (told.entry(id).or_default(), provider.told(&value).map(ToOwned::to_owned));
        about.times += 1;
        if !about.keys.contains(&key) {
            about.keys.push(key);
        }
    });
    told
}
