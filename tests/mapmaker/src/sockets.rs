//! Sockets with known addresses, and the maps that refer to them.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapHandle};
use libbpf_sys::{BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, BPF_MAP_TYPE_SOCKHASH, BPF_MAP_TYPE_SOCKMAP};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen,
    setsockopt, socket, sockopt,
};
use serde_json::{Value, json};

use crate::make::Maker;
use crate::slots::NO_LOOKUP;
use crate::sys::{self, MapSpec};
use crate::truth::{Told, bytes};

/// A socket and what bpfreeze says about it when it reads the kernel's memory.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) object: Value,
}

impl Socket {
    /// A socket with what is known of it beside its kind.
    pub(crate) fn new(
        fd: impl Into<OwnedFd>,
        family: &str,
        kind: &str,
        more: &[(&str, Option<String>)],
    ) -> Self {
        let mut object = json!({"kind": "socket", "family": family, "type": kind});
        if let Some(object) = object.as_object_mut() {
            for (name, value) in more {
                if let Some(value) = value {
                    object.insert((*name).to_owned(), json!(value));
                }
            }
        }
        Self {
            fd: fd.into(),
            object,
        }
    }

    fn inet(
        fd: impl Into<OwnedFd>,
        protocol: &str,
        state: Option<&str>,
        local: SocketAddr,
        remote: Option<SocketAddr>,
    ) -> Self {
        let family = if local.is_ipv4() { "inet" } else { "inet6" };
        let kind = if protocol == "tcp" { "stream" } else { "dgram" };
        let more = [
            ("protocol", Some(protocol.to_owned())),
            ("state", state.map(str::to_owned)),
            ("local", Some(local.to_string())),
            ("remote", remote.map(|remote| remote.to_string())),
        ];
        Self::new(fd, family, kind, &more)
    }

    fn listener(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        let local = listener.local_addr()?;
        Ok(Self::inet(listener, "tcp", Some("listen"), local, None))
    }

    /// A listener, a client and the server's end of the connection between them.
    fn tcp(address: &str) -> Result<[Self; 3]> {
        let listener = TcpListener::bind(address)?;
        let local = listener.local_addr()?;
        let client = TcpStream::connect(local)?;
        let (server, from) = listener.accept()?;
        let up = Some("established");
        Ok([
            Self::inet(listener, "tcp", Some("listen"), local, None),
            Self::inet(client, "tcp", up, from, Some(local)),
            Self::inet(server, "tcp", up, local, Some(from)),
        ])
    }

    fn udp(address: &str, remote: Option<SocketAddr>) -> Result<Self> {
        let socket = UdpSocket::bind(address)?;
        if let Some(remote) = remote {
            socket.connect(remote)?;
        }
        let local = socket.local_addr()?;
        Ok(Self::inet(socket, "udp", None, local, remote))
    }

