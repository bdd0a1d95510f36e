//! The wall clock of a worker is set while it runs: libfaketime lies to it, and its other clock goes on.

use std::fs;
use std::path::{Path, PathBuf};

use pusher::generate::{Mix, Settings};
use pusher::simulator::fcm::Simulator as Fcm;

use crate::support::eventually;
use crate::support::far::Far;
use crate::support::rig::{PATIENCE, Repeats, Rig};
use crate::support::worker::Worker;

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Where Debian and its kin put it.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib").flatten().map(|folder| folder.path());
    let mut all = folders.chain([PathBuf::from("/usr/lib")]).map(|folder| folder.join(LIBRARY));
    all.find(|path| path.exists()).unwrap_or_else(|| panic!("no {LIBRARY} under /usr/lib: apt-get install faketime"))
}

/// Sets the clock so far from the right time, such as `+1h`.
fn set(clock: &Path, offset: &str) {
    let next = clock.with_extension("next");
    fs::write(&next, offset).expect("written");
    fs::rename(&next, clock).expect("exchanged in one step");
}

fn worker<F: Far>(rig: &Rig<F>, clock: &Path) -> Worker {
    let (library, clock) = (library(), clock.to_str().expect("a plain path").to_owned());
    let preload = library.to_str().expect("a plain path").to_owned();
    let lie = [("LD_PRELOAD", &*preload), ("FAKETIME_TIMESTAMP_FILE", &clock)];
    // `FAKETIME_NO_CACHE`: each look at the clock reads the file.
    rig.worker_in(&[lie[0], lie[1], ("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")])
}

/// Half of the pushes expire in the year 2100, half have expired in 2017: neither changes while the clock says that it is another time.
fn a_clock_that_jumps<F: Far>(mut rig: Rig<F>, jump: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = folder.path().join("clock");
    set(&clock, "+0");
    let mut worker = worker(&rig, &clock);
    for (offset, said) in
        [("+0", None), (jump, Some("the wall clock jumped")), ("+0", Some("the wall clock is right again"))]
    {
        set(&clock, offset);
        if let Some(said) = said {
            eventually(said, PATIENCE, || worker.has_said(said).then_some(()));
        }
        let pushes = rig.generate(Settings { count: 200, mix: Mix([1, 0, 0, 1, 0, 0, 0]), ..Settings::default() });
        rig.produce(&pushes, None);
        rig.settle(&mut worker, PATIENCE);
    }
    assert_eq!(
        (worker.times_said("the wall clock jumped"), worker.times_said("the wall clock is right again")),
        (1, 1)
    );
    let ledger = worker.stop();
    assert_eq!(rig.assert_nothing_lost(&rig.placed()), Repeats::default());
    assert_eq!((ledger.delivered, ledger.consumed(), ledger.failed), (rig.deliveries(), 600, 0), "{ledger:?}");
}

#[test]
fn a_clock_that_is_set_ahead_expires_no_push() {
    a_clock_that_jumps(Rig::new("clock", 2), "+80y");
}

#[test]
fn a_clock_that_is_set_back_sends_nothing_that_has_expired() {
    a_clock_that_jumps(Rig::<Fcm>::with("clock", 2), "-15y");
}
