//! Special fields: what they hold, as an object that names their kind.

use std::cell::RefCell;
use std::ops::ControlFlow;

use bpfmaps::special::{Callback, CpuPointee, FieldKind, Pointed, Pointee, Special};
use bpfmaps::{Gap, ProgRef};
use guestmem::Kva;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::gaps::listing;
use super::object::{ObjectJson, ProgJson, known};
use super::value::{Address, Text};
use crate::special::{Followed, SpecialField};

pub(super) struct SpecialJson<'a>(pub(super) SpecialField<'a>);

impl Serialize for SpecialJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let special = self.0.read();
        if special == Special::Missing {
            return serializer.serialize_unit();
        }
        let mut map = serializer.serialize_map(None)?;
        let kind = self.0.field.kind;
        match &special {
            Special::SpinLock { held } => {
                let name = match kind {
                    FieldKind::ResSpinLock => "res_spin_lock",
                    _ => "spin_lock",
                };
                map.serialize_entry(name, &Flag("held", *held))?;
            }
            Special::Refcount { count } => map.serialize_entry("refcount", count)?,
            Special::Timer(timer) => map.serialize_entry("timer", &Called(timer))?,
            Special::Workqueue(work) => map.serialize_entry("wq", &Called(work))?,
            Special::TaskWork(work) => map.serialize_entry("task_work", &Called(work))?,
            Special::Kptr(pointed) => {
                self.pointer(&mut map, "kptr", pointed)?;
                if self.0.is_untrusted() {
                    map.serialize_entry("untrusted", &true)?;
                }
            }
            Special::Uptr(pointed) => self.pointer(&mut map, "uptr", pointed)?,
            Special::PercpuKptr(pointed) => self.each_cpu(&mut map, pointed)?,
            Special::List | Special::Tree => self.nodes(&mut map)?,
            Special::Node { linked } => {
                let name = match kind {
                    FieldKind::RbNode => "rb_node",
                    _ => "list_node",
                };
                map.serialize_entry(name, &Flag("linked", *linked))?;
            }
            _ => map.serialize_entry("hidden", kind.name())?,
        }
        map.end()
    }
}

impl SpecialJson<'_> {
    /// The address in a pointer, the type that it leads to, and why that is
    /// not there.
    fn address<M: SerializeMap, T>(
        &self,
        map: &mut M,
        name: &'static str,
        pointed: &Pointed<T>,
    ) -> Result<(), M::Error> {
        let address = match pointed {
            Pointed::Null => 0,
            Pointed::At { address, .. } => guestmem::Address::get(*address),
        };
        map.serialize_entry(name, &Text(Address(address)))?;
        known(map, "type", self.0.target_name())?;
        match pointed {
            Pointed::At {
                found: Err(gap), ..
            } => map.serialize_entry("why", &Text(gap)),
            _ => Ok(()),
        }
    }

    fn pointer<M: SerializeMap>(
        &self,
        map: &mut M,
        name: &'static str,
        pointed: &Pointed<Pointee>,
    ) -> Result<(), M::Error> {
        self.address(map, name, pointed)?;
        match pointed {
            Pointed::At {
                address,
                found: Ok(pointee),
            } => self
                .0
                .follow(pointee, *address, |followed| object(map, &followed)),
            _ => Ok(()),
        }
    }

    fn each_cpu<M: SerializeMap>(
        &self,
        map: &mut M,
        pointed: &Pointed<Vec<CpuPointee>>,
    ) -> Result<(), M::Error> {
        self.address(map, "percpu_kptr", pointed)?;
        match pointed {
            Pointed::At {
                found: Ok(each), ..
            } => {
                let each: Vec<_> = each.iter().map(|one| OfCpu(self.0, one)).collect();
                map.serialize_entry("percpu", &each)
            }
            _ => Ok(()),
        }
    }

    fn nodes<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let name = match self.0.field.kind {
            FieldKind::RbRoot => "rbtree",
            _ => "list",
        };
        let nodes = Nodes {
            field: self.0,
            walk: RefCell::default(),
        };
        map.serialize_entry(name, &nodes)?;
        let walk = nodes.walk.take();
        match walk.is_complete() {
            true => map.serialize_entry("complete", &true),
            false => listing(map, &walk),
        }
    }
}

