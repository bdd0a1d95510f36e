//! A Sentry that is there and says nothing, beside a worker that has something to tell it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::{AnswerFault, Faults};

use crate::support::eventually;
use crate::support::flow::{Ends, LONG};
use crate::support::worker::Worker;

/// Far above what the program gives its last alarms, and below what it gives its last messages.
const PROMPT: Duration = Duration::from_secs(15);

#[test]
fn a_sentry_that_does_not_answer_holds_up_neither_pushes_nor_the_end() {
    let sentry = TcpListener::bind("127.0.0.1:0").expect("a port");
    let refusing = Faults { answers: vec![AnswerFault::all(503, "ServiceUnavailable")], ..Faults::default() };
    let mut ends = Ends::<Simulator>::start(refusing);
    let dsn = format!("http://key@{}/1", sentry.local_addr().expect("its address"));
    let settings = ends.settings().into_iter().chain([("sentry.url".to_owned(), dsn)]);
    let environment: Vec<_> =
        settings.map(|(key, value)| (format!("PUSHER_{}", key.to_uppercase().replace('.', "_")), value)).collect();
    let mut worker = Worker::start("apns", &environment);
    ends.produce(Ends::<Simulator>::calm(500));
    eventually("the alarm", LONG, || worker.has_said("the breaker is open").then_some(()));
    // The connection of that alarm stays open and unanswered to the end.
    let (_silent, _) = sentry.accept().expect("the alarm on its way");
    ends.simulator.handle().set_faults(Faults::default()).expect("valid");
    worker.until("all accepted", LONG, || ends.is_settled("game").then_some(()));
    let began = Instant::now();
    assert_eq!(worker.stop().delivered, 500);
    assert!(began.elapsed() < PROMPT, "the end took {:?}", began.elapsed());
}
