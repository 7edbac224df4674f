//! Manifests and ModelPack configs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waag_schema::release::manifest::Manifest;
use waag_schema::release::model::{ModelConfig, ModelFacts};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes.to_vec()) {
        assert_eq!(manifest.bytes(), bytes);
        assert!(!manifest.layers().is_empty());
    }
    let _ = ModelConfig::parse(bytes);
    let _ = ModelFacts::none().with_config_json(bytes);
});
