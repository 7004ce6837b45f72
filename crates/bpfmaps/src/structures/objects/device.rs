//! Network devices (`struct net_device`).

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use super::Names;
use crate::structures::fields::Fields;
use crate::walk::Walk;
use crate::{Object, ObjectKind};

/// Where the members that name a network device are.
#[derive(Debug)]
pub(crate) struct DeviceNames {
    ifindex: Member,
    name: Member,
}

impl DeviceNames {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        let device = btf.record("net_device")?;
        Ok(Self {
            ifindex: device.member("ifindex")?,
            name: device.member("name")?,
        })
    }

    /// The name of the device at `at`.
    pub(crate) fn name(
        &self,
        memory: &dyn Memory<Kva>,
        at: Option<Kva>,
        walk: &mut Walk,
    ) -> Option<String> {
        Fields::load(memory, at, &[&self.name], walk).text(&self.name)
    }
}

impl Names for DeviceNames {
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let device = Fields::load(memory, at, &[&self.ifindex, &self.name], walk);
        Object {
            kva: at,
            kind: ObjectKind::Device {
                ifindex: device.u32(&self.ifindex),
                name: device.text(&self.name),
                prog: None,
            },
        }
    }
}
