//! The bytes of an arena's pages, as JSON.

use base64::display::Base64Display;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use guestmem::{ArenaPtr, Fault};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::value::Text;
use crate::page_bytes::PageBytes;

/// A list of the pages, each serialized when it was read.
pub(super) struct PageList<'a>(pub(super) &'a PageBytes<'a>);

impl Serialize for PageList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Page<'p> {
            Read {
                pgoff: u64,
                base64: Text<Base64Display<'p, 'static, GeneralPurpose>>,
            },
            Missing {
                pgoff: u64,
                missing: Text<Fault<ArenaPtr>>,
            },
        }
        let mut list = serializer.serialize_seq(None)?;
        self.0.visit(|pgoff, read| {
            list.serialize_element(&match read {
                Ok(bytes) => Page::Read {
                    pgoff,
                    base64: Text(Base64Display::new(bytes, &STANDARD)),
                },
                Err(fault) => Page::Missing {
                    pgoff,
                    missing: Text(fault),
                },
            })
        })?;
        list.end()
    }
}
