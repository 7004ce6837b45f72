//! The names of symbols: tokens, and the texts that they stand for.

use guestmem::{Address, Kva, Memory, MemoryExt};

use super::{KallsymsError, unreadable};

/// How many symbols share one entry of the index into the names.
pub(super) const MARK_EVERY: usize = 64;

/// The compressed names, one after the other: the bytes of their tokens.
pub(super) struct Names<'n> {
    pub(super) rest: &'n [u8],
}

impl<'n> Names<'n> {
    pub(super) fn new(bytes: &'n [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'n> Iterator for Names<'n> {
    type Item = &'n [u8];

    fn next(&mut self) -> Option<&'n [u8]> {
        let (&first, mut rest) = self.rest.split_first()?;
        let mut len = usize::from(first);
        // Since 6.1 (73bbb94466fd) a set top bit announces a second byte.
        if first & 0x80 != 0 {
            let (&second, after) = rest.split_first()?;
            len = usize::from(first & 0x7f) | usize::from(second) << 7;
            rest = after;
        }
        let (name, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(name)
    }
}

/// How much of the names is read at a time.
pub(super) const NAMES_STEP: u64 = 256 << 10;

/// The most bytes that names are believed to take. Those of a distribution's
/// kernel take 2 MiB.
const LONGEST_NAMES: usize = 32 << 20;

/// Reads `count` names: their bytes, and the marks into them.
pub(super) fn load_names(
    memory: &dyn Memory<Kva>,
    start: Kva,
    count: u32,
) -> Result<(Vec<u8>, Vec<usize>), KallsymsError> {
    let mut bytes = Vec::new();
    let mut marks = Vec::new();
    let mut decoded = 0u32;
    let mut at = 0;
    while decoded < count {
        if bytes.len() >= LONGEST_NAMES {
            return Err(KallsymsError::NamesTooLong { count, decoded });
        }
        let next = start.checked_add(bytes.len() as u64);
        let more = next.map(|next| memory.read_up_to(next, NAMES_STEP));
        let (more, fault) = more.map_or((Vec::new(), None), |more| (more.bytes, more.fault));
        if let (true, Some(fault)) = (more.is_empty(), fault) {
            return Err(KallsymsError::Unreadable {
                part: "kallsyms_names",
                fault,
            });
        }
        if more.is_empty() {
            return Err(KallsymsError::NamesEnd { count, decoded });
        }
        bytes.extend(more);
        let mut names = Names::new(bytes.get(at..).unwrap_or_default());
        while decoded < count {
            let here = bytes.len() - names.rest.len();
            if names.next().is_none() {
                break;
            }
            if (decoded as usize).is_multiple_of(MARK_EVERY) {
                marks.push(here);
            }
            decoded += 1;
            at = bytes.len() - names.rest.len();
        }
    }
    bytes.truncate(at);
    bytes.shrink_to_fit();
    Ok((bytes, marks))
}

/// What each token stands for.
#[derive(Debug)]
pub(super) struct Tokens {
    texts: Vec<Vec<u8>>,
    lengths: [u16; 256],
}

impl Tokens {
    /// The longest text of one token that is believed.
    const LONGEST: u64 = 512;

    pub(super) fn load(
        memory: &dyn Memory<Kva>,
        table: Kva,
        index: Kva,
    ) -> Result<Self, KallsymsError> {
        let offsets: [u8; 512] = memory
            .load(index)
            .map_err(unreadable("kallsyms_token_index"))?;
        let offsets: Vec<u16> = offsets
            .chunks_exact(2)
            .filter_map(|pair| Some(u16::from_le_bytes(*pair.first_chunk()?)))
            .collect();
        let last = offsets.iter().max().copied().unwrap_or(0);
        let read = memory.read_up_to(table, u64::from(last) + Self::LONGEST);
        if let (true, Some(fault)) = (read.bytes.len() <= usize::from(last), read.fault) {
            return Err(unreadable("kallsyms_token_table")(fault));
        }
        let texts = offsets.iter().map(|&offset| {
            let rest = read.bytes.get(usize::from(offset)..).unwrap_or_default();
            rest.split(|&byte| byte == 0)
                .next()
                .unwrap_or_default()
                .to_vec()
        });
        let texts: Vec<Vec<u8>> = texts.collect();
        let mut lengths = [0; 256];
        for (length, text) in lengths.iter_mut().zip(&texts) {
            *length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        }
        Ok(Self { texts, lengths })
    }

    pub(super) fn text(&self, token: u8) -> &[u8] {
        self.texts
            .get(usize::from(token))
            .map_or(&[], Vec::as_slice)
    }

    pub(super) fn expanded_len(&self, compressed: &[u8]) -> usize {
        let length = |token: &u8| self.lengths.get(usize::from(*token)).copied().unwrap_or(0);
        compressed
            .iter()
            .map(|token| usize::from(length(token)))
            .sum()
    }

    pub(super) fn expand(&self, compressed: &[u8], into: &mut Vec<u8>) {
        for &token in compressed {
            into.extend_from_slice(self.text(token));
        }
    }
}
