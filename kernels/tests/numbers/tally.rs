use proptest::prelude::*;
use proptest::sample::{Index, select};
use waag_kernels::tally::{Bin, ELEMENTS_MAX};
use waag_kernels::{Element, Tally, TallyError};

/// Elements as bits; a third of them are the ones at the edges of the format.
pub(super) fn any_elements(element: Element, up_to: usize) -> impl Strategy<Value = Vec<u32>> {
    let width = 8 * element.size_bytes() as u32;
    let all = u32::MAX >> (32 - width);
    let sign = 1_u32 << (width - 1);
    let infinity = element.top_exponent() << element.mantissa_bits();
    let edges = vec![0, 1, infinity - 1, infinity, infinity + 1, sign - 1];
    let edges: Vec<u32> = edges.into_iter().flat_map(|bits| [bits, bits | sign]).collect();
    prop::collection::vec(prop_oneof![2 => 0..=all, 1 => select(edges)], 0..up_to)
}

pub(super) fn bytes_of(element: Element, elements: &[u32]) -> Vec<u8> {
    let le = |bits: &u32| bits.to_le_bytes()[..element.size_bytes()].to_vec();
    elements.iter().flat_map(le).collect()
}

fn any_element() -> impl Strategy<Value = Element> {
    select(&Element::ALL)
}

fn any_tensor(up_to: usize) -> impl Strategy<Value = (Element, Vec<u32>)> {
    any_element().prop_flat_map(move |element| (Just(element), any_elements(element, up_to)))
}

/// Compares a tally with what counting element by element, by value, gives.
fn assert_counted(tally: &Tally, elements: &[u32]) {
    let element = tally.element();
    let values: Vec<f64> = elements.iter().map(|bits| element.value(*bits)).collect();
    let count = |is: &dyn Fn(f64) -> bool| values.iter().filter(|v| is(**v)).count() as u64;
    let least_normal = element.value(1 << element.mantissa_bits());
    assert_eq!(tally.elements(), elements.len() as u64);
    assert_eq!(tally.nans(), count(&f64::is_nan));
    assert_eq!(tally.infinities(), count(&f64::is_infinite));
    assert_eq!(tally.negative_infinities(), count(&|v| v == f64::NEG_INFINITY));
    assert_eq!(tally.finite(), count(&f64::is_finite));
    assert_eq!(tally.zeros(), count(&|v| v == 0.0));
    assert_eq!(
        tally.negative_zeros(),
        count(&|v| v == 0.0 && v.is_sign_negative())
    );
    assert_eq!(tally.subnormals(), count(&|v| v != 0.0 && v.abs() < least_normal));

    let numbers = || values.iter().copied().filter(|v| !v.is_nan());
    let bits = |value: Option<u32>| value.map(|bits| element.value(bits).to_bits());
    assert_eq!(
        bits(tally.minimum_bits()),
        numbers().min_by(f64::total_cmp).map(f64::to_bits)
    );
    assert_eq!(
        bits(tally.maximum_bits()),
        numbers().max_by(f64::total_cmp).map(f64::to_bits)
    );

    for negative in [false, true] {
        for (exponent, bin) in tally.bins(negative).iter().enumerate() {
            let fields = elements
                .iter()
                .map(|bits| (element.fields(*bits), element.value(*bits)));
            let here = fields.filter(|(f, _)| f.negative == negative && f.exponent as usize == exponent);
            let mut expected = Bin::default();
            for (fields, value) in here {
                expected.count += 1;
                if value.is_finite() {
                    expected.mantissas += u128::from(fields.mantissa);
                    expected.squares += u128::from(fields.mantissa).pow(2);
                }
            }
            assert_eq!(*bin, expected);
        }
    }
    let histogram = tally.exponent_histogram();
    assert_eq!(histogram.len(), 1 << element.exponent_bits());
    assert_eq!(histogram.iter().sum::<u64>(), tally.elements());
}

