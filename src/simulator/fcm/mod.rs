//! A stand-in for Firebase Cloud Messaging, HTTP v1, and for Google's token endpoint: strict, and faulty on request.
//! docs/simulator.md is its manual.
//!
//! The push endpoint: [`json`] and [`schema`] say what a body may hold, [`form`] and [`rules`] what is wrong with one,
//! [`problem`] what is answered then, [`quota`] how much a project may send, [`convention`] how a target asks for an answer,
//! [`faults`] what can be switched, `service` joins them, `answer` writes what goes out. The token endpoint: [`account`]
//! (whose credentials), [`assertion`] (the JWT), [`tokens`] (what was given out), [`oauth`] (the endpoint).

pub mod account;
mod answer;
pub mod assertion;
pub mod convention;
pub mod faults;
pub mod form;
pub mod json;
pub mod oauth;
pub mod problem;
pub mod quota;
pub mod rules;
pub mod schema;
mod service;
pub mod tokens;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use serde::Serialize;

use self::account::{Key, Project};
use self::assertion::Grant;
use self::faults::Faults;
use self::oauth::{OAuth, OAuthStats};
pub use self::service::Fcm;
use super::counters::{Counters, Counts};
use super::ledger::Sums;
use super::listener::Listener;
use super::tls::{self, TlsError};
use super::{control, https};

/// What a simulator starts with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the push endpoint listens; port 0: any free one.
    pub listen: SocketAddr,
    /// Where the token endpoint listens; port 0: any free one.
    pub oauth: SocketAddr,
    /// Where the control endpoint listens; `None`: there is none.
    pub control: Option<SocketAddr>,
    /// The host that clients know it by, in `token_uri` and in the certificate; `None`: the token endpoint's own address.
    pub host: Option<String>,
    /// Names and addresses that the certificate holds besides.
    pub names: Vec<String>,
    /// The CA's key of an earlier start, PEM, for clients that trust its CA; `None`: a new one.
    pub ca_key: Option<String>,
    /// The accounts' key of an earlier start, PEM; `None`: the one of this process.
    pub account_key: Option<String>,
    /// Threads that serve connections.
    pub threads: usize,
    /// Ids of the projects; each has a service account of its own.
    pub projects: Vec<String>,
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
            oauth: local,
            control: None,
            host: None,
            names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
            ca_key: None,
            account_key: None,
            threads: 1,
            projects: vec!["simulated-project".into()],
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
    /// Faults that make no sense.
    #[error("faults: {0}")]
    Faults(String),
    /// Nobody could send anything.
    #[error("no project: name at least one")]
    NoProject,
}

/// A running FCM simulator. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Simulator {
    listener: Listener<Fcm>,
    control: Option<SocketAddr>,
    ca_pem: String,
    projects: Vec<Project>,
    ca_key_pem: String,
    key: Arc<Key>,
    token_uri: String,
    handle: Handle,
}

/// What was seen, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Connections, streams and answers.
    #[serde(flatten)]
    pub counts: Counts,
    /// Messages, by serial; those to be validated only are never accepted.
    pub messages: Sums,
    /// Messages with `validate_only` that were found good.
    pub validated: u64,
    /// The token endpoint.
    pub oauth: OAuthStats,
}

/// The levers and the view of a running simulator. Cheap to clone.
pub type Handle = super::handle::Handle<Fcm>;

impl Handle {
    /// No access token given out so far counts any more: 401 to whoever uses one.
    pub fn revoke_tokens(&self) {
        self.provider.oauth.tokens().revoke();
    }

    /// The accounts' key of this id is revoked: it is granted nothing, and what was granted does not count any more.
    pub fn revoke_key(&self, id: &str) {
        self.provider.oauth.revoke_key(id);
    }
}

