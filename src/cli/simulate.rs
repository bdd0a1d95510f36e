//! Arguments of the stand-ins.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::{FromValue as _, Value};
use crate::simulator::apns::Key;

/// Arguments of `simulate apns`.
#[derive(Args, Debug)]
pub struct SimulateApns {
    /// Address to listen on; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Host name or address that the certificate holds besides localhost and the address listened on; repeatable
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Write the CA's certificate here, for the client's trust store (apns.caFile). The CA's own key is kept beside it
    /// (ca.pem: ca.key) and used again by the next start, so that who trusts the file goes on to trust
    #[arg(long, value_name = "FILE")]
    pub ca_out: Option<PathBuf>,
    /// Keep the signing key here (.p8): made when the file is missing, else used as it is. Only provider tokens that it
    /// signed are accepted, so without this flag every push is refused with 403
    #[arg(long, value_name = "FILE")]
    pub key_out: Option<PathBuf>,
    /// Address of the control endpoint, plain HTTP: read the counts, steer the answers
    #[arg(long, value_name = "ADDRESS")]
    pub control: Option<SocketAddr>,
    /// The key id that provider tokens must name
    #[arg(long, value_name = "ID", default_value = Key::KEY_ID)]
    pub key_id: String,
    /// The team id that provider tokens must name
    #[arg(long, value_name = "ID", default_value = Key::TEAM_ID)]
    pub team_id: String,
    /// A topic (bundle id) that may be pushed to; repeatable; without it any is accepted
    #[arg(long, value_name = "BUNDLE")]
    pub topic: Vec<String>,
    /// Network round trip: delays everything the client sees
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    pub rtt: Duration,
    /// Time to an answer, on top of the round trip
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    pub processing: Duration,
}

/// Arguments of `simulate fcm`.
#[derive(Args, Debug)]
pub struct SimulateFcm {
    /// Address to listen on for messages; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8453")]
    pub listen: SocketAddr,
    /// Address to listen on for token requests
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8454")]
    pub oauth: SocketAddr,
    /// Address of the control endpoint, plain HTTP: read the counts, steer the answers
    #[arg(long, value_name = "ADDRESS")]
    pub control: Option<SocketAddr>,
    /// Host name or address that the certificate holds besides localhost and the addresses listened on; repeatable. The
    /// first one is the host in the credentials' address for tokens
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Write the CA's certificate here, for the client's trust store. The CA's own key is kept beside it (ca.pem: ca.key)
    /// and used again by the next start, so that who trusts the file goes on to trust
    #[arg(long, value_name = "FILE")]
    pub ca_out: Option<PathBuf>,
    /// Write the service account's JSON here; with several projects, one file for each. The private key of a file that
    /// is there already is used again
    #[arg(long, value_name = "FILE")]
    pub credentials_out: Option<PathBuf>,
    /// A project that messages may be sent for; repeatable
    #[arg(long, value_name = "ID", default_value = "simulated-project")]
    pub project: Vec<String>,
    /// Messages a minute that each project may send; 0: any
    #[arg(long, value_name = "N", default_value_t = 600_000)]
    pub quota: u64,
    /// Life of an access token
    #[arg(long, value_name = "TIME", default_value = "3599s", value_parser = time)]
    pub token_lifetime: Duration,
    /// Network round trip: delays everything the client sees of the push endpoint
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    pub rtt: Duration,
    /// Time to an answer, on top of the round trip
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    pub processing: Duration,
}

fn time(text: &str) -> Result<Duration, String> {
    Duration::from_value(&Value::Scalar(text.to_owned()))
}
