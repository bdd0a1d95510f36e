use tokio::time::sleep;

use super::worker::AWAY_PAUSE;
use super::*;
use crate::message::Lane;
use crate::reporters::invalid_token::{DeleteError, Deleted};

/// Remembers what it was asked to delete and answers from a list; the last answer stays.
struct Fake {
    calls: Mutex<Vec<Vec<String>>>,
    answers: Mutex<Vec<Result<Deleted, DeleteError>>>,
    delay: Duration,
}

impl Fake {
    fn new(answers: Vec<Result<Deleted, DeleteError>>) -> Arc<Self> {
        Arc::new(Fake { calls: Mutex::default(), answers: Mutex::new(answers), delay: Duration::ZERO })
    }

    fn deleted(&self) -> usize {
        self.calls.lock().iter().map(Vec::len).sum()
    }
}

#[async_trait]
impl Deleter for Fake {
    async fn delete(&self, _: &str, _: Platform, tokens: &[InvalidToken]) -> Result<Deleted, DeleteError> {
        sleep(self.delay).await;
        self.calls.lock().push(tokens.iter().map(|t| t.token.clone()).collect());
        let mut answers = self.answers.lock();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }

    async fn close(&self) {}
}

fn origin() -> Origin {
    Origin {
        topic: "push-game_apns".into(),
        partition: 0,
        app: "game".into(),
        platform: Platform("apns"),
        lane: Lane::Single,
    }
}

fn token(text: &str) -> InvalidToken {
    InvalidToken { token: text.into(), unregistered_at_ms: None }
}

fn settings() -> Settings {
    Settings {
        max_share: 0.3,
        min_answers: 1000,
        batch_size: 3,
        batch_interval: Duration::from_millis(200),
        timeout: Duration::from_secs(5),
    }
}

fn start(fake: &Arc<Fake>) -> Arc<Handler> {
    let handler = Handler::start(settings(), 2, 3, fake.clone(), &Handle::current(), Stats::default());
    Arc::new(handler)
}

/// Answers one token after another, as delivery does: observed, then handled.
async fn all(handler: &Arc<Handler>, names: impl IntoIterator<Item = String>) -> Vec<Deletion> {
    let mut tasks = Vec::new();
    for name in names {
        handler.observe(&origin(), true);
        let handler = handler.clone();
        tasks.push(tokio::spawn(async move { handler.handle_token(&origin(), &token(&name)).await }));
        tokio::task::yield_now().await;
    }
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.unwrap());
    }
    ends
}

fn healthy(handler: &Handler) {
    (0..100).for_each(|_| handler.observe(&origin(), false));
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_goes_at_once_sorted_and_without_doubles() {
    let fake = Fake::new(vec![Ok(Deleted { rows: 2, nonexistent: 0 })]);
    let handler = start(&fake);
    healthy(&handler);
    let began = Instant::now();
    let ends = all(&handler, ["b", "a", "b"].map(String::from)).await;
    assert_eq!(ends, [Deletion::Done; 3]);
    assert_eq!(*fake.calls.lock(), [["a", "b"]]);
    assert!(began.elapsed() < Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn a_lone_token_waits_for_the_interval() {
    let fake = Fake::new(vec![Ok(Deleted::default())]);
    let handler = start(&fake);
    healthy(&handler);
    let began = Instant::now();
    assert_eq!(all(&handler, ["a".into()]).await, [Deletion::Done]);
    assert!((200..250).contains(&began.elapsed().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn a_deadlock_is_tried_again() {
    let fake = Fake::new(vec![Err(DeleteError::Conflict("deadlock".into())), Ok(Deleted::default())]);
    let handler = start(&fake);
    assert_eq!(all(&handler, ["a".into()]).await, [Deletion::Done]);
    assert_eq!(fake.calls.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_absent_database_defers_and_then_costs_nothing() {
    let fake = Fake::new(vec![Err(DeleteError::Away("refused".into()))]);
    let handler = start(&fake);
    healthy(&handler);
    assert_eq!(all(&handler, ["a".into()]).await, [Deletion::Deferred]);
    let began = Instant::now();
    assert_eq!(all(&handler, ["b".into()]).await, [Deletion::Deferred]);
    assert_eq!(began.elapsed(), Duration::ZERO, "known to be away: no wait");
    *fake.answers.lock() = vec![Ok(Deleted::default())];
    sleep(AWAY_PAUSE.0).await;
    assert_eq!(all(&handler, ["c".into()]).await, [Deletion::Done]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_database_holds_a_message_for_the_timeout_only() {
    let fake = Arc::new(Fake {
        calls: Mutex::default(),
        answers: Mutex::new(vec![Ok(Deleted::default())]),
        delay: Duration::from_hours(1),
    });
    let handler = start(&fake);
    let began = Instant::now();
    assert_eq!(all(&handler, ["a".into()]).await, [Deletion::Deferred]);
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_host_leaves_the_table_but_for_ten_rows() {
    let fake = Fake::new(vec![Ok(Deleted::default())]);
    let handler = start(&fake);
    let ends = all(&handler, (0..3000).map(|n| format!("{n:05}"))).await;
    assert_eq!(fake.deleted(), 10);
    assert_eq!(ends.iter().filter(|end| **end == Deletion::Done).count(), 10);
    assert_eq!(ends.iter().filter(|end| **end == Deletion::Withheld).count(), 2990);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_judgement_goes_when_the_share_clears() {
    let fake = Fake::new(vec![Ok(Deleted::default())]);
    let handler = start(&fake);
    let waiting = {
        let handler = handler.clone();
        tokio::spawn(async move { all(&handler, (0..20).map(|n| format!("{n:05}"))).await })
    };
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.deleted(), 10);
    healthy(&handler);
    assert_eq!(waiting.await.unwrap(), [Deletion::Done; 20]);
}

#[tokio::test(start_paused = true)]
async fn closing_deletes_what_was_collected() {
    let fake = Fake::new(vec![Ok(Deleted::default())]);
    let handler = start(&fake);
    let waiting = {
        let handler = handler.clone();
        tokio::spawn(async move { all(&handler, ["a".into()]).await })
    };
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    handler.close(Duration::from_secs(1)).await;
    assert_eq!(waiting.await.unwrap(), [Deletion::Done]);
    assert_eq!(all(&handler, ["b".into()]).await, [Deletion::Deferred], "closed: nothing is taken any more");
}
