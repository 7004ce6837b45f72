#![cfg(test)]
//! Every type of the running kernel, as this crate and as btf-rs read it.

use btf_layout::{Btf, IntEncoding, Kind, Type, TypeId};
use btf_rs::BtfType;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// One type in words, as this crate reads it.
fn ours(ty: &Type<'_>) -> String {
    match *ty {
        Type::Void => "void".to_owned(),
        Type::Int {
            name,
            size,
            encoding,
            ..
        } => format!(
            "int {name} {size} {}",
            match encoding {
                IntEncoding::Unsigned => "",
                IntEncoding::Signed => "signed",
                IntEncoding::Char => "char",
                IntEncoding::Bool => "bool",
            }
        ),
        Type::Array { element, len, .. } => format!("array {element} {len}"),
        Type::Record {
            kind,
            name,
            size,
            members,
        } => {
            let members: Vec<String> = members
                .map(|member| {
                    let member = member.unwrap();
                    let bits = member.bit_len.unwrap_or(0);
                    format!("{} {} {} {bits}", member.name, member.ty, member.bit_offset)
                })
                .collect();
            format!("{kind} {name} {size} {members:?}")
        }
        Type::Enum {
            name,
            size,
            signed,
            values,
        } => {
            let values: Vec<String> = values
                .map(|value| {
                    let value = value.unwrap();
                    format!("{} {}", value.name, value.value)
                })
                .collect();
            format!("enum {name} {size} {signed} {values:?}")
        }
        Type::Fwd { kind, name } => format!("forward {kind} {name}"),
        Type::FuncProto { ret, params } => {
            let params: Vec<String> = params
                .map(|param| {
                    let param = param.unwrap();
                    format!("{} {}", param.name, param.ty)
                })
                .collect();
            format!("prototype {ret} {params:?}")
        }
        Type::Datasec { name, size, vars } => {
            let vars: Vec<String> = vars
                .map(|var| {
                    let var = var.unwrap();
                    format!("{} {} {}", var.var, var.offset, var.size)
                })
                .collect();
            format!("section {name} {size} {vars:?}")
        }
        Type::Float { name, size } => format!("float {name} {size}"),
        Type::Func {
            name,
            proto: target,
            ..
        }
        | Type::Var { name, target, .. }
        | Type::Typedef { name, target }
        | Type::DeclTag { name, target, .. }
        | Type::TypeTag { name, target } => format!("{} {name} {target}", ty.kind()),
        Type::Ptr { target }
        | Type::Const { target }
        | Type::Volatile { target }
        | Type::Restrict { target } => format!("{}  {target}", ty.kind()),
        _ => panic!("a type that this test does not know: {ty:?}"),
    }
}

