//! A program's instructions: bpf(2) and the kernel's memory tell the same.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use bpfmaps::{BpfMapAccessor, Code, Error, Fetch, Function, Live, ProgInfo, Refers};
use btf_layout::build::Builder;
use libbpf_rs::MapType;
use libbpf_rs::libbpf_sys as bpf;

use crate::maker::{Made, Spec, Types};
use crate::types::owned;

/// Names a map and a byte of its value, and calls its second function.
fn two_functions(map: &Made) -> OwnedFd {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let proto = types.prototype(int, &[]);
    let [main, other] = ["made_main", "made_other"].map(|name| types.function(name, proto));
    let types = Types::load(&types.finish(), int, int);
    let functions = [(0, main), (7, other)].map(|(insn_off, id)| bpf::bpf_func_info {
        insn_off,
        type_id: id.0,
    });
    let fd = u64::try_from(map.handle.as_fd().as_raw_fd()).unwrap();
    let instructions: [u64; 9] = [
        // r1 = the map; r2 = byte 3 of its value
        0x1118 | fd << 32,
        0,
        0x2218 | fd << 32,
        3 << 32,
        // call the other; exit
        2 << 32 | 0x1085,
        0xb7,
        0x95,
        // r0 = 0; exit
        0xb7,
        0x95,
    ];
    let mut options = bpf::bpf_prog_load_opts {
        sz: size_of::<bpf::bpf_prog_load_opts>() as bpf::size_t,
        prog_btf_fd: types.btf.as_raw_fd().try_into().unwrap(),
        func_info: functions.as_ptr().cast(),
        func_info_cnt: 2,
        func_info_rec_size: 8,
        ..Default::default()
    };
    // SAFETY: the texts end, there are as many instructions and functions as
    // are told, and `options` says its own size.
    owned(unsafe {
        bpf::bpf_prog_load(
            bpf::BPF_PROG_TYPE_SOCKET_FILTER,
            c"made_main".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr().cast(),
            9,
            &raw mut options,
        )
    })
}

/// Instructions, functions and references.
type Parts<'c> = (&'c [[u8; 8]], &'c [Function], &'c [(u32, Refers)]);

fn parts(code: &Code) -> Parts<'_> {
    (&code.insns, &code.functions, &code.refers)
}

/// The program that uses the map, as both ways describe it.
fn program_of(map: &Made, ways: &[Live; 2]) -> ProgInfo {
    let progs = ways[0].progs().unwrap().progs;
    let mut progs = progs.into_iter();
    progs.find(|prog| prog.map_ids == [map.id]).unwrap()
}

#[test]
fn both_ways_tell_the_same_instructions() {
    let map = Spec::new(MapType::Array, 4, 8, 1).make();
    let prog = two_functions(&map);
    let ways = [Fetch::Batches, Fetch::Memory].map(|fetch| Live::open().unwrap().fetching(fetch));
    let made = program_of(&map, &ways);
    let [asked, read] = ways
        .each_ref()
        .map(|live| live.code(&made).unwrap().unwrap());
    assert_eq!(parts(&asked), parts(&read));
    let value = Refers::MapValue {
        map: map.id,
        offset: 3,
    };
    let refers = [
        (0, Refers::Map(map.id)),
        (2, value),
        (4, Refers::Function(7)),
    ];
    assert_eq!(asked.refers, refers);
    assert_eq!(asked.insns.len(), 9);
    assert_eq!(asked.functions[1].start, 7);
    for code in [&asked, &read] {
        let btf = code.btf.as_ref().unwrap();
        assert_eq!(btf.type_name(code.functions[1].type_id), "int(void)");
    }
    drop(prog);
    let error = ways[0].code(&made).unwrap_err();
    assert!(
        matches!(error, Error::Gone { what: "program", id } if id == made.id),
        "{error}"
    );
}

#[test]
fn all_programs_of_this_machine_are_told_alike() {
    let map = Spec::new(MapType::Array, 4, 8, 1).make();
    let _prog = two_functions(&map);
    let ways = [Fetch::Batches, Fetch::Memory].map(|fetch| Live::open().unwrap().fetching(fetch));
    let mut seen = 0;
    for prog in ways[0].progs().unwrap().progs {
        let told = ways.each_ref().map(|live| live.code(&prog));
        match told {
            [Ok(asked), Ok(read)] => {
                assert_eq!(
                    asked.as_ref().map(parts),
                    read.as_ref().map(parts),
                    "{prog:?}"
                );
                seen += 1;
            }
            // Programs of other tests come and go.
            [a, b] => assert!(
                [a, b]
                    .into_iter()
                    .any(|told| matches!(told, Err(Error::Gone { .. }))),
                "{prog:?}"
            ),
        }
    }
    assert!(seen > 0);
}
