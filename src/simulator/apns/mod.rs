//! A stand-in for the Apple Push Notification service: strict, and faulty on request. docs/simulator.md is its manual.
//!
//! [`check`] is what APNs checks, [`reason`] its words, [`provider_token`] its view of a JWT, [`convention`] how a device
//! token asks for an answer, [`faults`] what can be switched, `service` joins them, `answer` writes what goes out.

mod answer;
pub mod check;
pub mod convention;
pub mod faults;
pub mod provider_token;
pub mod reason;
mod service;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use self::faults::Faults;
use self::provider_token::{Keys, PublicKey};
pub use self::service::Apns;
use super::control;
use super::counters::{Counters, Counts};
use super::ledger::Sums;
use super::listener::Listener;
use super::tls::{self, TlsError};

/// A key that the simulator trusts.
#[derive(Clone)]
pub struct Key {
    /// Key id, 10 characters at Apple's.
    pub key_id: String,
    /// Team id, 10 characters at Apple's.
    pub team_id: String,
    /// PEM: a private key as in a `.p8` file, or a public key.
    pub pem: String,
}

impl Key {
    /// The key id of a key that the simulator makes.
    pub const KEY_ID: &str = "SIMULATE01";
    /// The team id of a key that the simulator makes.
    pub const TEAM_ID: &str = "SIMTEAM001";

    /// A new private key with the ids [`Key::KEY_ID`] and [`Key::TEAM_ID`].
    pub fn generate() -> Result<Key, StartError> {
        let pair = rcgen::KeyPair::generate().map_err(TlsError::from)?;
        Ok(Key { key_id: Key::KEY_ID.into(), team_id: Key::TEAM_ID.into(), pem: pair.serialize_pem() })
    }

    fn public(&self) -> Result<PublicKey, StartError> {
        if self.pem.contains("PRIVATE KEY") {
            return PublicKey::from_private_pem(&self.team_id, &self.pem)
                .map_err(|error| StartError::Key(self.key_id.clone(), error.to_string()));
        }
        PublicKey::from_public_pem(&self.team_id, &self.pem)
            .map_err(|error| StartError::Key(self.key_id.clone(), error.to_string()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("key_id", &self.key_id).field("team_id", &self.team_id).finish_non_exhaustive()
    }
}

/// What a simulator starts with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0: any free one.
    pub listen: SocketAddr,
    /// Where the control endpoint listens; `None`: there is none.
    pub control: Option<SocketAddr>,
    /// Names and addresses that the certificate holds, besides the address listened on.
    pub names: Vec<String>,
    /// The CA's key of an earlier start, PEM, for clients that trust its CA; `None`: a new one.
    pub ca_key: Option<String>,
    /// Threads that serve connections.
    pub threads: usize,
    /// Keys that provider tokens may be signed with; empty: one is made, see [`Simulator::key`].
    pub keys: Vec<Key>,
    /// Bundle ids that may be pushed to; empty: any.
    pub topics: Vec<String>,
    /// Faults at the start; a reset returns to them.
    pub faults: Faults,
    /// Seed of the dice that shares are drawn with.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        Settings {
            listen: local,
            control: None,
            names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
            ca_key: None,
            threads: 1,
            keys: Vec::new(),
            topics: Vec::new(),
            faults: Faults::default(),
            seed: 1,
        }
    }
}

/// Why a simulator could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Certificates or keys could not be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address could not be used.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A key that cannot be read.
    #[error("key {0}: {1}; give a P-256 key in PEM (the .p8 file, or its public half)")]
    Key(String, String),
    /// Faults that make no sense.
    #[error("faults: {0}")]
    Faults(String),
}

/// A running APNs simulator. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Simulator {
    listener: Listener<Apns>,
    control: Option<SocketAddr>,
    ca_pem: String,
    ca_key_pem: String,
    key: Key,
    handle: Handle,
}

/// What was seen, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Connections, streams and answers.
    #[serde(flatten)]
    pub counts: Counts,
    /// Messages, by serial.
    pub messages: Sums,
    /// Different provider tokens seen, valid or not.
    pub provider_tokens: u64,
}

/// The levers and the view of a running simulator. Cheap to clone.
pub type Handle = super::handle::Handle<Apns>;

impl Simulator {
    /// Starts listening.
    #[expect(clippy::unused_async, reason = "starting may come to need the runtime; callers are async")]
    pub async fn start(settings: Settings) -> Result<Simulator, StartError> {
        settings.faults.validate().map_err(StartError::Faults)?;
        let mut trusted = settings.keys;
        if trusted.is_empty() {
            trusted.push(Key::generate()?);
        }
        let keys =
            trusted.iter().map(|key| Ok((key.key_id.clone(), key.public()?))).collect::<Result<Keys, StartError>>()?;
        let mut names = settings.names;
        let own = settings.listen.ip().to_string();
        if !settings.listen.ip().is_unspecified() && !names.contains(&own) {
            names.push(own);
        }
        let identity = tls::identity(&names, settings.ca_key.as_deref())?;
        let levers = settings.faults.connection;
        let service = Arc::new(Apns::new(keys, settings.topics, settings.seed, settings.faults));
        let mut listener = Listener::start(
            settings.listen,
            settings.threads,
            identity.server.clone(),
            Arc::clone(&service),
            Arc::new(Counters::default()),
            levers,
        )?;
        let handle = Handle::new(service, Arc::clone(&listener.shared));
        let control =
            settings.control.map(|address| control_endpoint(&mut listener, address, handle.clone())).transpose()?;
        let tls::Identity { ca_pem, ca_key_pem, .. } = identity;
        Ok(Simulator { listener, control, ca_pem, ca_key_pem, key: trusted.swap_remove(0), handle })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Where its control endpoint listens.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// The CA that a client must trust, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The key of that CA, PEM, for a later start ([`Settings::ca_key`]).
    pub fn ca_key_pem(&self) -> &str {
        &self.ca_key_pem
    }

    /// The first key that it trusts: the one it made when none was given, private half included.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its levers.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What it saw.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Ends all connections and waits for its threads.
    pub async fn shutdown(self) {
        self.listener.stop().await;
    }
}

fn control_endpoint(listener: &mut Listener<Apns>, address: SocketAddr, handle: Handle) -> io::Result<SocketAddr> {
    let (socket, address) = control::bind(address)?;
    listener.beside("simulator-control", move |stop| control::serve(socket, control::routes(handle), stop))?;
    Ok(address)
}
