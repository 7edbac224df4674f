//! What a GPU measures of weights, held against the CPU: every bit.

use proptest::prelude::*;

use super::*;
use crate::Pass;

/// Elements of all kinds: anything, numbers like those of a layer, and the ends of the format.
fn elements(element: Element, count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let size = element.size_bytes();
    let mut bytes = Vec::with_capacity(count * size);
    for group in 0..count.div_ceil(128) {
        let kind = next() % 8;
        for _ in 0..128.min(count - 128 * group) {
            let bits = match (kind, element) {
                (0, _) => next(),
                (1, _) => next() & (0x8000_0003 >> (8 * (4 - size))),
                (2, _) if next() % 64 == 0 => element.infinity() | (next() & 1),
                (_, Element::F32) => ((next() % 4096) as f32 / 4096.0 - 0.5).to_bits(),
                (_, Element::Bf16) => ((next() % 4096) as f32 / 4096.0 - 0.5).to_bits() >> 16,
                (_, Element::F16) => {
                    u32::from(half::f16::from_f32((next() % 4096) as f32 / 4096.0 - 0.5).to_bits())
                }
                _ => (next() % 0x60) | (next() & 0x80),
            };
            bytes.extend_from_slice(&bits.to_le_bytes()[..size]);
        }
    }
    bytes
}

fn by_cpu(element: Element, bytes: &[u8]) -> Measured {
    let mut pass = Pass::new(element);
    pass.add(bytes).unwrap();
    pass.finish().unwrap()
}

fn by_gpu(gpu: &Arc<Gpu>, element: Element, bytes: &[u8], slot: usize, piece: usize) -> Measured {
    let mut pass = GpuPass::with_slots(gpu, element, slot).unwrap();
    for piece in bytes.chunks(piece) {
        pass.add(piece).unwrap();
    }
    pass.finish().unwrap()
}

#[test]
fn a_gpu_measures_the_bits_of_the_cpu() {
    for gpu in crate::agree::devices() {
        for element in Element::ALL {
            for count in [0, 1, 127, 128, 129, 5000, 40_001] {
                let bytes = elements(element, count, count as u64 + 7);
                let expected = by_cpu(element, &bytes);
                for (slot, piece) in [(1 << 20, 1 << 20), (1 << 14, 999)] {
                    let found = by_gpu(&gpu, element, &bytes, slot, piece);
                    assert!(
                        found == expected,
                        "{} of {} on {}",
                        count,
                        element.name(),
                        gpu.name()
                    );
                }
            }
        }
    }
}

#[test]
fn tables_of_a_block_do_not_overflow() {
    // As many of the greatest mantissas as a table takes before it is emptied, and more.
    for gpu in crate::agree::devices() {
        for (element, bits) in [
            (Element::F32, 0x3fff_ffff_u32),
            (Element::F16, 0x3fff),
            (Element::Bf16, 0x3fff),
        ] {
            let bytes = bits.to_le_bytes()[..element.size_bytes()].repeat(1 << 17);
            assert!(
                by_gpu(&gpu, element, &bytes, 1 << 20, 1 << 20) == by_cpu(element, &bytes),
                "{}",
                element.name()
            );
        }
    }
}

#[test]
fn bytes_that_end_within_an_element_are_refused() {
    for gpu in crate::agree::devices() {
        let mut pass = GpuPass::new(&gpu, Element::F32).unwrap();
        pass.add(&[1, 2, 3]).unwrap();
        assert!(matches!(
            pass.finish(),
            Err(GpuError::Tally(TallyError::Ragged { bytes: 3, .. }))
        ));
    }
}

#[test]
fn sums_that_are_fetched_on_the_way_are_the_same() {
    for gpu in crate::agree::devices() {
        let bytes = elements(Element::Bf16, 3000, 5);
        let mut pass = GpuPass::with_slots(&gpu, Element::Bf16, 1 << 10).unwrap();
        for piece in bytes.chunks(1500) {
            pass.add(piece).unwrap();
            pass.fetch().unwrap();
            pass.clear().unwrap();
        }
        assert!(pass.finish().unwrap() == by_cpu(Element::Bf16, &bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_elements_in_any_pieces_are_measured_alike(
        element in proptest::sample::select(&Element::ALL), count in 0_usize..3000, seed: u64, piece in 1_usize..5000,
    ) {
        for gpu in crate::agree::devices() {
            let bytes = elements(element, count, seed);
            prop_assert!(by_gpu(&gpu, element, &bytes, 1 << 12, piece) == by_cpu(element, &bytes));
        }
    }
}
