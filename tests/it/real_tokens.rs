//! Dead tokens that the database does not delete, with the whole worker between real neighbours.

use pusher::generate::Settings;

use crate::support::rig::{PATIENCE, Repeats, Rig};

/// Pushes go on, each dead token is left to its feedback record, and the log has one line for it.
#[test]
fn a_database_that_deletes_nothing_costs_no_push() {
    let mut rig = Rig::new("tokens", 2);
    let (table, database) = (rig.table(), rig.database.name.clone());
    let make = format!("CREATE TABLE \"{table}\" (token text PRIMARY KEY)");
    let read_only = format!("ALTER DATABASE \"{database}\" SET default_transaction_read_only = on");
    for (ill, line) in [
        (format!("DROP TABLE \"{table}\""), "dead tokens of this app cannot be deleted"),
        (format!("{make}; {read_only}"), "dead tokens cannot be deleted: they are left to the feedback records"),
    ] {
        ill.split("; ").for_each(|sql| drop(rig.database.query(sql)));
        let pushes = rig.generate(Settings { count: 3_000, seed: 21, ..Settings::default() });
        let mut worker = rig.worker(&[]);
        rig.produce(&pushes, None);
        rig.settle(&mut worker, PATIENCE);
        assert_eq!(worker.times_said(line), 1, "{line}");
        worker.stop();
    }
    assert_eq!(rig.assert_nothing_lost(&rig.placed()), Repeats::default());
}
