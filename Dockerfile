# syntax=docker/dockerfile:1
# Multi-stage, amd64 and arm64 (`docker buildx build --platform linux/amd64,linux/arm64 .`): the builder has the tools, the image has the
# binary, certificates of authorities, and nothing that a request could call. It runs as nobody in particular with a read-only root:
# /data is the only place that is written.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --ignore-rust-version --locked --profile dist --bin sluice && cp target/dist/sluice /sluice && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /sluice /usr/local/bin/sluice
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
ENV SLUICE_DATA_DIR=/data SLUICE_SERVER_LISTEN=0.0.0.0:9000 SLUICE_ADMIN_LISTEN=0.0.0.0:9001
VOLUME /data
EXPOSE 9000 9001
HEALTHCHECK --interval=10s --timeout=5s --retries=3 CMD ["/usr/local/bin/sluice", "doctor", "--health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/sluice"]
CMD ["serve"]