/// A member that is yes or no.
struct Flag(&'static str, bool);

impl Serialize for Flag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

/// Something that calls back. Without an address it was never set up.
struct Called<'a, T>(&'a Pointed<T>);

impl<T: Callable> Serialize for Called<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            Pointed::Null => T::unset(&mut map)?,
            Pointed::At { address, found } => {
                map.serialize_entry("kva", &Text(address))?;
                match found {
                    Ok(found) => found.set(&mut map)?,
                    Err(gap) => map.serialize_entry("why", &Text(gap))?,
                }
            }
        }
        map.end()
    }
}

/// What has a callback.
trait Callable {
    /// What is so before it is set up.
    fn unset<M: SerializeMap>(map: &mut M) -> Result<(), M::Error>;

    fn set<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

impl Callable for bpfmaps::special::Timer {
    fn unset<M: SerializeMap>(map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("armed", &false)
    }

    fn set<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("armed", &self.armed)?;
        map.serialize_entry("expires_ns", &self.expires_ns)?;
        map.serialize_entry("clock", &self.clock)?;
        callback(map, self.callback.as_ref(), self.prog.as_ref())
    }
}

impl Callable for bpfmaps::special::Work {
    fn unset<M: SerializeMap>(map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("pending", &false)
    }

    fn set<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("pending", &self.pending)?;
        callback(map, self.callback.as_ref(), self.prog.as_ref())
    }
}

impl Callable for bpfmaps::special::TaskWork {
    fn unset<M: SerializeMap>(_map: &mut M) -> Result<(), M::Error> {
        Ok(())
    }

    fn set<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("state", &self.state)?;
        known(map, "task", self.task.map(Text))?;
        callback(map, self.callback.as_ref(), self.prog.as_ref())
    }
}

/// The function by its name, or where it is.
fn callback<M: SerializeMap>(
    map: &mut M,
    callback: Option<&Callback>,
    prog: Option<&ProgRef>,
) -> Result<(), M::Error> {
    match callback {
        Some(Callback {
            name: Some(name), ..
        }) => map.serialize_entry("callback", name)?,
        Some(Callback { address, .. }) => map.serialize_entry("callback", &Text(address))?,
        None => {}
    }
    known(map, "prog", prog.map(ProgJson))
}

/// The members that say what an object is.
fn object<M: SerializeMap>(map: &mut M, followed: &Followed<'_>) -> Result<(), M::Error> {
    match followed {
        Followed::Named(object) => map.serialize_entry("to", &ObjectJson(object)),
        Followed::Typed(object) => map.serialize_entry("typed", object),
        Followed::Large => Ok(()),
        Followed::Above => map.serialize_entry("why", "it is shown above"),
        Followed::Deep => map.serialize_entry("why", "it is one of a chain that is too long"),
    }
}

/// One CPU's object.
struct OfCpu<'a>(SpecialField<'a>, &'a CpuPointee);

impl Serialize for OfCpu<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let CpuPointee {
            cpu,
            address,
            found,
        } = self.1;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("cpu", cpu)?;
        map.serialize_entry("kva", &Text(address))?;
        match found {
            Ok(pointee) => self
                .0
                .follow(pointee, *address, |followed| object(&mut map, &followed))?,
            Err(Gap { reason, .. }) => map.serialize_entry("why", &Text(reason))?,
        }
        map.end()
    }
}

/// The objects of a list or tree, each serialized while it is visited.
struct Nodes<'a> {
    field: SpecialField<'a>,
    /// What became of the walk, once it is done.
    walk: RefCell<bpfmaps::Walk>,
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        let mut failed = None;
        let walk = self.field.nodes(&mut |at, name, followed| match seq
            .serialize_element(&NodeJson(at, name, followed))
        {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        });
        *self.walk.borrow_mut() = walk;
        match failed {
            Some(error) => Err(error),
            None => seq.end(),
        }
    }
}

struct NodeJson<'a>(Kva, &'a str, Followed<'a>);

impl Serialize for NodeJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kva", &Text(self.0))?;
        map.serialize_entry("type", self.1)?;
        object(&mut map, &self.2)?;
        map.end()
    }
}
