//! How our partitions stand, on the page.

use super::{Page, family};
use crate::queue::Standing;

/// Writes what the queue told at the last strike of its commit clock.
pub fn write(page: &mut Page, standing: &Standing) {
    page.gauge(&family::COMMIT_LAG, &[], standing.uncommitted_for.as_secs_f64());
    for topic in &standing.topics {
        let origin = &topic.origin;
        let labels = [&*origin.app, origin.platform.0, origin.lane.as_str(), &*origin.topic];
        page.gauge(&family::PARTITIONS, &labels, topic.partitions.len() as f64);
        page.gauge(&family::MAP_BYTES, &labels, topic.map_bytes as f64);
        if let Some(backlog) = topic.backlog {
            page.gauge(&family::BACKLOG, &labels, backlog as f64);
        }
        page.gauge(&family::BACKLOG_AGE, &labels, topic.oldest.unwrap_or_default().as_secs_f64());
        if let Some(retention) = topic.retention {
            page.gauge(&family::RETENTION, &labels, retention.as_secs_f64());
        }
    }
}
