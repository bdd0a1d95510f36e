//! Who is let through, who is charged, and what the queue is told.

use std::time::Duration;

use super::*;
use crate::message::Lane;
use crate::outcome::{Acceptance, Class, Outcome, Source};
use crate::queue::InFlight;

const MS: Duration = Duration::from_millis(1);

fn circuit(in_flight: &Arc<InFlight>) -> Circuit {
    let breaker = Settings {
        min_failures: 5,
        patience: 10 * MS,
        failure_share: 0.5,
        window: 1_000 * MS,
        probe_interval: 10 * MS,
        max_probe_interval: 20 * MS,
        ramp: 60 * MS,
    };
    let share = in_flight.share("game");
    Circuit::new("game".into(), Platform("apns"), share, breaker, ShareSettings::default(), Stats::default())
}

fn attempt(verdict: Verdict) -> Attempt {
    Attempt { verdict, requests: 1, round_trip: Duration::ZERO }
}

fn good() -> Attempt {
    attempt(Verdict::Resolved(Outcome::Delivered(Acceptance { status: 200, provider_id: None })))
}

fn refusal() -> Refusal {
    Refusal::network("connect", "ConnectFailed", "nobody listens", false)
}

fn bad() -> Attempt {
    attempt(Verdict::Retry(refusal()))
}

/// Of one device.
fn limited() -> Refusal {
    Refusal { source: Source::Device, ..Refusal::local(Class::Provider, "too-many-requests", "TooManyRequests", "") }
}

/// Fails until it is open; the moment.
fn open(circuit: &Circuit) -> Instant {
    for _ in 0..5 {
        let pass = circuit.admit().expect("closed");
        circuit.ended(pass, &bad());
    }
    let later = Instant::now() + 20 * MS;
    circuit.tick(later);
    assert!(circuit.is_open());
    later
}

#[test]
fn an_open_one_pauses_the_app_and_lets_one_probe_through() {
    let in_flight = InFlight::new(64, 1_000);
    let circuit = circuit(&in_flight);
    let before = circuit.admit().expect("closed");
    let opened = open(&circuit);
    let share = in_flight.share("game");
    assert!(share.is_paused() && !circuit.still(before) && circuit.admit().is_none());
    assert!(circuit.admit_again(opened).is_none());
    circuit.tick(opened + 10 * MS);
    assert!(share.has_room(Lane::Single), "for a probe");
    let probe = circuit.admit().expect("a probe");
    assert!(matches!(probe, Pass::Probe(_)) && circuit.still(probe) && circuit.admit().is_none());
    circuit.ended(before, &good());
    assert!(circuit.is_open(), "what was on its way before proves nothing");
    circuit.ended(probe, &good());
    assert_eq!((circuit.position(), share.is_paused()), (Position::Limited, false));
    assert!(circuit.tick(opened + 11 * MS), "the provider was found to answer again");
    assert!(!circuit.tick(opened + 11 * MS), "told once");
}

#[test]
fn a_probe_of_an_earlier_pause_is_an_attempt_like_any_other() {
    let in_flight = InFlight::new(64, 1_000);
    let circuit = circuit(&in_flight);
    let opened = open(&circuit);
    circuit.tick(opened + 10 * MS);
    let (old, _) = (circuit.admit().expect("a probe"), circuit.tick(opened + 40 * MS));
    let quick = circuit.admit().expect("another, as the first one hangs");
    circuit.ended(quick, &good());
    assert_eq!(circuit.position(), Position::Limited);
    circuit.ended(old, &bad());
    assert_eq!((circuit.position(), circuit.round()), (Position::Limited, 1));
}

#[test]
fn what_fails_late_of_what_began_before_a_pause_does_not_pause_the_app_again() {
    let in_flight = InFlight::new(64, 1_000);
    let circuit = circuit(&in_flight);
    let old: Vec<_> = (0..20).map(|_| circuit.admit().expect("closed")).collect();
    let opened = open(&circuit);
    circuit.tick(opened + 10 * MS);
    let probe = circuit.admit().expect("a probe");
    circuit.ended(probe, &good());
    for pass in old {
        circuit.ended(pass, &bad());
    }
    circuit.tick(Instant::now() + 60 * MS);
    assert_ne!(circuit.position(), Position::Open, "a connection that was lost in the pause is known to be lost now");
    let new: Vec<_> = (0..5).map(|_| circuit.admit().expect("limited")).collect();
    for pass in new {
        circuit.ended(pass, &bad());
    }
    circuit.tick(Instant::now() + 120 * MS);
    assert_eq!(circuit.position(), Position::Open, "what begins now and fails does");
}

