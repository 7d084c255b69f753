# Short names for what cargo does; nothing here that `cargo xtask` cannot do.

# Lists the recipes
default:
    @just --list

# Devices, discovery and monitoring on this machine; stops with Ctrl-C
demo *arguments:
    cargo run --release -- demo {{ arguments }}

# Everything that must hold before a merge
test:
    cargo xtask test

# The tests that take too long to run before every merge
nightly:
    cargo xtask nightly

# Fuzzes each reader of foreign bytes for ten minutes, or the one that the argument names
fuzz *arguments:
    cargo xtask fuzz {{ arguments }}

# Format and lints only
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo xtask deps

# The benchmarks, or those whose name contains the argument
bench *name:
    cargo xtask bench {{ name }}

# Writes the generated files
generate:
    cargo xtask generate

# The container images as archives, in target/images unless --out says otherwise; with cargo alone on Linux, else with docker or buildah
images *arguments:
    cargo xtask images {{ arguments }}

# A kind cluster called akri-mqtt with the images of the chart in it
kind-up: (images "--out" "target/images" "--only" "controller" "--only" "discovery-handler" "--only" "monitoring-broker")
    kind get clusters | grep -qx akri-mqtt || kind create cluster --name akri-mqtt
    for archive in target/images/*.tar; do kind load image-archive --name akri-mqtt "$archive"; done

# The end-to-end tests on a cluster: $KUBECONFIG with AKRI_MQTT_E2E_LOAD, or one that it starts
e2e *names:
    cargo xtask e2e {{ names }}
