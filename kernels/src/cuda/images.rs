//! The kernels, compiled: `kernels/cuda/generate.py` makes them, and this library carries them.

use serde::Deserialize;

/// For every device of compute capability 8.0 or later, assembled by the driver.
pub(super) const PORTABLE: &str = include_str!("../../cuda/generated/waag.compute_80.ptx");
/// For compute capability 9.0.
pub(super) const HOPPER: &[u8] = include_bytes!("../../cuda/generated/waag.sm_90a.cubin");
const MANIFEST: &str = include_str!("../../cuda/generated/manifest.json");

/// The least version of CUDA whose drivers read the text above: PTX 8.4.
pub(super) const CUDA_MIN: i32 = 12_040;

#[derive(Deserialize)]
struct Manifest {
    sources_sha256: String,
}

/// Returns the SHA-256 of the kernels' sources.
pub(super) fn digest() -> String {
    serde_json::from_str::<Manifest>(MANIFEST)
        .map_or_else(|_| String::new(), |manifest| manifest.sources_sha256)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sha2::{Digest, Sha256};

    use super::*;

    #[derive(Deserialize)]
    struct Whole {
        sources: Vec<String>,
        sources_sha256: String,
        outputs_sha256: BTreeMap<String, String>,
        kernels: BTreeMap<String, BTreeMap<String, BTreeMap<String, u64>>>,
    }

    fn hex(of: &[u8]) -> String {
        Sha256::digest(of)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    #[test]
    fn the_compiled_kernels_are_those_of_the_sources() {
        let again = "run kernels/cuda/generate.py";
        let manifest: Whole = serde_json::from_str(MANIFEST).unwrap();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cuda");
        let sources = manifest
            .sources
            .iter()
            .map(|name| std::fs::read(format!("{folder}/{name}")).unwrap());
        assert_eq!(
            hex(&sources.collect::<Vec<_>>().concat()),
            manifest.sources_sha256,
            "{again}"
        );
        let outputs = [
            ("waag.compute_80.ptx", PORTABLE.as_bytes()),
            ("waag.sm_90a.cubin", HOPPER),
        ];
        for (name, bytes) in outputs {
            assert_eq!(hex(bytes), manifest.outputs_sha256[name], "{again}");
        }
        assert_eq!(digest(), manifest.sources_sha256);
        // Without a rounding of its own an operation might be fused with its neighbour.
        for loose in [
            "mul.f32", "add.f32", "sub.f32", "mul.f64", "add.f64", "sub.f64", "approx", "ftz",
        ] {
            assert!(!PORTABLE.contains(loose), "{loose}");
        }
        for (architecture, kernels) in &manifest.kernels {
            for (name, kernel) in kernels {
                assert_eq!(kernel["spilled"], 0, "{name} for {architecture}");
                // What a block may have without asking.
                assert!(kernel["shared"] <= 48 << 10, "{name} for {architecture}");
            }
        }
    }
}
