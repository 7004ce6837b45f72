//! Objects that entries belong to or refer to: made by hand, and in words.

mod naming;

use std::ops::ControlFlow;

use bpfmaps::{BpfMapAccessor, Bytes, Entry, Guest, SlotAt, Walk};
use guestmem::{Address, Kva};

use crate::fake::Maps;
use crate::fake::table::{Put, object};

impl Maps {
    /// An object of a record of the made-up kernel.
    pub(crate) fn object(&mut self, record: &str, fields: &[(&str, Put<'_>)]) -> Kva {
        object(&mut self.machine, record, fields, &[])
    }

    /// The same, with more bytes behind it.
    pub(crate) fn object_and(
        &mut self,
        record: &str,
        fields: &[(&str, Put<'_>)],
        more: &[u8],
    ) -> Kva {
        object(&mut self.machine, record, fields, more)
    }

    /// Writes to a member, such as `task_struct.pid`, of the object at `at`.
    pub(crate) fn set<'a>(&mut self, at: Kva, path: &str, put: impl Into<Put<'a>>) {
        crate::fake::table::set(&mut self.machine, at, path, put);
    }

    pub(crate) fn text(&mut self, text: &str) -> Kva {
        self.machine.allocate(&[text.as_bytes(), b"\0"].concat())
    }

    pub(crate) fn task(&mut self, pid: u64, comm: &str) -> Kva {
        let fields = [
            ("pid", pid.into()),
            ("tgid", 1000.into()),
            ("comm", comm.into()),
        ];
        self.object("task_struct", &fields)
    }

    pub(crate) fn prog(&mut self, id: u64, name: &str) -> Kva {
        let aux = [("id", id.into()), ("name", name.into())];
        let aux = self.object("bpf_prog_aux", &aux);
        self.object("bpf_prog", &[("type", 6.into()), ("aux", aux.into())])
    }

    pub(crate) fn device(&mut self, ifindex: u64, name: &str) -> Kva {
        let fields = [("ifindex", ifindex.into()), ("name", name.into())];
        self.object("net_device", &fields)
    }

    /// The kernfs node `id` below another one.
    pub(crate) fn kernfs_node(&mut self, id: u64, name: &str, parent: Kva) -> Kva {
        let name = self.text(name);
        let fields = [
            ("id", id.into()),
            ("name", name.into()),
            ("parent", parent.into()),
        ];
        self.object("kernfs_node", &fields)
    }

    /// The control group of a kernfs node.
    pub(crate) fn cgroup(&mut self, node: Kva) -> Kva {
        let fields = [("kn", node.into()), ("self.flags", 0b10.into())];
        let cgroup = self.object("cgroup", &fields);
        self.set(node, "kernfs_node.priv", cgroup);
        let head = at_member(cgroup, "cgroup.bpf.storages");
        self.machine.place_u64(head, head.get());
        cgroup
    }

    /// A UDP socket that is bound to this port and has this cookie.
    pub(crate) fn udp(&mut self, port: u64, cookie: u64) -> Kva {
        let fields = [
            ("__sk_common.skc_family", 2.into()),
            ("__sk_common.skc_num", port.into()),
            ("__sk_common.skc_cookie", cookie.into()),
            ("sk_type", 2.into()),
            ("sk_protocol", 17.into()),
        ];
        self.object("sock", &fields)
    }
}

/// Where a member of the object at `at` is.
pub(crate) fn at_member(at: Kva, path: &str) -> Kva {
    crate::fake::on(at, crate::fake::table::place_of(path).0)
}

/// Every entry of the map `id` in words, and the account.
pub(crate) fn entries(guest: &Guest, id: u32) -> (Vec<String>, Walk) {
    let maps = guest.maps().unwrap();
    let map = maps.maps.iter().find(|map| map.id == id).unwrap();
    let mut words = Vec::new();
    let walk = guest
        .entries(map, &mut |entry| {
            words.push(in_words(&entry));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(walk.visited, words.len() as u64);
    (words, walk)
}

fn in_words(entry: &Entry<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let key = |key: Option<&[u8]>| key.map_or(String::new(), |key| format!(" {key:x?}"));
    let value = |value: &Bytes<'_>| {
        let missing = if value.is_whole() { "" } else { "…" };
        format!("{}{missing}", text(value.present))
    };
    match entry {
        Entry::Slot { at, refers, value } => {
            let at = match at {
                SlotAt::Index(index) => index.to_string(),
                SlotAt::Key(key) => text(key),
            };
            let value = value.map_or(String::new(), |value| format!(" = {:x?}", value.present));
            format!("{at}: {}{value}", naming::object(refers))
        }
        Entry::Owned {
            owner,
            key: k,
            value: v,
        } => format!("{}{} = {}", naming::object(owner), key(*k), value(v)),
        Entry::OwnedPerCpu {
            owner,
            key: k,
            values,
        } => {
            let values: Vec<String> = values
                .iter()
                .map(|of| format!("{} {}", of.cpu, value(&of.value)))
                .collect();
            let values = values.join(", ");
            format!("{}{} = {values}", naming::object(owner), key(Some(k)))
        }
        other => panic!("{other:?}"),
    }
}
