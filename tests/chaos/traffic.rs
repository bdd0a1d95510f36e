//! Pushes that come in steadily, as an app's producers send them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use pusher::generate::produce::LineProducer;

use super::provider::Messages;
use super::side::Meter;

/// A thread that produces until it is stopped or has nothing left.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Traffic {
    /// Produces these messages, so many per second (`None`: as fast as it goes), and notes each in the books first.
    pub(crate) fn start(
        brokers: &str,
        topic: &str,
        rate: Option<u32>,
        messages: Messages,
        meter: Arc<Meter>,
    ) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut producer) = (stop.clone(), LineProducer::new(brokers, topic, rate).expect("a producer"));
        let thread = std::thread::spawn(move || {
            for push in messages.take_while(|_| !stopped.load(Relaxed)) {
                let delivered = meter.books.lock().note(&push);
                producer.send(push.line.as_bytes()).expect("produced");
                meter.offered.fetch_add(u64::from(delivered), Relaxed);
                meter.produced.fetch_add(1, Relaxed);
            }
            producer.flush().expect("the broker has everything");
            producer.sent()
        });
        Traffic { stop, thread }
    }

    /// Ends it, waits until Kafka has everything, and says how many that were.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the producer's thread")
    }
}
