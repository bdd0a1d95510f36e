use tokio::time::sleep;

use super::worker::PAUSE;
use super::*;
use crate::message::{Lane, Platform};
use crate::reporters::invalid_token::latch::{Entry, Watcher};
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
    async fn delete(&self, _: &str, _: Platform, tokens: &[InvalidToken], _: Duration) -> Result<Deleted, DeleteError> {
        sleep(self.delay).await;
        self.calls.lock().push(tokens.iter().map(|t| t.token.clone()).collect());
        let mut answers = self.answers.lock();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }

    async fn rows(&self, _: &str, _: Platform, _: Duration) -> Result<Option<u64>, DeleteError> {
        unreachable!("the worker's valve knows shares of answers, not of tables")
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
        retries: 3,
    }
}

fn start(fake: &Arc<Fake>) -> Arc<Handler> {
    start_with(fake, &Control::in_memory())
}

fn start_with(fake: &Arc<Fake>, control: &Control) -> Arc<Handler> {
    Arc::new(Handler::start(settings(), 2, fake.clone(), &Handle::current(), Stats::default(), control))
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
    sleep(PAUSE.0).await;
    assert_eq!(all(&handler, ["c".into()]).await, [Deletion::Done]);
}

#[tokio::test(start_paused = true)]
async fn a_table_whose_statements_fail_again_and_again_is_left_alone_and_no_other() {
    let fake = Fake::new(vec![Err(DeleteError::Conflict("locked".into()))]);
    let handler = start(&fake);
    healthy(&handler);
    assert_eq!(all(&handler, ["a".into()]).await, [Deletion::Deferred]);
    assert_eq!(fake.calls.lock().len(), 4);
    let began = Instant::now();
    assert_eq!(all(&handler, ["b".into()]).await, [Deletion::Deferred]);
    assert_eq!(began.elapsed(), Duration::ZERO, "known to be stuck: no wait");
    *fake.answers.lock() = vec![Ok(Deleted::default())];
    let other = Origin { app: "other".into(), ..origin() };
    (0..100).for_each(|_| handler.observe(&other, false));
    assert_eq!(handler.handle_token(&other, &token("a")).await, Deletion::Done);
    sleep(PAUSE.0).await;
    assert_eq!(all(&handler, ["c".into()]).await, [Deletion::Done]);
    assert_eq!(all(&handler, ["d".into()]).await, [Deletion::Done]);
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

/// Waits until the handlers have obeyed the entries.
async fn obeyed() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_valve_outlives_its_process_until_somebody_opens_it() {
    let (fake, control) = (Fake::new(vec![Ok(Deleted::default())]), Control::in_memory());
    let first = start_with(&fake, &control);
    (0..1000).for_each(|_| first.observe(&origin(), true));
    first.close(Duration::from_secs(1)).await;
    drop(first);

    let key = Watcher::Worker.key("apns", "game");
    let entry: Entry = control.state().get(&key).expect("an entry");
    assert!(entry.closed && entry.why.starts_with("100 % of the last answers"), "{entry:?}");
    let (second, third) = (start_with(&fake, &control), start_with(&fake, &control));
    obeyed().await;
    assert_eq!(all(&second, ["a".into()]).await, [Deletion::Withheld]);
    assert_eq!(all(&third, ["a".into()]).await, [Deletion::Withheld]);

    control.set(&key, &entry.opened(2, "somebody", "mended", None));
    obeyed().await;
    assert_eq!(all(&second, ["b".into()]).await, [Deletion::Done]);
    assert_eq!(all(&third, ["c".into()]).await, [Deletion::Done]);
}

#[tokio::test(start_paused = true)]
async fn workers_close_together_and_the_one_that_saw_it_opens() {
    let (fake, control) = (Fake::new(vec![Ok(Deleted::default())]), Control::in_memory());
    let (seeing, other) = (start_with(&fake, &control), start_with(&fake, &control));
    obeyed().await;
    other.observe(&origin(), false);
    (0..1000).for_each(|_| seeing.observe(&origin(), true));
    obeyed().await;
    assert_eq!(all(&other, ["a".into()]).await, [Deletion::Withheld]);
    (0..5000).for_each(|_| other.observe(&origin(), false));
    assert_eq!(all(&other, ["a".into()]).await, [Deletion::Withheld], "what it sees says nothing about the other");
    (0..5000).for_each(|_| seeing.observe(&origin(), false));
    obeyed().await;
    assert_eq!(all(&other, ["a".into()]).await, [Deletion::Done]);
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
