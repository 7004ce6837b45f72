//! Sockets (`struct sock`), by their addresses.

mod inet;
mod names;
mod unix;
mod xdp;

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use super::Names;
use crate::structures::fields::Fields;
use crate::walk::Walk;
use crate::{Object, ObjectKind, Socket};
use inet::InetNames;
use unix::UnixNames;
use xdp::XdpNames;

/// Where the members that name a socket are.
#[derive(Debug)]
pub(crate) struct SocketNames {
    family: Member,
    state: Member,
    cookie: Member,
    socket_type: Member,
    protocol: Member,
    inet: InetNames,
    /// The layouts of families that may be modules, whose BTF is elsewhere:
    /// then their sockets' addresses are missing, which is a gap.
    unix: Result<UnixNames, Error>,
    xdp: Result<XdpNames, Error>,
}

impl SocketNames {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        let sock = btf.record("sock")?;
        Ok(Self {
            family: sock.member("__sk_common.skc_family")?,
            state: sock.member("__sk_common.skc_state")?,
            cookie: sock.member("__sk_common.skc_cookie")?,
            socket_type: sock.member("sk_type")?,
            protocol: sock.member("sk_protocol")?,
            inet: InetNames::new(&sock)?,
            unix: UnixNames::new(btf),
            xdp: XdpNames::new(btf),
        })
    }

    /// Adds what sockets of the family have of their own.
    fn of_family(
        &self,
        family: u64,
        memory: &dyn Memory<Kva>,
        at: Kva,
        socket: &mut Socket,
        walk: &mut Walk,
    ) -> Result<(), Error> {
        match family {
            names::INET => self.inet.v4(memory, at, socket, walk),
            names::INET6 => self.inet.v6(memory, at, socket, walk)?,
            names::UNIX => {
                let unix = self.unix.as_ref().map_err(Clone::clone)?;
                unix.addresses(memory, at, socket, walk);
            }
            names::XDP => {
                let xdp = self.xdp.as_ref().map_err(Clone::clone)?;
                xdp.binding(memory, at, socket, walk);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Names for SocketNames {
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let members = [
            &self.family,
            &self.state,
            &self.cookie,
            &self.socket_type,
            &self.protocol,
        ];
        let sock = Fields::load(memory, at, &members, walk);
        let family = sock.uint(&self.family);
        let protocol = family.zip(sock.uint(&self.protocol));
        let state = protocol.zip(sock.uint(&self.state));
        let mut socket = Socket {
            family: family.map(names::family),
            socket_type: sock.uint(&self.socket_type).map(names::socket_type),
            protocol: protocol.map(|(family, protocol)| names::protocol(family, protocol)),
            state: state
                .and_then(|((family, protocol), state)| names::state(family, protocol, state)),
            cookie: sock.uint(&self.cookie).filter(|&cookie| cookie != 0),
            ..Socket::default()
        };
        if let (Some(at), Some(family)) = (at, family)
            && let Err(missing) = self.of_family(family, memory, at, &mut socket, walk)
        {
            walk.gap(at, missing);
        }
        Object {
            kva: at,
            kind: ObjectKind::Socket(socket),
        }
    }
}
