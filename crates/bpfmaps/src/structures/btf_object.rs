//! `struct btf`, the kernel's hold on BTF that was loaded into it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use btf_layout::{Btf, Member};
use guestmem::{Address, Fault, Kva, Memory, MemoryExt};
use rustc_hash::FxHashMap;

use super::copied::Copied;
use crate::Error;
use crate::target::Target;

/// The kernel refuses BTF beyond this size (`BTF_MAX_SIZE`, raised from
/// 16 MiB in 7.0).
const LARGEST: u64 = 64 << 20;

/// How many bytes of BTF are kept parsed.
const KEPT: usize = 64 << 20;

/// Bases of bases: a module's BTF has vmlinux's as its base, which has none.
const DEEPEST: u32 = 4;

/// Parsed BTF by the address of its `struct btf`.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    by_address: RefCell<FxHashMap<Kva, Rc<Btf>>>,
    /// Bytes that were parsed for them.
    bytes: Cell<usize>,
}

impl Parsed {
    fn get(&self, at: Kva) -> Option<Rc<Btf>> {
        self.by_address.borrow().get(&at).map(Rc::clone)
    }

    /// Keeps `btf`, and forgets all others where they would be too much.
    fn keep(&self, at: Kva, btf: &Rc<Btf>, bytes: usize) {
        let mut by_address = self.by_address.borrow_mut();
        let mut total = self.bytes.get().saturating_add(bytes);
        if total > KEPT {
            by_address.clear();
            total = bytes;
        }
        by_address.insert(at, Rc::clone(btf));
        self.bytes.set(total);
    }
}

/// Where the members of `struct btf` are.
#[derive(Debug)]
pub(crate) struct BtfObjectLayout {
    size: u64,
    id: Member,
    data: Member,
    data_size: Member,
    base: Member,
    kernel_btf: Member,
    name: Member,
}

impl BtfObjectLayout {
    pub(crate) fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let object = btf.record("btf")?;
        Ok(Self {
            size: object.size(),
            id: object.member("id")?,
            data: object.member("data")?,
            data_size: object.member("data_size")?,
            base: object.member("base_btf")?,
            kernel_btf: object.member("kernel_btf")?,
            name: object.member("name")?,
        })
    }

    /// The id of the BTF at `at`.
    pub(crate) fn id(&self, memory: &dyn Memory<Kva>, at: Kva) -> Result<u32, Fault<Kva>> {
        memory.load_u32(at.checked_add(self.id.offset).unwrap_or(at))
    }

    /// Parses the BTF at `at`, on its base, or takes it from `known`.
    pub(crate) fn load(
        &self,
        target: &dyn Target,
        at: Kva,
        known: &Parsed,
    ) -> Result<Rc<Btf>, Error> {
        self.load_at_depth(target, at, known, 0)
    }

    fn load_at_depth(
        &self,
        target: &dyn Target,
        at: Kva,
        known: &Parsed,
        depth: u32,
    ) -> Result<Rc<Btf>, Error> {
        if let Some(btf) = known.get(at) {
            return Ok(btf);
        }
        let unreadable = |what| move |source| Error::Unreadable { what, source };
        let object = Copied::load(target, at, self.size).map_err(unreadable("struct btf"))?;
        let base = object.pointer(&self.base);
        let of_kernel = object.uint(&self.kernel_btf) != 0;
        if of_kernel && base.get() == 0 {
            return Ok(Rc::clone(target.btf()));
        }
        let id = object.u32(&self.id);
        let size = object.uint(&self.data_size);
        let data = object.pointer(&self.data);
        let read = target.read_up_to(data, size.min(LARGEST));
        if let Some(source) = read.fault {
            let what = "the data of a struct btf";
            return Err(Error::Unreadable { what, source });
        }
        let bytes = read.bytes.len();
        let owner = match object.text(&self.name) {
            name if name.is_empty() => format!("BTF {id}"),
            name => format!("{name} (BTF {id})"),
        };
        let origin = format!("{owner} of Linux {}", target.release());
        let btf = if base.get() == 0 || depth == DEEPEST {
            Btf::parse(read.bytes, &origin)?
        } else {
            let base = self.load_at_depth(target, base, known, depth + 1)?;
            Btf::parse_split(read.bytes, base, &origin)?
        };
        let btf = Rc::new(btf);
        known.keep(at, &btf, bytes);
        Ok(btf)
    }
}
