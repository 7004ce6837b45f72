//! Special fields where the kernel's memory is out of reach.

use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::arena::Arena;
use bpfmaps::special::{Reader, Special};
use bpfmaps::{
    BpfMapAccessor, Error, Guest, KernelInfo, MapInfo, MapState, Maps, Progs, Symbol, Visitor, Walk,
};
use btf_layout::Btf;
use guestmem::{Kva, Memory};

use super::{LIST, OWNED, World, found, read_from, value_of};

/// A kernel whose memory is not shown.
struct Closed {
    guest: Guest,
    /// Whether values come as copies, too.
    hides: bool,
}

impl BpfMapAccessor for Closed {
    fn kernel(&self) -> &KernelInfo {
        self.guest.kernel()
    }

    fn maps(&self) -> Result<Maps, Error> {
        self.guest.maps()
    }

    fn btf(&self, map: &MapInfo) -> Result<Option<Rc<Btf>>, Error> {
        self.guest.btf(map)
    }

    fn vmlinux_btf(&self) -> Result<Rc<Btf>, Error> {
        self.guest.vmlinux_btf()
    }

    fn entries(&self, map: &MapInfo, visit: &mut Visitor<'_>) -> Result<Walk, Error> {
        self.guest.entries(map, visit)
    }

    fn state(&self, map: &MapInfo) -> Result<Option<MapState>, Error> {
        self.guest.state(map)
    }

    fn arena(&self, map: &MapInfo) -> Result<Option<Arena<'_>>, Error> {
        self.guest.arena(map)
    }

    fn progs(&self) -> Result<Progs, Error> {
        self.guest.progs()
    }

    fn symbol(&self, at: Kva) -> Option<Symbol> {
        self.guest.symbol(at)
    }

    fn memory(&self) -> Option<&dyn Memory<Kva>> {
        None
    }

    fn hides_special(&self, _map: &MapInfo) -> bool {
        self.hides
    }
}

fn closed(hides: bool) -> (Closed, MapInfo) {
    let mut world = World::new();
    world.put(OWNED, 0x1234);
    world.put(LIST, 0x5678);
    world.put(LIST + 8, 0x5678);
    let (guest, map) = world.open();
    (Closed { guest, hides }, map)
}

fn nodes(closed: &Closed, map: &MapInfo) -> Walk {
    let reader = Reader::of(closed, map).unwrap().unwrap();
    let field = reader.fields().at(LIST).unwrap();
    let value = value_of(closed, map);
    reader.nodes(field, &value, None, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn copies_of_values_tell_nothing() {
    let (closed, map) = closed(true);
    let reader = Reader::of(&closed, &map).unwrap().unwrap();
    let value = value_of(&closed, &map);
    for field in reader.fields() {
        assert_eq!(reader.read(field, &value, None), Special::Hidden);
    }
    let walk = nodes(&closed, &map);
    assert_eq!(walk.visited, 0);
    assert_eq!(
        walk.gaps[0].to_string(),
        "map: no access to what special fields hold"
    );
}

#[test]
fn pointers_are_shown_without_what_they_lead_to() {
    let (closed, map) = closed(false);
    let Special::Kptr(pointed) = read_from(&closed, &map, OWNED) else {
        panic!()
    };
    let gap = found(pointed).unwrap_err();
    assert_eq!(gap, "0x1234: no access to the kernel's memory");
    let walk = nodes(&closed, &map);
    assert_eq!(
        walk.gaps[0].to_string(),
        "0x5678: no access to the kernel's memory"
    );
}
