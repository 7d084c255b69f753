//! Packs the dashboard: each file below `assets/` that a browser asks for, as it is and compressed.
//! In: `assets/`. Out: `assets.rs`, a sorted table of `api::http::page::Asset`. Needs no npm.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::{Compression, Crc};

/// What a file is, by the end of its name; others are not served.
const KINDS: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("svg", "image/svg+xml"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=assets");
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("assets");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort_by_key(|file| file.to_string_lossy().into_owned());
    let mut table = String::from("&[\n");
    for (number, file) in files.iter().enumerate() {
        let Some(kind) = kind(file) else { continue };
        let plain = fs::read(file)?;
        let packed = out.join(format!("asset-{number}.gz"));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&plain)?;
        fs::write(&packed, gzip.finish()?)?;
        let mut sum = Crc::new();
        sum.update(&plain);
        let path = file.strip_prefix(&root)?.to_string_lossy();
        // The same for both encodings, so it is a weak one (RFC 9110, 8.8.3.3).
        let tag = format!("W/\"{:08x}-{:x}\"", sum.sum(), plain.len());
        writeln!(
            table,
            "Asset {{ path: {path:?}, kind: {kind:?}, tag: {tag:?}, plain: include_bytes!({file:?}), gzip: include_bytes!({packed:?}) }},"
        )?;
    }
    table.push(']');
    fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn kind(file: &Path) -> Option<&'static str> {
    let end = file.extension()?;
    let known = KINDS.iter().find(|(known, _)| end == *known);
    known.map(|(_, kind)| *kind)
}
