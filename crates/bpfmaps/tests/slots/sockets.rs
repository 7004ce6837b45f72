//! Maps of sockets, and how sockets of each family are named.

use bpfmaps::MapType;
use guestmem::{Address, Kva};

use super::{FREE, by_index, check};
use crate::fake::table::{Put, size_of};
use crate::fake::{Maps, Shape, on};
use crate::gaps;
use crate::objects::{at_member, entries};

#[test]
fn look_ups_give_cookies_that_were_made() {
    for map_type in [MapType::SOCKMAP, MapType::REUSEPORT_SOCKARRAY] {
        let named = "1: inet dgram udp at 0.0.0.0:53";
        check(map_type, 8, |maps| maps.udp(53, 0), named);
        let cookie = format!("{named} cookie 513");
        check(map_type, 4, |maps| maps.udp(53, 0x201), &cookie);
        let value = format!("{cookie} = [1, 2, 0, 0, 0, 0, 0, 0]");
        check(map_type, 8, |maps| maps.udp(53, 0x201), &value);
    }
}

/// A hash of sockets with these (hash, key) in 2 buckets: the map, its
/// buckets and its elements.
pub(super) fn sockhash(maps: &mut Maps, keys: &[(u64, &str)]) -> (Kva, Kva, Vec<Kva>) {
    let shape = Shape {
        map_type: MapType::SOCKHASH,
        key_size: 3,
        value_size: 4,
        max_entries: 2,
    };
    let map = maps.map(1, "sockets", shape, size_of("bpf_shtab"));
    let bucket = size_of("bpf_shtab_bucket");
    let buckets = maps.machine.allocate(&[0; 64]);
    maps.set(map, "bpf_shtab.buckets", buckets);
    maps.set(map, "bpf_shtab.buckets_num", 2);
    let mut firsts = [FREE; 2];
    let mut made = Vec::new();
    for &(hash, key) in keys {
        let socket = maps.udp(hash, 0);
        let first = &mut firsts[usize::try_from(hash % 2).unwrap()];
        let fields = [
            ("hash", hash.into()),
            ("sk", socket.into()),
            ("node.next", Put::from(*first)),
        ];
        let element = maps.object_and("bpf_shtab_elem", &fields, key.as_bytes());
        *first = at_member(element, "bpf_shtab_elem.node.next");
        let head = at_member(
            on(buckets, hash % 2 * bucket),
            "bpf_shtab_bucket.head.first",
        );
        maps.machine.place_u64(head, first.get());
        made.push(element);
    }
    (map, buckets, made)
}

#[test]
fn hashes_of_sockets_read_back() {
    let mut maps = Maps::new();
    sockhash(&mut maps, &[(17, "one"), (21, "two"), (30, "six")]);
    let (found, walk) = entries(&maps.finish(), 1);
    let named = |key, port| format!("{key}: inet dgram udp at 0.0.0.0:{port}");
    assert_eq!(
        found,
        [named("six", 30), named("two", 21), named("one", 17)]
    );
    assert!(walk.is_complete(), "{walk:?}");
}

