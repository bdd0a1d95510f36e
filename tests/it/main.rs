//! The integration tests: one binary, one module per subject. `flow_*` run on embedded parts in seconds, `real_*` on
//! Apache Kafka, PostgreSQL and friends that the harness in `support` starts.

mod apns_flow;
mod http2_pool;
mod http2_server;
mod simulator_apns;
mod simulator_strict;
