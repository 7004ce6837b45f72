//! Programs of a kernel made by hand.

use bpfmaps::{Attach, BpfMapAccessor, MapType, ProgInfo, ProgType};
use btf_layout::TypeId;
use btf_layout::build::Builder;
use guestmem::{Address, Kva};

use crate::fake::table::Put;
use crate::fake::{CPU_OFFSETS, MAP_SIZE, Maps, Shape, on};

/// What the per-CPU pointer of the statistics is.
const STATS: u64 = 0xffff_ffff_8700_0000;

/// A type of the BTF of [`Made::target`].
const FUNCTION: u64 = 2;
const TRACEPOINT: u64 = 3;
const OPERATIONS: u64 = 5;

/// A kernel with one program, which has everything.
struct Made {
    maps: Maps,
    prog: Kva,
    aux: Kva,
    /// The array of the maps that it uses.
    used: Kva,
    /// BTF that it may be attached by.
    target: Kva,
}

impl Made {
    fn new() -> Self {
        let mut maps = Maps::new();
        let shape = Shape {
            map_type: MapType::ARRAY,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
        };
        let used = [5, 3].map(|id| maps.map(id, "used", shape, MAP_SIZE));
        let used = pointers(&mut maps, &used);
        let parts = [100, 23].map(|len: u64| maps.object("bpf_prog", &[("jited_len", len.into())]));
        let parts = pointers(&mut maps, &parts);

        let mut types = Builder::new();
        let proto = types.prototype(TypeId(0), &[]);
        let main = types.function("a_name_that_is_cut_by_the_kernel", proto);
        let own = maps.btf(41, &types.finish(), Kva::at(0));
        let info = maps.object("bpf_func_info", &[("type_id", u64::from(main.0).into())]);

        let mut types = Builder::new();
        let proto = types.prototype(TypeId(0), &[]);
        types.function("tcp_connect", proto);
        types.typedef("btf_trace_sched_switch", proto);
        let pointer = types.ptr(proto);
        let members = [("init", pointer, 0), ("release", pointer, 64)];
        types.record("tcp_operations", 16, &members);
        let target = maps.btf(42, &types.finish(), Kva::at(0));

        for (cpu, offset) in CPU_OFFSETS {
            let words = [1, 10, 0, 1000, 0].map(|word: u64| word + u64::from(cpu));
            for (at, word) in (0..).zip(words) {
                let at = on(Kva::new(STATS + offset), at * 8);
                maps.machine.place_u64(at, word);
            }
        }
        let user = maps.object("user_struct", &[("uid", 1000.into())]);
        let aux = [
            ("id", 7.into()),
            ("name", "a_name_that_is_".into()),
            ("used_map_cnt", 2.into()),
            ("used_maps", used.into()),
            ("func_cnt", 2.into()),
            ("func", parts.into()),
            ("verified_insns", 99.into()),
            ("load_time", 0x1_2345_6789.into()),
            ("user", user.into()),
            ("btf", own.into()),
            ("func_info", info.into()),
            ("func_info_cnt", 2.into()),
        ];
        let aux = maps.object("bpf_prog_aux", &aux);
        let prog = [
            ("type", 26.into()),
            ("expected_attach_type", 24.into()),
            ("gpl_compatible", 1.into()),
            ("len", 12.into()),
            ("jited_len", 55.into()),
            ("tag", Put::Bytes(&[1, 2, 3, 4, 5, 6, 7, 8])),
            ("stats", STATS.into()),
            ("aux", aux.into()),
        ];
        let prog = maps.object("bpf_prog", &prog);
        Self {
            maps,
            prog,
            aux,
            used,
            target,
        }
    }

    fn set(&mut self, path: &str, value: u64) {
        let at = match path.starts_with("bpf_prog_aux.") {
            true => self.aux,
            false => self.prog,
        };
        self.maps.set(at, path, value);
    }
}

fn pointers(maps: &mut Maps, to: &[Kva]) -> Kva {
    let bytes: Vec<u8> = to.iter().flat_map(|to| to.get().to_le_bytes()).collect();
    maps.machine.allocate(&bytes)
}

/// Changes the program, and lists it: what is told of it, and the gaps.
fn list(change: impl FnOnce(&mut Made)) -> (Vec<ProgInfo>, Vec<String>) {
    let mut made = Made::new();
    change(&mut made);
    made.maps.idr("prog_idr", &[(7, made.prog)]);
    let progs = made.maps.finish().progs().unwrap();
    assert_eq!(progs.walk.visited, progs.progs.len() as u64);
    let gaps = progs.walk.gaps.iter().map(ToString::to_string);
    (progs.progs, gaps.collect())
}

/// The program with some members set, and the gaps.
fn with(members: &[(&str, u64)]) -> (ProgInfo, Vec<String>) {
    let (mut progs, gaps) = list(|made| {
        for (path, value) in members {
            made.set(path, *value);
        }
    });
    assert_eq!(progs.len(), 1, "{gaps:?}");
    (progs.remove(0), gaps)
}

#[test]
fn a_program_is_described() {
    let (mut progs, gaps) = list(|_| {});
    let prog = progs.remove(0);
    let expected = ProgInfo {
        id: 7,
        name: "a_name_that_is_".to_owned(),
        full_name: Some("a_name_that_is_cut_by_the_kernel".to_owned()),
        prog_type: ProgType(26),
        tag: [1, 2, 3, 4, 5, 6, 7, 8],
        gpl: true,
        attach: Attach {
            attach_type: Some("trace_fentry".to_owned()),
            ..Attach::default()
        },
        runs: Some((23, 2003)),
        recursion_misses: Some(5),
        verified_insns: Some(99),
        insns: Some(12),
        jited_bytes: Some(123),
        loaded_ns: Some(0x1_2345_6789),
        uid: Some(1000),
        map_ids: vec![5, 3],
        btf_id: Some(41),
        kva: prog.kva,
    };
    assert_eq!((prog, gaps), (expected, vec![]));
}