#[test]
fn a_probe_that_no_new_push_takes_is_for_one_that_was_a_probe_before() {
    let in_flight = InFlight::new(64, 1_000);
    let circuit = circuit(&in_flight);
    assert!(!circuit.wants_probe(Instant::now()), "all is well");
    let opened = open(&circuit);
    assert!(!circuit.wants_probe(opened + 60_000 * MS), "not before the clock says so");
    circuit.tick(opened + 10 * MS);
    assert!(!circuit.wants_probe(opened + 1_009 * MS));
    assert!(circuit.wants_probe(opened + 1_010 * MS));
    assert!(matches!(circuit.admit_again(opened + 1_010 * MS), Some(Pass::Probe(1))));
    assert!(!circuit.wants_probe(opened + 60_000 * MS), "it is taken");
}

#[test]
fn a_failure_is_charged_when_others_succeeded_more_than_failed_and_never_in_an_outage() {
    let in_flight = InFlight::new(64, 1_000);
    let circuit = circuit(&in_flight);
    let run_of = |own: Refusal, ends: &[Attempt]| {
        let mark = circuit.mark();
        circuit.ended(Pass::Ordinary(0), &attempt(Verdict::Retry(own.clone()))); // the one in question
        for end in ends {
            circuit.ended(Pass::Ordinary(0), end);
        }
        circuit.others_succeeded(&mark, &own)
    };
    let run = |ends: &[Attempt]| run_of(refusal(), ends);
    let device = || attempt(Verdict::Retry(limited()));
    assert!(run(&[good(), device(), device()]), "who is refused for his device is neither");
    assert!(run_of(limited(), &[good(), bad()]) && !run_of(limited(), &[good(), bad(), bad()]));
    assert!(!run(&[]), "nobody else was there");
    assert!(run(&[good()]));
    assert!(run(&[good(), bad()]));
    assert!(!run(&[good(), bad(), bad()]), "most fail");
    let local = Attempt::local(Verdict::Resolved(Outcome::Expired(None)));
    assert!(!run(&[local]), "the provider was not asked");
    let mark = circuit.mark();
    circuit.ended(Pass::Ordinary(0), &good());
    let opened = open(&circuit);
    assert!(!circuit.others_succeeded(&mark, &refusal()), "an open breaker charges nobody");
    circuit.tick(opened + 10 * MS);
    let probe = circuit.admit().expect("a probe");
    circuit.ended(probe, &good());
    (0..9).for_each(|_| circuit.ended(Pass::Ordinary(0), &good()));
    assert!(!circuit.others_succeeded(&mark, &refusal()), "nor for what began before it opened");
}

#[test]
fn what_failed_with_all_is_mended_when_a_probe_passes_or_credentials_are_replaced() {
    let in_flight = InFlight::new(64, 1_000);
    let circuit = circuit(&in_flight);
    let before = circuit.mark();
    let opened = open(&circuit);
    assert!(circuit.is_paused_since(&before) && !circuit.is_mended_since(&before));
    circuit.tick(opened + 10 * MS);
    let (probe, within) = (circuit.admit().expect("a probe"), circuit.mark());
    assert!(!circuit.is_paused_since(&within), "it is a probe itself");
    circuit.ended(probe, &good());
    assert!(circuit.is_mended_since(&before) && circuit.is_mended_since(&within));
    let after = circuit.mark();
    assert!(!circuit.is_mended_since(&after));
    circuit.renewed(Instant::now());
    assert!(circuit.is_mended_since(&after));
}

#[test]
fn a_retry_without_leave_waits_and_a_limited_app_has_no_more_on_their_way_than_it_may() {
    let in_flight = InFlight::new(64, 1_000);
    let circuit = circuit(&in_flight);
    let now = Instant::now();
    assert_eq!(circuit.admit_again(now), Some(Pass::Ordinary(0)));
    in_flight.share("game").set_allowance(0);
    assert_eq!(circuit.admit_again(now), None);
    in_flight.share("game").set_allowance(usize::MAX);
    circuit.admit();
    let let_through = (0..2_000).filter(|_| circuit.admit_again(now).is_some()).count();
    assert!((990..=1_001).contains(&let_through), "what was saved up, and no more: {let_through}");
}

#[test]
fn refusals_of_credentials_open_it_like_any_failure() {
    let in_flight = InFlight::new(64, 1_000);
    let circuit = circuit(&in_flight);
    let refusal =
        Refusal { source: Source::Project, ..Refusal::local(Class::Configuration, "forbidden", "Forbidden", "") };
    for _ in 0..5 {
        circuit.ended(Pass::Ordinary(0), &attempt(Verdict::Hold(refusal.clone())));
    }
    circuit.tick(Instant::now() + 20 * MS);
    assert!(circuit.is_open());
}
