use super::*;
use crate::jobs::Jobs;
use crate::message::{Lane, Origin};
use crate::queue::InFlight;
use tokio_util::sync::CancellationToken;

struct Process {
    in_flight: Arc<InFlight>,
    jobs: Arc<Jobs>,
    follower: Arc<Follower>,
}

fn process(platform: &'static str, control: &Control) -> Process {
    let (in_flight, jobs) = (InFlight::new(10, 1000), Arc::new(Jobs::default()));
    let follower = Follower::new(platform, control.clone(), in_flight.clone(), jobs.clone());
    Process { in_flight, jobs, follower }
}

impl Process {
    fn holds_back(&self, app: &str, lane: Lane) -> bool {
        let platform = Platform("apns");
        self.in_flight.holds_back(&Origin { topic: "t".into(), partition: 0, app: app.into(), platform, lane })
    }

    fn is_stopped(&self, id: &str) -> bool {
        let metadata = format!(r#"{{"jobId":"{id}"}}"#);
        self.jobs.is_stopped(self.jobs.of(&metadata, std::time::Instant::now()).as_deref())
    }
}

fn target(app: &str, lane: Option<Lane>) -> Target {
    Target { app: app.into(), platform: "apns".into(), lane }
}

#[tokio::test]
async fn orders_given_before_the_start_are_obeyed_by_it_and_those_of_another_platform_are_not() {
    let control = Control::in_memory();
    let levers = Levers::new(control.clone(), [Platform("apns"), Platform("gcm")]);
    levers.pause(&target("Game", Some(Lane::Massive)), "ann", None).await.unwrap();
    levers.stop_job("j", "ann", Some("wrong text".into())).await.unwrap();
    let (ours, other) = (process("apns", &control), process("gcm", &control));
    ours.follower.begin(PATIENCE).await;
    other.follower.begin(PATIENCE).await;
    assert!(ours.holds_back("game", Lane::Massive), "whatever the case of its letters");
    assert!(!ours.holds_back("game", Lane::Single) && !ours.holds_back("gam", Lane::Massive));
    assert!(!other.holds_back("game", Lane::Massive));
    let wrong = levers.pause(&Target { platform: "apn".into(), ..target("game", None) }, "ann", None).await;
    assert_eq!(wrong.unwrap_err().to_string(), r#"there is no platform "apn"; there are apns, gcm, listener"#);
    assert!(ours.is_stopped("j") && other.is_stopped("j") && !ours.is_stopped("k"));
    let (job, given) = levers.orders().jobs.remove(0);
    assert_eq!((&*job, &*given.by, given.why.as_deref()), ("j", "ann", Some("wrong text")));
}

#[tokio::test]
async fn orders_are_followed_while_it_runs() {
    let control = Control::in_memory();
    let (levers, process, end) = (
        Levers::new(control.clone(), [Platform("apns"), Platform("gcm")]),
        process("apns", &control),
        CancellationToken::new(),
    );
    let following = tokio::spawn(process.follower.clone().follow(end.clone()));
    tokio::task::yield_now().await;
    let until = async |wanted: bool| {
        while process.holds_back("game", Lane::Single) != wanted || process.is_stopped("j") != wanted {
            tokio::task::yield_now().await;
        }
    };
    levers.pause(&target("game", None), "ann", None).await.unwrap();
    levers.stop_job("j", "ann", None).await.unwrap();
    until(true).await;
    assert!(process.holds_back("game", Lane::Massive));
    let resumed = levers.resume(&target("GAME", Some(Lane::Single)), "bob").await.unwrap();
    assert_eq!(resumed.iter().map(|one| (&*one.app, one.lane)).collect::<Vec<_>>(), [("game", Lane::Single)]);
    assert!(levers.start_job("j", "bob").await.unwrap() && !levers.start_job("j", "ann").await.unwrap());
    until(false).await;
    let state = control.state();
    assert_eq!(["pause/apns/game/single", "job/j"].map(|key| state.ended_by(key)), [Some("bob"); 2]);
    assert!(process.holds_back("game", Lane::Massive), "the other lane is still paused");
    assert_eq!(levers.resume(&target("game", None), "bob").await.unwrap().len(), 1);
    assert_eq!(levers.resume(&target("game", None), "bob").await.unwrap(), []);
    end.cancel();
    following.await.unwrap();
}
