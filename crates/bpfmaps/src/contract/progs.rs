//! What holds for programs.

use std::fmt;

use btf_layout::Type;

use super::{World, fail};
use crate::{BpfMapAccessor, Code, Error, Maps, ProgInfo, Progs, Refers};

/// The programs, checked as a list.
pub(super) fn list(accessor: &dyn BpfMapAccessor) -> Progs {
    let progs = match accessor.progs() {
        Ok(progs) => progs,
        Err(error) => fail(format_args!("progs() failed: {error}")),
    };
    assert!(
        progs.walk.visited == progs.progs.len() as u64 && !progs.walk.stopped,
        "{} programs are listed, the account says {:?}",
        progs.progs.len(),
        progs.walk
    );
    assert!(
        progs.progs.is_sorted_by(|a, b| a.id < b.id),
        "programs are not in the order of their ids, or one comes twice"
    );
    progs
}

/// Programs keep the maps that they use.
pub(super) fn used_maps(progs: &Progs, maps: &Maps) {
    if !maps.walk.is_complete() {
        return;
    }
    for prog in &progs.progs {
        for id in &prog.map_ids {
            assert!(
                maps.maps.iter().any(|map| map.id == *id),
                "program {} uses map {id}, which is not listed",
                prog.id
            );
        }
    }
}

/// The instructions of every program are of one piece.
pub(super) fn code(accessor: &dyn BpfMapAccessor, progs: &Progs, world: World) {
    for prog in &progs.progs {
        let read = || match accessor.code(prog) {
            Ok(code) => code,
            Err(Error::Gone { .. }) if world == World::Moving => None,
            Err(error) => broken(prog, format_args!("code() failed: {error}")),
        };
        let Some(code) = read() else { continue };
        whole(prog, &code);
        if world == World::Still {
            let same = read().is_some_and(|again| {
                again.insns == code.insns
                    && again.functions == code.functions
                    && again.refers == code.refers
            });
            require(
                same,
                prog,
                format_args!("other instructions when read again"),
            );
        }
    }
}

fn whole(prog: &ProgInfo, code: &Code) {
    let count = code.insns.len() as u64;
    require(
        prog.insns.is_none_or(|insns| count == u64::from(insns)),
        prog,
        format_args!("{:?} instructions are told, {count} read", prog.insns),
    );
    let functions = &code.functions;
    let ordered = functions.is_sorted_by(|a, b| a.start < b.start);
    let inside = functions.iter().all(|f| u64::from(f.start) < count);
    let first = functions.first().is_none_or(|first| first.start == 0);
    require(
        ordered && inside && first,
        prog,
        format_args!("its functions are not in its instructions: {functions:?}"),
    );
    require(
        functions.is_empty() || code.btf.is_some(),
        prog,
        format_args!("functions have types, yet there is no BTF"),
    );
    for function in functions {
        let ty = code.btf.as_ref().map(|btf| btf.get(function.type_id));
        let is_function = matches!(ty, Some(Ok(Type::Func { .. })));
        require(
            is_function,
            prog,
            format_args!("{function:?} is no function"),
        );
    }
    let ordered = code.refers.is_sorted_by(|a, b| a.0 < b.0);
    let inside = code.refers.iter().all(|(at, _)| u64::from(*at) < count);
    require(
        ordered && inside,
        prog,
        format_args!("references are not at instructions in order"),
    );
    for (at, refers) in &code.refers {
        let known = match refers {
            Refers::Map(map) | Refers::MapValue { map, .. } => prog.map_ids.contains(map),
            Refers::Function(start) => functions.iter().any(|f| f.start == *start),
        };
        require(
            known,
            prog,
            format_args!("instruction {at} refers to {refers:?}, which is not the program's"),
        );
    }
}

fn require(holds: bool, prog: &ProgInfo, what: fmt::Arguments<'_>) {
    if !holds {
        broken(prog, what);
    }
}

fn broken(prog: &ProgInfo, what: fmt::Arguments<'_>) -> ! {
    fail(format_args!("program {}: {what}", prog.id));
}
