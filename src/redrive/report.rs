//! What a run came to, for people and for scripts. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::letter::Unfit;

/// Most letters that cannot be redriven which are named one by one.
const NAMED: usize = 10;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Nothing was changed: what would have been redriven is counted as redriven.
    pub dry_run: bool,
    /// Redriven, by the reason that they failed for.
    pub redriven: BTreeMap<String, u64>,
    /// Found redriven by an earlier run.
    pub before: u64,
    /// Left for another run: the filters did not ask for them.
    pub left: u64,
    /// A second letter of a record that had one in this run: nothing to do.
    pub repeated: u64,
    /// Left for another run: the partition that they came from is not there.
    pub homeless: u64,
    /// Never to be redriven: where they are, and why. Those beyond the first few are counted only.
    pub unfit: Vec<(String, &'static str)>,
    /// How many cannot be redriven.
    pub unfit_count: u64,
    /// Whether it was stopped before all was read.
    pub is_partial: bool,
}

impl Report {
    /// How many were redriven.
    pub fn total(&self) -> u64 {
        self.redriven.values().sum()
    }

    pub(super) fn unfit(&mut self, place: String, why: Unfit) {
        self.unfit_count += 1;
        if self.unfit.len() < NAMED {
            self.unfit.push((place, why.words()));
        }
    }

    /// One JSON object.
    pub fn line(&self) -> String {
        let Report { dry_run, redriven, before, left, repeated, homeless, unfit, unfit_count, is_partial } = self;
        let unfit: Vec<_> = unfit.iter().map(|(place, why)| json!({ "letter": place, "why": why })).collect();
        json!({
            "dryRun": dry_run, "redriven": self.total(), "reasons": redriven, "redrivenBefore": before, "left": left,
            "repeated": repeated, "withoutPartition": homeless, "cannotBeRedriven": unfit_count, "unfit": unfit,
            "partial": is_partial,
        })
        .to_string()
    }

    /// A few lines.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let would = if self.dry_run { "would be redriven" } else { "redriven" };
        let mut say = |count: u64, what: &str| {
            if count > 0 {
                let _ = writeln!(out, "{count:>9}  {what}");
            }
        };
        for (reason, count) in &self.redriven {
            say(*count, &format!("{would}: {reason}"));
        }
        say(self.before, "were redriven before");
        say(self.left, "left for another run: not asked for");
        say(self.repeated, "passed over: second letters of the same record");
        say(self.homeless, "left for another run: the partition that they came from is not there");
        say(self.unfit_count, "cannot be redriven:");
        for (place, why) in &self.unfit {
            let _ = writeln!(out, "           {place}: {why}");
        }
        if self.is_partial {
            out.push_str("stopped before the end: run it again to go on\n");
        }
        if out.is_empty() {
            out.push_str("no dead letters\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_scripts_are_told_the_same() {
        let mut report = Report {
            redriven: [("timeout".to_owned(), 9_500), ("internal".to_owned(), 1)].into(),
            before: 120,
            left: 380,
            homeless: 2,
            is_partial: true,
            ..Report::default()
        };
        report.unfit("deadletters-game-apns/0/17".into(), Unfit::Truncated);
        insta::assert_snapshot!(report.text());
        insta::assert_snapshot!(report.line(), @r#"{"cannotBeRedriven":1,"dryRun":false,"left":380,"partial":true,"reasons":{"internal":1,"timeout":9500},"redriven":9501,"redrivenBefore":120,"repeated":0,"unfit":[{"letter":"deadletters-game-apns/0/17","why":"kept without its payload, which was too large"}],"withoutPartition":2}"#);
        assert_eq!(Report::default().text(), "no dead letters\n");
    }
}
