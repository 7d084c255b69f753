//! Compiles the two contracts with a compiler written in Rust, so that no `protoc` has to be installed.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let files = protox::compile(
        ["akri/v0/discovery.proto", "monitoring/v1/monitoring.proto"],
        ["proto"],
    )?;
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".v0")
        .compile_fds(files)?;
    Ok(())
}
