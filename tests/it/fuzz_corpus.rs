//! The inputs that fuzzing found worth keeping, and those that people wrote: what holds for all bytes holds for them.

#[path = "../../fuzz/properties.rs"]
mod properties;

use std::fs;

use crate::support::root;

/// What must hold for any bytes.
type Property = fn(&[u8]);

/// Name of the target, and what must hold.
const TARGETS: &[(&str, Property)] = &[
    ("topic", properties::topic),
    ("apns_message", properties::apns_message),
    ("gcm_message", properties::gcm_message),
    ("apns_answer", properties::apns_answer),
    ("gcm_answer", properties::gcm_answer),
    ("offset_map", properties::offset_map),
    ("feedback_record", properties::feedback_record),
    ("http2_frames", properties::http2_frames),
];

#[test]
fn what_holds_for_all_bytes_holds_for_the_corpus() {
    for (name, property) in TARGETS {
        let folder = root().join("fuzz/corpus").join(name);
        let mut inputs: Vec<_> = fs::read_dir(&folder).expect("a corpus").flatten().map(|entry| entry.path()).collect();
        inputs.sort();
        assert!(inputs.len() >= 5, "{name} has {} inputs", inputs.len());
        for input in inputs {
            // A failure names the input.
            let held = std::panic::catch_unwind(|| property(&fs::read(&input).expect("an input")));
            assert!(held.is_ok(), "{} breaks what must hold", input.display());
        }
    }
}

/// A target that no test replays would be fuzzed for nothing.
#[test]
fn every_target_is_replayed() {
    let mut files: Vec<_> = fs::read_dir(root().join("fuzz/targets"))
        .expect("targets")
        .flatten()
        .map(|entry| entry.path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    files.sort();
    let mut known: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort();
    assert_eq!(files, known);
}
