//! What must hold for any bytes handed over as a configuration. Used by the fuzz target `config_yaml` and by the replay of its corpus.

/// Refused with a place or a reason, or understood, and then it survives the way to text and back.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(&data[..data.len().min(1 << 16)]) else {
        return;
    };
    match config::parse(text) {
        Ok(config) => {
            let again = config::to_yaml(&config).expect("what was read can be written");
            assert_eq!(
                config::parse(&again).expect("what was written can be read"),
                config,
                "\n{again}"
            );
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            assert!(error.problems.iter().all(|problem| !problem.message.is_empty()));
        }
    }
}