    /// A client of a listener with an abstract name, and the server's end.
    fn unix(name: &str) -> Result<[Self; 3]> {
        let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
        let address = Some(format!("@{name}"));
        let client = UnixStream::connect_addr(&listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        Ok([
            Self::new(listener, "unix", "stream", &[("local", address.clone())]),
            Self::new(client, "unix", "stream", &[("remote", address.clone())]),
            Self::new(server, "unix", "stream", &[("local", address)]),
        ])
    }

    /// Its number, which the kernel gives it now if it had none.
    fn cookie(&self) -> Result<u64> {
        sys::option_u64(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_COOKIE)
    }
}

/// Sockets of every kind that local storage can belong to, with and without a cookie.
pub(crate) fn every_kind() -> Result<Vec<Socket>> {
    let udp = Socket::udp("127.0.0.1:0", None)?;
    let mut sockets = vec![
        Socket::udp("[::1]:0", None)?,
        Socket::udp("0.0.0.0:0", None)?,
        udp,
    ];
    sockets.extend(Socket::tcp("127.0.0.1:0")?);
    sockets.extend(Socket::tcp("[::1]:0")?);
    sockets.extend(Socket::unix("bpfreeze storage")?);
    let datagram = UnixDatagram::bind("/tmp/datagrams")?;
    let path = Some("/tmp/datagrams".to_owned());
    sockets.push(Socket::new(datagram, "unix", "dgram", &[("local", path)]));
    let netlink = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    sockets.push(Socket::new(netlink, "netlink", "raw", &[]));
    for socket in sockets.iter_mut().step_by(2) {
        let cookie = socket.cookie()?;
        if let Some(object) = socket.object.as_object_mut() {
            object.insert("cookie".to_owned(), json!(cookie));
        }
    }
    Ok(sockets)
}

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let [listener, client, server] = Socket::tcp("127.0.0.1:0")?;
    let [listener6, client6, server6] = Socket::tcp("[::1]:0")?;
    let [_, near, far] = Socket::unix("bpfreeze")?;
    let target = "127.0.0.1:9".parse()?;
    let udp = Socket::udp("127.0.0.1:0", Some(target))?;
    let udp6 = Socket::udp("[::1]:0", None)?;
    let any = Socket::udp("0.0.0.0:0", None)?;
    let lone = Socket::listener("0.0.0.0:0")?;
    let all = [
        listener, client, server, listener6, client6, server6, near, far, udp, udp6, any, lone,
    ];
    let pick = |places: &[usize]| -> Vec<&Socket> {
        places.iter().filter_map(|&place| all.get(place)).collect()
    };
    let slots = |first: u32, step: u32, places: &[usize]| -> Vec<(Vec<u8>, &Socket)> {
        let indexes = (0..).map(|n: u32| (first + n * step).to_le_bytes().to_vec());
        indexes.zip(pick(places)).collect()
    };
    let maps = BPF_MAP_TYPE_SOCKMAP;
    sock(
        maker,
        "socks",
        maps,
        (4, 8, 50),
        slots(1, 4, &[1, 2, 0, 4, 5, 3, 8, 9, 6, 7, 11]),
    )?;
    sock(
        maker,
        "socks_short",
        maps,
        (4, 4, 9),
        slots(0, 2, &[2, 10, 6, 1]),
    )?;
    sock(
        maker,
        "socks_far",
        maps,
        (4, 8, 3000),
        slots(999, 2000, &[1, 2]),
    )?;
    sock(maker, "socks_empty", maps, (4, 8, 5), Vec::new())?;
    let mut rng = maker.rng("sockhash");
    let mut keyed = |key_size: usize, places: &[usize]| -> Vec<(Vec<u8>, &Socket)> {
        let sockets = pick(places).into_iter();
        sockets
            .map(|socket| (rng.bytes(key_size), socket))
            .collect()
    };
    let hashes = BPF_MAP_TYPE_SOCKHASH;
    sock(
        maker,
        "sockh",
        hashes,
        (5, 8, 40),
        keyed(5, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1]),
    )?;
    sock(
        maker,
        "sockh_short",
        hashes,
        (16, 4, 200),
        keyed(16, &[5, 8, 7]),
    )?;
    sock(maker, "sockh_empty", hashes, (4, 8, 8), Vec::new())?;
    maker.hold(all);
    reuseport(maker)
}

