//! A fixed sample, kept in `tests/fixtures/status.json`: what the terminal's tables and the description are held against too.

use std::time::Duration;

use super::super::document::{Breaker, Valve};
use super::super::view::AppView;
use super::*;
use crate::message::{Lane as LaneName, Origin};
use crate::queue::in_flight::Usage;
use crate::tally::Tally;

const APNS: Platform = Platform("apns");
const AT_MS: i64 = 1_760_000_000_000;

fn origin(app: &str, lane: LaneName) -> Origin {
    let topic = format!("push-{app}_apns-{}", lane.as_str()).into();
    Origin { topic, partition: 0, app: app.into(), platform: APNS, lane }
}

fn books() -> Vec<(LaneKey, Sheet)> {
    let tally = Tally::default();
    let single = tally.lane(&origin("game", LaneName::Single));
    (0..1_250).for_each(|_| single.lent(None));
    (0..1_200).for_each(|_| single.ended(End::Delivered, None));
    (0..31).for_each(|_| single.ended(End::Rejected, Some("unregistered")));
    (0..2).for_each(|_| single.ended(End::Rejected, Some("bad-device-token")));
    single.ended(End::Failed, Some("internal"));
    single.skipped(40);
    single.released(false);
    tally.lane(&origin("game", LaneName::Massive)).lent(None);
    let mut sheets = tally.sheets();
    let (_, sheet) = &mut sheets[0];
    for at in 1..=100 {
        sheet.lent_to_accepted.record(Duration::from_millis(at * 3));
        sheet.round_trip.record(Duration::from_millis(at));
    }
    sheets
}

fn topic(lane: LaneName, backlog: Option<u64>, oldest_s: u64) -> TopicStanding {
    let partition = |partition, committed| PartitionStanding {
        partition,
        committed,
        position: committed + 3,
        next: committed + 20,
        resolved_beyond: 9,
        in_flight: 8,
        end: backlog.map(|backlog| committed + 20 + backlog as i64),
    };
    TopicStanding {
        origin: Arc::new(origin("game", lane)),
        partitions: vec![partition(0, 4_000), partition(1, 3_900)],
        backlog,
        oldest: Some(Duration::from_secs(oldest_s)),
        retention: None,
        map_bytes: 12,
    }
}

fn view() -> View {
    let app = |app: &str, breaker, valve, waiting| AppView {
        app: app.into(),
        platform: APNS,
        breaker: Some(breaker),
        valve,
        usage: Some(Usage { messages: 15, bytes: 9_000, waiting, reporting: 2 }),
    };
    let pool = Stats { connections: 2, in_flight: 7, waiting: 1, handshakes: 3, goaways: 1, ..Stats::default() };
    View {
        program: "worker",
        platforms: vec![APNS],
        sheets: books(),
        standing: Standing {
            topics: vec![topic(LaneName::Single, Some(1_234), 12), topic(LaneName::Massive, None, 700)],
            uncommitted_for: Duration::from_millis(340),
        },
        apps: vec![
            app("game", Breaker::Open, Some(Valve::Open), 4),
            app("idle", Breaker::Closed, Some(Valve::Closed), 0),
        ],
        pools: vec![(APNS, "game".into(), vec![pool, pool])],
    }
}

fn given(why: Option<&str>) -> Given {
    Given { at: AT_MS - 120_000, by: "ann at 10.0.0.9:50000".into(), why: why.map(ToOwned::to_owned) }
}

fn sampled() -> Status {
    let (view, mut recent, start) = (view(), Recent::default(), Instant::now());
    recent.note(&[], start);
    let entry = |at_ms, level, what: &str, times| Entry {
        at_ms,
        level,
        what: what.into(),
        about: [("app".to_owned(), "game".to_owned()), ("platform".to_owned(), "apns".to_owned())].into(),
        times,
    };
    let facts = Facts {
        instance: "host-1",
        since_ms: AT_MS - 7_500_000,
        at_ms: AT_MS,
        now: start + Duration::from_secs(10),
        not_ready: vec![Reason::new(
            "feedback",
            "feedback is not acknowledged for 7 s, at all or of one topic, 12 records wait",
        )],
        standing_still: Vec::new(),
        journal: vec![
            entry(AT_MS - 3_600_000, "info", "partitions assigned", 1),
            entry(AT_MS - 65_000, "info", "connection ended", 14),
            entry(AT_MS - 9_000, "error", "the breaker is open", 1),
        ],
        orders: Orders {
            pauses: vec![(
                Paused { app: "Game".into(), platform: "apns".into(), lane: LaneName::Massive },
                given(Some("wrong text")),
            )],
            jobs: vec![("autumn-1".into(), given(None)), ("spring-7".into(), given(Some("wrong audience")))],
        },
        jobs: vec![Figures {
            id: "spring-7".into(),
            stopped: true,
            delivered: 40,
            cancelled: 900,
            reasons: [("job-stopped", 900), ("unregistered", 3)].into(),
            per_second: 15.0,
            idle_s: 0.2,
        }],
    };
    status(&view, facts, &recent)
}

#[test]
fn the_sample_is_as_it_was() {
    let text = format!("{}\n", serde_json::to_string_pretty(&sampled()).unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/status.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert_eq!(text, kept, "changed on purpose? UPDATE_DOCS=1 cargo test --lib admin::compose");
}

#[test]
fn the_law_holds_and_parts_that_are_not_known_are_not_made_up() {
    let status = sampled();
    assert!(status.ledger.balances && status.ledger.difference == 0);
    assert_eq!((status.ledger.consumed, status.ledger.in_flight), (1_291, 16));
    let [game, idle] = status.apps.as_slice() else { panic!("{:?}", status.apps) };
    assert_eq!(idle.lanes, [], "configured, and nothing assigned");
    let backlogs: Vec<_> = game.lanes.iter().map(|lane| lane.backlog).collect();
    assert_eq!(backlogs, [Some(1_234), None]);
    assert!(!status.well && status.problems.len() == 6, "{:?}", status.problems);
    let sample = sample(&status);
    assert_eq!((sample.backlog, sample.in_flight), (1_234, 16));
    assert_eq!(format!("{:.1}", sample.delivered_per_s), "120.0");
    assert_eq!(format!("{:.1}", sample.lanes["apns/game/single"]), "120.0");
}

#[test]
fn a_process_that_starts_has_a_document_too() {
    let facts = Facts {
        instance: "h",
        since_ms: 0,
        at_ms: 1,
        now: Instant::now(),
        not_ready: vec![Reason::new("starting", "wait")],
        standing_still: Vec::new(),
        journal: Vec::new(),
        orders: Orders::default(),
        jobs: Vec::new(),
    };
    let status = status(&View::default(), facts, &Recent::default());
    assert!(status.ledger.balances && !status.ready && status.well && status.apps.is_empty());
    let nothing = serde_json::to_value(sample(&status)).unwrap();
    assert_eq!(
        (nothing["delivered_per_s"].to_string(), nothing["not_delivered_per_s"].to_string()),
        ("0.0".into(), "0.0".into())
    );
}
