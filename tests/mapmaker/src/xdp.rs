//! XDP sockets and their maps.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use libbpf_sys::BPF_MAP_TYPE_XSKMAP;
use nix::libc;
use serde_json::json;

use crate::make::Maker;
use crate::memory::Mapping;
use crate::slots::NO_LOOKUP;
use crate::sockets::{Socket, add, put};
use crate::sys::{self, MapSpec};
use crate::truth::Told;

const SOL_XDP: i32 = 283;
const RX_RING: i32 = 2;
const TX_RING: i32 = 3;
const UMEM_REG: i32 = 4;
const FILL_RING: i32 = 5;
const COMPLETION_RING: i32 = 6;
const SHARED_UMEM: u16 = 1;
const COPY: u16 = 2;

/// An XDP socket with a ring to receive from.
fn xdp_socket() -> Result<OwnedFd> {
    let fd = sys::socket(libc::AF_XDP, libc::SOCK_RAW, 0)?;
    sys::set_option(fd.as_fd(), SOL_XDP, RX_RING, &64_u32.to_le_bytes())?;
    Ok(fd)
}

/// Binds an XDP socket to the first queue of the first device.
fn bind_xdp(fd: &OwnedFd, flags: u16, shared: i32) -> Result<()> {
    let mut address = u16::try_from(libc::AF_XDP)?.to_le_bytes().to_vec();
    address.extend(flags.to_le_bytes());
    address.extend(1_u32.to_le_bytes());
    address.extend(0_u32.to_le_bytes());
    address.extend(shared.to_le_bytes());
    sys::bind(fd.as_fd(), &address)
}

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    const CHUNK: u32 = 4096;
    let owner = xdp_socket()?;
    let memory = Mapping::anonymous(64 << 10)?;
    let mut area = memory.address().to_le_bytes().to_vec();
    area.extend((64_u64 << 10).to_le_bytes());
    area.extend(CHUNK.to_le_bytes());
    area.extend(0_u32.to_le_bytes());
    sys::set_option(owner.as_fd(), SOL_XDP, UMEM_REG, &area)?;
    for ring in [FILL_RING, COMPLETION_RING, TX_RING] {
        sys::set_option(owner.as_fd(), SOL_XDP, ring, &64_u32.to_le_bytes())?;
    }
    bind_xdp(&owner, COPY, 0)?;
    let sharer = xdp_socket()?;
    bind_xdp(&sharer, SHARED_UMEM, owner.as_raw_fd())?;
    let unbound = xdp_socket()?;
    let object = |fd, bound: bool| {
        let mut socket = Socket::new(fd, "xdp", "raw", &[]);
        if bound {
            add(&mut socket.object, "device", json!("lo"));
            add(&mut socket.object, "queue", json!(0));
        }
        socket
    };
    let sockets = [
        object(owner, true),
        object(sharer, true),
        object(unbound, false),
    ];
    for (name, max_entries, slots) in [
        ("xsks", 7, vec![(0, 0), (2, 2), (3, 1), (6, 0)]),
        ("xsks_far", 2000, vec![(1023, 1)]),
        ("xsks_empty", 3, vec![]),
    ] {
        let map = maker.create(&MapSpec {
            kind: BPF_MAP_TYPE_XSKMAP,
            name,
            key_size: 4,
            value_size: 4,
            max_entries,
            ..MapSpec::default()
        })?;
        let mut expect = Vec::new();
        for (index, socket) in slots {
            let index: u32 = index;
            let socket: &Socket = sockets.get(socket).context("no such socket")?;
            put(&map, &index.to_le_bytes(), socket)?;
            expect.push(json!({"index": index, "refers": socket.object}));
        }
        maker.tell(map, Told::ordered(expect).not_live(NO_LOOKUP))?;
    }
    maker.hold((sockets, memory));
    Ok(())
}
