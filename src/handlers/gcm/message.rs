//! From a record to the body of one request to FCM's HTTP v1 interface, or to the reason why it cannot be one. Pure: the
//! clock is an argument.
//!
//! Whatever comes in, what goes out is valid v1: values are copied as raw JSON where their type is right, and refused
//! with a reason where it is not, for a wrong request costs quota as well (Google: Throttling and quotas). The body is
//! written once, front to back, from what is borrowed from the record.

use std::borrow::Cow;
use std::io::Write as _;

use bytes::Bytes;

use super::data;
use super::fields::{Fields, flag, number, refused, text, wrong_type};
use super::native;
use super::notification::Notification;
use crate::handlers::Subject;
use crate::handlers::json::{Key, Members, key, push_member, push_text_member};
pub(super) use crate::handlers::not_sent::NotSent;
use crate::handlers::not_sent::is_late;
use crate::message::QueueMessage;
use crate::outcome::{Class, Refusal};

/// Longest `android.ttl`, seconds: four weeks (Google: AndroidConfig).
pub(super) const LONGEST_TTL: i64 = 2_419_200;
/// A `time_to_live` from here on is a moment, not a length: 2001 in seconds since the epoch, 31 years as a length.
const MOMENTS_FROM: i64 = 1_000_000_000;
/// Moments below this are seconds, others milliseconds: 10^11 s is the year 5138, 10^11 ms is 1973.
const SECONDS_BELOW: i64 = 100_000_000_000;
/// Longest registration token that is sent. Google's have some 160 characters and may grow.
const LONGEST_TOKEN: usize = 4096;
/// Largest payload to one device, bytes of keys and values (Google: FCM error codes).
const LONGEST_PAYLOAD: usize = 4096;
/// The same to a topic or a condition.
const LONGEST_TOPIC_PAYLOAD: usize = 2048;

/// A push that may be sent.
pub(super) struct Push<'a> {
    /// The registration token that it goes to; `None` for a topic or a condition.
    pub(super) token: Option<Cow<'a, str>>,
    /// The request's body.
    pub(super) body: Bytes,
    /// When it stops being worth sending, ms since the epoch.
    pub(super) expires_at_ms: Option<i64>,
    /// What the device gets, as the producer wrote it: `data` and `notification`, or the message in Google's own form.
    content: [&'a str; 2],
}

impl Push<'_> {
    /// Metadata does not count: a copy of a push has its own. Topics and conditions are no devices.
    pub(super) fn subject(&self) -> Option<Subject<'_>> {
        Some(Subject { device: self.token.as_deref()?, content: self.content })
    }
}

/// Whom a push goes to.
pub(super) enum Target<'a> {
    /// One app instance.
    Token(Cow<'a, str>),
    /// Whoever subscribed; without `/topics/`.
    Topic(Cow<'a, str>),
    /// Whoever's subscriptions fulfil it.
    Condition(Cow<'a, str>),
}

impl Target<'_> {
    /// Its v1 field, and its text.
    pub(super) fn member(&self) -> (Key, &str) {
        match self {
            Target::Token(text) => (key!("token"), text),
            Target::Topic(text) => (key!("topic"), text),
            Target::Condition(text) => (key!("condition"), text),
        }
    }
}

/// Reads a message.
pub(super) fn read(message: &QueueMessage, now_ms: i64) -> Result<Push<'_>, NotSent> {
    parse(&Fields::of(message)?, now_ms)
}

/// What was found in a record, as a push.
pub(super) fn parse<'a>(fields: &Fields<'a>, now_ms: i64) -> Result<Push<'a>, NotSent> {
    let expires_at_ms = expires_at_ms(fields)?;
    if is_late(expires_at_ms, || now_ms) {
        return Err(NotSent::Expired);
    }
    let mut json = Vec::with_capacity(fields.len() + 256);
    json.push(b'{');
    if flag(fields.dry_run, "dry_run")? {
        push_member(&mut json, key!("validate_only"), "true");
    }
    push_member(&mut json, key!("message"), "");
    let token = match fields.message {
        Some(message) => native::write(&mut json, message, fields)?,
        None => mapped(&mut json, fields, now_ms)?,
    };
    json.push(b'}');
    let content = [fields.data.or(fields.message).unwrap_or(""), fields.notification.unwrap_or("")];
    Ok(Push { token, body: json.into(), expires_at_ms, content })
}