proptest! {
    #[test]
    fn a_tally_is_what_counting_one_by_one_gives((element, elements) in any_tensor(300)) {
        let tally = Tally::of(element, &bytes_of(element, &elements)).unwrap();
        assert_counted(&tally, &elements);
    }

    #[test]
    fn neither_cuts_nor_the_order_of_merging_change_a_bit(
        (element, elements) in any_tensor(300), cuts in prop::collection::vec(any::<Index>(), 0..8),
        turns in prop::collection::vec(any::<Index>(), 16),
    ) {
        let whole = Tally::of(element, &bytes_of(element, &elements)).unwrap();

        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(elements.len() + 1)).collect();
        ends.push(elements.len());
        ends.sort_unstable();
        let mut parts = Vec::new();
        let mut piecewise = Tally::new(element);
        let mut start = 0;
        for end in ends {
            let bytes = bytes_of(element, &elements[start..end]);
            parts.push(Tally::of(element, &bytes).unwrap());
            piecewise.add(&bytes).unwrap();
            start = end;
        }
        prop_assert_eq!(&piecewise, &whole);

        // Any tree: two parts, chosen at random, become one until one is left.
        let mut turns = turns.iter().cycle();
        while parts.len() > 1 {
            let one = parts.swap_remove(turns.next().unwrap().index(parts.len()));
            let other = turns.next().unwrap().index(parts.len());
            parts[other].merge(&one).unwrap();
        }
        prop_assert_eq!(&parts[0], &whole);
    }
}

#[test]
fn more_than_one_block_is_tallied_like_its_parts() {
    // Every 16-bit pattern, with some more behind it, is longer than a block.
    let elements: Vec<u32> = (0..=0xffff).chain(0..5000).collect();
    for element in [Element::Bf16, Element::F16] {
        assert_counted(
            &Tally::of(element, &bytes_of(element, &elements)).unwrap(),
            &elements,
        );
    }
    let greatest = vec![0x7f7f_ffff; 70_000];
    assert_counted(
        &Tally::of(Element::F32, &bytes_of(Element::F32, &greatest)).unwrap(),
        &greatest,
    );
}

#[test]
fn half_an_element_is_refused_and_changes_nothing() {
    let mut tally = Tally::of(Element::F32, &1.5_f32.to_le_bytes()).unwrap();
    let before = tally.clone();
    let error = tally.add(&[0; 6]).unwrap_err();
    assert_eq!(
        error,
        TallyError::Ragged {
            element: Element::F32,
            bytes: 6
        }
    );
    assert_eq!(
        error.to_string(),
        "6 bytes are not a whole number of F32 elements of 4 bytes"
    );
    assert_eq!(tally, before);
}

#[test]
fn tallies_of_two_formats_do_not_mix() {
    let mut tally = Tally::new(Element::Bf16);
    let error = tally.merge(&Tally::new(Element::F16)).unwrap_err();
    assert_eq!(error.to_string(), "a tally of BF16 cannot take in one of F16");
}

#[test]
fn no_accumulator_overflows_before_a_tally_is_full() {
    let bytes = bytes_of(Element::F32, &[0xff7f_ffff; 2]);
    let mut tally = Tally::of(Element::F32, &bytes).unwrap();
    while tally.elements() < ELEMENTS_MAX {
        let twin = tally.clone();
        tally.merge(&twin).unwrap();
    }
    let mantissa = 0x7f_ffff_u128;
    let expected = Bin {
        count: ELEMENTS_MAX,
        mantissas: mantissa << 48,
        squares: (mantissa * mantissa) << 48,
    };
    assert_eq!(tally.bins(true)[254], expected);
    let twin = tally.clone();
    assert_eq!(
        tally.merge(&twin).unwrap_err(),
        TallyError::TooMany { found: 1 << 49 }
    );
    assert_eq!(tally, twin);
}
