//! The wiring: what each command runs.

use crate::cli::Cli;
use crate::config::{Config, Problems};
use crate::shutdown::{self, Shutdown};

/// Runs the command until it is done or `shutdown` begins.
pub fn run(cli: &Cli, config: &Config, shutdown: &Shutdown) -> anyhow::Result<()> {
    let mut problems = Problems::default();
    problems.take(shutdown::Settings::from_config(config));
    config.check(problems)?;
    shutdown.fail("pusher", format!("no part is built in for {:?}", cli.command));
    Ok(())
}
