//! Instructions of programs of a kernel made by hand.

use bpfmaps::{BpfMapAccessor, Code, Error, Function, Guest, MapType, Refers};
use btf_layout::TypeId;
use btf_layout::build::Builder;
use guestmem::{Address, Kva};

use crate::fake::{ARRAY_VALUES, Maps, Shape, on};

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

/// A program that names a map, names a byte of another's value, and calls its
/// second function.
struct Made {
    maps: Maps,
    prog: Kva,
    aux: Kva,
    used: Kva,
}

fn constant(at: Kva) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h] = at.get().to_le_bytes();
    [0x18, 1, 0, 0, a, b, c, d, 0, 0, 0, 0, e, f, g, h]
}

impl Made {
    fn new() -> Self {
        let mut maps = Maps::new();
        let shape = |max_entries| Shape {
            map_type: MapType::ARRAY,
            key_size: 4,
            value_size: 12,
            max_entries,
        };
        let many = maps.array(5, shape(3), &[0; 48]);
        let one = maps.array(6, shape(1), &[0; 16]);
        let used = [many.get().to_le_bytes(), one.get().to_le_bytes()].concat();
        let used = maps.machine.allocate(&used);

        let mut types = Builder::new();
        let proto = types.prototype(TypeId(0), &[]);
        types.function("main", proto);
        types.function("other", proto);
        let btf = maps.btf(41, &types.finish(), Kva::at(0));
        let info = [(0u32, 2u32), (6, 3)].map(|(start, type_id)| {
            let words = [0, start, type_id].map(u32::to_le_bytes);
            words.concat()
        });
        let info = maps.machine.allocate(&info.concat());

        let aux = [
            ("id", 7.into()),
            ("used_map_cnt", 2.into()),
            ("used_maps", used.into()),
            ("btf", btf.into()),
            ("func_info", info.into()),
            ("func_info_cnt", 2.into()),
        ];
        let aux = maps.object("bpf_prog_aux", &aux);
        let insns = [
            constant(many).to_vec(),
            constant(on(one, ARRAY_VALUES + 5)).to_vec(),
            vec![0x85, 0x10, 1, 0, 1, 0, 0, 0],
            EXIT.to_vec(),
            // A load that may fault.
            vec![0x39, 0x10, 0, 0, 0, 0, 0, 0],
            EXIT.to_vec(),
        ];
        let prog = [("len", 8.into()), ("aux", aux.into())];
        let prog = maps.object_and("bpf_prog", &prog, &insns.concat());
        Self {
            maps,
            prog,
            aux,
            used,
        }
    }

    fn set(&mut self, path: &str, value: u64) {
        let at = match path.starts_with("bpf_prog_aux.") {
            true => self.aux,
            false => self.prog,
        };
        self.maps.set(at, path, value);
    }

    fn guest(mut self) -> Guest {
        self.maps.idr("prog_idr", &[(7, self.prog)]);
        self.maps.finish()
    }
}

fn read(change: impl FnOnce(&mut Made)) -> Result<Option<Code>, Error> {
    let mut made = Made::new();
    change(&mut made);
    let guest = made.guest();
    let mut progs = guest.progs().unwrap().progs;
    guest.code(&progs.remove(0))
}

#[test]
fn a_program_has_its_instructions() {
    let code = read(|_| {}).unwrap().unwrap();
    let map_value = Refers::MapValue { map: 6, offset: 5 };
    let refers = [
        (0, Refers::Map(5)),
        (2, map_value),
        (4, Refers::Function(6)),
    ];
    assert_eq!(code.refers, refers);
    let functions = [(0, 2), (6, 3)].map(|(start, type_id)| Function {
        start,
        type_id: TypeId(type_id),
    });
    assert_eq!(code.functions, functions);
    assert_eq!(code.insns.len(), 8);
    assert_eq!(code.insns[6], [0x79, 0x10, 0, 0, 0, 0, 0, 0]);
    let btf = code.btf.unwrap();
    assert_eq!(btf.type_name(TypeId(3)), "void(void)");
}

#[test]
fn a_program_without_btf_or_maps_has_its_instructions() {
    let code = read(|made| {
        made.set("bpf_prog_aux.btf", 0);
        made.set("bpf_prog_aux.func_info_cnt", 0);
        made.set("bpf_prog_aux.func_info", 0);
        made.set("bpf_prog_aux.used_map_cnt", 0);
        made.set("bpf_prog_aux.used_maps", 0);
    });
    let code = code.unwrap().unwrap();
    assert!(code.btf.is_none() && code.functions.is_empty());
    assert_eq!((code.insns.len(), code.refers.len()), (8, 0));
    assert!(read(|made| made.set("bpf_prog.len", 0)).unwrap().is_none());
}

#[test]
fn corrupt_programs_are_errors() {
    let check = |change: &dyn Fn(&mut Made), expected: &str| {
        let error = read(change).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    };
    let wild = 0xffff_c900_dead_0000;
    let most = u64::from(u32::MAX);
    for (path, value, expected) in [
        (
            "bpf_prog.len",
            most,
            "bpf_prog.len 0xffffffff is more than memory holds",
        ),
        ("bpf_prog.len", 0x2000, "cannot read bpf_prog.len"),
        (
            "bpf_prog_aux.func_info_cnt",
            most,
            "bpf_prog_aux.func_info_cnt 0xffffffff is more than memory holds",
        ),
        (
            "bpf_prog_aux.func_info",
            wild,
            "cannot read bpf_prog_aux.func_info_cnt",
        ),
        (
            "bpf_prog_aux.used_map_cnt",
            most,
            "bpf_prog_aux.used_map_cnt 0xffffffff is more than memory holds",
        ),
        (
            "bpf_prog_aux.used_maps",
            wild,
            "cannot read bpf_prog_aux.used_map_cnt",
        ),
        ("bpf_prog_aux.btf", wild, "cannot read struct btf"),
    ] {
        check(&|made| made.set(path, value), expected);
    }
    let used = |made: &mut Made| made.maps.machine.place_u64(made.used, wild);
    check(&used, "cannot read bpf_map.id");
}
