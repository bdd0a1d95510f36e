//! Which sender thread gets a message: as few threads as a credential's load needs, so that an idle key keeps one
//! connection and a busy one uses every core. Pure but for one shared counter per key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// After this many messages without need for the last sender of a key, the key gives it up.
const PATIENCE: u32 = 20_000;

/// One pool key: the apps that share a credential, and how wide it is spread at present.
#[derive(Debug)]
struct Key {
    home: usize,
    width: usize,
    next: usize,
    calm: u32,
    load: Load,
    /// Streams that one connection carries.
    streams: usize,
}

/// The spreading of all apps over the senders.
#[derive(Debug)]
pub struct Spread {
    senders: usize,
    keys: Vec<Key>,
    /// Few, and asked for each message: comparing texts beats hashing them.
    apps: BTreeMap<Arc<str>, usize>,
}

/// A credential's load: how many of its messages wait for their turn or are being attempted in this process.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<AtomicUsize>);

impl Load {
    /// So many more.
    pub fn add(&self, messages: usize) {
        self.0.fetch_add(messages, Relaxed);
    }

    /// So many less.
    pub fn sub(&self, messages: usize) {
        self.0.fetch_sub(messages, Relaxed);
    }

    fn now(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Spread {
    /// For `apps` with their pool keys, over `senders` threads, when one connection carries `streams` streams. `home` says
    /// where a key begins.
    pub fn new(
        apps: impl IntoIterator<Item = (Arc<str>, String)>,
        senders: usize,
        streams: usize,
        home: impl Fn(&str, usize) -> usize,
    ) -> Self {
        let senders = senders.max(1);
        let mut by_key: HashMap<String, usize> = HashMap::new();
        let mut spread = Spread { senders, keys: Vec::new(), apps: BTreeMap::new() };
        for (app, pool_key) in apps {
            let home = home(&pool_key, senders) % senders;
            let index = *by_key.entry(pool_key).or_insert_with(|| {
                let load = Load::default();
                spread.keys.push(Key { home, width: 1, next: 0, calm: 0, load, streams: streams.max(1) });
                spread.keys.len() - 1
            });
            spread.apps.insert(app, index);
        }
        spread
    }

    /// The load counter of an app's key, shared by the apps of that key.
    pub fn load(&self, app: &str) -> Load {
        self.apps.get(app).map_or_else(Load::default, |&index| self.keys[index].load.clone())
    }

    /// The sender for the next message of `app`.
    pub fn sender(&mut self, app: &str) -> usize {
        let Some(&index) = self.apps.get(app) else { return 0 };
        let key = &mut self.keys[index];
        key.adjust(self.senders);
        key.next = (key.next + 1) % key.width;
        (key.home + key.next) % self.senders
    }
}

impl Key {
    /// Wider when the load is above half of what the present width carries; narrower after a long calm.
    fn adjust(&mut self, senders: usize) {
        let load = self.load.now();
        if self.width < senders && load > self.width * self.streams / 2 {
            (self.width, self.calm) = (self.width + 1, 0);
        } else if self.width > 1 && load < (self.width - 1) * self.streams / 4 {
            self.calm += 1;
            if self.calm >= PATIENCE {
                (self.width, self.calm) = (self.width - 1, 0);
            }
        } else {
            self.calm = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(senders: usize) -> Spread {
        let apps = [("a", "k1"), ("b", "k1"), ("c", "k2")];
        Spread::new(apps.map(|(app, key)| (app.into(), key.to_owned())), senders, 100, |key, _| {
            usize::from(key == "k2")
        })
    }

    fn used(spread: &mut Spread, app: &str) -> Vec<usize> {
        let mut used: Vec<_> = (0..20).map(|_| spread.sender(app)).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    #[test]
    fn a_key_at_rest_has_one_sender_and_keys_have_different_homes() {
        let mut spread = spread(4);
        assert_eq!(
            (used(&mut spread, "a"), used(&mut spread, "b"), used(&mut spread, "c")),
            (vec![0], vec![0], vec![1])
        );
    }

    #[test]
    fn a_busy_key_widens_and_gives_the_senders_up_when_calm() {
        let mut spread = spread(3);
        let load = spread.load("b");
        load.add(120);
        assert_eq!(used(&mut spread, "a"), [0, 1, 2], "120 messages are above half of what two connections carry");
        load.sub(120);
        for _ in 0..2 * PATIENCE {
            spread.sender("a");
        }
        assert_eq!(used(&mut spread, "a"), [0]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_load_a_message_goes_to_a_sender_near_the_keys_home(
            senders in 1usize..6, home in 0usize..20, loads in proptest::collection::vec(0usize..900, 1..60),
        ) {
            let mut spread = Spread::new([("a".into(), "k".into())], senders, 100, |_, _| home);
            let load = spread.load("a");
            for now in loads {
                load.0.store(now, Relaxed);
                let sender = spread.sender("a");
                let width = spread.keys[0].width;
                proptest::prop_assert!(width <= senders);
                proptest::prop_assert!((sender + senders - home % senders) % senders < width);
            }
        }
    }

    #[test]
    fn more_keys_than_senders_share_them() {
        let mut spread = spread(1);
        assert_eq!((used(&mut spread, "a"), used(&mut spread, "c")), (vec![0], vec![0]));
        assert_eq!(spread.sender("unknown"), 0);
    }
}
