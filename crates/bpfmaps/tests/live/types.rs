//! Maps of every type that can be filled without attaching anything: what
//! the running kernel's memory shows of them, and that nothing moves.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use bpfmaps::contract::{self, World};
use bpfmaps::{
    BpfMapAccessor, Entry, Fetch, Live, MapInfo, MapState, Object, ObjectKind, Reason, SlotAt, Via,
    Walk,
};
use btf_layout::build::Builder;
use libbpf_rs::libbpf_sys as bpf;
use libbpf_rs::{MapCore, MapFlags, MapType, UserRingBuffer};
use nix::libc;

use crate::maker::{Made, Only, ROOT, Spec, Types};

/// A descriptor that a system call gave.
pub(crate) fn owned(fd: impl TryInto<i32>) -> OwnedFd {
    let fd = fd.try_into().unwrap_or(-1);
    assert!(fd >= 0, "{}; {ROOT}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A program of one or more instructions that is never attached.
fn program(prog_type: u32, flags: u32, instructions: &[u64]) -> OwnedFd {
    let mut options = bpf::bpf_prog_load_opts {
        sz: size_of::<bpf::bpf_prog_load_opts>() as bpf::size_t,
        prog_flags: flags,
        ..Default::default()
    };
    let len = instructions.len() as bpf::size_t;
    let code = instructions.as_ptr().cast();
    // SAFETY: the texts end, there are `len` instructions, and `options` says
    // its own size.
    owned(unsafe {
        bpf::bpf_prog_load(
            prog_type,
            c"made_prog".as_ptr(),
            c"GPL".as_ptr(),
            code,
            len,
            &raw mut options,
        )
    })
}

/// `r0 = 0; exit`
const NOTHING: [u64; 2] = [0xb7, 0x95];

fn socket_filter() -> OwnedFd {
    program(bpf::BPF_PROG_TYPE_SOCKET_FILTER, 0, &NOTHING)
}

/// Puts twice four bytes of `value` and four of 0 into a ring buffer, by a program.
fn put_record(ring: &Made, value: u8) {
    let fd = u64::try_from(ring.handle.as_fd().as_raw_fd()).unwrap();
    let byte = u64::from(value) * 0x0101_0101;
    let output = program(
        bpf::BPF_PROG_TYPE_SYSCALL,
        bpf::BPF_F_SLEEPABLE,
        &[
            // *(u64 *)(r10 - 16) = byte; *(u64 *)(r10 - 8) = byte
            0xfff0_0a7a | byte << 32,
            0xfff8_0a7a | byte << 32,
            // r1 = the map
            0x1118 | fd << 32,
            0,
            // r2 = r10 - 16; r3 = 16; r4 = 0
            0xa2bf,
            0xffff_fff0_0000_0207,
            0x10_0000_03b7,
            0x04b7,
            // bpf_ringbuf_output(); exit
            130 << 32 | 0x85,
            0x95,
        ],
    );
    let mut options = bpf::bpf_test_run_opts {
        sz: size_of::<bpf::bpf_test_run_opts>() as bpf::size_t,
        ..Default::default()
    };
    // SAFETY: it takes no memory but `options`, which says its own size.
    let ret = unsafe { bpf::bpf_prog_test_run_opts(output.as_raw_fd(), &raw mut options) };
    assert_eq!((ret, options.retval), (0, 0));
}

fn pidfd() -> OwnedFd {
    // SAFETY: it takes no memory.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) })
}

pub(crate) fn memory_file() -> OwnedFd {
    // SAFETY: the name ends with a NUL.
    owned(unsafe { libc::memfd_create(c"made".as_ptr(), 0) })
}

/// An XDP socket with a ring to receive in, without which none is taken into
/// a map by 7.2.
fn xdp_socket() -> OwnedFd {
    // SAFETY: it takes no memory.
    let socket = owned(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0) });
    let (entries, len) = (64u32, 4);
    let level = libc::SOL_XDP;
    let fd = socket.as_raw_fd();
    let value = (&raw const entries).cast();
    // SAFETY: `entries` has `len` bytes.
    let ret = unsafe { libc::setsockopt(fd, level, libc::XDP_RX_RING, value, len) };
    assert_eq!(ret, 0);
    socket
}

/// A software event that counts nothing (`PERF_COUNT_SW_DUMMY`).
fn perf_event() -> OwnedFd {
    // `perf_event_attr` of the first version: type, size, config.
    let attr: [u64; 8] = [64 << 32 | 1, 9, 0, 0, 0, 0, 0, 0];
    // SAFETY: `attr` has the 64 bytes that it says.
    owned(unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), 0, -1, -1, 0) })
}

