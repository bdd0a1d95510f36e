# Nothing in here is of one architecture: `make docker-multi` builds it for amd64 and arm64.
# The image tag pins the toolchain: the same version as rust-toolchain.toml, which is left out (see .dockerignore) so that
# rustup does not fetch lint tools into the build.
FROM rust:1.95-bookworm AS build
# librdkafka links against Debian's OpenSSL and zlib: the base image's security updates reach them. What `make build` and the
# tests use is what ships; `make release` makes the binary for machines without them.
RUN apt-get update \
    && apt-get install -y --no-install-recommends pkg-config libssl-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
# Writes the list of crates into the binary, so that a scanner finds in the image what it is made of (cargo audit bin, trivy).
ARG CARGO_AUDITABLE=0.7.7
RUN cargo install --locked --version "$CARGO_AUDITABLE" cargo-auditable
WORKDIR /build

# Dependencies first, in a layer that only a change of Cargo.toml or Cargo.lock rebuilds. An empty crate does it: cargo-chef
# would have to be built itself, and a cache mount does not outlive CI's machines.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/it \
    && touch src/lib.rs tests/it/main.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo auditable build --locked --profile dist --bin pusher \
    && rm -rf src tests

COPY src src
# Newer than the empty crate's, whatever the clock of the machine that the sources come from.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo auditable build --locked --profile dist --bin pusher \
    && strip --strip-debug target/dist/pusher

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin pusher \
    && install -d -o pusher -g pusher /app /run/simulator
COPY --from=build /build/target/dist/pusher /usr/local/bin/pusher
COPY config/default.yaml /app/config/default.yaml
WORKDIR /app
USER 10001
# From outside of the container, unlike the default. `pusher health` asks it from within.
ENV PUSHER_ADMIN_LISTEN=0.0.0.0:8080
EXPOSE 8080
# The worker handles SIGTERM itself and starts no children, so it may be process 1.
STOPSIGNAL SIGTERM
ENTRYPOINT ["pusher"]
CMD ["--help"]
