//! "Did you mean …?"

/// The candidate that is most like `name`, if any is like it enough to be worth suggesting.
pub fn nearest(name: &str, candidates: impl IntoIterator<Item = String>) -> Option<String> {
    // Below this, a suggestion confuses more often than it helps (tried with the typos of the tests).
    const ALIKE: f64 = 0.7;
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (likeness(&name, &candidate.to_lowercase()), candidate))
        .filter(|(alike, _)| *alike >= ALIKE)
        // The name itself breaks ties, so that the answer does not hang on the order of a map.
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)))
        .map(|(_, candidate)| candidate)
}

/// From 0 to 1. Words in another order or place (`queue.timeout.session`, a forgotten section) count as alike too.
fn likeness(a: &str, b: &str) -> f64 {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let whole = strsim::normalized_damerau_levenshtein(a, b);
    if a.contains('.') && last(a) == last(b) { whole.max(0.7) } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_recognised_and_strangers_are_not() {
        let known = ["queue.sessionTimeout", "queue.brokers", "stats.statsd.host", "log.level", "workers"];
        let near = |name| nearest(name, known.map(Into::into));
        assert_eq!(near("queue.sesionTimeout").as_deref(), Some("queue.sessionTimeout"));
        assert_eq!(near("queue.broker").as_deref(), Some("queue.brokers"));
        assert_eq!(near("statsd.host").as_deref(), Some("stats.statsd.host"));
        assert_eq!(near("logs.level").as_deref(), Some("log.level"));
        assert_eq!(near("Worker").as_deref(), Some("workers"));
        assert_eq!(near("database.password"), None);
    }
}
