//! The demo as newcomers run it: it ends well only when the books of both platforms balance.

use std::process::Command;

#[test]
fn both_platforms_side_by_side_and_their_books_balance() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pusher")).args(["demo", "--count", "400"]).output().expect("the demo");
    let (said, table) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{said}");
    let figures = |name: &str| {
        let line = table.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in {table}"));
        let numbers = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(figures("consumed  "), [400, 400], "{table}");
    assert_eq!((figures("  unregistered").len(), figures("  DEVICE_UNREGISTERED").len()), (1, 1), "{table}");
    for title in ["APNs: consumed 400 =", "FCM: consumed 400 ="] {
        assert!(table.contains(title), "{table}");
    }
}
