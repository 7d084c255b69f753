# The images of the project, one stage each: controller, discovery-handler, monitoring-broker, cli.
#   docker build --target controller --tag ghcr.io/akri-mqtt/controller:0.1.0 .
#   docker buildx build --target controller --platform linux/amd64,linux/arm64 …
# `cargo xtask images` calls it where cargo cannot build for Linux, and is called by it: what is in the images
# is decided in xtask/src/images.rs alone.
ARG RUST=1.95
# The list of what is in an image is made from the sources' Cargo.lock: the programs do not tell.
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true

# Runs on the machine that builds, whatever the images are for.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:${RUST}-bookworm AS build
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-x86-64-linux-gnu libc6-dev-amd64-cross \
    && rustup target add x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu
WORKDIR /src
COPY . .
ARG TARGETARCH
# Shown by --version; the sources come without git's directory.
ARG COMMIT=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    AKRI_MQTT_COMMIT=${COMMIT} cargo xtask images --with cargo --arch ${TARGETARCH} --stage /images

FROM scratch AS base
ARG COMMIT=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.source="https://github.com/akri-mqtt/akri-mqtt" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
ENV PATH=/bin
USER 65532:65532

FROM base AS controller
LABEL org.opencontainers.image.title="Pods for MQTT devices, without Akri"
COPY --from=build /images/controller/ /
ENTRYPOINT ["/bin/akri-mqtt-controller"]

FROM base AS discovery-handler
LABEL org.opencontainers.image.title="Akri's discovery handler for MQTT devices"
COPY --from=build /images/discovery-handler/ /
ENTRYPOINT ["/bin/akri-mqtt-discovery-handler"]

FROM base AS monitoring-broker
LABEL org.opencontainers.image.title="Stores and serves the messages of a device"
COPY --from=build /images/monitoring-broker/ /
ENTRYPOINT ["/bin/akri-mqtt-monitoring-broker"]

FROM base AS cli
LABEL org.opencontainers.image.title="MQTT devices without Kubernetes; checks and tools"
COPY --from=build /images/cli/ /
ENTRYPOINT ["/bin/akri-mqtt"]
