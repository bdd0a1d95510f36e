//! Arguments of `status`.

use clap::Args;

/// What help says below the arguments of `status`.
pub(super) const EXAMPLES: &str = "\
Examples:
  pusher status                                 The worker whose admin.listen the configuration has
  pusher status --watch                         The same, every second, until Ctrl-C
  pusher status --url http://10.0.0.7:8080      Another one
  pusher status --json | jq .problems           For scripts: the document of /api/status

Exit code 0: ready, and nothing needs a person; 1: something does, or nobody answers. The same for
a browser is the page at that address. Where reading needs a token (admin.protectReads), that of
admin.token or admin.tokenFile is given.";

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// The admin server, as http://HOST:PORT [default: where admin.listen says]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Ask again every second
    #[arg(short, long)]
    pub watch: bool,
}
