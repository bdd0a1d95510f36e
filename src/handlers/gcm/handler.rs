//! One app's messages on one sender thread: read, sent, told.

use std::sync::Arc;

use super::client::Client;
use super::fields::Fields;
use super::{expires_at_ms, feedback, message};
use crate::clock;
use crate::handlers::record::About;
use crate::handlers::{BoxFuture, Gate, MessageHandler, RecordForm, turned_away, without_request};
use crate::message::QueueMessage;
use crate::outcome::{Attempt, Outcome};

/// Sends the pushes of one app on one sender thread.
pub(super) struct GcmHandler {
    pub(super) app: Arc<str>,
    pub(super) hostname: Arc<str>,
    pub(super) client: Client,
}

impl GcmHandler {
    fn attempt<'a>(&'a self, push: message::Push<'a>, gate: &'a dyn Gate) -> BoxFuture<'a, Attempt> {
        Box::pin(async move {
            match turned_away(gate, || push.subject()).await {
                Some(attempt) => attempt,
                None => self.client.send(&push, gate).await,
            }
        })
    }
}

impl MessageHandler for GcmHandler {
    fn handle<'a>(&'a self, message: &'a QueueMessage, _attempt: u32, gate: &'a dyn Gate) -> BoxFuture<'a, Attempt> {
        match message::read(message, clock::now_ms()) {
            Ok(push) => self.attempt(push, gate),
            Err(not_sent) => without_request(not_sent.into()),
        }
    }

    fn feedback(&self, message: &QueueMessage, outcome: &Outcome, form: RecordForm) -> Vec<u8> {
        let about = About::of(message, &self.app, &self.hostname, form);
        feedback::record(&Fields::of(message).unwrap_or_default(), outcome, &about)
    }

    fn metadata<'a>(&self, message: &'a QueueMessage) -> Option<&'a str> {
        Fields::of(message).ok()?.metadata
    }

    fn expires_at_ms(&self, message: &QueueMessage) -> Option<i64> {
        expires_at_ms(message)
    }

    fn client(&self) -> &'static str {
        "fcm"
    }

    fn own_latency(&self) -> Option<&'static str> {
        Some("firebase_latency")
    }
}
