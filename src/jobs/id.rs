//! To which job (campaign) a message belongs: `metadata.jobId`, as its producer wrote it. Pure.

use std::borrow::Cow;

use crate::members::members;

/// Bytes of the longest name; a longer one is no job's.
pub const LONGEST: usize = 200;

/// The job that a message's metadata, which a parser has read, names; `None`: none, or it is no object that goes out (it has a
/// key that is no valid text). Of a repeated key the last one counts.
pub fn of(metadata: &str) -> Option<Cow<'_, str>> {
    let mut id = None;
    for member in members(metadata)? {
        if member.key()? == "jobId" {
            id = Some(member.value);
        }
    }
    name(id?)
}

/// The name that a value is.
fn name(id: &str) -> Option<Cow<'_, str>> {
    let id = match id.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => Cow::Borrowed(text),
        Some(_) => Cow::Owned(serde_json::from_str(id).ok()?),
        None if id.starts_with(|c: char| c.is_ascii_digit()) => Cow::Borrowed(id),
        None => return None,
    };
    is_name(&id).then_some(id)
}

/// Whether a text can be a job's name.
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_what_the_producers_metadata_says() {
        let cases: [(&str, Option<&str>); 14] = [
            (r#"{"a":[1,{}],"jobId":"j-1","z":null}"#, Some("j-1")),
            (r#"{"jobId":"first","jobId":"last"}"#, Some("last")),
            (r#"{"jobId":"a\"\u00e4"}"#, Some("a\"ä")),
            (r#"{"a":"\n","jobId":{"jobId":"x"},"jobId":"last"}"#, Some("last")),
            (r#"{"jobId":42}"#, Some("42")),
            (r#"{"jobId":""}"#, None),
            (r#"{"jobId":"a\nb"}"#, None),
            (r#"{"jobId":null}"#, None),
            (r#"{"jobId":{"jobId":"x"}}"#, None),
            (r#"{"JobId":"x","a":{"jobId":"y"}}"#, None),
            (r#""{\"jobId\":\"x\"}""#, None),
            (r#"["jobId"]"#, None),
            (r#"{"jobId":"x","\ud800":0}"#, None),
            ("{}", None),
        ];
        for (metadata, expected) in cases {
            assert_eq!(of(metadata).as_deref(), expected, "{metadata}");
        }
        let long = |n| format!(r#"{{"jobId":"{}"}}"#, "x".repeat(n));
        assert!(of(&long(LONGEST)).is_some() && of(&long(LONGEST + 1)).is_none());
    }
}
