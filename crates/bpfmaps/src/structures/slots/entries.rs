//! The entries of their own that devmaps and cpumaps point at.

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use crate::structures::fields::Fields;
use crate::structures::objects::{DeviceNames, Names, ProgNames};
use crate::walk::{Reason, Walk};
use crate::{Object, ObjectKind};

/// What an entry refers to, and the value that it keeps for look-ups.
pub(super) type Referred = (Object, Option<Vec<u8>>);

/// Where the members of `struct bpf_dtab_netdev` are (`kernel/bpf/devmap.c`).
pub(super) struct DeviceEntry {
    device: Member,
    prog: Member,
    index: Member,
    value: Member,
    devices: DeviceNames,
    progs: ProgNames,
}

impl DeviceEntry {
    pub(super) fn new(btf: &Btf) -> Result<Self, Error> {
        let entry = btf.record("bpf_dtab_netdev")?;
        Ok(Self {
            device: entry.member("dev")?,
            prog: entry.member("xdp_prog")?,
            index: entry.member("idx")?,
            value: entry.member("val")?,
            devices: DeviceNames::new(btf)?,
            progs: ProgNames::new(btf)?,
        })
    }

    /// The device of the entry at `at`, which should be for `index`.
    pub(super) fn object(
        &self,
        memory: &dyn Memory<Kva>,
        at: Kva,
        index: Option<u32>,
        walk: &mut Walk,
    ) -> Referred {
        let members = [&self.device, &self.prog, &self.index, &self.value];
        let entry = Fields::load(memory, Some(at), &members, walk);
        contradict(
            "bpf_dtab_netdev.idx",
            at,
            index,
            entry.u32(&self.index),
            walk,
        );
        let device = entry.address(&self.device);
        let mut object = self.devices.object(memory, device, walk);
        if let ObjectKind::Device { prog, .. } = &mut object.kind {
            *prog = self.progs.brief(memory, entry.pointer(&self.prog), walk);
        }
        (object, entry.raw(&self.value).map(<[u8]>::to_vec))
    }
}

/// Where the members of `struct bpf_cpu_map_entry` are (`kernel/bpf/cpumap.c`).
pub(super) struct CpuEntry {
    cpu: Member,
    prog: Member,
    value: Member,
    queue_size: Member,
    progs: ProgNames,
}

impl CpuEntry {
    pub(super) fn new(btf: &Btf) -> Result<Self, Error> {
        let entry = btf.record("bpf_cpu_map_entry")?;
        Ok(Self {
            cpu: entry.member("cpu")?,
            prog: entry.member("prog")?,
            value: entry.member("value")?,
            queue_size: entry.member("value.qsize")?,
            progs: ProgNames::new(btf)?,
        })
    }

    /// The CPU of the entry at `at`, which should be the number `index`.
    pub(super) fn object(
        &self,
        memory: &dyn Memory<Kva>,
        at: Kva,
        index: Option<u32>,
        walk: &mut Walk,
    ) -> Referred {
        let members = [&self.cpu, &self.prog, &self.value];
        let entry = Fields::load(memory, Some(at), &members, walk);
        let cpu = entry.u32(&self.cpu);
        contradict("bpf_cpu_map_entry.cpu", at, index, cpu, walk);
        let object = Object {
            kva: Some(at),
            kind: ObjectKind::Cpu {
                cpu,
                queue_size: entry.u32(&self.queue_size),
                prog: self.progs.brief(memory, entry.pointer(&self.prog), walk),
            },
        };
        (object, entry.raw(&self.value).map(<[u8]>::to_vec))
    }
}

/// Notes an entry that says it is another slot's.
fn contradict(
    what: &'static str,
    at: Kva,
    expected: Option<u32>,
    found: Option<u32>,
    walk: &mut Walk,
) {
    if let (Some(expected), Some(found)) = (expected, found)
        && expected != found
    {
        let (expected, found) = (expected.into(), found.into());
        walk.gap(
            at,
            Reason::Contradiction {
                what,
                expected,
                found,
            },
        );
    }
}