#[test]
fn what_a_program_does_without_is_no_gap() {
    let (prog, gaps) = with(&[
        ("bpf_prog_aux.used_map_cnt", 0),
        ("bpf_prog_aux.used_maps", 0),
        ("bpf_prog_aux.func_cnt", 0),
        ("bpf_prog_aux.btf", 0),
        ("bpf_prog.stats", 0),
    ]);
    assert_eq!(gaps, [""; 0]);
    assert_eq!((prog.map_ids.len(), prog.jited_bytes), (0, Some(55)));
    assert_eq!((prog.btf_id, prog.full_name, prog.runs), (None, None, None));
}

#[test]
fn what_a_program_is_attached_to_has_a_name() {
    let check = |prog_type: u64, expected_type: u64, target: u64, expected: [Option<&str>; 3]| {
        let (mut progs, gaps) = list(|made| {
            made.set("bpf_prog.type", prog_type);
            made.set("bpf_prog.expected_attach_type", expected_type);
            made.set("bpf_prog_aux.attach_btf_id", target);
            made.set("bpf_prog_aux.attach_btf", made.target.get());
        });
        assert_eq!(gaps, [""; 0]);
        let Attach {
            attach_type,
            function,
            struct_ops,
        } = progs.remove(0).attach;
        let found = [&attach_type, &function, &struct_ops].map(|name| name.as_deref());
        assert_eq!(found, expected);
    };
    check(
        26,
        25,
        FUNCTION,
        [Some("trace_fexit"), Some("tcp_connect"), None],
    );
    check(
        26,
        23,
        TRACEPOINT,
        [Some("trace_raw_tp"), Some("sched_switch"), None],
    );
    check(
        27,
        1,
        OPERATIONS,
        [None, None, Some("tcp_operations.release")],
    );
    check(27, 9, OPERATIONS, [None, None, Some("tcp_operations")]);
    check(6, 0, 0, [None; 3]);
}

#[test]
fn a_program_for_a_program_is_named_by_its_target_or_by_what_it_keeps() {
    let attach = |change: &dyn Fn(&mut Made)| {
        let (mut progs, gaps) = list(|made| {
            made.set("bpf_prog.type", 28);
            made.set("bpf_prog.expected_attach_type", 0);
            made.set("bpf_prog_aux.attach_btf_id", FUNCTION);
            change(made);
        });
        assert_eq!(gaps, [""; 0]);
        progs.remove(0).attach.function
    };
    let found = attach(&|made| {
        let aux = [("btf", made.target.into())];
        let aux = made.maps.object("bpf_prog_aux", &aux);
        let target = made.maps.object("bpf_prog", &[("aux", aux.into())]);
        made.set("bpf_prog_aux.dst_prog", target.get());
    });
    assert_eq!(found.as_deref(), Some("tcp_connect"));
    for (kept, expected) in [("replaced", Some("replaced")), ("\u{1}stale?", None)] {
        let found = attach(&|made| {
            let name = made.maps.text(kept);
            made.set("bpf_prog_aux.attach_func_name", name.get());
        });
        assert_eq!(found.as_deref(), expected);
    }
}

#[test]
fn corrupt_programs_leave_gaps() {
    let wild = 0xffff_c900_dead_0000;
    let absent = "program 7: page not present at level 4";
    for (path, value, expected) in [
        ("bpf_prog_aux.used_maps", wild, absent),
        ("bpf_prog_aux.func", wild, absent),
        ("bpf_prog_aux.user", wild, absent),
        ("bpf_prog_aux.func_info", wild, absent),
        (
            "bpf_prog_aux.used_map_cnt",
            u64::from(u32::MAX),
            "program 7: count of a program's parts 0xffffffff is more than memory holds",
        ),
        (
            "bpf_prog_aux.func_cnt",
            u64::from(u32::MAX),
            "program 7: count of a program's parts 0xffffffff is more than memory holds",
        ),
        (
            "bpf_prog.stats",
            wild,
            "program 7: page not present at level",
        ),
    ] {
        let (prog, gaps) = with(&[(path, value)]);
        assert_eq!(prog.id, 7);
        assert_eq!(gaps.len(), 1, "{path}: {gaps:?}");
        assert!(gaps[0].starts_with(expected), "{path}: {gaps:?}");
    }
    // Its BTF is missing where its id and the name of its function are.
    let (prog, gaps) = with(&[("bpf_prog_aux.btf", wild)]);
    assert_eq!((prog.btf_id, prog.full_name), (None, None));
    assert_eq!(gaps, [absent, absent]);
    // The maps up to the first one that is nowhere.
    let (progs, gaps) = list(|made| made.maps.machine.place_u64(on(made.used, 8), wild));
    assert_eq!(progs[0].map_ids, [5]);
    assert_eq!(gaps, [absent]);
}

#[test]
fn a_program_that_is_another_is_a_gap_alone() {
    let wild = 0xffff_c900_dead_0000;
    for (path, value, expected) in [
        (
            "bpf_prog_aux.id",
            8,
            "program 7: bpf_prog_aux.id: expected 0x7, found 0x8",
        ),
        (
            "bpf_prog.aux",
            wild,
            "program 7: page not present at level 4",
        ),
    ] {
        let (progs, gaps) = list(|made| made.set(path, value));
        assert_eq!((progs.len(), gaps), (0, vec![expected.to_owned()]));
    }
}
