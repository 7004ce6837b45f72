//! Bits, floats and CPU masks in bytes.

use btf_layout::Btf;
use btf_layout::build::Builder;

use super::*;

#[test]
fn bits_are_found_wherever_they_are() {
    let bytes: Vec<u8> = (1..=20).collect();
    let value = little_endian(&bytes[..16]);
    for offset in 0..32_u64 {
        for len in 1..=128_u32 {
            let range = BitRange { offset, len };
            let mut want = 0;
            for bit in 0..len {
                let at = offset + u64::from(bit);
                let byte = bytes[usize::try_from(at / 8).unwrap()];
                want |= u128::from(byte >> (at % 8) & 1) << bit;
            }
            assert_eq!(bits(&bytes, range), Some(want), "{range:?}");
        }
    }
    assert_eq!(
        bits(
            &bytes,
            BitRange {
                offset: 0,
                len: 128
            }
        ),
        Some(value)
    );
    assert_eq!(
        bits(
            &bytes,
            BitRange {
                offset: 157,
                len: 4
            }
        ),
        None
    );
    assert_eq!(
        bits(
            &bytes,
            BitRange {
                offset: 0,
                len: 129
            }
        ),
        None
    );
    assert_eq!(
        bits(
            &bytes,
            BitRange {
                offset: u64::MAX,
                len: 9
            }
        ),
        None
    );
}

#[test]
fn cpu_masks_are_lists() {
    let mut types = Builder::new();
    let word = types.int("unsigned long", 8);
    let bits = types.array(word, 2);
    let mask = types.record("cpumask", 16, &[("bits", bits, 0)]);
    let other = types.record("mask", 16, &[("bits", bits, 0)]);
    let btf = Btf::parse(types.finish(), "a test").unwrap();
    let check = |ty, bytes: &[u8], want: Option<&str>| {
        let shape = Shape::new(&btf, ty);
        let object = Object::new(
            &shape,
            Bytes {
                len: 16,
                ..Bytes::whole(bytes)
            },
        );
        assert_eq!(object.cpus().map(|cpus| cpus.to_string()).as_deref(), want);
    };
    let mut bytes = [0; 16];
    check(mask, &bytes, Some(""));
    (bytes[0], bytes[1], bytes[15]) = (0x0f, 0x01, 0x80);
    check(mask, &bytes, Some("0-3,8,127"));
    check(mask, &bytes[..12], None);
    check(other, &bytes, None);
}

#[test]
fn half_floats_are_read() {
    for (bits, value) in [
        (0x0000, 0.0),
        (0x3c00, 1.0),
        (0xc000, -2.0),
        (0x7bff, 65504.0),
        (0x0001, 5.960_464_5e-8),
        (0x7c00, f32::INFINITY),
    ] {
        assert_eq!(half(bits), value);
    }
    assert!(half(0x7e00).is_nan());
}
