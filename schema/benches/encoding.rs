//! How small chunks become and how fast, on one thread.
//!
//! `cargo bench -p waag-schema --bench encoding` prints one table: synthetic weights (normal, sigma 0.02), text
//! and noise, in chunks of 4 MiB, best of some rounds. A copy of the same bytes in the same run is the measure.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a benchmark reads the clock and prints; the crate itself does neither"
)]

use std::hint::black_box;
use std::time::Instant;

use waag_schema::content::{CHUNK_MAX, StoredChunk, encode};

const ROUNDS: usize = 20;

/// Returns the best rate in raw GB/s.
fn rate<T>(mut work: impl FnMut() -> T) -> f64 {
    let seconds = |_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    };
    CHUNK_MAX as f64 / 1e9 / (0..ROUNDS).map(seconds).fold(f64::MAX, f64::min)
}

fn noise() -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

fn weights() -> impl Iterator<Item = f32> {
    let mut noise = noise();
    let mut uniform = move || (noise.next().unwrap_or(1) >> 11) as f64 / (1_u64 << 53) as f64;
    std::iter::repeat_with(move || {
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        (0.02 * radius * (std::f64::consts::TAU * uniform()).cos()) as f32
    })
}

/// Cuts a float32 of moderate size down to a float16.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 112;
    let sign = (bits >> 16 & 0x8000) as u16;
    if exponent <= 0 {
        sign
    } else {
        sign | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
    }
}

fn main() {
    let fill = |bytes: &mut dyn Iterator<Item = u8>| bytes.take(CHUNK_MAX).collect::<Vec<u8>>();
    let rows = [
        (
            "bf16",
            fill(&mut weights().flat_map(|w| ((w.to_bits() >> 16) as u16).to_le_bytes())),
        ),
        ("f16", fill(&mut weights().flat_map(|w| half(w).to_le_bytes()))),
        ("f32", fill(&mut weights().flat_map(f32::to_le_bytes))),
        (
            "json",
            fill(
                &mut noise()
                    .enumerate()
                    .flat_map(|(i, n)| format!("\"token{}\": {i},\n", n % 50_000).into_bytes()),
            ),
        ),
        (
            "u32 ids",
            fill(&mut noise().flat_map(|n| ((n % 32_000) as u32).to_le_bytes())),
        ),
        ("zeros", vec![0; CHUNK_MAX]),
        ("noise", fill(&mut noise().flat_map(u64::to_le_bytes))),
    ];
    println!(
        "{:<8} {:>7} {:>8} {:>12} {:>12} {:>12}",
        "bytes", "as", "ratio", "encode GB/s", "decode GB/s", "copy GB/s"
    );
    for (name, raw) in rows {
        let encoded = encode(&raw).expect("a chunk").stored().to_vec();
        let stored = StoredChunk::parse(&encoded).expect("what was encoded");
        assert_eq!(stored.decode().expect("what was encoded"), raw);
        println!(
            "{name:<8} {:>7} {:>8.4} {:>12.2} {:>12.2} {:>12.2}",
            stored.encoding().to_string(),
            encoded.len() as f64 / raw.len() as f64,
            rate(|| encode(&raw)),
            rate(|| stored.decode()),
            rate(|| raw.clone()),
        );
    }
}
