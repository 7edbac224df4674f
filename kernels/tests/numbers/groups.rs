use proptest::prelude::*;
use proptest::sample::{Index, select};
use waag_kernels::groups::GROUP;
use waag_kernels::{Element, GroupErrors, Pass, Quantised};

use super::tally::{any_elements, bytes_of};

fn errors(element: Element, elements: &[u32]) -> GroupErrors {
    let mut errors = GroupErrors::default();
    errors.add(element, &bytes_of(element, elements));
    errors
}

fn of_floats(values: &[f32]) -> GroupErrors {
    let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
    errors(Element::F32, &bits)
}

/// Every number that the format can write, not negative.
fn writable(format: Quantised) -> Vec<f64> {
    match format {
        Quantised::Int8 => (0..=127).map(f64::from).collect(),
        Quantised::Int4 => (0..=7).map(f64::from).collect(),
        Quantised::Fp8E4m3 => (0..0x7f).map(|bits| Element::F8E4m3.value(bits)).collect(),
    }
}

/// The squared error by trying every number that can be written, in `f64`.
fn by_trying(format: Quantised, values: &[f64]) -> f64 {
    let writable = writable(format);
    let mut sum = 0.0;
    for group in values.chunks(GROUP) {
        let most = group.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
        if most == 0.0 || !group.iter().all(|v| v.is_finite()) {
            continue;
        }
        let scale = most / writable.last().unwrap();
        for value in group {
            let wanted = value.abs() / scale;
            let nearest = writable
                .iter()
                .map(|w| (w - wanted).abs())
                .fold(f64::MAX, f64::min);
            sum += (nearest * scale).powi(2);
        }
    }
    sum
}

#[test]
fn what_can_be_written_costs_nothing() {
    let whole: Vec<f32> = (-127..=127).map(|i| i as f32).collect();
    let found = of_floats(&whole[127..]);
    assert_eq!((found.groups(), found.skipped()), (1, 0));
    assert_eq!(found.squared(Quantised::Int8), 0.0);
    assert!(found.squared(Quantised::Int4) > 0.0);
    let floats: Vec<f32> = (0..0x7f).map(|bits| Element::F8E4m3.value(bits) as f32).collect();
    assert_eq!(of_floats(&floats).squared(Quantised::Fp8E4m3), 0.0);
    assert_eq!(of_floats(&[0.0; 1000]), {
        let mut zeros = GroupErrors::default();
        zeros.add(Element::F32, &[0; 4000]);
        zeros
    });
}

#[test]
fn a_group_that_is_not_finite_is_skipped_and_counted() {
    for element in Element::ALL {
        let mut elements = vec![1; 3 * GROUP];
        elements[GROUP] = element.infinity();
        let found = errors(element, &elements);
        assert_eq!((found.groups(), found.skipped()), (2, 1), "{}", element.name());
    }
}

#[test]
fn the_smallest_and_the_greatest_numbers_are_within_bounds() {
    for magnitude in [f32::from_bits(1), f32::MIN_POSITIVE, 1e-20, 1.0, f32::MAX] {
        let values: Vec<f32> = (0..GROUP).map(|i| magnitude * (i as f32 / 127.0)).collect();
        let exact: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        let found = of_floats(&values);
        for format in Quantised::ALL {
            let (found, expected) = (found.squared(format), by_trying(format, &exact));
            assert!(
                (found - expected).abs() <= 1e-4 * expected + f64::from(magnitude).powi(2) * 1e-9,
                "{magnitude} {}: {found} instead of {expected}",
                format.name()
            );
        }
    }
}

proptest! {
    #[test]
    fn the_error_is_that_of_the_nearest_number_that_can_be_written(
        values in prop::collection::vec(-1.0_f32..1.0, 1..400), scale in -40_i32..40,
    ) {
        let values: Vec<f32> = values.iter().map(|v| v * 2.0_f32.powi(scale)).collect();
        let exact: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        let found = of_floats(&values);
        let most = exact.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
        for format in Quantised::ALL {
            let (found, expected) = (found.squared(format), by_trying(format, &exact));
            prop_assert!(
                (found - expected).abs() <= 1e-4 * expected + most * most * 1e-9,
                "{}: {} instead of {}", format.name(), found, expected
            );
        }
    }

    #[test]
    fn where_a_pass_is_cut_changes_nothing(
        element in select(&Element::ALL), seed in any_elements(Element::F32, 900),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let bytes = bytes_of(Element::F32, &seed);
        let bytes = &bytes[..bytes.len() - bytes.len() % element.size_bytes()];
        let mut whole = Pass::new(element);
        whole.add(bytes).unwrap();
        let whole = whole.finish().unwrap();

        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut pass = Pass::new(element);
        let mut start = 0;
        for end in ends {
            pass.add(&bytes[start..end]).unwrap();
            start = end;
        }
        prop_assert_eq!(pass.finish().unwrap(), whole);
    }

    #[test]
    fn in_what_order_parts_are_merged_changes_nothing(
        parts in prop::collection::vec(any_elements(Element::Bf16, 300), 1..5),
    ) {
        let parts: Vec<GroupErrors> = parts.iter().map(|part| errors(Element::Bf16, part)).collect();
        let merged = |parts: &mut dyn Iterator<Item = &GroupErrors>| {
            let mut all = GroupErrors::default();
            parts.for_each(|part| all.merge(part));
            all
        };
        prop_assert_eq!(merged(&mut parts.iter()), merged(&mut parts.iter().rev()));
    }
}

#[test]
fn a_pass_that_ends_within_an_element_is_refused() {
    let mut pass = Pass::new(Element::F16);
    pass.add(&[1, 2, 3]).unwrap();
    assert!(pass.finish().is_err());
}
