//! Unix sockets: paths and abstract names.

use btf_layout::{Btf, Error, Member};
use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};

use crate::Socket;
use crate::structures::copied::printable;
use crate::structures::fields::Fields;
use crate::walk::{Reason, Walk};

/// Bytes of `struct sockaddr_un`, which an address is at most.
const LARGEST: u64 = 110;

/// Bytes before the path in it: the family.
const FAMILY: usize = 2;

/// Where a socket's addresses are.
#[derive(Debug)]
pub(super) struct UnixNames {
    address: Member,
    peer: Member,
    len: Member,
    name: Member,
}

impl UnixNames {
    pub(super) fn new(btf: &Btf) -> Result<Self, Error> {
        let socket = btf.record("unix_sock")?;
        let address = btf.record("unix_address")?;
        Ok(Self {
            address: socket.member("addr")?,
            peer: socket.member("peer")?,
            len: address.member("len")?,
            name: address.member("name")?,
        })
    }

    /// Fills in both ends, of which either may have no name.
    pub(super) fn addresses(
        &self,
        memory: &dyn Memory<Kva>,
        at: Kva,
        socket: &mut Socket,
        walk: &mut Walk,
    ) {
        let unix = Fields::load(memory, Some(at), &[&self.address, &self.peer], walk);
        let local = unix.pointer(&self.address);
        socket.local = local.and_then(|local| self.name(memory, local, walk));
        let peer = Fields::load(memory, unix.pointer(&self.peer), &[&self.address], walk);
        let remote = peer.pointer(&self.address);
        socket.remote = remote.and_then(|remote| self.name(memory, remote, walk));
    }

    /// The name in the `struct unix_address` at `at`. Abstract names begin
    /// with a NUL; like any further one it is written `@`, as by the kernel.
    fn name(&self, memory: &dyn Memory<Kva>, at: Kva, walk: &mut Walk) -> Option<String> {
        let len = Fields::load(memory, Some(at), &[&self.len], walk).uint(&self.len)?;
        if len > LARGEST {
            let what = "length of a unix address";
            walk.gap(at, Reason::Absurd { what, value: len });
            return None;
        }
        let read = match at.checked_add(self.name.offset) {
            Some(name) => memory.read_up_to(name, len),
            None => {
                walk.fault(Fault::new(at, Cause::EndOfSpace));
                return None;
            }
        };
        if let Some(fault) = read.fault {
            walk.fault(fault);
            return None;
        }
        match read.bytes.get(FAMILY..)? {
            [] => None,
            [0, name @ ..] => {
                let name: Vec<u8> = name
                    .iter()
                    .map(|&b| if b == 0 { b'@' } else { b })
                    .collect();
                Some(format!("@{}", printable(&name)))
            }
            path => path.split(|&byte| byte == 0).next().map(printable),
        }
    }
}
