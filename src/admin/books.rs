//! The ledger on the page: all lanes of one moment.

use super::{Page, family};
use crate::tally::{End, LaneKey, Sheet};

/// Writes what [`crate::tally::Tally::sheets`] has read.
pub fn write(page: &mut Page, sheets: &[(LaneKey, Sheet)]) {
    for (key, sheet) in sheets {
        let labels = [&*key.app, key.platform.0, key.lane.as_str()];
        page.count(&family::CONSUMED, &labels, sheet.consumed());
        outcomes(page, labels, sheet);
        page.gauge(&family::IN_FLIGHT, &labels, sheet.in_flight as f64);
        page.count(&family::LOST, &labels, sheet.lost);
        page.count(&family::ATTEMPTS, &labels, sheet.requests);
        page.count(&family::POSSIBLE_DUPLICATES, &labels, sheet.possible_duplicates);
        page.count(&family::FEEDBACK, &labels, sheet.feedback);
        page.times(&family::PRODUCED_TO_LENT, &labels, &sheet.produced_to_lent);
        page.times(&family::PRODUCED_TO_ACCEPTED, &labels, &sheet.produced_to_accepted);
        page.times(&family::CONSUMED_TO_ACCEPTED, &labels, &sheet.lent_to_accepted);
        page.times(&family::ROUND_TRIP, &labels, &sheet.round_trip);
    }
}

/// Every outcome has its sample from the beginning: Prometheus sees a counter grow only from the second sample on.
fn outcomes(page: &mut Page, [app, platform, lane]: [&str; 3], sheet: &Sheet) {
    let ends = End::ALL.iter().map(|end| (end.name(), sheet.of(*end)));
    for (outcome, n) in ends.chain([("released", sheet.released), ("skipped", sheet.skipped)]) {
        page.count(&family::OUTCOMES, &[app, platform, lane, outcome], n);
    }
    for (end, reason, n) in sheet.reasons() {
        page.count(&family::REASONS, &[app, platform, lane, end.name(), reason], n);
    }
}
