//! A kernel with entries of every kind, objects of every kind, and programs.

mod progs;

use std::rc::Rc;

use bpfmaps::arena::Run;
use bpfmaps::{
    Frame, MapState, MapType, Object, ObjectKind, PagesFrom, ProgRef, ProgType, Progs, RecordState,
    Socket, Symbol, Walk,
};
use btf_layout::build::Builder;
use btf_layout::{Btf, IntEncoding, Kind, TypeId};
use guestmem::{ArenaPtr, Kva};
use render::fake::{Fake, FakeBytes, FakeMap};

fn object(kind: ObjectKind) -> Object {
    Object {
        kva: Some(Kva::at(0xffff_8880_0000_4000)),
        kind,
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn task(pid: i32, tgid: i32, comm: &str) -> Object {
    object(ObjectKind::Task {
        pid: Some(pid),
        tgid: Some(tgid),
        comm: text(comm),
    })
}

fn prog_ref(id: u32, name: &str) -> ProgRef {
    ProgRef {
        id,
        name: text(name),
    }
}

fn socket(socket: Socket) -> Object {
    object(ObjectKind::Socket(socket))
}

fn tcp(local: &str, remote: Option<&str>, state: &str) -> Socket {
    Socket {
        family: text("inet"),
        socket_type: text("stream"),
        protocol: text("tcp"),
        state: text(state),
        local: text(local),
        remote: remote.and_then(text),
        ..Socket::default()
    }
}

fn symbol(name: &str, offset: u64, module: Option<&str>) -> Symbol {
    Symbol {
        name: name.to_owned(),
        offset,
        module: module.and_then(text),
    }
}

fn word(value: u32) -> Option<FakeBytes> {
    Some(FakeBytes::whole(&value.to_le_bytes()))
}

/// The kernel's own types, and of them a `struct_ops` value.
fn vmlinux() -> (Rc<Btf>, TypeId) {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let u64_ = types.int("u64", 8);
    let char_ = types.int_as("char", 1, IntEncoding::Signed);
    let proto = types.prototype(u32_, &[("sk", u64_)]);
    let function = types.wrap(Kind::Const, "", proto);
    let function = types.ptr(function);
    let data = types.ptr(u64_);
    let name = types.array(char_, 8);
    let members = [
        ("init", function, 0),
        ("release", function, 64),
        ("lost", function, 128),
        ("owner", data, 192),
        ("name", name, 256),
    ];
    let ops = types.record("tcp_congestion_ops", 40, &members);
    let value = types.record("bpf_struct_ops_tcp_congestion_ops", 40, &[("data", ops, 0)]);
    types.record(
        "bpf_insn_array_value",
        12,
        &[
            ("orig_off", u32_, 0),
            ("xlated_off", u32_, 32),
            ("jitted_off", u32_, 64),
        ],
    );
    (
        Rc::new(Btf::parse(types.finish(), "vmlinux").unwrap()),
        value,
    )
}

/// Types of a map's own: `u32`, a small struct, and a key of cgroup storage.
fn types() -> (Rc<Btf>, [TypeId; 3]) {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let u64_ = types.int("u64", 8);
    let ctx = types.record("ctx", 8, &[("runs", u32_, 0), ("cpu", u32_, 32)]);
    let members = [("cgroup_inode_id", u64_, 0), ("attach_type", u32_, 64)];
    let key = types.record("bpf_cgroup_storage_key", 16, &members);
    (
        Rc::new(Btf::parse(types.finish(), "a map").unwrap()),
        [u32_, ctx, key],
    )
}

fn storages() -> Vec<FakeMap> {
    let (btf, [u32_, ctx, key_type]) = types();
    let cgroup = |path: Option<&str>| {
        object(ObjectKind::Cgroup {
            id: Some(77),
            path: path.and_then(text),
        })
    };
    let inode = object(ObjectKind::Inode {
        ino: Some(12),
        device: text("vda1"),
        fs: text("ext4"),
        path: text("/etc/passwd"),
    });
    let unread = Object {
        kva: Some(Kva::at(0xffff_8880_0000_5000)),
        kind: ObjectKind::Task {
            pid: None,
            tgid: None,
            comm: None,
        },
    };
    let key = [77_u64.to_le_bytes(), 6_u64.to_le_bytes()].concat();
    let value = [1, 0, 0, 0, 2, 0, 0, 0].as_slice();
    let each = |value: &[u8]| vec![(0, FakeBytes::whole(value)), (1, FakeBytes::whole(&[0; 8]))];
    vec![
        FakeMap::new(1, "tasks", MapType::TASK_STORAGE, 4, 8)
            .typed(&btf, u32_, ctx)
            .owned(task(812, 812, "stress"), None, value)
            .owned(task(813, 812, "stress"), None, value)
            .owned(unread, None, FakeBytes::cut(&value[..4], 8, None)),
        FakeMap::new(2, "inodes", MapType::INODE_STORAGE, 4, 40).owned(
            inode,
            None,
            [7; 40].as_slice(),
        ),
        FakeMap::new(3, "sks", MapType::SK_STORAGE, 4, 8)
            .typed(&btf, u32_, ctx)
            .owned(socket(tcp("127.0.0.1:80", None, "listen")), None, value),
        FakeMap::new(4, "cgroups", MapType::CGRP_STORAGE, 4, 8).owned(
            cgroup(Some("/a/b")),
            None,
            value,
        ),
        FakeMap::new(5, "old_storage", MapType::CGROUP_STORAGE, 16, 8)
            .typed(&btf, key_type, ctx)
            .owned(cgroup(None), Some(&key), value),
        FakeMap::new(6, "old_percpu", MapType::PERCPU_CGROUP_STORAGE, 16, 8)
            .typed(&btf, key_type, ctx)
            .owned_percpu(cgroup(Some("/")), &key, each(value)),
        FakeMap::new(7, "old_untyped", MapType::PERCPU_CGROUP_STORAGE, 8, 24).owned_percpu(
            cgroup(Some("/")),
            &key[..8],
            each(&[1; 24]),
        ),
    ]
}

fn slots() -> Vec<FakeMap> {
    let prog = |id, name: &str| {
        object(ObjectKind::Prog {
            id: Some(id),
            name: text(name),
            prog_type: Some(ProgType(6)),
        })
    };
    let map = object(ObjectKind::Map {
        id: Some(20),
        name: text("queue"),
        map_type: Some(MapType::QUEUE),
    });
    let device = |prog| {
        object(ObjectKind::Device {
            ifindex: Some(2),
            name: text("eth0"),
            prog,
        })
    };
    let cpu = object(ObjectKind::Cpu {
        cpu: Some(1),
        queue_size: Some(192),
        prog: Some(prog_ref(5, "tail")),
    });
    let event = object(ObjectKind::PerfEvent {
        event_type: text("software"),
        config: Some(10),
        cpu: Some(-1),
        pid: Some(812),
    });
    let cgroup = object(ObjectKind::Cgroup {
        id: Some(77),
        path: text("/a/b"),
    });
    let xdp = Socket {
        family: text("xdp"),
        socket_type: text("raw"),
        device: text("eth0"),
        queue: Some(3),
        ..Socket::default()
    };
    let unix = Socket {
        family: text("unix"),
        socket_type: text("stream"),
        local: text("@bus"),
        cookie: Some(9),
        ..Socket::default()
    };
    let instruction = object(ObjectKind::Instruction {
        symbol: Some(symbol("bpf_prog_0011223344556677_jump", 0x10, Some("bpf"))),
        prog: Some(prog_ref(6, "jump")),
    });
    let small = |mut map: FakeMap| {
        map.info.max_entries = 3;
        map
    };
    let instructions = [1_u32, 2, 16].map(u32::to_le_bytes).concat();
    let connected = tcp("127.0.0.1:80", Some("127.0.0.1:4711"), "established");
    let cookie = FakeBytes::whole(&9_u64.to_le_bytes());
    vec![
        FakeMap::new(10, "jumps", MapType::PROG_ARRAY, 4, 4)
            .slot(0, prog(5, "tail"), word(5))
            .slot(2, prog(6, ""), word(6)),
        FakeMap::new(11, "outer", MapType::ARRAY_OF_MAPS, 4, 4).slot(1, map.clone(), word(20)),
        FakeMap::new(12, "outer_hash", MapType::HASH_OF_MAPS, 2, 4).keyed_slot(
            &[1, 2],
            map,
            word(20),
        ),
        FakeMap::new(13, "devices", MapType::DEVMAP, 4, 8).slot(
            1,
            device(Some(prog_ref(5, "tail"))),
            Some(FakeBytes::whole(&[2, 0, 0, 0, 5, 0, 0, 0])),
        ),
        FakeMap::new(14, "by_number", MapType::DEVMAP_HASH, 4, 4).keyed_slot(
            &[9, 0, 0, 0],
            device(None),
            word(2),
        ),
        FakeMap::new(15, "cpus", MapType::CPUMAP, 4, 4).slot(1, cpu, word(192)),
        FakeMap::new(16, "events", MapType::PERF_EVENT_ARRAY, 4, 4).slot(0, event, None),
        FakeMap::new(17, "groups", MapType::CGROUP_ARRAY, 4, 4).slot(0, cgroup, None),
        FakeMap::new(18, "xsks", MapType::XSKMAP, 4, 4).slot(2, socket(xdp), None),
        FakeMap::new(19, "socks", MapType::SOCKMAP, 4, 8)
            .slot(0, socket(connected), None)
            .slot(1, socket(unix), Some(cookie)),
        FakeMap::new(30, "sock_hash", MapType::SOCKHASH, 4, 4).keyed_slot(
            &[0, 0, 0, 1],
            socket(tcp("[::1]:443", None, "listen")),
            None,
        ),
        FakeMap::new(31, "ports", MapType::REUSEPORT_SOCKARRAY, 4, 4).slot(
            0,
            socket(Socket::default()),
            None,
        ),
        FakeMap::new(32, "targets", MapType::INSN_ARRAY, 4, 12).slot(
            0,
            instruction,
            Some(FakeBytes::whole(&instructions)),
        ),
    ]
    .into_iter()
    .map(small)
    .collect()
}

fn others(value: TypeId) -> Vec<FakeMap> {
    let (btf, [u32_, ctx, _]) = types();
    let record = b"a record of twenty-six byt".as_slice();
    let queue = FakeMap::new(20, "queue", MapType::QUEUE, 0, 4)
        .typed(&btf, TypeId::VOID, u32_)
        .state(MapState::Queue {
            head: 1,
            tail: 62,
            slots: 65,
        });
    let ops = [12_u64, 0, 99, 0xffff_8880_0000_6000].map(u64::to_le_bytes);
    let mut struct_ops = FakeMap::new(26, "ops", MapType::STRUCT_OPS, 4, 40)
        .entry(
            &[0; 4],
            [ops.concat(), b"mine\0\0\0\0".to_vec()].concat().as_slice(),
        )
        .state(MapState::StructOps {
            state: "in use".to_owned(),
            refcount: 1,
            name: text("tcp_congestion_ops"),
        });
    struct_ops.info.btf_vmlinux_value_type_id = value.0;
    let mut user_stacks = FakeMap::new(25, "user_stacks", MapType::STACK_TRACE, 4, 64).stack(
        3,
        vec![
            Frame::BuildId {
                build_id: [0xab; 20],
                offset: 0x1230,
            },
            Frame::NoBuildId {
                ip: 0x7f00_0000_1000,
            },
        ],
    );
    // BPF_F_STACK_BUILD_ID
    user_stacks.info.flags = 1 << 5;
    vec![
        [1_u32, 2, 2, 2].iter().fold(queue, |queue, number| {
            queue.element(number.to_le_bytes().as_slice())
        }),
        FakeMap::new(21, "stack", MapType::STACK, 0, 8)
            .typed(&btf, TypeId::VOID, ctx)
            .element([1, 0, 0, 0, 2, 0, 0, 0].as_slice()),
        FakeMap::new(22, "ring", MapType::RINGBUF, 0, 0)
            .state(MapState::RingBuffer {
                size: 4096,
                consumer_pos: 4080,
                producer_pos: 4184,
                pending_pos: Some(4128),
                overwrite_pos: None,
                overwrite: false,
            })
            .record(4080, RecordState::Ready, record)
            .record(4120, RecordState::Discarded, [1, 2].as_slice())
            .record(4136, RecordState::Busy, [0; 40].as_slice()),
        FakeMap::new(23, "filter", MapType::BLOOM_FILTER, 0, 8).state(MapState::Bloom {
            bits: 1024,
            bits_set: 512,
            hash_functions: 2,
        }),
        FakeMap::new(27, "arena", MapType::ARENA, 0, 0).state(MapState::Arena {
            user_start: Some(ArenaPtr::at(0x1000_0000_0000)),
            kernel_base: Some(Kva::at(0xffff_c900_8000_0000)),
            page_size: 4096,
            declared_pages: 64,
            runs: vec![Run { pgoff: 0, pages: 2 }, Run { pgoff: 9, pages: 1 }],
            faulted: vec![],
            complete: true,
            pages_from: PagesFrom::PageTables,
        }),
        FakeMap::new(28, "seen_arena", MapType::ARENA, 0, 0).state(MapState::Arena {
            user_start: Some(ArenaPtr::at(0x2000_0000_0000)),
            kernel_base: None,
            page_size: 4096,
            declared_pages: 64,
            runs: vec![Run { pgoff: 3, pages: 1 }],
            faulted: vec![],
            complete: false,
            pages_from: PagesFrom::Mappings {
                pids: vec![12, 345],
            },
        }),
        FakeMap::new(24, "stacks", MapType::STACK_TRACE, 4, 24).stack(
            17,
            vec![
                Frame::Address {
                    ip: 0xffff_ffff_8123_4567,
                    symbol: Some(symbol("do_nanosleep", 0x5c, None)),
                },
                Frame::Address {
                    ip: 0x7f00_0000_1000,
                    symbol: None,
                },
            ],
        ),
        user_stacks,
        struct_ops,
    ]
}

/// Every map.
pub(crate) fn maps() -> Vec<FakeMap> {
    let (_, value) = vmlinux();
    let mut maps = [storages(), slots(), others(value)].concat();
    maps.sort_by_key(|map| map.info.id);
    maps
}

/// All of it.
pub(crate) fn kernel() -> Fake {
    let progs = Progs {
        progs: progs::progs(),
        walk: Walk::default(),
    };
    Fake::new(maps())
        .with_vmlinux(&vmlinux().0)
        .with_progs(progs)
}
