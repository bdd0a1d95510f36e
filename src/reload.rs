//! Files whose content is in use, and that are taken into use anew when it changes: keys, accounts, certificates to trust.
//!
//! They are compared by content and not by the system's word of changes: a mounted secret changes by an exchange of links
//! above it, a network's file system says nothing, and a copy of the same content changes nothing. Of the content a
//! fingerprint is kept, and not the secret. What takes it into use is the owner's; it tries the content first, and what it
//! refuses leaves the old one in force. Depends on nothing of ours.

use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

/// What a file held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print(u64);

impl Print {
    /// Of this content.
    pub fn of(content: &[u8]) -> Print {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Print(hasher.finish())
    }
}

/// Why new content is not taken into use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong with it. Holds no secret.
    pub rule: String,
    /// Whether the same content may be good a while later.
    pub again: bool,
}

impl Refused {
    /// The content is no good.
    pub fn for_good(rule: impl Into<String>) -> Refused {
        Refused { rule: rule.into(), again: false }
    }

    /// It is not good now.
    pub fn for_now(rule: impl Into<String>) -> Refused {
        Refused { rule: rule.into(), again: true }
    }
}

/// The end of taking content into use.
pub type Taking = Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>;
/// Takes the files' contents into use, in the files' order, or leaves everything as it is.
pub type Take = Box<dyn Fn(Vec<Vec<u8>>) -> Taking + Send + Sync>;

/// Files that hold one thing together, for instance the copies of one key that several apps have.
pub struct Watched {
    key: String,
    apps: Vec<Arc<str>>,
    files: Vec<PathBuf>,
    in_use: Vec<Print>,
    refused: Option<Refusal>,
    take: Take,
}

/// What was refused last.
struct Refusal {
    /// What was there; `None` for a file that could not be read.
    prints: Vec<Option<Print>>,
    again: bool,
}

/// What a look at them came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Same,
    /// New content is in use.
    Taken,
    /// The files hold again what is in use.
    Restored,
    /// New content is refused, for this reason; told once for each content.
    Refused(String),
}

impl Watched {
    /// `files` with what of them is in use; `key` names them in the configuration, `apps` are who depends on them.
    pub fn new(key: impl Into<String>, apps: Vec<Arc<str>>, files: Vec<(PathBuf, Print)>, take: Take) -> Watched {
        let (files, in_use) = files.into_iter().unzip();
        Watched { key: key.into(), apps, files, in_use, refused: None, take }
    }

    /// The key that names the (first) file in the configuration.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Who depends on them.
    pub fn apps(&self) -> &[Arc<str>] {
        &self.apps
    }

    /// Whether what is there is refused.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Looks at the files, and takes what is new in them into use.
    pub async fn look(&mut self) -> Look {
        let mut read = Vec::with_capacity(self.files.len());
        for file in &self.files {
            read.push(tokio::fs::read(file).await);
        }
        let prints: Vec<_> = read.iter().map(|one| one.as_ref().ok().map(|content| Print::of(content))).collect();
        if prints.iter().copied().eq(self.in_use.iter().copied().map(Some)) {
            return if self.refused.take().is_some() { Look::Restored } else { Look::Same };
        }
        let known = self.refused.as_ref().filter(|refused| refused.prints == prints);
        let is_news = known.is_none();
        if known.is_some_and(|refused| !refused.again) {
            return Look::Same;
        }
        let contents: Result<Vec<_>, _> = read.into_iter().zip(&self.files).map(readable).collect();
        let taken = match contents {
            Ok(contents) => (self.take)(contents).await,
            Err(rule) => Err(Refused::for_good(rule)),
        };
        match taken {
            Ok(()) => {
                self.in_use = prints.into_iter().flatten().collect();
                self.refused = None;
                Look::Taken
            }
            Err(Refused { rule, again }) => {
                self.refused = Some(Refusal { prints, again });
                if is_news { Look::Refused(rule) } else { Look::Same }
            }
        }
    }
}

fn readable((read, file): (std::io::Result<Vec<u8>>, &PathBuf)) -> Result<Vec<u8>, String> {
    read.map_err(|error| cannot_be_read(file, &error))
}