/// When the message stops being worth sending, ms since the epoch: the sooner of `push_expiry` and a `time_to_live` that is
/// a moment; `None`: never. Zero and negative expiries count as not given.
pub(super) fn expires_at_ms(fields: &Fields<'_>) -> Result<Option<i64>, Box<Refusal>> {
    let expiry = number(fields.push_expiry, "push_expiry")?.filter(|end| *end > 0).map(moment_ms);
    let ttl = number(fields.time_to_live, "time_to_live")?.filter(|ttl| *ttl >= MOMENTS_FROM).map(moment_ms);
    Ok(match (expiry, ttl) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    })
}

fn moment_ms(moment: i64) -> i64 {
    if moment < SECONDS_BELOW { moment * 1000 } else { moment }
}

/// `android.ttl`, seconds: what was asked for, no longer than the message is worth sending, rounded up; `None`: FCM's
/// default, four weeks.
fn ttl(fields: &Fields<'_>, now_ms: i64) -> Result<Option<i64>, Box<Refusal>> {
    let length = number(fields.time_to_live, "time_to_live")?.filter(|ttl| *ttl < MOMENTS_FROM);
    if length.is_some_and(|ttl| !(0..=LONGEST_TTL).contains(&ttl)) {
        let what =
            "time_to_live must be from 0 to 2419200 seconds (four weeks), or a moment in seconds since the epoch";
        return Err(refused("invalid-ttl", "InvalidTtl", what));
    }
    let left = expires_at_ms(fields)?.map(|end| (end.saturating_sub(now_ms)).saturating_add(999) / 1000);
    let left = left.map(|seconds| seconds.clamp(0, LONGEST_TTL));
    Ok(match (length, left) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    })
}

/// Whom the top level names; at most one.
pub(super) fn target<'a>(fields: &Fields<'a>) -> Result<Option<Target<'a>>, Box<Refusal>> {
    let to = text(fields.to, "to")?.map(|to| match without_topics(&to) {
        Some(_) => Target::Topic(to),
        None => Target::Token(to),
    });
    let topic = text(fields.topic, "topic")?.map(Target::Topic);
    let condition = text(fields.condition, "condition")?.map(Target::Condition);
    let mut given = [to, topic, condition].into_iter().flatten();
    let first = given.next();
    if given.next().is_some() {
        return Err(multiple_targets());
    }
    first.map(checked).transpose()
}

fn checked(target: Target<'_>) -> Result<Target<'_>, Box<Refusal>> {
    match target {
        Target::Token(token) => {
            check_token(&token)?;
            Ok(Target::Token(token))
        }
        Target::Topic(topic) => {
            let name = match topic {
                Cow::Borrowed(topic) => Cow::Borrowed(without_topics(topic).unwrap_or(topic)),
                Cow::Owned(topic) => Cow::Owned(without_topics(&topic).map_or(topic.clone(), str::to_owned)),
            };
            check_topic(&name)?;
            Ok(Target::Topic(name))
        }
        condition @ Target::Condition(_) => Ok(condition),
    }
}

fn without_topics(name: &str) -> Option<&str> {
    name.strip_prefix("/topics/")
}

/// A token is Google's to judge, but for its length and for characters that no token ever had.
pub(super) fn check_token(token: &str) -> Result<(), Box<Refusal>> {
    // Looked at to its end, for which compilers have vector instructions.
    let strange = token.bytes().fold(false, |strange, byte| strange | !byte.is_ascii_graphic());
    let plausible = token.len() <= LONGEST_TOKEN && !strange;
    if plausible {
        return Ok(());
    }
    let what = "the registration token holds white space, a control or a non-ASCII character, or is longer than 4096 \
                bytes; was it cut out of a file with its line end?";
    Err(Box::new(Refusal::local(Class::Token, "malformed-token", "MalformedToken", what)))
}

/// Google's pattern of topic names.
pub(super) fn check_topic(topic: &str) -> Result<(), Box<Refusal>> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte);
    if !topic.is_empty() && topic.len() <= 900 && topic.bytes().all(fits) {
        return Ok(());
    }
    Err(refused("invalid-topic", "InvalidTopic", "a topic's name has letters, digits and -_.~% alone, at most 900"))
}

