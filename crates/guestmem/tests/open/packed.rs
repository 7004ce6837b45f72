//! What is compressed as a whole.
#![cfg(feature = "compression")]

use std::io::Write;

use guestmem::{Address, Format, Gpa, Image, MemoryExt, PhysicalMemory};

use crate::core::{Core, fact, load, open, refusal};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Raw memory of 3 MiB and a bit, mostly zeros.
fn raw() -> Vec<u8> {
    let mut raw = vec![0; (3 << 20) + 5];
    raw[0xfff..0x1002].copy_from_slice(b"abc");
    raw[0x20_0000..0x20_3000].fill(7);
    raw[(3 << 20) + 4] = 9;
    raw
}

#[test]
fn packed_memory_is_the_same_memory() {
    let core = Core::new([load(0x1000, &[5; 0x1000])]);
    let check = |file: &[u8], format, gpa, byte| {
        let image = open(file).unwrap();
        assert_eq!(image.format(), format);
        assert_eq!(image.layouts()[0].load_u8(Gpa::new(gpa)), Ok(byte));
        image
    };
    for pack in [gzip, zstd] {
        check(&pack(&core.build()), Format::Elf, 0x1fff, 5);
        check(&pack(&pack(&core.build())), Format::Elf, 0x1fff, 5);
        let packed = pack(&raw());
        let image = check(&packed, Format::Raw, 0x1000, b'b');
        let memory = &image.layouts()[0];
        assert_eq!(memory.size(), (3 << 20) + 5);
        assert_eq!(memory.read_up_to(Gpa::at(0), 4 << 20).bytes, raw());
        // Zeros are holes.
        let first = memory.next_data(Gpa::at(0)).unwrap();
        let second = memory.next_data(Gpa::at(0x2000)).unwrap();
        assert_eq!((first.start, first.len), (Gpa::at(0), 0x2000));
        assert_eq!((second.start, second.len), (Gpa::at(0x20_0000), 0x3000));
        assert!(fact(&image, "packed").is_some());
    }
    // Two members, one behind the other, as `cat` makes them.
    let raw = raw();
    let (one, two) = raw.split_at(0x1001);
    for pack in [gzip, zstd] {
        let file = [pack(one), pack(two)].concat();
        let image = open(&file).unwrap();
        let memory = &image.layouts()[0];
        assert_eq!(memory.read_up_to(Gpa::at(0), 4 << 20).bytes, raw);
    }
}

#[test]
fn unpacking_tells_how_far_it_is() {
    let packed = zstd(&raw());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&packed).unwrap();
    let mut last = (0, 0);
    Image::open_telling(file.path(), &mut |done, total| {
        assert!(done >= last.0);
        last = (done, total);
    })
    .unwrap();
    let len = packed.len() as u64;
    assert_eq!(last, (len, len));
}

#[test]
fn what_cannot_be_unpacked_is_refused() {
    for (pack, name) in [(gzip as fn(&[u8]) -> Vec<u8>, "gzip"), (zstd, "zstd")] {
        let whole = pack(&raw());
        for len in [4, 20, whole.len() / 2, whole.len() - 1] {
            let refused = refusal(&whole[..len]);
            let expected = format!("cannot unpack ({name}) into a file in");
            assert!(refused.starts_with(&expected), "{len}: {refused}");
        }
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 8].fill(0xa5);
        assert!(refusal(&damaged).starts_with("cannot unpack"), "{name}");
        assert_eq!(refusal(&pack(b"")), "is empty");
        assert_eq!(refusal(&pack(b"hello\n")), "is text, not memory");
        let thrice = pack(&pack(&whole));
        assert_eq!(refusal(&thrice), "is packed more than 2 times over");
    }
}
