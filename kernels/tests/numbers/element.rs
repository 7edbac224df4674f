use half::{bf16, f16};
use proptest::prelude::*;
use waag_kernels::Element;
use waag_kernels::element::Fields;

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[test]
fn every_sixteen_bit_element_has_its_value() {
    for bits in 0..=u16::MAX {
        let wide = u32::from(bits);
        assert!(
            same(Element::Bf16.value(wide), bf16::from_bits(bits).to_f64()),
            "{bits:#x}"
        );
        assert!(
            same(Element::F16.value(wide), f16::from_bits(bits).to_f64()),
            "{bits:#x}"
        );
    }
}

proptest! {
    #[test]
    fn every_f32_has_its_value(bits: u32) {
        prop_assert!(same(Element::F32.value(bits), f64::from(f32::from_bits(bits))));
    }
}

#[test]
fn the_fields_lie_as_the_standard_says() {
    for (element, bits, negative, exponent, mantissa) in [
        (Element::Bf16, 0x3f80, false, 127, 0),
        (Element::Bf16, 0xff81, true, 255, 1),
        (Element::F16, 0xbc01, true, 15, 1),
        (Element::F16, 0x7c00, false, 31, 0),
        (Element::F32, 0x8000_0001, true, 0, 1),
        (Element::F32, 0x7f7f_ffff, false, 254, 0x7f_ffff),
    ] {
        let expected = Fields {
            negative,
            exponent,
            mantissa,
        };
        assert_eq!(element.fields(bits), expected, "{} {bits:#x}", element.name());
    }
}

#[test]
fn names_are_those_of_safetensors() {
    for element in Element::ALL {
        assert_eq!(Element::from_name(element.name()), Some(element));
    }
    assert_eq!(Element::from_name("F64"), None);
    assert_eq!(Element::from_name("bf16"), None);
}
