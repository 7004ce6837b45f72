//! XDP sockets: the queue of a device that they are bound to.

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use crate::Socket;
use crate::structures::fields::Fields;
use crate::structures::objects::DeviceNames;
use crate::walk::Walk;

/// `XSK_BOUND`, of an enum without a name in `include/net/xdp_sock.h`.
const BOUND: u64 = 1;

/// Where a socket's binding is.
#[derive(Debug)]
pub(super) struct XdpNames {
    device: Member,
    queue: Member,
    state: Member,
    devices: DeviceNames,
}

impl XdpNames {
    pub(super) fn new(btf: &Btf) -> Result<Self, Error> {
        let socket = btf.record("xdp_sock")?;
        Ok(Self {
            device: socket.member("dev")?,
            queue: socket.member("queue_id")?,
            state: socket.member("state")?,
            devices: DeviceNames::new(btf)?,
        })
    }

    /// Fills in device and queue of a socket that is bound.
    pub(super) fn binding(
        &self,
        memory: &dyn Memory<Kva>,
        at: Kva,
        socket: &mut Socket,
        walk: &mut Walk,
    ) {
        let xdp = Fields::load(
            memory,
            Some(at),
            &[&self.device, &self.queue, &self.state],
            walk,
        );
        if xdp.uint(&self.state).is_some_and(|state| state != BOUND) {
            return;
        }
        let device = xdp.address(&self.device);
        socket.device = self.devices.name(memory, device, walk);
        socket.queue = xdp.u32(&self.queue);
    }
}
