//! What goes into the typed maps of `kinds.bpf.c` and `bench.bpf.c`: one row a map, one function
//! a type. The functions are written against the C text, not against BTF.

use serde_json::{Value, json};

use crate::datum::{Datum, bits, chars, list, num, overlay, packed, pointer, record, shown, text};
use crate::rng::Rng;

/// Makes the `n`th key or value.
type Make = fn(&mut Rng, u32) -> Datum;

/// A row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Typed {
    pub(crate) map: &'static str,
    /// How many entries it gets; for an array, from slot 0 on.
    pub(crate) count: u32,
    pub(crate) key: Make,
    pub(crate) value: Make,
}

const fn row(map: &'static str, count: u32, key: Make, value: Make) -> Typed {
    Typed {
        map,
        count,
        key,
        value,
    }
}

/// The maps of `kinds.bpf.c`.
#[rustfmt::skip]
pub(crate) const KINDS: &[Typed] = &[
    row("flows", 150, flow_key, flow),
    row("flows_lru", 40, flow_key, flow),
    row("flow_slots", 45, index, flow),
    row("counts_pc", 60, quad_key, counter),
    row("counts_lru_pc", 30, quad_key, counter),
    row("count_slots_pc", 15, index, counter),
    row("scalars", 30, index, scalars),
    row("bits", 40, index, bit_fields),
    row("enums", 3, state_key, enums),
    row("nests", 30, word, nests),
    row("arrays", 30, name_key, arrays),
    row("wide", 12, wide_key, wide),
    row("floats", 9, index, floats),
    row("pointers", 9, index, pointers),
    row("packets", 9, index, packet),
    row("tight", 12, tight, tight),
    row("locked", 7, index, locked),
    row("numbers", 33, index, |rng, _| num(low32(rng).cast_signed())),
    row("states", 10, index, |rng, _| state(rng)),
    row("labels", 12, label, |rng, _| list([0; 4].map(|_| num(low32(rng))))),
    row("truths", 2, |_, n| num(n == 1), |_, n| num(n == 0)),
    row("traces", 6, index, trace),
    row("trace_slots", 4, index, trace),
];

/// The maps of `bench.bpf.c`.
pub(crate) const BENCH: &[Typed] = &[
    row("sessions", 100_000, session_key, session),
    row("session_slots", 100_000, index, session),
];

