//! Stacks that programs have taken.
//!
//! Which functions they go through is the kernel's affair, so that the truth about their frames
//! is what bpf(2) says of them, in the light of /proc/kallsyms.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapFlags, Object};
use libbpf_sys::BPF_F_STACK_BUILD_ID;
use serde_json::{Value, json};

use crate::make::Maker;
use crate::objects::{find, pin};
use crate::programs::Input;
use crate::truth::{Told, hex};

/// Which programs fill which map.
const MAPS: [(&str, &[&str]); 6] = [
    ("stacks", &["whole", "skipped"]),
    ("stacks_short", &["cut"]),
    ("stacks_one", &["only"]),
    ("stacks_user", &["caller"]),
    ("stacks_empty", &[]),
    ("places", &["place", "no_place"]),
];

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does, or if it has not got the stacks any more that it gave ids for.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let object = maker.load(maker.open("stacks")?)?;
    let mut taken = Vec::new();
    for (map, programs) in MAPS {
        let mut ids = BTreeSet::new();
        for program in programs {
            for cpu in [0, 1] {
                pin(cpu)?;
                ids.insert(take(maker, &object, program)?);
                ids.insert(take_deeper(maker, &object, program)?);
            }
        }
        pin(0)?;
        taken.push((map, ids));
    }
    // The programs' own symbols are there by now.
    let symbols = Symbols::read()?;
    for (name, ids) in taken {
        let map = find(&object, name)?;
        let places = map.info()?.info.map_flags & BPF_F_STACK_BUILD_ID != 0;
        let mut expect = Vec::new();
        for id in ids {
            let value = map.lookup(&id.to_le_bytes(), MapFlags::ANY)?;
            let value = value.with_context(|| format!("{name} has no stack {id}"))?;
            let frames = match places {
                true => places_of(&value),
                false => symbols.frames(&value),
            };
            ensure!(!frames.is_empty(), "stack {id} of {name} has no frames");
            expect.push(json!({"stack": id, "frames": frames}));
        }
        maker.tell(map, Told::unordered(expect))?;
    }
    maker.hold(object);
    Ok(())
}

/// Lets a program take a stack and returns its id.
fn take(maker: &mut Maker, object: &Object, program: &str) -> Result<u32> {
    let id = maker.programs.run(object, program, Input::Context(&[]))?;
    ensure!(
        i32::try_from(id).is_ok(),
        "{program} got error {}",
        id.cast_signed()
    );
    Ok(id)
}

/// The same from another place in this program.
#[inline(never)]
fn take_deeper(maker: &mut Maker, object: &Object, program: &str) -> Result<u32> {
    let id = take(maker, object, program);
    // No tail call, so that this has a frame.
    std::hint::black_box(id)
}

/// Integers one after the other.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let words = bytes.chunks_exact(8);
    words.map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
}

/// The frames of a stack whose frames are `struct bpf_stack_build_id`.
fn places_of(value: &[u8]) -> Vec<Value> {
    const VALID: i32 = 1;
    const ADDRESS: i32 = 2;
    let mut frames = Vec::new();
    for frame in value.chunks_exact(32) {
        let (status, rest) = frame.split_at(4);
        let (build_id, place) = rest.split_at(20);
        let place = words(place).next().unwrap_or(0);
        match i32::from_le_bytes(status.try_into().unwrap_or_default()) {
            VALID => frames.push(json!({"build_id": hex(build_id), "offset": place})),
            ADDRESS => frames.push(json!({"ip": format!("0x{place:x}")})),
            _ => break,
        }
    }
    frames
}

/// The kernel's symbols of text, by address. None where an address has several names.
struct Symbols(BTreeMap<u64, Option<String>>);

impl Symbols {
    fn read() -> Result<Self> {
        let mut symbols = BTreeMap::new();
        for line in fs::read_to_string("/proc/kallsyms")?.lines() {
            let mut words = line.split_whitespace();
            let (Some(address), Some(kind), Some(name)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if !matches!(kind, "t" | "T" | "w" | "W") {
                continue;
            }
            let address = u64::from_str_radix(address, 16)?;
            symbols
                .entry(address)
                .and_modify(|known| *known = None)
                .or_insert_with(|| Some(name.to_owned()));
        }
        Ok(Self(symbols))
    }

    fn frames(&self, value: &[u8]) -> Vec<Value> {
        let addresses = words(value).take_while(|&ip| ip != 0);
        addresses.map(|ip| self.frame(ip)).collect()
    }

    fn frame(&self, ip: u64) -> Value {
        let mut frame = json!({"ip": format!("0x{ip:x}")});
        let kernel = ip.leading_ones() > 0;
        if kernel
            && let Some((start, Some(name))) = self.0.range(..=ip).next_back()
            && let Some(frame) = frame.as_object_mut()
        {
            let symbol = format!("{name}+0x{:x}", ip - start);
            frame.insert("symbol".to_owned(), json!(symbol));
        }
        frame
    }
}
