//! The integration tests: one binary, one module per subject. `flow_*` run on embedded parts in seconds, `real_*` on
//! Apache Kafka, PostgreSQL and friends that the harness in `support` starts.

mod http2_nginx;
mod http2_pool;
mod http2_server;