fn low32(rng: &mut Rng) -> u32 {
    let [a, b, c, d, ..] = rng.next().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn low16(rng: &mut Rng) -> u16 {
    let [a, b, ..] = rng.next().to_le_bytes();
    u16::from_le_bytes([a, b])
}

fn low8(rng: &mut Rng) -> u8 {
    let [a, ..] = rng.next().to_le_bytes();
    a
}

fn coin(rng: &mut Rng) -> bool {
    rng.below(2) == 1
}

fn index(_: &mut Rng, n: u32) -> Datum {
    num(n)
}

fn quad_key(rng: &mut Rng, _: u32) -> Datum {
    num(rng.next())
}

/// A lower-case word.
fn word_text(rng: &mut Rng, longest: u64) -> String {
    let length = 1 + rng.below(longest);
    (0..length)
        .map(|_| char::from(b'a' + u8::try_from(rng.below(26)).unwrap_or(0)))
        .collect()
}

fn endpoint(rng: &mut Rng) -> Datum {
    record([
        ("addr", num(low32(rng))),
        ("port", num(low16(rng))),
        ("proto", num(low8(rng))),
    ])
}

fn state(rng: &mut Rng) -> Datum {
    match rng.below(3) {
        0 => shown(0_i32, "STATE_IDLE"),
        1 => shown(3_i32, "STATE_RUNNING"),
        _ => shown(-1_i32, "STATE_STOPPED"),
    }
}

fn state_key(_: &mut Rng, n: u32) -> Datum {
    match n {
        0 => shown(0_i32, "STATE_IDLE"),
        1 => shown(3_i32, "STATE_RUNNING"),
        _ => shown(-1_i32, "STATE_STOPPED"),
    }
}

fn flow_key(rng: &mut Rng, _: u32) -> Datum {
    record([("src", endpoint(rng)), ("dst", endpoint(rng))])
}

fn flow(rng: &mut Rng, _: u32) -> Datum {
    let errors = record([("rx", num(low32(rng))), ("tx", num(low32(rng)))]);
    record([
        ("name", text(16, &word_text(rng, 15))),
        ("state", state(rng)),
        ("sampled", num(coin(rng))),
        ("packets", num(rng.next() >> 20)),
        ("errors", errors),
        ("via", list([endpoint(rng), endpoint(rng)])),
    ])
}

fn counter(rng: &mut Rng, _: u32) -> Datum {
    record([
        ("packets", num(rng.next())),
        ("drops", num(low32(rng))),
        ("level", num(low16(rng).cast_signed())),
        ("hot", num(coin(rng))),
    ])
}

fn scalars(rng: &mut Rng, n: u32) -> Datum {
    let letter = b'A' + u8::try_from(n % 26).unwrap_or(0);
    record([
        ("s8", num(low8(rng).cast_signed())),
        ("u8", num(low8(rng))),
        ("s16", num(low16(rng).cast_signed())),
        ("u16", num(low16(rng))),
        ("s32", num(low32(rng).cast_signed())),
        ("u32", num(low32(rng))),
        ("s64", num(rng.next().cast_signed())),
        ("u64", num(rng.next())),
        ("yes", num(coin(rng))),
        ("timeout", num(low32(rng))),
        ("until", num(low32(rng))),
        ("letter", shown(letter, Value::Null)),
    ])
}

fn bit_fields(rng: &mut Rng, _: u32) -> Datum {
    let mut number = |width: u32| rng.next().cast_signed() & ((1 << width) - 1);
    let signed = |value: i64, width: u32| (value << (64 - width)) >> (64 - width);
    let mut unsigned = |name, first, width| {
        let value = number(width);
        (name, first, width, value, json!(value))
    };
    let plain = [
        unsigned("low", 0, 1),
        unsigned("mid", 1, 7),
        unsigned("wide", 8, 24),
        unsigned("long_low", 64, 33),
        unsigned("long_high", 97, 31),
        unsigned("tail", 128, 3),
        unsigned("end", 131, 5),
    ];
    let (negative, far, flag) = (number(5), number(20), number(1));
    let named = match number(1) {
        0 => ("state", 58, 3, 0, json!("STATE_IDLE")),
        _ => ("state", 58, 3, 3, json!("STATE_RUNNING")),
    };
    let others = [
        ("negative", 32, 5, negative, json!(signed(negative, 5))),
        ("far", 37, 20, far, json!(signed(far, 20))),
        ("flag", 57, 1, flag, json!(flag == 1)),
        named,
    ];
    bits(24, 8, plain.into_iter().chain(others))
}

fn enums(rng: &mut Rng, n: u32) -> Datum {
    let may = match n {
        0 => shown(5_u32, "MAY_READ|MAY_EXEC"),
        1 => shown(128_u32, "MAY_APPEND"),
        _ => shown(135_u32, "MAY_READ|MAY_WRITE|MAY_EXEC|MAY_APPEND"),
    };
    let huge = match n {
        0 => shown(1_u64, "HUGE_ONE"),
        1 => shown(0x1_0000_0000_u64, "HUGE_LOW"),
        _ => shown(0x8000_0000_0000_0000_u64, "HUGE_TOP"),
    };
    let deep = match n {
        0 => shown(-0x1_0000_0000_i64, "DEEP_MINUS"),
        1 => shown(0_i64, "DEEP_ZERO"),
        _ => shown(i64::MAX, "DEEP_PLUS"),
    };
    record([
        ("state", state(rng)),
        ("may", may),
        // No enumerator has this value.
        ("nothing", shown(0_u32, Value::Null)),
        ("unnamed", num(77_i32)),
        ("huge", huge),
        ("deep", deep),
        ("list", list([state(rng), state(rng), state(rng)])),
    ])
}

fn word(rng: &mut Rng, _: u32) -> Datum {
    let bytes = rng.next().to_le_bytes();
    let whole = u64::from_le_bytes(bytes);
    let half = |shift: u32| u32::try_from(whole >> shift & 0xffff_ffff).unwrap_or(0);
    overlay([
        ("whole", num(whole)),
        ("half", list([num(half(0)), num(half(32))])),
        ("bytes", list(bytes.map(num))),
    ])
}

fn nests(rng: &mut Rng, n: u32) -> Datum {
    let number = low32(rng);
    let either = overlay([
        ("as_u32", num(number)),
        ("as_s32", num(number.cast_signed())),
    ]);
    let deepest = record([("inner_b", num(low16(rng))), ("inner_c", num(low32(rng)))]);
    let bottom = record([("bottom", num(low8(rng)))]);
    record([
        ("kind", num(n)),
        ("", either),
        ("", record([("inner_a", num(low16(rng))), ("", deepest)])),
        ("word", word(rng, n)),
        ("one", record([("two", record([("three", bottom)]))])),
    ])
}

fn name_key(rng: &mut Rng, n: u32) -> Datum {
    text(8, &format!("{}{n}", word_text(rng, 4)))
}

fn arrays(rng: &mut Rng, _: u32) -> Datum {
    let mut row = || list([num(low16(rng)), num(low16(rng))]);
    let grid = list([row(), row(), row()]);
    record([
        ("four", list([0; 4].map(|_| num(low32(rng))))),
        ("grid", grid),
        ("text", text(12, &word_text(rng, 11))),
        // As long as the array: no NUL at its end.
        ("full", chars(b"full")),
        ("bytes", chars(&[0xff, 0, 0x80, 7, 0xfe, 1])),
        ("mac", list([0; 6].map(|_| num(low8(rng))))),
        ("ends", list([endpoint(rng), endpoint(rng)])),
        // `none` has no elements but asks for the alignment of its type.
        ("none", list([]).aligned(8)),
        ("flags", list([0; 3].map(|_| num(coin(rng))))),
        ("words", list([0; 2].map(|_| text(8, &word_text(rng, 7))))),
    ])
}

fn wide_key(rng: &mut Rng, _: u32) -> Datum {
    num(u128::from(rng.next()) << 64 | u128::from(rng.next()))
}

fn wide(rng: &mut Rng, n: u32) -> Datum {
    let plus = match n {
        0 => 0,
        1 => u128::MAX,
        _ => u128::from(rng.next()) << 64 | u128::from(rng.next()),
    };
    record([
        ("plus", num(plus)),
        ("minus", num(-i128::from(n) * 7_i128.pow(25))),
    ])
}

fn floats(_: &mut Rng, n: u32) -> Datum {
    let unit = f64::from(n) - 2.0;
    let single = f32::from(u8::try_from(n).unwrap_or(0)) * 0.5;
    record([
        ("single", num(single)),
        ("twice", num(unit * 1.0e100)),
        ("pair", list([num(single - 1.25), num(0.0_f32)])),
    ])
}

fn pointers(rng: &mut Rng, _: u32) -> Datum {
    let names = [
        "any",
        "hidden",
        "text",
        "function",
        "self",
        "marked",
        "qualified",
    ];
    record(names.map(|name| (name, pointer(rng.next()))))
}

fn packet(rng: &mut Rng, n: u32) -> Datum {
    record([
        ("length", num(u16::try_from(n).unwrap_or(0))),
        ("kind", num(low16(rng))),
    ])
}

fn tight(rng: &mut Rng, n: u32) -> Datum {
    packed([
        ("head", num(low8(rng))),
        ("word", num(n)),
        ("quad", num(rng.next())),
        ("tail", num(low16(rng))),
    ])
}

fn locked(rng: &mut Rng, _: u32) -> Datum {
    // The kernel keeps what users write away from the lock and the timer.
    record([
        ("lock", shown(0_u32, Value::Null)),
        ("value", num(low32(rng))),
        ("timer", shown(0_u128, Value::Null).aligned(8)),
        ("last", num(rng.next())),
    ])
}

fn label(rng: &mut Rng, n: u32) -> Datum {
    text(24, &format!("{} {n}", word_text(rng, 18)))
}

fn trace(rng: &mut Rng, n: u32) -> Datum {
    let samples: Vec<Datum> = (0..300)
        .map(|index: u32| {
            // The last ones are equal, for the folding of neighbours.
            let hits = if index < 280 { low32(rng) } else { 9 };
            record([
                ("index", num(index.min(290))),
                ("hits", num(hits)),
                ("when", num(u64::from(index.min(290)) * 1_000_003)),
            ])
        })
        .collect();
    record([
        ("name", text(32, &word_text(rng, 31))),
        ("samples", list(samples)),
        ("count", num(n)),
    ])
}

fn session_key(rng: &mut Rng, n: u32) -> Datum {
    record([
        ("source", num(n)),
        ("target", num(low32(rng))),
        ("port", num(low16(rng))),
        ("proto", num(6_u16)),
    ])
}

fn session(rng: &mut Rng, _: u32) -> Datum {
    let verdict = match rng.below(3) {
        0 => shown(0_u32, "VERDICT_PASS"),
        1 => shown(1_u32, "VERDICT_DROP"),
        _ => shown(2_u32, "VERDICT_LATER"),
    };
    record([
        ("packets", num(rng.next() >> 40)),
        ("bytes", num(rng.next() >> 24)),
        ("mark", num(low32(rng))),
        ("verdict", verdict),
        ("flags", num(low16(rng))),
        ("established", num(coin(rng))),
        ("owner", text(13, &word_text(rng, 12))),
    ])
}
