//! The integration tests: one binary, one module per subject. `flow_*` run on embedded parts in seconds, `real_*` on
//! Apache Kafka, PostgreSQL and friends that the harness in `support` starts.

mod apns_flow;
mod chaos_pulse;
mod cli_config;
mod cli_docs;
mod cli_help;
mod flow_delivery;
mod flow_worker;
mod fuzz_corpus;
mod gcm_schema;
mod house_rules;
mod http2_nginx;
mod http2_pool;
mod http2_server;
mod packaging;
mod queue_flow;
mod real_foreign_offsets;
mod real_malformed;
mod real_outages;
mod real_queue;
mod real_support;
mod real_worker;
mod reporters_feedback;
mod reporters_postgres;
mod reporters_statsd;
mod simulator_apns;
mod simulator_fcm;
mod simulator_strict;
mod support;
