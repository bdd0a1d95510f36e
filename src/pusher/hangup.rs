//! SIGHUP: what can be taken into use without a restart is, and of the rest it is said that it cannot.

use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Flags;
use crate::config::{Config, load};
use crate::settings::catalogue;
use crate::telemetry;

/// The signal, caught: it does not end the process any more, and waits until it is served.
pub(super) struct Hangup {
    runtime: Runtime,
    signal: Signal,
}

/// What the process runs with.
pub(super) struct Running {
    pub(super) flags: Flags,
    pub(super) config: Config,
}

impl Hangup {
    /// Catches it from now on.
    pub(super) fn caught() -> io::Result<Hangup> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let signal = {
            let _inside = runtime.enter();
            signal(SignalKind::hangup())?
        };
        Ok(Hangup { runtime, signal })
    }

    /// At each signal the configuration is read again, and then `then` called. On a thread of its own until the process ends.
    pub(super) fn serve(self, running: Running, then: impl Fn() + Send + 'static) -> io::Result<()> {
        let Hangup { runtime, mut signal } = self;
        let serve = async move {
            while signal.recv().await.is_some() {
                tracing::info!("SIGHUP: looking at the configuration and at the files that it names");
                running.read_again();
                then();
            }
        };
        std::thread::Builder::new().name("hangup".into()).spawn(move || runtime.block_on(serve)).map(drop)
    }
}

impl Running {
    fn read_again(&self) {
        let new = match load(self.flags.config_file(), std::env::vars_os(), catalogue()) {
            Ok(loaded) => loaded.config,
            Err(error) => {
                tracing::error!(alarm = true, reason = "configuration", %error, "the configuration cannot be read again; nothing of it changes");
                return;
            }
        };
        self.set_level(&new);
        let mut waits = self.config.differences(&new);
        waits.retain(|name| !name.eq_ignore_ascii_case(telemetry::LEVEL.name));
        if !waits.is_empty() {
            tracing::warn!(keys = waits.join(", "), "changed in the configuration, and not in effect before a restart");
        }
    }

    fn set_level(&self, new: &Config) {
        match telemetry::Settings::from_config(new).map(|settings| settings.with_flags(self.flags.debug, false)) {
            Ok(telemetry::Settings { unknown_level: Some(word), .. }) => {
                tracing::warn!(key = telemetry::LEVEL.name, value = word, "unknown log level, the present one stays");
            }
            Ok(settings) => telemetry::set_level(settings.level),
            Err(error) => tracing::error!(alarm = true, reason = "configuration", %error, "the log level stays"),
        }
    }
}
