# The production image: one static binary, no shell, no package manager, not root.
#
#   docker build --build-arg REVISION="$(git rev-parse --short HEAD)" --tag market-ingest .
#
# The simulated venue is a default feature (`demo`), and this image leaves it out.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Static glibc needs `--target` given: without it the flag would also hit proc macros, which cannot be static.
# Both mounts survive between builds; the binary is copied out, for a mount is no layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --package market_ingest --no-default-features --target x86_64-unknown-linux-gnu \
    && cp target/x86_64-unknown-linux-gnu/release/market-ingest /market-ingest \
    && mkdir /data

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="market-ingest" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# Google's token endpoint, Pub/Sub and a NATS server are verified against these; Alpaca's and Firestore's certificates
# are compiled in.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /market-ingest /market-ingest
# Where the default store, `sqlite:market-ingest.db`, lands when no Firestore is configured. Mount a volume to keep it.
COPY --from=build --chown=65532:65532 /data /data
WORKDIR /data
USER 65532:65532
# The loopback of a container is reachable by nobody.
ENV INGEST_BIND=0.0.0.0
EXPOSE 8080
# No HEALTHCHECK: it would need a shell. Probe GET /live and GET /ready from outside, as infra/cloudrun does.
ENTRYPOINT ["/market-ingest"]