/// A socket with these members of `sock`, in a record of its family.
fn socket(maps: &mut Maps, record: &str, common: &[(&str, Put<'_>)]) -> Kva {
    let socket = maps.object(record, &[]);
    for &(member, put) in common {
        maps.set(socket, &format!("sock.{member}"), put);
    }
    socket
}

#[test]
fn sockets_of_the_internet_have_addresses() {
    let tcp4: &[(&str, Put<'_>)] = &[
        ("__sk_common.skc_family", Put::Word(2)),
        ("__sk_common.skc_state", Put::Word(1)),
        ("__sk_common.skc_rcv_saddr", Put::Bytes(&[127, 0, 0, 1])),
        ("__sk_common.skc_daddr", Put::Bytes(&[10, 1, 2, 3])),
        ("__sk_common.skc_num", Put::Word(8080)),
        ("__sk_common.skc_dport", Put::Bytes(&[0x1f, 0x91])),
        ("sk_type", Put::Word(1)),
        ("sk_protocol", Put::Word(6)),
    ];
    let named = "1: inet stream tcp established at 127.0.0.1:8080 to 10.1.2.3:8081";
    check(
        MapType::SOCKMAP,
        4,
        |maps| socket(maps, "sock", tcp4),
        named,
    );
    let mut local = [0; 16];
    local[15] = 1;
    let tcp6: &[(&str, Put<'_>)] = &[
        ("__sk_common.skc_family", Put::Word(10)),
        ("__sk_common.skc_state", Put::Word(10)),
        ("__sk_common.skc_v6_rcv_saddr", Put::Bytes(&local)),
        ("__sk_common.skc_num", Put::Word(443)),
        ("sk_type", Put::Word(1)),
        ("sk_protocol", Put::Word(6)),
    ];
    let named = "1: inet6 stream tcp listen at [::1]:443";
    check(
        MapType::SOCKMAP,
        4,
        |maps| socket(maps, "sock", tcp6),
        named,
    );
    let strange: &[(&str, Put<'_>)] = &[
        ("__sk_common.skc_family", Put::Word(99)),
        ("sk_type", Put::Word(77)),
        ("sk_protocol", Put::Word(6)),
    ];
    let named = "1: 99 77 6";
    check(
        MapType::SOCKMAP,
        4,
        |maps| socket(maps, "sock", strange),
        named,
    );
}

fn unix(maps: &mut Maps, name: &[u8], peer: Kva) -> Kva {
    let common = [
        ("__sk_common.skc_family", Put::Word(1)),
        ("sk_type", Put::Word(5)),
    ];
    let socket = socket(maps, "unix_sock", &common);
    maps.set(socket, "unix_sock.peer", peer);
    if !name.is_empty() {
        let address = [&[1, 0], name].concat();
        let len = address.len() as u64;
        let address = maps.object_and("unix_address", &[("len", len.into())], &address);
        maps.set(socket, "unix_sock.addr", address);
    }
    socket
}

#[test]
fn unix_sockets_have_paths_and_abstract_names() {
    let names: [(&[u8], &str); 4] = [
        (b"/run/a\0", "1: unix seqpacket 0 at /run/a"),
        (b"\0abs\0tract", "1: unix seqpacket 0 at @abs@tract"),
        (b"a\x1bb", "1: unix seqpacket 0 at a\u{fffd}b"),
        (b"", "1: unix seqpacket 0"),
    ];
    for (name, expected) in names {
        check(MapType::SOCKMAP, 4, |maps| unix(maps, name, FREE), expected);
    }
    let connected = |maps: &mut Maps| {
        let peer = unix(maps, b"/run/server\0", FREE);
        unix(maps, b"", peer)
    };
    let named = "1: unix seqpacket 0 to /run/server";
    check(MapType::SOCKMAP, 4, connected, named);
}

fn xdp(maps: &mut Maps, state: u64) -> Kva {
    let socket = socket(
        maps,
        "xdp_sock",
        &[("__sk_common.skc_family", Put::Word(44))],
    );
    let device = maps.device(3, "eth0");
    maps.set(socket, "xdp_sock.dev", device);
    maps.set(socket, "xdp_sock.queue_id", 5);
    maps.set(socket, "xdp_sock.state", state);
    socket
}

#[test]
fn xdp_sockets_have_a_device_while_they_are_bound() {
    let bound = "1: xdp 0 0 on eth0 queue 5";
    check(MapType::XSKMAP, 4, |maps| xdp(maps, 1), bound);
    check(MapType::XSKMAP, 4, |maps| xdp(maps, 2), "1: xdp 0 0");
}

#[test]
fn a_family_whose_layout_is_elsewhere_is_a_gap() {
    for (missing, make, expected) in [
        (
            "unix_sock",
            unix as fn(&mut Maps, &[u8], Kva) -> Kva,
            "1: unix seqpacket 0",
        ),
        ("xdp_sock", |maps, _, _| xdp(maps, 1), "1: xdp 0 0"),
    ] {
        let mut maps = Maps::without(&[missing]);
        let object = make(&mut maps, b"/run/a", FREE);
        by_index(&mut maps, MapType::SOCKMAP, 4, &[FREE, object]);
        let (found, walk) = entries(&maps.finish(), 1);
        assert_eq!(found, [expected]);
        let gap = gaps(&walk).remove(0);
        assert!(
            gap.contains(&format!("no type `struct {missing}`")),
            "{gap}"
        );
    }
}

#[test]
fn an_address_that_is_too_long_is_a_gap() {
    let mut maps = Maps::new();
    let object = unix(&mut maps, b"/run/a", FREE);
    let address = maps.object("unix_address", &[("len", 111.into())]);
    maps.set(object, "unix_sock.addr", address);
    by_index(&mut maps, MapType::SOCKMAP, 4, &[object]);
    let (found, walk) = entries(&maps.finish(), 1);
    assert_eq!(found, ["0: unix seqpacket 0"]);
    let gap = gaps(&walk).remove(0);
    assert!(
        gap.ends_with("length of a unix address 0x6f is more than memory holds"),
        "{gap}"
    );
}