/// The root of the control group hierarchy.
fn cgroup() -> File {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|words| words[2] == "cgroup2").unwrap();
    File::open(mount[1]).unwrap()
}

/// A map, with the types of key and value that storages need.
pub(crate) fn storage(map_type: MapType) -> Made {
    let mut builder = Builder::new();
    let int = builder.int("int", 4);
    let value = builder.record("stored", 8, &[("left", int, 0), ("right", int, 32)]);
    let mut spec = Spec::new(map_type, 4, 8, 0).flags(bpf::BPF_F_NO_PREALLOC);
    spec.types = Some(Types::load(&builder.finish(), int, value));
    spec.make()
}

impl Made {
    fn put_one(&self, key: &[u8], value: &[u8]) {
        self.handle.update(key, value, MapFlags::ANY).unwrap();
    }

    /// Puts a descriptor in, as wide as the map's values.
    fn put_fd(&self, key: &[u8], fd: BorrowedFd<'_>) {
        let fd = u64::try_from(fd.as_raw_fd()).unwrap().to_le_bytes();
        self.put_one(key, &fd[..self.handle.value_size() as usize]);
    }
}

/// An entry in a line, without addresses.
fn line(entry: &Entry<'_>) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    match entry {
        Entry::KeyValue { key, value } => format!("{}: {}", hex(key), hex(value.present)),
        Entry::Element { position, value }
        | Entry::Record {
            position, value, ..
        } => {
            format!("{position}: {}", hex(value.present))
        }
        Entry::Owned { owner, value, .. } => format!("{} {}", object(owner), hex(value.present)),
        Entry::Slot { at, refers, value } => {
            let at = match at {
                SlotAt::Index(index) => index.to_string(),
                SlotAt::Key(key) => hex(key),
            };
            let value = value.map(|value| format!(" {}", hex(value.present)));
            format!("{at}: {}{}", object(refers), value.unwrap_or_default())
        }
        entry => format!("{entry:?}"),
    }
}

fn object(object: &Object) -> String {
    let known = |text: &Option<String>| text.clone().unwrap_or_default();
    match &object.kind {
        ObjectKind::Task { pid, comm, .. } => format!("task {pid:?} {}", comm.is_some()),
        ObjectKind::Inode { fs, path, .. } => format!("inode {} {}", known(fs), known(path)),
        ObjectKind::Socket(socket) => {
            let part = |part: &Option<String>| known(part);
            let protocol = part(&socket.protocol);
            let text = format!(
                "socket {} {protocol} {}",
                part(&socket.family),
                part(&socket.local)
            );
            format!("{} {:?}", text.trim_end(), socket.cookie)
        }
        ObjectKind::Cgroup { path, .. } => format!("cgroup {}", known(path)),
        ObjectKind::Prog { id, name, .. } => format!("prog {} {id:?}", known(name)),
        ObjectKind::Map { id, name, .. } => format!("map {} {id:?}", known(name)),
        ObjectKind::Device { ifindex, name, .. } => format!("device {ifindex:?} {}", known(name)),
        ObjectKind::Cpu {
            cpu, queue_size, ..
        } => format!("cpu {cpu:?} {queue_size:?}"),
        ObjectKind::PerfEvent {
            event_type, config, ..
        } => {
            format!("event {} {config:?}", known(event_type))
        }
        other => format!("{other:?}"),
    }
}

fn lines(live: &Live, map: &MapInfo) -> (Walk, Vec<String>) {
    let mut lines = Vec::new();
    let walk = live.entries(map, &mut |entry| {
        lines.push(line(&entry));
        ControlFlow::Continue(())
    });
    (walk.unwrap(), lines)
}

/// Checks that `made` has exactly the entries `expected`, in this order, and
/// that reading changes nothing of them.
#[track_caller]
fn check(made: &Made, expected: &[&str]) {
    for fetch in [Fetch::Batches, Fetch::Memory] {
        let live = Live::open().unwrap().fetching(fetch);
        let info = made.info(&live);
        for _ in 0..2 {
            let state = live.state(&info).unwrap();
            let (walk, lines) = lines(&live, &info);
            assert!(walk.is_complete(), "{info:?}: {walk:?}");
            assert_eq!(lines, expected, "{info:?}");
            assert_eq!(live.state(&info).unwrap(), state, "{info:?}");
        }
        contract::check(&Only(&live, made.id), World::Still);
    }
}

/// Checks what bpf(2) alone tells: `expected`, or that it tells nothing.
#[track_caller]
fn check_without_memory(made: &Made, expected: Option<&[&str]>) {
    let live = Live::open().unwrap().via(Via::Bpf);
    let (walk, lines) = lines(&live, &made.info(&live));
    match expected {
        Some(expected) => assert_eq!(
            (walk.is_complete(), lines),
            (true, expected.iter().map(ToString::to_string).collect())
        ),
        None => {
            assert!(lines.is_empty(), "{lines:?}");
            let reason = walk.gaps.first().map(|gap| &gap.reason);
            assert!(
                matches!(reason, Some(Reason::NeedsMemory { .. })),
                "{walk:?}"
            );
        }
    }
    assert!(live.memory().is_none());
}

