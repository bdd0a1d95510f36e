//! Why a worker does not start.

use crate::config::ConfigErrors;
use crate::handlers::ProviderError;
use crate::reporters::CheckError;

/// Why a worker did not start. All of them are found before anything is consumed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Values that the operator must mend.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A credential that the operator must mend.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A topic of feedback or dead letters that the operator must mend.
    #[error(transparent)]
    Feedback(#[from] CheckError),
    /// The end began before anything was consumed.
    #[error("the end began before the start was done")]
    Stopped,
    /// The machine refused a thread or a runtime.
    #[error("{what} could not be started: {error}")]
    Machine {
        /// What was to be started.
        what: &'static str,
        /// The system's answer.
        error: std::io::Error,
    },
}

impl StartError {
    /// Whether somebody must mend the configuration (or a credential, or a topic): a restart alone would not help.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, StartError::Stopped | StartError::Machine { .. })
    }
}
