//! What special fields are, and where a type has them.

use std::fmt;

use btf_layout::{Btf, TypeId};

use super::find;
use super::known::Place;

/// What a special field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FieldKind {
    /// A lock.
    SpinLock,
    /// A lock that finds deadlocks.
    ResSpinLock,
    /// A timer.
    Timer,
    /// Work for a workqueue.
    Workqueue,
    /// Work for a task.
    TaskWork,
    /// A pointer that owns its object.
    Kptr,
    /// A pointer that does not own its object, which may be gone.
    UntrustedKptr,
    /// A pointer that owns an object on each CPU.
    PercpuKptr,
    /// A pointer to memory of a process.
    Uptr,
    /// A list of objects that it owns.
    ListHead,
    /// An object's place in a list.
    ListNode,
    /// A tree of objects that it owns.
    RbRoot,
    /// An object's place in a tree.
    RbNode,
    /// How many own an object.
    Refcount,
}

impl FieldKind {
    /// As the kernel calls it: the struct (`bpf_timer`), or the type tag of a
    /// pointer (`kptr`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kptr => "kptr",
            Self::UntrustedKptr => "kptr_untrusted",
            Self::PercpuKptr => "percpu_kptr",
            Self::Uptr => "uptr",
            Self::SpinLock => "bpf_spin_lock",
            Self::ResSpinLock => "bpf_res_spin_lock",
            Self::Timer => "bpf_timer",
            Self::Workqueue => "bpf_wq",
            Self::TaskWork => "bpf_task_work",
            Self::ListHead => "bpf_list_head",
            Self::ListNode => "bpf_list_node",
            Self::RbRoot => "bpf_rb_root",
            Self::RbNode => "bpf_rb_node",
            Self::Refcount => "bpf_refcount",
        }
    }

    /// Whether it is a pointer rather than a struct.
    #[must_use]
    pub fn is_pointer(self) -> bool {
        matches!(
            self,
            Self::Kptr | Self::UntrustedKptr | Self::PercpuKptr | Self::Uptr
        )
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One special field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the value.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// What it is.
    pub kind: FieldKind,
    /// What pointers, lists and trees lead to.
    pub target: Option<Target>,
}

/// The struct that a pointer points to, or that the objects of a list or tree
/// are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The struct, in the map's BTF; a mere declaration of it for objects of
    /// the kernel, often.
    pub ty: TypeId,
    /// Where in an object its node is; 0 for pointers.
    pub node: u64,
}

/// The special fields of a type, by ascending offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    fields: Vec<Field>,
}

impl Fields {
    /// The special fields of map values of type `ty` in `btf`, for the kernel
    /// whose own BTF is `vmlinux`.
    ///
    /// A type that the kernel would find fault with (such as two timers, or a
    /// list without a lock) has none, as it has none for the kernel.
    #[must_use]
    pub fn of(vmlinux: &Btf, btf: &Btf, ty: TypeId) -> Self {
        Self {
            fields: find::find(vmlinux, btf, ty, Place::Value),
        }
    }

    /// The special fields of objects of type `ty` that programs allocate.
    #[must_use]
    pub fn of_object(vmlinux: &Btf, btf: &Btf, ty: TypeId) -> Self {
        Self {
            fields: find::find(vmlinux, btf, ty, Place::Object),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields, by ascending offset.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.fields.iter()
    }

    /// The field that begins at `offset`. A struct whose first member is
    /// special begins there as well: compare [`FieldKind::name`] with the
    /// struct's name.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<&Field> {
        let index = self
            .fields
            .binary_search_by_key(&offset, |field| field.offset);
        self.fields.get(index.ok()?)
    }

    /// Makes of a value as it lies in memory what bpf(2) shows of it: zeros
    /// in place of special fields, but one reference in `bpf_refcount`
    /// (`bpf_obj_init_field` in `include/linux/bpf.h`). The head of a list
    /// becomes zeros as well; bpf(2) shows it as two pointers to wherever the
    /// kernel made its copy.
    pub fn zero(&self, value: &mut [u8]) {
        for field in &self.fields {
            let bytes = value.iter_mut();
            let bytes = bytes.skip(usize::try_from(field.offset).unwrap_or(usize::MAX));
            for (at, byte) in (0..field.size).zip(bytes) {
                *byte = u8::from(at == 0 && field.kind == FieldKind::Refcount);
            }
        }
    }
}

impl<'f> IntoIterator for &'f Fields {
    type Item = &'f Field;
    type IntoIter = std::slice::Iter<'f, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
