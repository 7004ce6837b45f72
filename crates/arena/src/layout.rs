//! `struct bpf_arena`.

use btf_layout::{Btf, Error};
use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};

/// Guard pages lie on both sides of the kernel's part; programs reach them by
/// the 16-bit offsets of their instructions (`GUARD_SZ`).
const GUARD: u64 = 1 << 16;

/// Bytes that an arena's users can address.
const RING: u64 = 1 << 32;

/// Where the members of `struct bpf_arena` are.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    user_vm_start: u64,
    kern_vm: u64,
    scratch_page: Option<u64>,
    vm_addr: u64,
    vm_size: u64,
}

/// What `struct bpf_arena` says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The user address at which the arena begins; 0 before its first user.
    pub user_start: u64,
    /// The kernel address of the page whose user address has a low half of 0.
    pub kernel_base: Kva,
    /// The `struct page` of the scratch page (since 7.2).
    pub scratch_page: Option<Kva>,
}

impl Layout {
    /// The layout in this kernel.
    ///
    /// # Errors
    ///
    /// If the kernel has no arenas, or its BTF lacks a member.
    pub fn new(btf: &Btf) -> Result<Self, Error> {
        let arena = btf.record("bpf_arena")?;
        let vm = btf.record("vm_struct")?;
        Ok(Self {
            user_vm_start: arena.member("user_vm_start")?.offset,
            kern_vm: arena.member("kern_vm")?.offset,
            scratch_page: arena.find("scratch_page").map(|member| member.offset),
            vm_addr: vm.member("addr")?.offset,
            vm_size: vm.member("size")?.offset,
        })
    }

    /// Reads the `struct bpf_arena` at `at`.
    ///
    /// # Errors
    ///
    /// If it is unreadable.
    pub fn read(
        &self,
        memory: &dyn Memory<Kva>,
        at: Kva,
        page_size: u64,
    ) -> Result<Description, Fault<Kva>> {
        let load = |base: Kva, offset: u64| {
            let place = base.checked_add(offset);
            memory.load_u64(place.ok_or(Fault::new(base, Cause::EndOfSpace))?)
        };
        let vm = Kva::new(load(at, self.kern_vm)?);
        let start = load(vm, self.vm_addr)?;
        // The area is the ring, both guards, and a page that every such area
        // has behind it. How long the guards are for large pages has changed.
        let usual = GUARD.next_multiple_of(page_size.saturating_mul(2).max(1));
        let size = load(vm, self.vm_size)?;
        let guard = size
            .checked_sub(RING)
            .and_then(|rest| rest.checked_sub(page_size))
            .filter(|guard| [GUARD, usual].contains(guard))
            .unwrap_or(usual);
        let base = Kva::new(start).checked_add(guard / 2);
        let scratch = self.scratch_page.map(|offset| load(at, offset));
        Ok(Description {
            user_start: load(at, self.user_vm_start)?,
            kernel_base: base.ok_or(Fault::new(Kva::new(start), Cause::EndOfSpace))?,
            scratch_page: scratch.transpose()?.filter(|&page| page != 0).map(Kva::new),
        })
    }
}
