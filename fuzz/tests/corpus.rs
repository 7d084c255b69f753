//! Throws at each target what fuzzers have collected, and everything that was ever found.

use std::path::Path;

#[test]
fn every_target_takes_its_whole_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in akri_mqtt_fuzz::TARGETS {
        let mut files: Vec<_> = corpus
            .join(name)
            .read_dir()
            .unwrap_or_else(|error| panic!("corpus/{name}: {error}"))
            .map(|file| file.unwrap().path())
            .collect();
        files.sort_unstable();
        assert!(!files.is_empty(), "corpus/{name} is empty");
        for file in files {
            println!("{}", file.display());
            target(&std::fs::read(&file).unwrap());
        }
    }
}
