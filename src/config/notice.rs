//! What is odd about a configuration and yet no reason to stop.

use std::fmt;
use std::path::PathBuf;

/// One line for the log at start. Holds no value, so it cannot show a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// There is no file at the usual place; only the environment was read.
    NoFile(PathBuf),
    /// Nobody reads this name.
    Unknown {
        /// Key or variable as written.
        name: String,
        /// Line of the file; `None` for a variable.
        line: Option<usize>,
        /// The known name that is most like it.
        nearest: Option<String>,
    },
    /// A key for an app that is in no list of apps.
    UnknownApp {
        /// The key as written.
        name: String,
        /// Line of the file.
        line: Option<usize>,
        /// The keys that list apps.
        lists: String,
    },
    /// An old or misspelt name that is understood.
    Renamed {
        /// As written.
        written: String,
        /// The key it means.
        name: String,
    },
    /// Names of the original that change nothing here.
    NoEffect {
        /// As written.
        names: Vec<String>,
        /// Why.
        because: String,
    },
}

impl Notice {
    /// Joins the names that have no effect for the same reason, so that a file of the original gives a few lines.
    pub(super) fn gathered(notices: Vec<Notice>) -> Vec<Notice> {
        let mut gathered: Vec<Notice> = Vec::new();
        for notice in notices {
            if let Notice::NoEffect { names: more, because } = &notice {
                let same = gathered.iter_mut().find_map(|one| match one {
                    Notice::NoEffect { names, because: known } if known == because => Some(names),
                    _ => None,
                });
                if let Some(names) = same {
                    names.extend(more.iter().cloned());
                    continue;
                }
            }
            if !gathered.contains(&notice) {
                gathered.push(notice);
            }
        }
        gathered
    }

    /// Whether it deserves a warning; else it is for information.
    pub fn is_warning(&self) -> bool {
        !matches!(self, Notice::NoFile(_))
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |line: &Option<usize>| line.map_or_else(String::new, |line| format!(" (line {line})"));
        match self {
            Notice::NoFile(path) => {
                write!(f, "no configuration file {}: reading the environment only", path.display())
            }
            Notice::Unknown { name, line, nearest: Some(nearest) } => {
                write!(f, "{name}{}: unknown, did you mean {nearest}?", place(line))
            }
            Notice::Unknown { name, line, nearest: None } => write!(f, "{name}{}: unknown, not used", place(line)),
            Notice::UnknownApp { name, line, lists } => {
                write!(f, "{name}{}: not used, because {lists} does not list this app", place(line))
            }
            Notice::Renamed { written, name } => write!(f, "{written}: read as {name}, which is its name now"),
            Notice::NoEffect { names, because } => {
                write!(f, "{}: accepted, no effect, because {because}", names.join(", "))
            }
        }
    }
}