impl Simulator {
    /// Starts listening.
    #[expect(clippy::unused_async, reason = "starting may come to need the runtime; callers are async")]
    pub async fn start(settings: Settings) -> Result<Simulator, StartError> {
        settings.faults.validate().map_err(StartError::Faults)?;
        if settings.projects.is_empty() {
            return Err(StartError::NoProject);
        }
        let key = settings.account_key.as_deref().map_or_else(Key::of_this_process, Key::from_pem);
        let key = key.map_err(TlsError::from)?;
        let identity = tls::identity(&names(&settings), settings.ca_key.as_deref())?;
        let oauth_socket = bind(settings.oauth)?;
        let token_uri = token_uri(&settings, oauth_socket.local_addr()?);
        let projects: Vec<Project> =
            settings.projects.iter().enumerate().map(|(place, id)| Project::new(id, place)).collect();
        let oauth =
            Arc::new(OAuth::new(projects.clone(), Arc::clone(&key), token_uri.clone(), settings.faults.oauth.clone()));
        let levers = settings.faults.connection;
        let service = Arc::new(Fcm::new(projects.clone(), Arc::clone(&oauth), settings.seed, settings.faults));
        let mut listener = Listener::start(
            settings.listen,
            settings.threads,
            Arc::clone(&identity.server),
            Arc::clone(&service),
            Arc::new(Counters::default()),
            levers,
        )?;
        let tls::Identity { ca_pem, ca_key_pem, server } = identity;
        let refuses = service.oauth_refuses.subscribe();
        listener.beside("simulator-oauth", move |stop| async move {
            https::serve(oauth_socket, &server, oauth.routes(), refuses, stop).await;
        })?;
        let handle = Handle::new(service, Arc::clone(&listener.shared));
        let control =
            settings.control.map(|address| control_endpoint(&mut listener, address, handle.clone())).transpose()?;
        Ok(Simulator { listener, control, ca_pem, projects, ca_key_pem, key, token_uri, handle })
    }

    /// Where the push endpoint listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Where tokens are given out.
    pub fn token_uri(&self) -> &str {
        &self.token_uri
    }

    /// Where its control endpoint listens.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// The CA that a client must trust, for both endpoints, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The key of that CA, PEM, for a later start ([`Settings::ca_key`]).
    pub fn ca_key_pem(&self) -> &str {
        &self.ca_key_pem
    }

    /// The service account of a project, as the JSON that Google's console gives out; `None`: there is no such project.
    pub fn credentials(&self, project: &str) -> Option<String> {
        let project = self.projects.iter().find(|known| known.is(project))?;
        Some(project.credentials(&self.key, &self.token_uri))
    }

    /// Another key of the accounts, trusted besides the first from now on, and what [`Simulator::credentials`] says with it.
    pub fn another_key(&self, project: &str) -> Option<String> {
        let project = self.projects.iter().find(|known| known.is(project))?;
        let key = Key::another().ok()?;
        self.handle.provider.oauth.trust(Arc::clone(&key));
        Some(project.credentials(&key, &self.token_uri))
    }

    /// An access token for a project, without the detour over the token endpoint; `None`: there is no such project.
    pub fn access_token(&self, project: &str, now_ms: i64, lifetime_s: u32) -> Option<String> {
        let place = self.projects.iter().position(|known| known.is(project))?;
        Some(self.handle.provider.oauth.issue(Grant { project: place, for_fcm: true, key: 0 }, now_ms, lifetime_s))
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

/// What the certificate is for.
fn names(settings: &Settings) -> Vec<String> {
    let mut names = settings.names.clone();
    names.extend(settings.host.clone());
    for ip in [settings.listen.ip(), settings.oauth.ip()].into_iter().filter(|ip| !ip.is_unspecified()) {
        names.push(ip.to_string());
    }
    names.sort();
    names.dedup();
    names
}

fn token_uri(settings: &Settings, address: SocketAddr) -> String {
    let host = settings.host.as_ref().map(|host| format!("{host}:{}", address.port()));
    format!("https://{}{}", host.unwrap_or_else(|| address.to_string()), oauth::PATH)
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = std::net::TcpListener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address} for the token endpoint: {error}"))
    })?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn control_endpoint(listener: &mut Listener<Fcm>, address: SocketAddr, handle: Handle) -> io::Result<SocketAddr> {
    let (socket, address) = control::bind(address)?;
    let revoke = handle.clone();
    let own = Router::new().route(
        "/revoke",
        post(move || async move {
            revoke.revoke_tokens();
            StatusCode::NO_CONTENT
        }),
    );
    let routes = control::routes(handle).merge(own);
    listener.beside("simulator-control", move |stop| control::serve(socket, routes, stop))?;
    Ok(address)
}
