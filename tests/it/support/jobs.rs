//! Messages of chosen jobs.

use regex::Regex;
use std::sync::LazyLock;

/// A generated message as one of this job.
pub(crate) fn of_job(line: &str, job: &str) -> String {
    static JOB: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""jobId":"[^"]*""#).expect("a pattern"));
    let with = format!(r#""jobId":"{job}""#);
    let changed = JOB.replace(line, with.as_str());
    assert!(changed.contains(&with), "a generated message names a job");
    changed.into_owned()
}
