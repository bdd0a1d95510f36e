//! What `make chaos` reads from its samples (tests/chaos/pulse.rs) is right.

#[path = "../chaos/pulse.rs"]
#[allow(dead_code, reason = "some of it only keeps the samples")]
mod pulse;

use std::time::{Duration, Instant};

use pulse::{Sample, at_stake, recovered, stalled};

/// Samples 100 ms apart.
fn samples(start: Instant, offered_accepted: &[(u64, u64)]) -> Vec<Sample> {
    let sample = |(n, (offered, accepted)): (usize, &(u64, u64))| Sample {
        at: start + Duration::from_millis(100 * n as u64),
        offered: *offered,
        accepted: *accepted,
        acceptances: *accepted,
        streams: n as u64,
    };
    offered_accepted.iter().enumerate().map(sample).collect()
}

#[test]
fn a_stall_counts_only_while_something_waits() {
    let start = Instant::now();
    let busy = [(10, 10), (20, 10), (30, 10), (40, 11), (50, 50), (50, 50), (50, 50), (50, 50), (50, 50), (60, 50)];
    assert_eq!(stalled(&samples(start, &busy)), Duration::from_millis(300));
    assert_eq!(stalled(&samples(start, &[(0, 0); 20])), Duration::from_millis(100), "one look apart");
    assert_eq!(stalled(&[]), Duration::ZERO);
}

#[test]
fn speed_is_back_when_a_whole_second_had_nine_tenths() {
    let start = Instant::now();
    // 10 offered per sample; nothing accepted in the first ten samples, then all.
    let line: Vec<_> = (0..40_u64).map(|n| (10 * n, 10 * n.saturating_sub(10))).collect();
    let line = samples(start, &line);
    assert_eq!(recovered(&line, start), Some(Duration::from_millis(900)), "nine of ten samples are in it");
    assert_eq!(recovered(&line[..15], start), None, "the second is not over");
    let half: Vec<_> = (0..40_u64).map(|n| (10 * n, 5 * n)).collect();
    assert_eq!(recovered(&samples(start, &half), start), None);
}

#[test]
fn at_stake_is_what_was_open_and_what_was_just_accepted() {
    let start = Instant::now();
    let line: Vec<_> = (0..31_u64).map(|n| (10 * n, 10 * n)).collect();
    let line = samples(start, &line);
    let end = start + Duration::from_secs(3);
    assert_eq!(at_stake(&line, end, Duration::from_secs(1)), 100 + 30);
    assert_eq!(at_stake(&line, end, Duration::from_mins(1)), 300 + 30);
    assert_eq!(at_stake(&line[5..], end, Duration::from_mins(1)), 250 + 30, "what was before is not known");
    assert_eq!(at_stake(&[], end, Duration::from_secs(1)), 0);
}