#[test]
fn queues_and_stacks_keep_their_elements() {
    for (map_type, order) in [(MapType::Queue, [1u8, 2, 3]), (MapType::Stack, [3, 2, 1])] {
        let made = Spec::new(map_type, 0, 2, 4).make();
        for value in [1u8, 2, 3] {
            made.put_one(&[], &[value, 9]);
        }
        let expected = [0usize, 1, 2].map(|at| format!("{at}: 0{}09", order[at]));
        check(&made, &expected.each_ref().map(String::as_str));
        check_without_memory(&made, None);
        let live = Live::open().unwrap();
        let state = live.state(&made.info(&live)).unwrap();
        let expected = MapState::Queue {
            head: 3,
            tail: 0,
            slots: 5,
        };
        assert_eq!(state, Some(expected));
    }
}

#[test]
fn bloom_filters_have_a_state() {
    let made = Spec::new(MapType::BloomFilter, 0, 4, 100).make();
    let live = Live::open().unwrap();
    let info = made.info(&live);
    let bits_set = || match live.state(&info) {
        Ok(Some(MapState::Bloom { bits, bits_set, .. })) if bits_set <= bits => bits_set,
        state => panic!("{state:?}"),
    };
    assert_eq!(bits_set(), 0);
    made.put_one(&[], &[1, 2, 3, 4]);
    assert!((1..=5).contains(&bits_set()));
    check(&made, &[]);
}

#[test]
fn ring_buffers_are_not_consumed() {
    let made = Spec::new(MapType::RingBuf, 0, 0, 4096).make();
    put_record(&made, 0x11);
    put_record(&made, 0x22);
    let value = |byte: &str| format!("{}00000000", byte.repeat(4)).repeat(2);
    let expected = [
        format!("0: {}", value("11")),
        format!("24: {}", value("22")),
    ];
    check(&made, &expected.each_ref().map(String::as_str));
    check_without_memory(&made, None);
    let live = Live::open().unwrap();
    match live.state(&made.info(&live)) {
        Ok(Some(MapState::RingBuffer {
            consumer_pos: 0,
            producer_pos: 48,
            size: 4096,
            ..
        })) => {}
        state => panic!("{state:?}"),
    }
}

#[test]
fn user_ring_buffers_are_not_consumed() {
    let made = Spec::new(MapType::UserRingBuf, 0, 0, 4096).make();
    let ring = UserRingBuffer::new(&made.handle).unwrap();
    let mut sample = ring.reserve(4).unwrap();
    sample.as_mut().copy_from_slice(&[5, 6, 7, 8]);
    ring.submit(sample).unwrap();
    check(&made, &["0: 05060708"]);
    check_without_memory(&made, None);
}

#[test]
fn tries_have_their_prefixes() {
    let made = Spec::new(MapType::LpmTrie, 8, 4, 8)
        .flags(bpf::BPF_F_NO_PREALLOC)
        .make();
    let mut expected = Vec::new();
    for (length, address) in [(0u8, 0u8), (8, 10), (16, 10), (32, 11)] {
        made.put_one(&[length, 0, 0, 0, address, 0, 0, 1], &[length; 4]);
        let value = format!("{length:02x}").repeat(4);
        expected.push(format!("{length:02x}000000{address:02x}000001: {value}"));
    }
    expected.sort();
    for live in crate::maker::all_ways() {
        let (walk, mut found) = lines(&live, &made.info(&live));
        found.sort();
        assert!(walk.is_complete(), "{walk:?}");
        assert_eq!(found, expected);
        contract::check(&Only(&live, made.id), World::Still);
    }
}

