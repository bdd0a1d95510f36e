//! The arguments of `generate`.

use clap::{Args, Subcommand};

/// For whom messages are made.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Messages as producers write them for APNs, one JSON object per line
    #[command(after_help = "\
Examples:
  pusher generate apns --count 3
  pusher generate apns --seed 7 | kafka-console-producer \\
      --bootstrap-server kafka:9092 --topic push-game_apns-massive
  pusher generate apns --count 1000000 --rate 5000 \\
      --brokers kafka:9092 --topic push-game_apns-massive")]
    Apns(GenerateFor),
    /// Messages as producers write them for GCM (FCM), one JSON object per line
    #[command(after_help = "\
Examples:
  pusher generate gcm --count 3
  pusher generate gcm --count 1000000 --rate 5000 \\
      --brokers kafka:9092 --topic push-game_gcm-massive")]
    Gcm(GenerateFor),
}

/// Arguments of `generate`, whatever the provider.
#[derive(Args, Debug)]
pub struct GenerateFor {
    /// The app (game) that the messages are for
    #[arg(long, default_value = "game")]
    pub app: String,
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    pub count: u64,
    /// The same seed gives the same messages; without it every run differs
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Bytes of each line, about; longer when the fields alone need more (some 400 bytes)
    #[arg(long, value_name = "BYTES", default_value_t = 420, value_parser = clap::value_parser!(u32).range(64..=4096))]
    pub size: u32,
    /// Produce to these Kafka brokers (comma-separated) instead of printing
    #[arg(long, value_name = "HOST:PORT,…")]
    pub brokers: Option<String>,
    /// Topic to produce to.
    #[arg(
        long,
        requires = "brokers",
        help = "Topic to produce to [default: the app's single topic, push-<APP>_<PROVIDER>-single]"
    )]
    pub topic: Option<String>,
    /// Messages per second; without it as fast as it goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
}
