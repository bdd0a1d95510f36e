//! Feedback records by Kafka: topic `push-<app>-<platform>-feedbacks`. How they are sent, and waited for, is the business of
//! `crate::reporters::kafka`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

mod settings;

pub use settings::{IGNORED, KEYS, Settings};

use super::topic_of;
use crate::config::ConfigError;
use crate::message::{Origin, Platform};
use crate::proof::Finding;
use crate::reporters::kafka::{Kind, Records};
use crate::reporters::stats::{Metric, Stats};
use crate::reporters::{Backlog, FeedbackFate, FeedbackReporter, Owed, Post, RecordSource};

const KIND: Kind = Kind {
    name: "feedback",
    section: settings::SECTION,
    truncated: Metric::FeedbackTruncated,
    lost: Metric::FeedbackLost,
    rebuilt: Metric::FeedbackProducerRebuilt,
    or_else: "",
};

/// The reporter.
#[derive(Debug)]
pub struct KafkaFeedback(Records);

impl KafkaFeedback {
    /// A producer for these settings. The broker need not be there.
    ///
    /// # Errors
    /// A client option that librdkafka does not know or take.
    pub fn new(settings: Settings, stats: Stats) -> Result<Self, ConfigError> {
        Records::new(KIND, settings.0, stats).map(KafkaFeedback)
    }

    /// Feedback topics that are missing or may not be written, as of the last attempt.
    pub fn refused_topics(&self) -> Vec<String> {
        self.0.refused_topics()
    }
}

#[async_trait]
impl FeedbackReporter for KafkaFeedback {
    async fn send_feedback(&self, origin: &Origin, record: &dyn RecordSource) -> FeedbackFate {
        self.0.send(&topic_of(origin), origin, record).await
    }

    fn post(&self) -> Option<&dyn Post> {
        self.0.may_post().then_some(self)
    }

    async fn inspect(&self, apps: &[(Arc<str>, Platform)], deadline: Duration) -> Vec<Finding> {
        self.0.inspect(apps.iter().map(|(app, platform)| super::topic(app, *platform)).collect(), deadline).await
    }

    async fn flush(&self, deadline: Duration) -> bool {
        self.0.flush(deadline).await
    }

    fn backlog(&self) -> Backlog {
        self.0.backlog()
    }
}

impl Post for KafkaFeedback {
    fn post(&self, owed: Box<dyn Owed>) {
        self.0.post(&topic_of(owed.origin()), owed);
    }
}