#[test]
fn slots_name_programs_maps_and_groups() {
    let prog = socket_filter();
    let prog_id = {
        let mut info = bpf::bpf_prog_info::default();
        let mut len = u32::try_from(size_of::<bpf::bpf_prog_info>()).unwrap();
        let into = (&raw mut info).cast();
        // SAFETY: `info` has `len` bytes.
        let ret = unsafe { bpf::bpf_obj_get_info_by_fd(prog.as_raw_fd(), into, &raw mut len) };
        assert_eq!(ret, 0);
        info.id
    };
    let made = Spec::new(MapType::ProgArray, 4, 4, 8).make();
    made.put_fd(&[5, 0, 0, 0], prog.as_fd());
    let value = prog_id
        .to_le_bytes()
        .map(|byte| format!("{byte:02x}"))
        .concat();
    let expected = format!("5: prog made_prog Some({prog_id}) {value}");
    check(&made, &[&expected]);
    check_without_memory(&made, Some(&[&expected]));

    let inner = Spec::new(MapType::Array, 4, 8, 2).make();
    let value = inner
        .id
        .to_le_bytes()
        .map(|byte| format!("{byte:02x}"))
        .concat();
    let refers = format!("map test Some({}) {value}", inner.id);
    for (map_type, at) in [
        (MapType::ArrayOfMaps, "3"),
        (MapType::HashOfMaps, "03000000"),
    ] {
        let mut spec = Spec::new(map_type, 4, 4, 8);
        spec.inner = Some(inner.handle.as_fd().as_raw_fd());
        let made = spec.make();
        made.put_fd(&[3, 0, 0, 0], inner.handle.as_fd());
        let expected = format!("{at}: {refers}");
        check(&made, &[&expected]);
        check_without_memory(&made, Some(&[&expected]));
    }

    let made = Spec::new(MapType::CgroupArray, 4, 4, 8).make();
    made.put_fd(&[1, 0, 0, 0], cgroup().as_fd());
    check(&made, &["1: cgroup /"]);
    check_without_memory(&made, None);

    let event = perf_event();
    let made = Spec::new(MapType::PerfEventArray, 4, 4, 8).make();
    made.put_fd(&[2, 0, 0, 0], event.as_fd());
    check(&made, &["2: event software Some(9)"]);
    check_without_memory(&made, None);
}

#[test]
fn slots_name_devices_and_cpus() {
    let lo = 1u32.to_le_bytes();
    for (map_type, at) in [(MapType::Devmap, "1"), (MapType::DevmapHash, "01000000")] {
        let made = Spec::new(map_type, 4, 8, 8).make();
        made.put_one(&lo, &[1, 0, 0, 0, 0, 0, 0, 0]);
        check(
            &made,
            &[&format!("{at}: device Some(1) lo 0100000000000000")],
        );
        let expected = format!("{at}: device Some(1)  0100000000000000");
        check_without_memory(&made, Some(&[&expected]));
    }
    let made = Spec::new(MapType::Cpumap, 4, 4, 8).make();
    made.put_one(&[0; 4], &[64, 0, 0, 0]);
    let expected = ["0: cpu Some(0) Some(64) 40000000"];
    check(&made, &expected);
    check_without_memory(&made, Some(&expected));
}

/// The cookie that bpf(2) would give a socket at a look-up.
#[test]
fn sockets_get_no_cookies() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = tcp.local_addr().unwrap();
    let expected = format!("socket inet tcp {local} None");
    for (map_type, at) in [(MapType::Sockmap, "3"), (MapType::Sockhash, "03000000")] {
        let made = Spec::new(map_type, 4, 8, 8).make();
        made.put_fd(&[3, 0, 0, 0], tcp.as_fd());
        check(&made, &[&format!("{at}: {expected}")]);
        check_without_memory(&made, None);
    }
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = udp.local_addr().unwrap();
    let made = Spec::new(MapType::Sockmap, 4, 4, 8).make();
    made.put_fd(&[0; 4], udp.as_fd());
    check(&made, &[&format!("0: socket inet udp {local} None")]);

    let xdp = xdp_socket();
    let made = Spec::new(MapType::Xskmap, 4, 4, 8).make();
    made.put_fd(&[7, 0, 0, 0], xdp.as_fd());
    check(&made, &["7: socket xdp 0 None"]);
    check_without_memory(&made, None);
}

#[test]
fn storages_name_their_owners() {
    let value = [1, 0, 0, 0, 2, 0, 0, 0];
    let stored = "0100000002000000";
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = tcp.local_addr().unwrap();
    let file = memory_file();
    let pid = i32::try_from(std::process::id()).unwrap();
    for (map_type, owner, expected) in [
        (
            MapType::TaskStorage,
            pidfd(),
            format!("task {:?} true", Some(pid)),
        ),
        (MapType::CGrpStorage, cgroup().into(), "cgroup /".to_owned()),
        (
            MapType::SkStorage,
            tcp.into(),
            format!("socket inet tcp {local} None"),
        ),
        (MapType::InodeStorage, file, "inode tmpfs ".to_owned()),
    ] {
        // Control groups have storage since 6.2.
        if map_type == MapType::CGrpStorage && !map_type.is_supported().unwrap() {
            continue;
        }
        let made = storage(map_type);
        made.put_one(&owner.as_raw_fd().to_le_bytes(), &value);
        check(&made, &[&format!("{expected} {stored}")]);
        check_without_memory(&made, None);
    }
}
