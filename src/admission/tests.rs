//! Decisions, over stores that do as they are told.

use parking_lot::Mutex;

use super::*;

/// Answers the same to everybody and remembers what it was asked.
struct Told {
    answer: Answer,
    said: Mutex<Vec<String>>,
}

impl Told {
    fn to(answer: Answer) -> Arc<Told> {
        Arc::new(Told { answer, said: Mutex::default() })
    }
}

#[async_trait]
impl RateLimiter for Told {
    async fn allow(&self, device: &str, _: Uuid) -> Answer {
        self.said.lock().push(device.to_owned());
        self.answer
    }
}

#[async_trait]
impl Dedup for Told {
    async fn is_unique(&self, _: ContentKey, _: Uuid) -> Answer {
        self.said.lock().push("unique?".into());
        self.answer
    }

    fn forget(&self, _: ContentKey, _: Uuid) {
        self.said.lock().push("forget".into());
    }
}

async fn decide(dedup: Answer, limit: Answer) -> (Decision, Vec<String>, Vec<String>) {
    let (dedup, limit) = (Told::to(dedup), Told::to(limit));
    let shares = Shares::new([("game".to_owned(), 100)]);
    let admission = Admission::new(Some(limit.clone()), Some(dedup.clone()), shares);
    let decision = admission.decide("game", "device", &["content"], Uuid::nil().into()).await;
    let said = |told: &Told| told.said.lock().clone();
    (decision, said(&dedup), said(&limit))
}

#[tokio::test]
async fn a_unique_push_within_the_limit_goes_with_its_claim() {
    let (decision, dedup, limit) = decide(Answer::Yes, Answer::Yes).await;
    let claim = Some(ContentKey::of("device", &["content"]));
    assert_eq!(decision, Decision { claim, ..Decision::default() });
    assert_eq!((dedup, limit), (vec!["unique?".into()], vec!["device".into()]));
}

#[tokio::test]
async fn a_duplicate_does_not_pay_the_limit() {
    let (decision, _, limit) = decide(Answer::No, Answer::Yes).await;
    assert_eq!((decision.refused, decision.claim), (Some(Refused::Duplicate), None));
    assert_eq!(limit, Vec::<String>::new());
}

#[tokio::test]
async fn a_push_over_the_limit_gives_its_claim_back() {
    let (decision, dedup, _) = decide(Answer::Yes, Answer::No).await;
    assert_eq!((decision.refused, decision.claim), (Some(Refused::Limited), None));
    assert_eq!(dedup, ["unique?", "forget"]);
}

#[tokio::test]
async fn what_is_not_known_goes_and_is_told() {
    let (decision, ..) = decide(Answer::Unknown, Answer::Unknown).await;
    assert_eq!((decision.refused, decision.limit_failed, decision.dedup_failed), (None, true, true));
    assert!(decision.claim.is_some(), "the claim may have been made");
}

#[tokio::test]
async fn devices_outside_of_the_share_are_limited_and_not_compared() {
    let (dedup, limit) = (Told::to(Answer::No), Told::to(Answer::Yes));
    let admission = Admission::new(Some(limit.clone()), Some(dedup), Shares::new([("other".to_owned(), 100)]));
    assert_eq!(admission.decide("game", "device", &[""], Uuid::nil().into()).await, Decision::default());
    assert_eq!(*limit.said.lock(), ["device"]);
}

mod law {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is asked in whatever order, with repetitions: the first to bring a content to a device is admitted, and
        /// admitted again, and nobody else is.
        #[test]
        fn a_content_belongs_to_the_first_message_that_brings_it(
            asked in proptest::collection::vec((0u128..12, 0usize..3), 1..80),
        ) {
            let shares = Shares::new([("game".to_owned(), 100)]);
            let dedup = Arc::new(memory::Contents::new(std::time::Duration::from_hours(1)));
            let admission = Admission::new(None, Some(dedup), shares);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut owner = std::collections::HashMap::new();
            for (identity, content) in asked {
                let device = ["a", "b"][identity as usize % 2];
                let content = ["x", "y", "z"][content];
                let decision = runtime.block_on(admission.decide("game", device, &[content], Uuid::from_u128(identity).into()));
                let first = *owner.entry((device, content)).or_insert(identity);
                prop_assert_eq!(decision.refused.is_none(), first == identity);
            }
        }
    }
}
