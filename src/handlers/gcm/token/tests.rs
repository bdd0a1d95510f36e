//! Keeping a token fresh, in paused time, with a source that answers as told.

use std::collections::VecDeque;

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::time::{advance, sleep};
use tokio_util::sync::CancellationToken;

use super::pace::{AHEAD, ENDPOINT_PAUSES, LONGEST_WISH};
use super::*;

/// Answers as told; the last answer again and again. Each takes a tenth of a second.
struct Told {
    answers: Mutex<VecDeque<Result<u64, FetchError>>>,
    asked: Mutex<Vec<Instant>>,
}

impl Source for Told {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, FetchError>> {
        Box::pin(async {
            self.asked.lock().push(Instant::now());
            sleep(Duration::from_millis(100)).await;
            let mut answers = self.answers.lock();
            let answer = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
            answer.map(|seconds| {
                let number = self.asked.lock().len();
                let authorization = HeaderValue::try_from(format!("Bearer {number}")).unwrap();
                Fetched { authorization, lifetime: Duration::from_secs(seconds) }
            })
        })
    }
}

struct Setup {
    token: Arc<AccessToken>,
    source: Arc<Told>,
    stop: CancellationToken,
}

impl Setup {
    fn new(answers: impl IntoIterator<Item = Result<u64, FetchError>>) -> Setup {
        let answers = Mutex::new(answers.into_iter().collect());
        let source = Arc::new(Told { answers, asked: Mutex::default() });
        let (token, stop) = (Arc::new(AccessToken::new()), CancellationToken::new());
        tokio::spawn(keep_fresh(token.clone(), source.clone(), "test".into(), stop.clone()));
        Setup { token, source, stop }
    }

    async fn current(&self) -> Result<String, Refusal> {
        self.token.current().await.map(|token| token.authorization.to_str().unwrap().to_owned())
    }

    fn asked(&self) -> usize {
        self.source.asked.lock().len()
    }
}

fn endpoint_fails() -> Result<u64, FetchError> {
    Err(FetchError::endpoint("the endpoint failed"))
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_at_the_start_get_the_token_of_one_fetch() {
    let setup = Setup::new([Ok(3600)]);
    let all = futures_util::future::join_all((0..1000).map(|_| setup.current())).await;
    assert!(all.iter().all(|token| token.as_deref() == Ok("Bearer 1")));
    assert_eq!(setup.asked(), 1);
}

/// A source that replaces another, with the token that it has given already.
fn install(setup: &Setup, seconds: u64) -> Arc<Told> {
    let (answers, asked) = (Mutex::new([Ok(3600)].into()), Mutex::new(vec![Instant::now()]));
    let source = Arc::new(Told { answers, asked });
    let authorization = HeaderValue::from_static("Bearer first of the new");
    let fetched = Fetched { authorization, lifetime: Duration::from_secs(seconds) };
    setup.token.install(source.clone(), fetched, Instant::now());
    source
}

#[tokio::test(start_paused = true)]
async fn another_source_comes_with_its_token_and_renews_it_when_it_is_due() {
    let setup = Setup::new([Ok(3600)]);
    assert_eq!(setup.current().await.unwrap(), "Bearer 1");
    let old = setup.token.current().await.unwrap();
    let new = install(&setup, 1000);
    assert_eq!(setup.current().await.unwrap(), "Bearer first of the new");
    let instead = setup.token.instead_of(&old).await.unwrap().unwrap();
    assert_eq!(instead.authorization, "Bearer first of the new", "a push that the old one was refused for");
    advance(Duration::from_mins(15)).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.current().await.unwrap(), "Bearer 2");
    assert_eq!((setup.asked(), new.asked.lock().len()), (1, 2));
}

/// The old credentials are refused, and their task rests: what replaces them ends that at once.
#[tokio::test(start_paused = true)]
async fn another_source_ends_the_trouble_of_the_old_one() {
    let setup = Setup::new([Err(FetchError::credentials("revoked"))]);
    assert_eq!(setup.current().await.unwrap_err().key, "credentials-refused");
    install(&setup, 3600);
    assert_eq!(setup.current().await.unwrap(), "Bearer first of the new");
    let asked = setup.asked();
    sleep(Duration::from_mins(10)).await;
    assert_eq!((setup.current().await.unwrap().as_str(), setup.asked()), ("Bearer first of the new", asked));
}

