//! Lists of programs.

use std::io::Write;

use bpfmaps::{Attach, KernelInfo, ProgInfo, Progs};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::gaps::listing;
use super::header::start;
use super::value::Text;
use crate::hex::Hex;
use crate::{Error, Options};

/// One document on one line.
pub(crate) fn document(
    kernel: &KernelInfo,
    progs: &Progs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<(), Error> {
    line(out, &Piece::Whole(options, kernel, progs))
}

/// A line for the start, one for each program, and one for the end.
pub(crate) fn lines(
    kernel: &KernelInfo,
    progs: &Progs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<(), Error> {
    line(out, &Piece::Start(options, kernel))?;
    for prog in &progs.progs {
        line(out, &Piece::Prog(prog))?;
    }
    line(out, &Piece::End(progs))
}

fn line(out: &mut dyn Write, piece: &Piece<'_>) -> Result<(), Error> {
    serde_json::to_writer(&mut *out, piece)?;
    Ok(out.write_all(b"\n")?)
}

enum Piece<'a> {
    Whole(&'a Options, &'a KernelInfo, &'a Progs),
    Start(&'a Options, &'a KernelInfo),
    Prog(&'a ProgInfo),
    End(&'a Progs),
}

impl Serialize for Piece<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Whole(options, kernel, progs) => {
                start(&mut map, options, kernel)?;
                let list: Vec<ProgJson<'_>> = progs.progs.iter().map(ProgJson).collect();
                map.serialize_entry("progs", &list)?;
                listing(&mut map, &progs.walk)?;
            }
            Self::Start(options, kernel) => start(&mut map, options, kernel)?,
            Self::Prog(prog) => map.serialize_entry("prog", &ProgJson(prog))?,
            Self::End(progs) => listing(&mut map, &progs.walk)?,
        }
        map.end()
    }
}

struct ProgJson<'a>(&'a ProgInfo);

impl Serialize for ProgJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let prog = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &prog.id)?;
        map.serialize_entry("name", &prog.name)?;
        if let Some(name) = &prog.full_name {
            map.serialize_entry("full_name", name)?;
        }
        map.serialize_entry("type", &Text(prog.prog_type))?;
        map.serialize_entry("type_id", &prog.prog_type.0)?;
        map.serialize_entry("tag", &Text(Hex(&prog.tag)))?;
        map.serialize_entry("gpl", &prog.gpl)?;
        if prog.attach != Attach::default() {
            map.serialize_entry("attach", &AttachJson(&prog.attach))?;
        }
        if let Some((count, time)) = prog.runs {
            map.serialize_entry("run_count", &count)?;
            map.serialize_entry("run_time_ns", &time)?;
        }
        let numbers = [
            ("recursion_misses", prog.recursion_misses),
            ("verified_insns", prog.verified_insns.map(u64::from)),
            ("insns", prog.insns.map(u64::from)),
            ("jited_bytes", prog.jited_bytes.map(u64::from)),
            ("loaded_ns", prog.loaded_ns),
            ("uid", prog.uid.map(u64::from)),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                map.serialize_entry(name, &number)?;
            }
        }
        map.serialize_entry("map_ids", &prog.map_ids)?;
        if let Some(id) = prog.btf_id {
            map.serialize_entry("btf_id", &id)?;
        }
        if let Some(kva) = prog.kva {
            map.serialize_entry("kva", &Text(kva))?;
        }
        map.end()
    }
}

struct AttachJson<'a>(&'a Attach);

impl Serialize for AttachJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let attach = self.0;
        let mut map = serializer.serialize_map(None)?;
        if let Some(attach_type) = &attach.attach_type {
            map.serialize_entry("type", attach_type)?;
        }
        if let Some(function) = &attach.function {
            map.serialize_entry("function", function)?;
        }
        if let Some(member) = &attach.struct_ops {
            map.serialize_entry("struct_ops", member)?;
        }
        map.end()
    }
}
