//! What a platform's connections trust, and its CA file (`<platform>.caFile`), which may change while the worker runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ProviderError;
use crate::http2::tls::{self, CaFile, Trust};
use crate::message::Platform;
use crate::reload::{Print, Refused, Taking, Watched};

/// What a platform's connections trust, and what its CA file held.
pub(super) fn trust(platform: Platform, ca_file: Option<&Path>) -> Result<(Trust, Option<Print>), ProviderError> {
    let wrong = |error: tls::TlsError| ProviderError::Tls { platform, rule: error.to_string() };
    let file = ca_file.map(CaFile::read).transpose().map_err(wrong)?;
    let config = tls::client_config_of(file.as_ref()).map_err(wrong)?;
    Ok((config.into(), file.map(|file| Print::of(&file.content))))
}

/// The CA file, when there is one: new connections trust what it holds, the present ones go on.
pub(super) fn watched_ca(
    key: &str,
    apps: Vec<Arc<str>>,
    file: Option<(&PathBuf, Print)>,
    trust: &Trust,
) -> Option<Watched> {
    let (path, print) = file?;
    let (of_take, trust) = (path.clone(), trust.clone());
    let take = move |mut contents: Vec<Vec<u8>>| -> Taking {
        let file = CaFile { path: of_take.clone(), content: contents.pop().unwrap_or_default() };
        let config = tls::client_config_of(Some(&file)).map_err(|error| Refused::for_good(error.to_string()));
        Box::pin(std::future::ready(config.map(|config| trust.replace(config))))
    };
    Some(Watched::new(key, apps, vec![(path.clone(), print)], Box::new(take)))
}
