//! Who waits for a place. First come, first served; one wake-up per place.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::SendError;

/// Waiters that gave up are swept out when the queue has grown to this, then to twice what was left.
const SWEEP_AT: usize = 64;

/// Somebody who waits for a place.
pub(super) type Waiter<T> = oneshot::Sender<Result<T, SendError>>;

/// Those who wait for a place, first come, first served.
pub(super) struct Waiters<T> {
    queue: VecDeque<Waiter<T>>,
    sweep_at: usize,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Waiters { queue: VecDeque::new(), sweep_at: SWEEP_AT }
    }
}

impl<T> Waiters<T> {
    /// Joins the queue.
    pub(super) fn push(&mut self, waiter: Waiter<T>) {
        if self.queue.len() >= self.sweep_at {
            self.queue.retain(|waiter| !waiter.is_closed());
            self.sweep_at = (self.queue.len() * 2).max(SWEEP_AT);
        }
        self.queue.push_back(waiter);
    }

    /// The first who still waits, left in the queue.
    pub(super) fn has_next(&mut self) -> bool {
        while self.queue.front().is_some_and(oneshot::Sender::is_closed) {
            self.queue.pop_front();
        }
        !self.queue.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<Waiter<T>> {
        self.queue.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// All of them, in order.
    pub(super) fn drain(&mut self) -> Vec<Waiter<T>> {
        self.queue.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_that_gave_up_are_passed_over_and_do_not_pile_up() {
        let mut waiters = Waiters::<()>::default();
        for _ in 0..10_000 {
            let (sender, _gone) = oneshot::channel();
            waiters.push(sender);
        }
        assert!(waiters.len() <= SWEEP_AT, "{}", waiters.len());
        let (sender, mut receiver) = oneshot::channel();
        waiters.push(sender);
        assert!(waiters.has_next());
        waiters.pop().unwrap().send(Ok(())).ok().unwrap();
        assert!(receiver.try_recv().unwrap().is_ok());
        assert!(!waiters.has_next());
    }
}