pub(super) fn multiple_targets() -> Box<Refusal> {
    let what = "the message names more than one of token (to), topic and condition: one request goes to one of them";
    refused("multiple-targets", "MultipleTargets", what)
}

pub(super) fn missing_target() -> Box<Refusal> {
    refused("missing-target", "MissingTarget", "the message has no to, topic or condition: nobody to send to")
}

/// Refuses a payload over Google's limit for this target.
pub(super) fn check_size(size: usize, to_one_device: bool) -> Result<(), Box<Refusal>> {
    let longest = if to_one_device { LONGEST_PAYLOAD } else { LONGEST_TOPIC_PAYLOAD };
    if size <= longest {
        return Ok(());
    }
    let what = format!("the payload has {size} bytes of keys and values, metadata merged in; Google takes {longest}");
    Err(refused("payload-too-large", "PayloadTooLarge", what))
}

/// Writes the v1 message that the original's fields mean.
fn mapped<'a>(json: &mut Vec<u8>, fields: &Fields<'a>, now_ms: i64) -> Result<Option<Cow<'a, str>>, NotSent> {
    let target = target(fields)?.ok_or_else(missing_target)?;
    let (name, value) = target.member();
    json.push(b'{');
    push_text_member(json, name, value);
    let mut size = data::write(json, fields.data, fields.metadata)?;
    let notification = fields.notification.map(Notification::of).transpose()?.unwrap_or_default();
    size += notification.write_common(json)?;
    size += android(json, fields, &notification, now_ms)?;
    json.push(b'}');
    check_size(size, matches!(target, Target::Token(_)))?;
    match target {
        Target::Token(token) => Ok(Some(token)),
        _ => Ok(None),
    }
}

/// Writes `android`, when there is something in it. Returns the size of what reaches the device.
fn android(
    json: &mut Vec<u8>,
    fields: &Fields<'_>,
    notification: &Notification<'_>,
    now_ms: i64,
) -> Result<usize, Box<Refusal>> {
    let start = json.len();
    push_member(json, key!("android"), "{");
    let empty = json.len();
    if let Some(key) = fields.collapse_key.filter(|raw| *raw != "\"\"") {
        text(Some(key), "collapse_key")?;
        push_member(json, key!("collapse_key"), key);
    }
    if let Some(priority) = text(fields.priority, "priority")? {
        push_member(json, key!("priority"), priority_word(&priority)?);
    }
    if let Some(seconds) = ttl(fields, now_ms)? {
        push_member(json, key!("ttl"), "");
        let _ = write!(json, "\"{seconds}s\""); // writing to memory cannot fail
    }
    let size = notification.write_android(json)?;
    if json.len() == empty {
        json.truncate(start);
    } else {
        json.push(b'}');
    }
    Ok(size)
}

fn priority_word(given: &str) -> Result<&'static str, Box<Refusal>> {
    if given.eq_ignore_ascii_case("high") {
        Ok("\"HIGH\"")
    } else if given.eq_ignore_ascii_case("normal") {
        Ok("\"NORMAL\"")
    } else {
        Err(refused("invalid-priority", "InvalidPriority", "priority must be high or normal"))
    }
}

/// The members of an object by the name that the message has for it.
pub(super) fn object<'a>(raw: &'a str, name: &str) -> Result<Members<'a>, Box<Refusal>> {
    Members::of(raw).ok_or_else(|| wrong_type(name, "an object"))
}

/// Whom the record goes to as its producer wrote it, for the feedback record; `None` when that is not known, or a condition.
pub(super) fn addressee<'a>(fields: &Fields<'a>) -> Option<Cow<'a, str>> {
    if let Some(to) = text(fields.to, "to").ok().flatten() {
        return Some(to);
    }
    if let Some(topic) = text(fields.topic, "topic").ok().flatten() {
        let full = without_topics(&topic).is_some();
        return Some(if full { topic } else { Cow::Owned(format!("/topics/{topic}")) });
    }
    native::addressee(fields.message?)
}

#[cfg(test)]
mod tests;
