use proptest::prelude::*;
use proptest::sample::{Index, select};
use waag_kernels::Element;
use waag_kernels::difference::Difference;

use super::tally::{any_elements, bytes_of};

fn difference(element: Element, a: &[u32], b: &[u32]) -> Difference {
    let mut difference = Difference::new(element);
    difference
        .add(&bytes_of(element, a), &bytes_of(element, b))
        .unwrap();
    difference
}

#[test]
fn angles_and_distances_are_those_that_a_person_computes() {
    let bits = |values: [f32; 2]| values.map(f32::to_bits);
    let found = difference(Element::F32, &bits([3.0, 0.0]), &bits([0.0, 4.0])).sums();
    assert_eq!(
        (found.cosine(), found.relative_delta()),
        (Some(0.0), Some(5.0 / 3.0))
    );
    let same = difference(Element::F32, &bits([3.0, 4.0]), &bits([3.0, 4.0]));
    assert_eq!((same.equal(), same.elements()), (2, 2));
    assert_eq!(
        (same.sums().cosine(), same.sums().relative_delta()),
        (Some(1.0), Some(0.0))
    );
    let none = difference(Element::F32, &bits([0.0, f32::NAN]), &bits([0.0, f32::NAN])).sums();
    assert_eq!((none.cosine(), none.relative_delta()), (None, None));
}

proptest! {
    #[test]
    fn cuts_change_no_bit_and_values_are_exact(
        element in select(&Element::ALL), seed in any_elements(Element::F32, 200), cut in any::<Index>(),
    ) {
        let mask = u32::MAX >> (32 - 8 * element.size_bytes() as u32);
        let a: Vec<u32> = seed.iter().map(|bits| bits & mask).collect();
        let b: Vec<u32> = seed.iter().rev().map(|bits| bits & mask).collect();
        let whole = difference(element, &a, &b);
        let at = cut.index(a.len() + 1);
        let mut parts = Difference::new(element);
        parts.add(&bytes_of(element, &a[..at]), &bytes_of(element, &b[..at])).unwrap();
        parts.add(&bytes_of(element, &a[at..]), &bytes_of(element, &b[at..])).unwrap();
        prop_assert_eq!(parts.sums(), whole.sums());
        let pairs = a.iter().zip(&b).map(|(a, b)| (element.value(*a), element.value(*b)));
        let dots = pairs.filter(|(a, b)| a.is_finite() && b.is_finite()).map(|(a, b)| a * b);
        let (expected, size): (f64, f64) = dots.fold((0.0, 0.0), |(sum, size), dot| (sum + dot, size + dot.abs()));
        prop_assert!((whole.sums().product - expected).abs() <= 1e-12 * size);
    }
}
