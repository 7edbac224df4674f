//! How fast one thread measures weights, beside how fast it reads them: `cargo bench -p waag-kernels`.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark takes the time and prints it"
)]

use std::hint::black_box;
use std::time::Instant;

use waag_kernels::{Element, GroupErrors, Pass, Tally};

const BYTES: usize = 64 << 20;
const PIECE: usize = 4 << 20;
const TRIES: usize = 5;

/// Numbers like those of a trained layer: the sum of four even ones is close to a bell.
fn weights(element: Element) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(BYTES + 4);
    while bytes.len() < BYTES {
        let bits = next();
        let sum: f32 = (0..4)
            .map(|i| f32::from((bits >> (16 * i)) as u16) / 65536.0 - 0.5)
            .sum();
        let value = sum * 0.04;
        match element {
            Element::F32 => bytes.extend_from_slice(&value.to_le_bytes()),
            Element::Bf16 => bytes.extend_from_slice(&((value.to_bits() >> 16) as u16).to_le_bytes()),
            Element::F16 => bytes.extend_from_slice(&half::f16::from_f32(value).to_le_bytes()),
            Element::F8E4m3 | Element::F8E5m2 => bytes.push((bits >> 60) as u8 * 7 + 16),
        }
    }
    bytes.truncate(BYTES);
    bytes
}

/// Seconds that this thread has had a processor, so that other work on the machine counts less; elsewhere than on
/// Linux, seconds.
fn seconds(start: Instant) -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = spent.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

/// The best rate of several tries, in GB/s.
fn rate(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let seconds = (0..TRIES).map(|_| {
        let before = seconds(start);
        work();
        seconds(start) - before
    });
    BYTES as f64 / seconds.fold(f64::MAX, f64::min) / 1e9
}

fn main() {
    println!("GB/s on one thread   read   tally   groups   all");
    for element in Element::ALL {
        let bytes = weights(element);
        let read = rate(|| {
            let sum = black_box(&bytes)
                .as_chunks::<8>()
                .0
                .iter()
                .fold(0, |sum, b| sum ^ u64::from_le_bytes(*b));
            black_box(sum);
        });
        let tally = rate(|| {
            let mut tally = Tally::new(element);
            for piece in bytes.chunks(PIECE) {
                tally.add(piece).expect("whole elements");
            }
            black_box(tally);
        });
        let groups = rate(|| {
            let mut errors = GroupErrors::default();
            errors.add(element, &bytes);
            black_box(errors);
        });
        let all = rate(|| {
            let mut pass = Pass::new(element);
            for piece in bytes.chunks(PIECE) {
                pass.add(piece).expect("few elements");
            }
            black_box(pass.finish().expect("whole elements"));
        });
        println!(
            "{:18} {read:6.2} {tally:7.2} {groups:8.2} {all:5.2}",
            element.name()
        );
    }
}
