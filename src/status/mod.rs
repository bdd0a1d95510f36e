//! What `pusher status` runs: the document of a running process's `/api/status`, for people ([`text`]) and scripts.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::admin::ask::{Answer, ask_with};
use crate::admin::document::Status;
use crate::admin::{self, guard};
use crate::cli::Status as Arguments;
use crate::config::Config;
use crate::shutdown::Shutdown;

pub mod text;
pub mod words;

/// How often it is asked again.
const BEAT: Duration = Duration::from_secs(1);
/// Where it is asked.
const PATH: &str = "/api/status";
/// To the top left of a terminal, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the status, once or until `shutdown` begins; whether nothing needs a person, as of the last answer.
pub fn run(config: &Config, arguments: &Arguments, json: bool, shutdown: &Shutdown) -> Result<bool> {
    let address = address(config, arguments.url.as_deref())?;
    let token = guard::token(config).map_err(|error| config.placed(&error))?;
    let clock = Builder::new_current_thread().enable_time().build().context("starting a clock")?;
    let ends_before_the_next = || clock.block_on(async { timeout(BEAT, shutdown.token().cancelled()).await.is_ok() });
    let mut out = io::stdout();
    let clear = if arguments.watch && !json && out.is_terminal() { CLEAR } else { "" };
    loop {
        let shown = fetch(&address, token.as_deref()).and_then(|body| shown(&body, json));
        let is_well = match shown {
            Ok((shown, is_well)) => {
                write!(out, "{clear}{shown}")?;
                is_well
            }
            Err(error) if arguments.watch => {
                writeln!(out, "{clear}{error}")?;
                false
            }
            Err(error) => return Err(error),
        };
        out.flush()?;
        if !arguments.watch || ends_before_the_next() {
            return Ok(is_well);
        }
    }
}

fn fetch(address: &str, token: Option<&str>) -> Result<String> {
    let Answer { well, body } = ask_with(address, PATH, token)?;
    ensure!(well, "{address} cannot say how it stands: {body}");
    Ok(body)
}

/// What is printed of a document, and whether all is well.
fn shown(body: &str, json: bool) -> Result<(String, bool)> {
    let Ok(status) = serde_json::from_str::<Status>(body) else {
        bail!("the answer is no status document: it is another program's port, or another version's")
    };
    let is_well = status.well && status.ready;
    Ok((if json { format!("{body}\n") } else { text::of(&status) }, is_well))
}

/// `host:port` of the address that was given, or of the configuration.
fn address(config: &Config, url: Option<&str>) -> Result<String> {
    let Some(url) = url else {
        let settings = admin::Settings::from_config(config).map_err(|error| config.placed(&error))?;
        let Some(listen) = settings.listen else {
            bail!("admin.listen is off: say which process is meant, with --url http://HOST:PORT")
        };
        return Ok(listen);
    };
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let host = rest.split('/').next().unwrap_or_default();
    let is_address = host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
    ensure!(is_address, "--url: {url:?} must be http://HOST:PORT, such as http://127.0.0.1:8080");
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_given_or_that_of_the_configuration() {
        let config = Config::from_pairs([("admin.listen", "127.0.0.1:9000")]);
        let of = |url| address(&config, url).map_err(|error| error.to_string());
        assert_eq!(of(None).unwrap(), "127.0.0.1:9000");
        for url in ["http://worker:8080", "worker:8080", "http://worker:8080/", "http://worker:8080/api/status"] {
            assert_eq!(of(Some(url)).unwrap(), "worker:8080", "{url}");
        }
        for url in ["https://worker:8080", "worker", "http://:80", "http://worker:http", ""] {
            assert!(of(Some(url)).unwrap_err().contains("must be http://HOST:PORT"), "{url}");
        }
        let off = Config::from_pairs([("admin.listen", "off")]);
        assert!(address(&off, None).unwrap_err().to_string().contains("--url"));
    }

    #[test]
    fn another_programs_answer_is_recognised() {
        assert!(shown("<html>", false).unwrap_err().to_string().contains("another program's port"));
        let (text, is_well) = shown(r#"{"ready":true,"well":true,"a_later_field":1}"#, true).unwrap();
        assert_eq!((text.as_str(), is_well), ("{\"ready\":true,\"well\":true,\"a_later_field\":1}\n", true));
    }
}
