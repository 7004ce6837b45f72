//! What every format does alike: compile a map's types, walk its entries as
//! far as the limit, and account for it.

use std::error::Error as _;
use std::fmt::{self, Write};
use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, Entry, Error, MapInfo, MapState, MapType, Walk};
use btf_layout::{Kind, TypeId};

use crate::context::Context;
use crate::follow::{Roots, Site};
use crate::page_bytes::PageBytes;
use crate::shape::Shape;
use crate::special::{Place, Specials};

/// A map, the types of its keys and values where BTF tells, and the state of
/// the whole.
pub(crate) struct Described<'a> {
    pub(crate) info: &'a MapInfo,
    pub(crate) key: Option<Shape>,
    pub(crate) value: Option<Shape>,
    /// Why there are no types, though the map has BTF.
    pub(crate) btf_error: Option<Error>,
    pub(crate) state: Result<Option<MapState>, Error>,
    /// The special fields of its values.
    pub(crate) specials: Option<Specials<'a>>,
    /// Where pointers in its values are followed from, if they are.
    pub(crate) roots: Option<Roots<'a>>,
    /// The bytes of its pages, if it is an arena and they are wanted.
    pub(crate) pages: Option<PageBytes<'a>>,
}

impl<'a> Described<'a> {
    pub(crate) fn new(context: &'a Context<'a>, info: &'a MapInfo) -> Self {
        let mut described = Self {
            info,
            key: None,
            value: None,
            btf_error: None,
            state: context.accessor.state(info),
            specials: None,
            roots: None,
            pages: PageBytes::of(context, info),
        };
        described.btf_error = described.find_types(context).err();
        described
    }

    fn find_types(&mut self, context: &'a Context<'a>) -> Result<(), Error> {
        let (info, accessor) = (self.info, context.accessor);
        if info.btf_vmlinux_value_type_id != 0 {
            let btf = accessor.vmlinux_btf()?;
            let progs = context.progs().map(Rc::clone).unwrap_or_default();
            let id = TypeId(info.btf_vmlinux_value_type_id);
            self.value = Some(Shape::of_struct_ops(&btf, id, progs));
        }
        if (info.btf_key_type_id != 0 || info.btf_value_type_id != 0)
            && let Some(btf) = accessor.btf(info)?
        {
            let shape = |id| (id != 0).then(|| Shape::new(&btf, TypeId(id)));
            self.key = shape(info.btf_key_type_id);
            if self.value.is_none() {
                self.value = shape(info.btf_value_type_id);
                let pointers = self.value.as_ref().is_some_and(|shape| shape.root.pointers);
                let arenas = pointers.then(|| context.arenas_followed(info));
                self.roots = arenas.and_then(|arenas| Roots::new(&context.follower, &btf, arenas));
            }
        }
        // The kernel lets such maps have no BTF of their own.
        if info.map_type == MapType::INSN_ARRAY && self.value.is_none() {
            let btf = accessor.vmlinux_btf()?;
            let id = btf.find(Kind::Struct, "bpf_insn_array_value");
            self.value = id.map(|id| Shape::new(&btf, id));
        }
        self.specials = Specials::of(accessor, info)?;
        Ok(())
    }

    /// Where the values have special fields, if they have any.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        self.specials.as_ref().map(Specials::place)
    }

    /// Where pointers of a value are followed from, if they are.
    pub(crate) fn site(&self) -> Option<Site<'_>> {
        self.roots.as_ref().map(Roots::site)
    }

    /// Whether the map itself says of which type its values are.
    pub(crate) fn states_value_type(&self) -> bool {
        self.info.btf_value_type_id != 0 || self.info.btf_vmlinux_value_type_id != 0
    }
}

/// What became of a map's walk.
pub(crate) struct Visited {
    /// How many entries were rendered.
    pub(crate) count: u64,
    /// Whether the limit ended the walk.
    pub(crate) limited: bool,
    pub(crate) result: Result<Walk, Error>,
    /// What was missing behind special fields and pointers, and of pages.
    inner_gaps: u64,
}

impl Visited {
    pub(crate) fn is_complete(&self) -> bool {
        self.inner_gaps == 0 && self.result.as_ref().is_ok_and(Walk::is_complete)
    }

    /// How many things could not be read, if the map could be.
    pub(crate) fn gaps(&self) -> u64 {
        let walk = self.result.as_ref().map_or(0, |walk| {
            (walk.gaps.len() as u64).saturating_add(walk.unlisted_gaps)
        });
        walk.saturating_add(self.inner_gaps)
    }
}

/// Hands the entries of a map to `render`, up to the limit. Its first error
/// ends the walk at once.
pub(crate) fn visit<E>(
    accessor: &dyn BpfMapAccessor,
    map: &Described<'_>,
    limit: Option<u64>,
    mut render: impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<Visited, E> {
    let mut count = 0;
    let mut limited = false;
    let mut failed = None;
    let result = accessor.entries(map.info, &mut |entry| {
        if failed.is_some() || limited {
            return ControlFlow::Break(());
        }
        // Only an entry beyond the limit tells that the limit cut anything.
        if limit.is_some_and(|limit| count >= limit) {
            limited = true;
            return ControlFlow::Break(());
        }
        match render(entry) {
            Ok(()) => {
                count += 1;
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(Visited {
            count,
            limited,
            result,
            inner_gaps: map
                .specials
                .as_ref()
                .map_or(0, Specials::gaps)
                .saturating_add(map.roots.as_ref().map_or(0, Roots::take_gaps))
                .saturating_add(map.pages.as_ref().map_or(0, PageBytes::gaps)),
        }),
    }
}

/// Displays an error with all its causes.
pub(crate) struct Causes<'a>(pub(crate) &'a Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let before = text.len();
            write!(text, ": {error}")?;
            // An error that shows its cause already does not do so twice.
            let (told, new) = text.split_at(before);
            if told.contains(new.trim_start_matches(": ")) {
                text.truncate(before);
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}