#[tokio::test(start_paused = true)]
async fn what_the_old_source_was_asked_for_is_not_looked_at() {
    let setup = Setup::new([Ok(3600)]);
    sleep(Duration::from_millis(50)).await; // within the first answer's tenth of a second
    assert_eq!(setup.asked(), 1);
    install(&setup, 3600);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(setup.current().await.unwrap(), "Bearer first of the new");
}

#[tokio::test(start_paused = true)]
async fn it_is_replaced_ahead_of_its_end_and_no_push_waits() {
    let setup = Setup::new([Ok(3600)]);
    assert_eq!(setup.current().await.unwrap(), "Bearer 1");
    advance(Duration::from_secs(3600 - 300 - 80)).await;
    assert_eq!(setup.asked(), 1);
    sleep(Duration::from_secs(90)).await;
    assert_eq!((setup.asked(), setup.current().await.unwrap().as_str()), (2, "Bearer 2"));
}

#[tokio::test(start_paused = true)]
async fn short_lives_under_load_cost_one_fetch_each() {
    let setup = Setup::new([Ok(20)]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(200) {
        assert!(setup.current().await.is_ok());
        sleep(Duration::from_millis(37)).await;
    }
    // Each lives 20 s and is replaced after 13.75 to 15 s.
    assert!((13..=16).contains(&setup.asked()), "{}", setup.asked());
}

#[tokio::test(start_paused = true)]
async fn the_old_one_is_kept_while_the_endpoint_fails_and_to_its_end() {
    let setup = Setup::new([Ok(3600), endpoint_fails()]);
    assert_eq!(setup.current().await.unwrap(), "Bearer 1");
    sleep(Duration::from_secs(3590)).await;
    assert!(setup.asked() > 3);
    assert_eq!(setup.current().await.unwrap(), "Bearer 1");
    sleep(Duration::from_secs(20)).await;
    let refusal = setup.current().await.unwrap_err();
    assert_eq!((refusal.key, refusal.class, refusal.source), ("no-access-token", Class::Provider, Where::Project));
    *setup.source.answers.lock() = VecDeque::from([Ok(3600)]);
    sleep(refusal.retry_after.unwrap() + Duration::from_millis(101)).await;
    assert!(setup.current().await.is_ok(), "after the wait that the refusal names, it is tried");
}

#[tokio::test(start_paused = true)]
async fn without_an_endpoint_nobody_waits_long_and_it_is_not_hammered() {
    let setup = Setup::new([endpoint_fails()]);
    let before = Instant::now();
    assert_eq!(setup.current().await.unwrap_err().key, "no-access-token");
    assert_eq!(before.elapsed(), Duration::from_millis(100));
    assert_eq!(setup.current().await.unwrap_err().key, "no-access-token");
    assert_eq!(before.elapsed(), Duration::from_millis(100), "known trouble is not waited for");
    sleep(Duration::from_mins(10)).await;
    assert!((60..130).contains(&setup.asked()), "{}", setup.asked());
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_hold_the_pushes() {
    let setup = Setup::new([Err(FetchError::credentials("invalid_grant"))]);
    let refusal = setup.current().await.unwrap_err();
    assert_eq!((refusal.key, refusal.class), ("credentials-refused", Class::Configuration));
    assert!(matches!(verdict(refusal), Verdict::Hold(_)));
    sleep(Duration::from_mins(30)).await;
    assert!((180..370).contains(&setup.asked()), "{}", setup.asked());
}

#[tokio::test(start_paused = true)]
async fn a_silent_endpoint_is_given_up_and_tried_again() {
    struct Silent;
    impl Source for Silent {
        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, FetchError>> {
            Box::pin(std::future::pending())
        }
    }
    let token = Arc::new(AccessToken::new());
    tokio::spawn(keep_fresh(token.clone(), Arc::new(Silent), "test".into(), CancellationToken::new()));
    let before = Instant::now();
    assert_eq!(token.current().await.unwrap_err().key, "no-access-token");
    assert_eq!(before.elapsed(), PATIENCE);
    sleep(FETCH_TIMEOUT).await;
    assert!(token.current().await.unwrap_err().description.contains("10s"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_one_is_replaced_once_for_all_and_a_young_unproven_one_never() {
    let setup = Setup::new([Ok(3600)]);
    let first = setup.token.current().await.unwrap();
    assert!(setup.token.instead_of(&first).await.unwrap().is_none(), "another would fare no better");
    first.accepted();
    sleep(Duration::from_secs(2)).await;
    let all = futures_util::future::join_all((0..100).map(|_| setup.token.instead_of(&first))).await;
    for new in all {
        assert_eq!(new.unwrap().unwrap().authorization, "Bearer 2");
    }
    assert_eq!(setup.asked(), 2);
    let second = setup.token.current().await.unwrap();
    assert!(setup.token.instead_of(&second).await.unwrap().is_none());
    assert_eq!(setup.token.instead_of(&first).await.unwrap().unwrap().authorization, "Bearer 2");
    assert_eq!(setup.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_a_refused_one_cannot_be_replaced_it_stays_in_use() {
    let setup = Setup::new([Ok(3600), endpoint_fails(), Ok(3600)]);
    let first = setup.token.current().await.unwrap();
    first.accepted();
    assert_eq!(setup.token.instead_of(&first).await.unwrap_err().key, "no-access-token");
    assert_eq!(setup.current().await.unwrap(), "Bearer 1", "it may be one server that errs");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(setup.current().await.unwrap(), "Bearer 3");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_again_while_its_endpoint_rests_is_waited_for_without_a_task() {
    let rests = FetchError { retry_after: Some(Duration::from_mins(5)), ..FetchError::endpoint("too many requests") };
    let setup = Setup::new([Ok(3600), Err(rests), Ok(3600)]);
    let first = setup.token.current().await.unwrap();
    first.accepted();
    for _ in 0..2 {
        assert_eq!(setup.token.instead_of(&first).await.unwrap_err().key, "no-access-token");
    }
    let refusal = setup.token.current().await.unwrap_err();
    assert!(refusal.retry_after > Some(Duration::from_mins(4)), "{refusal:?}");
    assert!(setup.token.at_hand().is_none());
    sleep(refusal.retry_after.unwrap() + Duration::from_secs(1)).await;
    assert_eq!(setup.current().await.unwrap(), "Bearer 3");
}

/// Gives one token, and no answer any more.
struct FallsSilent(Mutex<bool>);

impl Source for FallsSilent {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, FetchError>> {
        Box::pin(async {
            if std::mem::replace(&mut *self.0.lock(), true) {
                std::future::pending::<()>().await;
            }
            let authorization = HeaderValue::from_static("Bearer 1");
            Ok(Fetched { authorization, lifetime: Duration::from_hours(1) })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_beside_a_silent_endpoint_holds_pushes_up_and_fails_none() {
    let (token, stop) = (Arc::new(AccessToken::new()), CancellationToken::new());
    tokio::spawn(keep_fresh(token.clone(), Arc::new(FallsSilent(Mutex::new(false))), "test".into(), stop));
    let first = token.current().await.unwrap();
    first.accepted();
    let (refused, other) = tokio::join!(token.instead_of(&first), async {
        sleep(Duration::from_millis(10)).await;
        assert!(token.at_hand().is_none(), "it is being replaced");
        token.current().await
    });
    assert_eq!(refused.unwrap_err().key, "no-access-token");
    assert_eq!(other.unwrap().authorization, "Bearer 1", "nothing better was found: it may be one server that errs");
}

#[tokio::test(start_paused = true)]
async fn a_refused_one_of_another_source_is_replaced_as_soon() {
    let setup = Setup::new([Ok(3600)]);
    setup.current().await.unwrap();
    install(&setup, 3600);
    let first = setup.token.current().await.unwrap();
    first.accepted();
    sleep(Duration::from_mins(1)).await;
    let begun = Instant::now();
    assert_eq!(setup.token.instead_of(&first).await.unwrap().unwrap().authorization, "Bearer 2");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_told_to() {
    let setup = Setup::new([Ok(1)]);
    assert!(setup.current().await.is_ok());
    setup.stop.cancel();
    sleep(Duration::from_mins(10)).await;
    assert!(setup.asked() <= 2);
}

proptest! {
    #[test]
    fn a_replacement_begins_within_the_life_and_pauses_are_bounded(
        life in 0u64..100_000, failures in 0u32..100, random in any::<u64>(), wish in proptest::option::of(0u64..100_000),
    ) {
        let life = Duration::from_secs(life);
        let after = replace_after(life, random);
        prop_assert!(after <= life && life.saturating_sub(after) <= AHEAD * 5 / 4 + Duration::from_millis(1));
        for class in [Class::Provider, Class::Configuration] {
            let error = FetchError { class, detail: String::new(), retry_after: wish.map(Duration::from_secs) };
            let pause = pause_after(&error, failures, random);
            prop_assert!(pause >= ENDPOINT_PAUSES.0 / 2 && pause <= LONGEST_WISH);
        }
    }
}