/// The same type in the same words, as btf-rs reads it.
fn theirs(btf: &btf_rs::Btf, ty: &btf_rs::Type) -> String {
    use btf_rs::Type as T;
    let name = |ty: &dyn BtfType| btf.resolve_name(ty).unwrap_or_default();
    let target = |ty: &dyn BtfType| ty.get_type_id().unwrap();
    let record = |kind: &str, record: &btf_rs::Struct| {
        let members: Vec<String> = record
            .members
            .iter()
            .map(|member| {
                let bits = member.bitfield_size().unwrap_or(0);
                format!(
                    "{} {} {} {bits}",
                    name(member),
                    target(member),
                    member.bit_offset()
                )
            })
            .collect();
        format!("{kind} {} {} {members:?}", name(record), record.size())
    };
    match ty {
        T::Void => "void".to_owned(),
        T::Int(int) => format!(
            "int {} {} {}",
            name(int),
            int.size(),
            match (int.is_signed(), int.is_char(), int.is_bool()) {
                (false, false, false) => "",
                (true, false, false) => "signed",
                (false, true, false) => "char",
                _ => "bool",
            }
        ),
        T::Ptr(ty) => format!("pointer  {}", target(ty)),
        T::Array(array) => format!("array {} {}", target(array), array.len()),
        T::Struct(ty) => record("struct", ty),
        T::Union(ty) => record("union", ty),
        T::Enum(ty) => {
            let values: Vec<String> = ty
                .members
                .iter()
                .map(|value| match ty.is_signed() {
                    true => format!("{} {}", name(value), value.val().cast_signed()),
                    false => format!("{} {}", name(value), value.val()),
                })
                .collect();
            format!(
                "enum {} {} {} {values:?}",
                name(ty),
                ty.size(),
                ty.is_signed()
            )
        }
        T::Enum64(ty) => {
            let values: Vec<String> = ty
                .members
                .iter()
                .map(|value| match ty.is_signed() {
                    true => format!("{} {}", name(value), value.val().cast_signed()),
                    false => format!("{} {}", name(value), value.val()),
                })
                .collect();
            format!(
                "enum {} {} {} {values:?}",
                name(ty),
                ty.size(),
                ty.is_signed()
            )
        }
        T::Fwd(ty) => {
            let kind = if ty.is_union() { "union" } else { "struct" };
            format!("forward {kind} {}", name(ty))
        }
        T::Typedef(ty) => format!("typedef {} {}", name(ty), target(ty)),
        T::Volatile(ty) => format!("volatile  {}", target(ty)),
        T::Const(ty) => format!("const  {}", target(ty)),
        T::Restrict(ty) => format!("restrict  {}", target(ty)),
        T::Func(ty) => format!("function {} {}", name(ty), target(ty)),
        T::FuncProto(ty) => {
            let params: Vec<String> = ty
                .parameters
                .iter()
                .map(|param| format!("{} {}", name(param), target(param)))
                .collect();
            format!("prototype {} {params:?}", ty.return_type_id())
        }
        T::Var(ty) => format!("variable {} {}", name(ty), target(ty)),
        T::Datasec(ty) => {
            let vars: Vec<String> = ty
                .variables
                .iter()
                .map(|var| format!("{} {} {}", target(var), var.offset(), var.size()))
                .collect();
            format!("section {} {} {vars:?}", name(ty), ty.size())
        }
        T::Float(ty) => format!("float {} {}", name(ty), ty.size()),
        T::DeclTag(ty) => format!("declaration tag {} {}", name(ty), target(ty)),
        T::TypeTag(ty) => format!("type tag {} {}", name(ty), target(ty)),
        _ => panic!("a type that this test does not know"),
    }
}

#[test]
fn every_type_of_the_running_kernel_reads_alike() {
    let data = std::fs::read(VMLINUX).expect("a running kernel with BTF");
    let witness = btf_rs::Btf::from_bytes(&data).unwrap();
    let btf = Btf::parse(data, "the running kernel").unwrap();
    let mut count = 0;
    for id in btf.ids() {
        let ty = btf.get(id).unwrap();
        assert_eq!(
            ours(&ty),
            theirs(&witness, &witness.resolve_type_by_id(id.0).unwrap())
        );
        count += 1;
    }
    assert!(count > 1000);
    let end = TypeId(count + 1);
    assert!(btf.get(end).is_err() && witness.resolve_type_by_id(end.0).is_err());
}

#[test]
fn every_member_of_the_running_kernel_is_inside_its_record() {
    let data = std::fs::read(VMLINUX).expect("a running kernel with BTF");
    let btf = Btf::parse(data, "the running kernel").unwrap();
    for id in btf.ids() {
        if !matches!(btf.get(id).unwrap().kind(), Kind::Struct | Kind::Union) {
            continue;
        }
        let record = btf.record_by_id(id).unwrap();
        for member in record.members() {
            let (name, member) = member.unwrap();
            if !name.is_empty() {
                assert_eq!(record.member(name).unwrap(), member);
            }
        }
        assert!(!btf.type_name(id).contains('…') || record.name().is_empty());
    }
    let task = btf.record("task_struct").unwrap();
    assert_eq!(task.member("comm").unwrap().size, 16);
    let map = btf.record("bpf_map").unwrap();
    assert_eq!(map.member("map_type").unwrap().size, 4);
}
