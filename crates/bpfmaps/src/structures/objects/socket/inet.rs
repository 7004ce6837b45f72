//! Sockets of the internet's families: addresses and ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use btf_layout::{Error, Member, Record};
use guestmem::{Kva, Memory};

use crate::Socket;
use crate::structures::fields::Fields;
use crate::walk::Walk;

/// Where a socket's addresses are. Those of the network are big-endian.
#[derive(Debug)]
pub(super) struct InetNames {
    /// The local port, in the host's order.
    local_port: Member,
    remote_port: Member,
    local_v4: Member,
    remote_v4: Member,
    /// Missing from kernels without IPv6.
    v6: Result<[Member; 2], Error>,
}

impl InetNames {
    pub(super) fn new(sock: &Record<'_>) -> Result<Self, Error> {
        let member = |name: &str| sock.member(&format!("__sk_common.{name}"));
        let v6 = || Ok([member("skc_v6_rcv_saddr")?, member("skc_v6_daddr")?]);
        Ok(Self {
            local_port: member("skc_num")?,
            remote_port: member("skc_dport")?,
            local_v4: member("skc_rcv_saddr")?,
            remote_v4: member("skc_daddr")?,
            v6: v6(),
        })
    }

    pub(super) fn v4(
        &self,
        memory: &dyn Memory<Kva>,
        at: Kva,
        socket: &mut Socket,
        walk: &mut Walk,
    ) {
        let ends = [&self.local_v4, &self.remote_v4];
        let address = |raw: &[u8]| {
            raw.first_chunk::<4>()
                .map(|raw| Ipv4Addr::from(*raw).into())
        };
        self.both(memory, at, ends, &address, socket, walk);
    }

    pub(super) fn v6(
        &self,
        memory: &dyn Memory<Kva>,
        at: Kva,
        socket: &mut Socket,
        walk: &mut Walk,
    ) -> Result<(), Error> {
        let [local, remote] = self.v6.as_ref().map_err(Clone::clone)?;
        let address = |raw: &[u8]| {
            raw.first_chunk::<16>()
                .map(|raw| Ipv6Addr::from(*raw).into())
        };
        self.both(memory, at, [local, remote], &address, socket, walk);
        Ok(())
    }

    /// Fills in both ends. One whose port is 0 is not bound or not connected.
    fn both(
        &self,
        memory: &dyn Memory<Kva>,
        at: Kva,
        [local, remote]: [&Member; 2],
        address: &dyn Fn(&[u8]) -> Option<IpAddr>,
        socket: &mut Socket,
        walk: &mut Walk,
    ) {
        let members = [local, remote, &self.local_port, &self.remote_port];
        let sock = Fields::load(memory, Some(at), &members, walk);
        let end = |address_at: &Member, port_at: &Member, order: fn([u8; 2]) -> u16| {
            let port = order(*sock.raw(port_at)?.first_chunk()?);
            let address = address(sock.raw(address_at)?)?;
            (port != 0).then(|| SocketAddr::new(address, port).to_string())
        };
        socket.local = end(local, &self.local_port, u16::from_le_bytes);
        socket.remote = end(remote, &self.remote_port, u16::from_be_bytes);
    }
}
