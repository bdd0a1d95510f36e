//! Arguments of `peek`.

use clap::Args;

/// What help says below the arguments of `peek`.
pub(super) const EXAMPLES: &str = "\
Examples:
  pusher peek push-game_apns-massive                        The last 10
  pusher peek push-game_gcm-single --partition 3 --offset 4711 --count 1
  pusher peek push-game_apns-single --json | jq .outcome    One JSON object per line

It reads and builds as the worker does, and sends nothing. Tokens are masked; payloads are not:
mind who looks over your shoulder. Whether rate limit and dedup would let a message pass is not
asked.";

/// Arguments of `peek`.
#[derive(Args, Debug)]
pub struct Peek {
    /// The push topic
    pub topic: String,
    /// Only this partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// Begin with this offset of the partition, or the first after it; without it the last ones are shown
    #[arg(long, value_name = "N", requires = "partition", value_parser = clap::value_parser!(i64).range(0..))]
    pub offset: Option<i64>,
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
}
