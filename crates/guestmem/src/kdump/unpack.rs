//! The pages of a kdump file, unpacked.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::bulk::Decompressor;

use super::lzo;

/// How a page is packed (`page_desc.flags`, the `DUMP_DH_COMPRESSED_*` of
/// makedumpfile's `diskdump_mod.h`).
const ZLIB: u32 = 0x1;
const LZO: u32 = 0x2;
const SNAPPY: u32 = 0x4;
const ZSTD: u32 = 0x20;

/// Unpacks pages.
pub(super) struct Unpacker {
    zlib: Decompress,
    snappy: snap::raw::Decoder,
    zstd: Option<Decompressor<'static>>,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
            snappy: snap::raw::Decoder::new(),
            zstd: None,
        }
    }

    /// Unpacks `packed`, which is packed as `flags` say and must fill `page`
    /// exactly.
    pub(super) fn unpack(&mut self, flags: u32, packed: &[u8], page: &mut [u8]) -> Option<()> {
        let len = match flags {
            0 if packed.len() == page.len() => {
                page.copy_from_slice(packed);
                page.len()
            }
            ZLIB => {
                self.zlib.reset(true);
                let status = self.zlib.decompress(packed, page, FlushDecompress::Finish);
                status.ok().filter(|&status| status == Status::StreamEnd)?;
                usize::try_from(self.zlib.total_out()).ok()?
            }
            LZO => {
                lzo::unpack(packed, page)?;
                page.len()
            }
            SNAPPY => {
                let len = snap::raw::decompress_len(packed).ok()?;
                self.snappy.decompress(packed, page.get_mut(..len)?).ok()?
            }
            ZSTD => {
                if self.zstd.is_none() {
                    self.zstd = Some(Decompressor::new().ok()?);
                }
                let zstd = self.zstd.as_mut()?;
                zstd.decompress_to_buffer(packed, page).ok()?
            }
            _ => return None,
        };
        (len == page.len()).then_some(())
    }
}
