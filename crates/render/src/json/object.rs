//! What entries belong to or refer to, as JSON. What is not known is absent.

use bpfmaps::{Object, ObjectKind, ProgRef, Socket};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::value::{Address, Text};

/// An object outside of the map.
pub(super) struct ObjectJson<'a>(pub(super) &'a Object);

impl Serialize for ObjectJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        object_fields(&mut map, self.0)?;
        map.end()
    }
}

/// The members of an [`ObjectJson`].
pub(super) fn object_fields<M: SerializeMap>(map: &mut M, object: &Object) -> Result<(), M::Error> {
    map.serialize_entry("kind", kind(&object.kind))?;
    known(map, "kva", object.kva.map(Text))?;
    fields(map, &object.kind)
}

/// What documents call the kind of an object.
fn kind(kind: &ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Task { .. } => "task",
        ObjectKind::Inode { .. } => "inode",
        ObjectKind::Socket(_) => "socket",
        ObjectKind::Cgroup { .. } => "cgroup",
        ObjectKind::Prog { .. } => "prog",
        ObjectKind::Map { .. } => "map",
        ObjectKind::Device { .. } => "device",
        ObjectKind::Cpu { .. } => "cpu",
        ObjectKind::PerfEvent { .. } => "perf_event",
        ObjectKind::Instruction { .. } => "instruction",
        _ => "other",
    }
}

/// Adds what is known.
pub(super) fn known<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    value: Option<impl Serialize>,
) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, &value),
        None => Ok(()),
    }
}

fn fields<M: SerializeMap>(map: &mut M, kind: &ObjectKind) -> Result<(), M::Error> {
    match kind {
        ObjectKind::Task { pid, tgid, comm } => {
            known(map, "pid", *pid)?;
            known(map, "tgid", *tgid)?;
            known(map, "comm", comm.as_ref())
        }
        ObjectKind::Inode {
            ino,
            device,
            fs,
            path,
        } => {
            known(map, "ino", *ino)?;
            known(map, "device", device.as_ref())?;
            known(map, "fs", fs.as_ref())?;
            known(map, "path", path.as_ref())
        }
        ObjectKind::Socket(of) => socket(map, of),
        ObjectKind::Cgroup { id, path } => {
            known(map, "id", *id)?;
            known(map, "path", path.as_ref())
        }
        ObjectKind::Prog {
            id,
            name,
            prog_type,
        } => {
            known(map, "id", *id)?;
            known(map, "name", name.as_ref())?;
            known(map, "type", prog_type.map(Text))
        }
        ObjectKind::Map { id, name, map_type } => {
            known(map, "id", *id)?;
            known(map, "name", name.as_ref())?;
            known(map, "type", map_type.map(Text))
        }
        ObjectKind::Device {
            ifindex,
            name,
            prog,
        } => {
            known(map, "ifindex", *ifindex)?;
            known(map, "name", name.as_ref())?;
            known(map, "prog", prog.as_ref().map(ProgJson))
        }
        ObjectKind::Cpu {
            cpu,
            queue_size,
            prog,
        } => {
            known(map, "cpu", *cpu)?;
            known(map, "queue_size", *queue_size)?;
            known(map, "prog", prog.as_ref().map(ProgJson))
        }
        ObjectKind::PerfEvent {
            event_type,
            config,
            cpu,
            pid,
        } => {
            known(map, "type", event_type.as_ref())?;
            known(map, "config", config.map(|config| Text(Address(config))))?;
            known(map, "cpu", *cpu)?;
            known(map, "pid", *pid)
        }
        ObjectKind::Instruction { symbol, prog } => {
            known(map, "symbol", symbol.as_ref().map(Text))?;
            known(map, "prog", prog.as_ref().map(ProgJson))
        }
        _ => Ok(()),
    }
}

fn socket<M: SerializeMap>(map: &mut M, socket: &Socket) -> Result<(), M::Error> {
    known(map, "family", socket.family.as_ref())?;
    known(map, "type", socket.socket_type.as_ref())?;
    known(map, "protocol", socket.protocol.as_ref())?;
    known(map, "state", socket.state.as_ref())?;
    known(map, "local", socket.local.as_ref())?;
    known(map, "remote", socket.remote.as_ref())?;
    known(map, "device", socket.device.as_ref())?;
    known(map, "queue", socket.queue)?;
    known(map, "cookie", socket.cookie)
}

/// A program, in brief.
pub(super) struct ProgJson<'a>(pub(super) &'a ProgRef);

impl Serialize for ProgJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.0.id)?;
        known(&mut map, "name", self.0.name.as_ref())?;
        map.end()
    }
}
