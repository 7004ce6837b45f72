//! What a kernel takes for a special field, and where.

use btf_layout::{Btf, Kind, Type};

use super::FieldKind;

/// Where a type is used, which decides on what may be special in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// As the value of a map.
    Value,
    /// As an object that a program allocates.
    Object,
}

/// What is known of a kind of special field.
pub(super) struct Known {
    pub(super) kind: FieldKind,
    /// How `enum btf_field_type` of a kernel that knows it calls it.
    enumerator: &'static str,
    pub(super) align: u64,
    /// Whether a type may have only one.
    pub(super) unique: bool,
    /// Where it is special.
    places: &'static [Place],
}

const fn known(
    kind: FieldKind,
    enumerator: &'static str,
    align: u64,
    unique: bool,
    places: &'static [Place],
) -> Known {
    Known {
        kind,
        enumerator,
        align,
        unique,
        places,
    }
}

const VALUE: &[Place] = &[Place::Value];
const OBJECT: &[Place] = &[Place::Object];
const BOTH: &[Place] = &[Place::Value, Place::Object];

const KNOWN: &[Known] = &[
    known(FieldKind::SpinLock, "BPF_SPIN_LOCK", 4, true, BOTH),
    known(FieldKind::ResSpinLock, "BPF_RES_SPIN_LOCK", 4, true, BOTH),
    known(FieldKind::Timer, "BPF_TIMER", 8, true, VALUE),
    known(FieldKind::Workqueue, "BPF_WORKQUEUE", 8, true, VALUE),
    known(FieldKind::TaskWork, "BPF_TASK_WORK", 8, true, VALUE),
    known(FieldKind::ListHead, "BPF_LIST_HEAD", 8, false, BOTH),
    known(FieldKind::ListNode, "BPF_LIST_NODE", 8, false, OBJECT),
    known(FieldKind::RbRoot, "BPF_RB_ROOT", 8, false, BOTH),
    known(FieldKind::RbNode, "BPF_RB_NODE", 8, false, OBJECT),
    known(FieldKind::Refcount, "BPF_REFCOUNT", 4, true, BOTH),
    known(FieldKind::UntrustedKptr, "BPF_KPTR_UNREF", 8, false, BOTH),
    known(FieldKind::Kptr, "BPF_KPTR_REF", 8, false, BOTH),
    known(FieldKind::PercpuKptr, "BPF_KPTR_PERCPU", 8, false, BOTH),
    known(FieldKind::Uptr, "BPF_UPTR", 8, false, VALUE),
];

/// What early kernels know ([`Knowledge::is_early`]).
const KNOWN_EARLY: &[FieldKind] = &[
    FieldKind::SpinLock,
    FieldKind::Timer,
    FieldKind::UntrustedKptr,
    FieldKind::Kptr,
];

/// What the kernel with this BTF knows of a type in this place.
pub(super) struct Knowledge<'b> {
    vmlinux: &'b Btf,
    place: Place,
    /// Asked for when something looks special.
    enumerators: Option<Vec<&'b str>>,
}

impl<'b> Knowledge<'b> {
    pub(super) fn new(vmlinux: &'b Btf, place: Place) -> Self {
        Self {
            vmlinux,
            place,
            enumerators: None,
        }
    }

    /// What a struct of this name is, if it is special here.
    pub(super) fn special_struct(&mut self, name: &str) -> Option<&'static Known> {
        let is_named = |known: &&Known| !known.kind.is_pointer() && known.kind.name() == name;
        let known = KNOWN.iter().find(is_named)?;
        (known.places.contains(&self.place) && self.knows(known)).then_some(known)
    }

    /// Whether the kernel takes such fields for special.
    fn knows(&mut self, known: &Known) -> bool {
        if self.is_early() {
            return KNOWN_EARLY.contains(&known.kind);
        }
        self.enumerators().contains(&known.enumerator)
    }

    /// Whether the kernel's `enum btf_field_type` has no flags yet (before
    /// 6.2, db559117828d).
    pub(super) fn is_early(&mut self) -> bool {
        !self.enumerators().contains(&"BPF_SPIN_LOCK")
    }

    fn enumerators(&mut self) -> &[&'b str] {
        let vmlinux = self.vmlinux;
        self.enumerators.get_or_insert_with(|| enumerators(vmlinux))
    }

    /// What a type tag makes of a pointer.
    pub(super) fn tag(&mut self, name: &str) -> Option<FieldKind> {
        let kind = match name {
            "kptr_untrusted" => FieldKind::UntrustedKptr,
            "kptr" | "kptr_ref" => FieldKind::Kptr,
            "percpu_kptr" => FieldKind::PercpuKptr,
            "uptr" => FieldKind::Uptr,
            _ => return None,
        };
        // `kptr` was `kptr_ref`, and `kptr_untrusted` `kptr`, before 6.4
        // (03b77e17aeb2), which also brought bpf_refcount.
        let renamed = KNOWN.iter().find(|known| known.kind == FieldKind::Refcount);
        let renamed = renamed.is_some_and(|refcount| self.knows(refcount));
        let kind = match name {
            "kptr" if !renamed => FieldKind::UntrustedKptr,
            "kptr_ref" if renamed => return None,
            "kptr_untrusted" if !renamed => return None,
            _ => kind,
        };
        let known = KNOWN.iter().find(|known| known.kind == kind)?;
        (known.places.contains(&self.place) && self.knows(known)).then_some(kind)
    }
}

/// The enumerators of the kernel's `enum btf_field_type`.
fn enumerators(vmlinux: &Btf) -> Vec<&str> {
    let id = vmlinux.find(Kind::Enum, "btf_field_type");
    match id.map(|id| vmlinux.get(id)) {
        Some(Ok(Type::Enum { values, .. })) => values.flatten().map(|value| value.name).collect(),
        _ => Vec::new(),
    }
}
