//! Makes kdump files.

use std::ops::Range;

/// How pages are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Zlib,
    Lzo,
    Snappy,
    Zstd,
}

impl Packing {
    pub(super) const ALL: [Self; 5] = [Self::None, Self::Zlib, Self::Lzo, Self::Snappy, Self::Zstd];

    fn pack(self, page: &[u8]) -> (u32, Vec<u8>) {
        use std::io::Write;
        match self {
            Self::None => (0, page.to_vec()),
            Self::Zlib => {
                let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
                packer.write_all(page).unwrap();
                (1, packer.finish().unwrap())
            }
            Self::Lzo => (2, lzokay_native::compress(page).unwrap()),
            Self::Snappy => (4, snap::raw::Encoder::new().compress_vec(page).unwrap()),
            Self::Zstd => (0x20, zstd::bulk::compress(page, 3).unwrap()),
        }
    }
}

/// A dump to be made. Its pages are letters: `.` does not exist, `x` was left
/// out, `0` is zeros, and any other is filled with what depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) pages: &'a str,
    pub(super) packing: Packing,
    pub(super) page_shift: u32,
    pub(super) version: u32,
    /// The pages of this file, if it is one of several.
    pub(super) split: Option<(u64, u64)>,
    pub(super) vmcoreinfo: &'a [u8],
    pub(super) notes: &'a [u8],
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            pages: "abc0x.d0",
            packing: Packing::Zlib,
            page_shift: 12,
            version: 6,
            split: None,
            vmcoreinfo: b"",
            notes: b"",
        }
    }
}

/// What the page `letter` is filled with.
pub(super) fn page(letter: char, len: usize) -> Vec<u8> {
    let byte = |at: usize| match letter {
        '0' => 0,
        letter => u8::try_from((letter as usize * 3 % 251) ^ (at / 24 % 256)).unwrap(),
    };
    (0..len).map(byte).collect()
}

impl Plan<'_> {
    /// Where the bitmaps, the descriptors and the packed pages are.
    pub(super) fn bitmaps(&self) -> Range<usize> {
        let block = 1 << self.page_shift;
        2 * block..4 * block
    }

    pub(super) fn descriptors(&self) -> Range<usize> {
        let start = self.bitmaps().end;
        let dumped = self.letters().filter(|&(_, letter)| !"x.".contains(letter));
        start..start + dumped.count() * 24
    }

    /// The pages of this file, and all letters.
    fn letters(&self) -> impl Iterator<Item = (usize, char)> {
        let (start, end) = self.split.unwrap_or((0, u64::MAX));
        let is_here = move |&(at, _): &(usize, char)| (start..end).contains(&(at as u64));
        self.pages.chars().enumerate().filter(is_here)
    }

    /// The file.
    pub(super) fn build(&self) -> Vec<u8> {
        let block = 1usize << self.page_shift;
        let mut file = vec![0; self.descriptors().end];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        let count = self.pages.len() as u64;
        let wide = self.version >= 6;

        put(0, b"KDUMP   ");
        put(8, &self.version.to_le_bytes());
        put(408, &77u64.to_le_bytes());
        put(428, &u32::try_from(block).unwrap().to_le_bytes());
        put(432, &1u32.to_le_bytes());
        put(436, &2u32.to_le_bytes());
        // The narrow fields are of no use where there are wide ones.
        let narrow = if wide {
            3
        } else {
            u32::try_from(count).unwrap()
        };
        put(440, &narrow.to_le_bytes());

        let sub = block;
        let (start, end) = self.split.unwrap_or((0, 0));
        let (vmcoreinfo, notes) = (block + 0x100, block + 0x200);
        let split = u64::from(self.split.is_some());
        let mut words = vec![(8, split << 32)];
        words.extend([(16, start), (24, end)].map(|(at, word)| (at, if wide { 1 } else { word })));
        words.extend([(32, vmcoreinfo as u64), (40, self.vmcoreinfo.len() as u64)]);
        words.extend([(48, notes as u64), (56, self.notes.len() as u64)]);
        if wide {
            words.extend([(80, start), (88, end), (96, count)]);
        }
        for (at, word) in words {
            put(sub + at, &word.to_le_bytes());
        }
        put(vmcoreinfo, self.vmcoreinfo);
        put(notes, self.notes);

        let bitmap = |left_out: &str| {
            let mut bits = vec![0u8; block];
            for (at, letter) in self.pages.chars().enumerate() {
                if !left_out.contains(letter) {
                    bits[at / 8] |= 1 << (at % 8);
                }
            }
            bits
        };
        put(2 * block, &bitmap("."));
        put(3 * block, &bitmap(".x"));

        // All pages of zeros share the first packed page.
        let zeros_at = file.len();
        let (zeros_flags, zeros) = self.packing.pack(&page('0', block));
        file.extend(&zeros);
        let mut descriptor = self.descriptors().start;
        for (_, letter) in self.letters().filter(|&(_, letter)| !"x.".contains(letter)) {
            let (mut at, mut flags, mut len) = (zeros_at, zeros_flags, zeros.len());
            if letter != '0' {
                let (how, packed) = self.packing.pack(&page(letter, block));
                (at, flags, len) = (file.len(), how, packed.len());
                file.extend(packed);
            }
            let (at, len) = (at as u64, u32::try_from(len).unwrap());
            file[descriptor..descriptor + 8].copy_from_slice(&at.to_le_bytes());
            file[descriptor + 8..descriptor + 12].copy_from_slice(&len.to_le_bytes());
            file[descriptor + 12..descriptor + 16].copy_from_slice(&flags.to_le_bytes());
            descriptor += 24;
        }
        file
    }
}

/// `file` as records of this many bytes, the first of which comes twice: first
/// as nonsense, and right at the end.
pub(super) fn flatten(file: &[u8], record: usize) -> Vec<u8> {
    let mut flat = b"makedumpfile\0\0\0\0".to_vec();
    flat.extend([1u64.to_be_bytes(), 1u64.to_be_bytes()].concat());
    flat.resize(4096, 0);
    let mut put = |at: i64, len: i64, bytes: &[u8]| {
        flat.extend([at.to_be_bytes(), len.to_be_bytes()].concat());
        flat.extend(bytes);
    };
    let records = file.chunks(record).enumerate();
    let records: Vec<_> = records.map(|(at, bytes)| (at * record, bytes)).collect();
    let wrong = vec![0xee; records[0].1.len()];
    let first = std::iter::once((0, wrong.as_slice()));
    for (at, bytes) in first.chain(records.iter().copied().rev()) {
        let (at, len) = (at.try_into().unwrap(), bytes.len().try_into().unwrap());
        put(at, len, bytes);
    }
    put(-1, -1, b"");
    flat
}