/// A map of sockets. Only those with room for a cookie can be looked up.
fn sock(
    maker: &mut Maker,
    name: &str,
    kind: u32,
    (key_size, value_size, max_entries): (u32, u32, u32),
    slots: Vec<(Vec<u8>, &Socket)>,
) -> Result<()> {
    let map = maker.create(&MapSpec {
        kind,
        name,
        key_size,
        value_size,
        max_entries,
        ..MapSpec::default()
    })?;
    let keyed = kind == BPF_MAP_TYPE_SOCKHASH;
    if let Some((_, socket)) = slots.first() {
        // A slot that is used and then given up.
        let passing = vec![7; usize::try_from(key_size)?];
        let passing = if keyed {
            passing
        } else {
            3_u32.to_le_bytes().to_vec()
        };
        put(&map, &passing, socket)?;
        map.delete(&passing)?;
    }
    let (mut expect, mut frozen) = (Vec::new(), Vec::new());
    for (key, socket) in slots {
        put(&map, &key, socket).with_context(|| format!("{name}: {}", socket.object))?;
        let mut entry = if keyed {
            json!({"key": bytes(&key)})
        } else {
            json!({"index": index(&key)})
        };
        let mut refers = json!({"kind": "socket"});
        if value_size == 8 {
            let cookie = socket.cookie()?;
            add(&mut refers, "cookie", json!(cookie));
            add(&mut entry, "value", bytes(&cookie.to_le_bytes()));
        }
        add(&mut entry, "refers", refers);
        expect.push(entry);
        frozen.push(json!({"refers": socket.object}));
    }
    let told = match keyed {
        true => Told::unordered(expect),
        false => Told::ordered(expect),
    };
    let told = told.frozen(frozen);
    maker.tell(
        map,
        match value_size {
            8 => told,
            _ => told.not_live(NO_LOOKUP),
        },
    )
}

/// Writes a socket's descriptor into a slot.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn put(map: &MapHandle, key: &[u8], socket: &Socket) -> Result<()> {
    let fd = i64::from(socket.fd.as_raw_fd());
    sys::update(map, key, &fd.to_le_bytes(), 0)
}

fn index(key: &[u8]) -> u32 {
    u32::from_le_bytes(key.try_into().unwrap_or_default())
}

/// Gives an object another member.
pub(crate) fn add(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// A bound socket that shares its port with others.
fn sharing(kind: SockType, address: SocketAddr) -> Result<Socket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReusePort, &true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    let tcp = kind == SockType::Stream;
    if tcp {
        listen(&fd, Backlog::new(4)?)?;
    }
    let bound: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    let local = bound.to_string().parse()?;
    let (protocol, state) = match tcp {
        true => ("tcp", Some("listen")),
        false => ("udp", None),
    };
    Ok(Socket::inet(fd, protocol, state, local, None))
}

/// An array of sockets that share ports: name, value size, size, addresses by slot.
type PortRow<'a> = (&'a str, u32, u32, &'a [(u32, SockType, &'a str)]);

fn reuseport(maker: &mut Maker) -> Result<()> {
    let (tcp, udp) = (SockType::Stream, SockType::Datagram);
    let rows: [PortRow<'_>; 4] = [
        (
            "ports",
            8,
            9,
            &[
                (0, udp, "127.0.0.1:7001"),
                (2, udp, "127.0.0.1:7001"),
                (3, udp, "[::1]:7002"),
                (8, udp, "0.0.0.0:7003"),
            ],
        ),
        (
            "ports_tcp",
            8,
            300,
            &[
                (5, tcp, "127.0.0.1:7004"),
                (6, tcp, "127.0.0.1:7004"),
                (299, tcp, "[::]:7005"),
            ],
        ),
        (
            "ports_short",
            4,
            4,
            &[(1, udp, "127.0.0.1:7006"), (3, tcp, "127.0.0.1:7007")],
        ),
        ("ports_empty", 8, 3, &[]),
    ];
    for (name, value_size, max_entries, slots) in rows {
        let sockets = slots
            .iter()
            .map(|&(_, kind, address)| sharing(kind, address.parse()?));
        let sockets: Vec<Socket> = sockets.collect::<Result<_>>()?;
        let indexes = slots
            .iter()
            .map(|&(index, ..)| index.to_le_bytes().to_vec());
        let kind = BPF_MAP_TYPE_REUSEPORT_SOCKARRAY;
        let entries = indexes.zip(&sockets).collect();
        sock(maker, name, kind, (4, value_size, max_entries), entries)?;
        maker.hold(sockets);
    }
    Ok(())
}