/// The words for a file that cannot be read.
fn cannot_be_read(file: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {error}", file.display())
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("key", &self.key).field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use parking_lot::Mutex;

    use super::*;

    /// Takes what begins with `good`; refuses `later` for now, and the rest for good.
    fn watched(files: &[&Path]) -> (Watched, Arc<Mutex<Vec<String>>>) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = taken.clone();
        let take = move |contents: Vec<Vec<u8>>| -> Taking {
            let text = contents.iter().map(|one| String::from_utf8_lossy(one)).collect::<Vec<_>>().join("+");
            let result = if text.starts_with("good") {
                into.lock().push(text);
                Ok(())
            } else if text.starts_with("later") {
                into.lock().push("asked".into());
                Err(Refused::for_now("not granted"))
            } else {
                Err(Refused::for_good("no key"))
            };
            Box::pin(std::future::ready(result))
        };
        let files = files.iter().map(|file| (file.to_path_buf(), Print::of(&fs::read(file).unwrap()))).collect();
        (Watched::new("a.key", vec!["game".into()], files, Box::new(take)), taken)
    }

    fn folder(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, content).unwrap();
        (folder, file)
    }

    #[tokio::test]
    async fn new_content_is_taken_once_and_a_copy_of_the_old_is_nothing_new() {
        let (_folder, file) = folder("first");
        let (mut watched, taken) = watched(&[&file]);
        assert_eq!(watched.look().await, Look::Same);
        fs::write(&file, "first").unwrap();
        assert_eq!(watched.look().await, Look::Same);
        fs::write(&file, "good two").unwrap();
        assert_eq!((watched.look().await, watched.look().await), (Look::Taken, Look::Same));
        assert_eq!(*taken.lock(), ["good two"]);
    }

    #[tokio::test]
    async fn what_is_refused_is_told_once_and_healed_by_good_content_or_the_old() {
        let (_folder, file) = folder("first");
        let (mut watched, taken) = watched(&[&file]);
        fs::write(&file, "bad").unwrap();
        assert_eq!((watched.look().await, watched.look().await), (Look::Refused("no key".into()), Look::Same));
        assert!(watched.is_refused());
        fs::write(&file, "worse").unwrap();
        assert_eq!(watched.look().await, Look::Refused("no key".into()));
        fs::write(&file, "first").unwrap();
        assert_eq!((watched.look().await, watched.is_refused()), (Look::Restored, false));
        fs::remove_file(&file).unwrap();
        let Look::Refused(why) = watched.look().await else { panic!("a file that is gone") };
        assert!(why.contains("cannot be read") && why.contains("key"), "{why}");
        assert_eq!(watched.look().await, Look::Same);
        fs::write(&file, "good again").unwrap();
        assert_eq!((watched.look().await, watched.is_refused()), (Look::Taken, false));
        assert_eq!(*taken.lock(), ["good again"]);
    }

    #[tokio::test]
    async fn what_is_refused_for_now_is_tried_at_each_look_and_told_once() {
        let (_folder, file) = folder("first");
        let (mut watched, taken) = watched(&[&file]);
        fs::write(&file, "later").unwrap();
        assert_eq!(watched.look().await, Look::Refused("not granted".into()));
        assert_eq!((watched.look().await, watched.look().await), (Look::Same, Look::Same));
        assert_eq!(*taken.lock(), ["asked", "asked", "asked"]);
    }

    /// As Kubernetes mounts secrets: each file is a link into `..data`, itself a link that is exchanged.
    #[tokio::test]
    async fn an_exchange_of_links_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, content) in [("..1", "first"), ("..2", "good two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("key"), content).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        let (mut watched, taken) = watched(&[&at("key")]);
        assert_eq!(watched.look().await, Look::Same);
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(watched.look().await, Look::Taken);
        assert_eq!(*taken.lock(), ["good two"]);
    }

    #[tokio::test]
    async fn files_that_hold_one_thing_are_taken_together() {
        let (_one, first) = folder("first");
        let (_two, second) = folder("first");
        let (mut watched, taken) = watched(&[&first, &second]);
        fs::write(&second, "good").unwrap();
        assert_eq!(watched.look().await, Look::Refused("no key".into()), "first+good");
        fs::write(&first, "good").unwrap();
        assert_eq!(watched.look().await, Look::Taken);
        assert_eq!(*taken.lock(), ["good+good"]);
    }
}
