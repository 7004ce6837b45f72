//! Types as C spells them, for people.

use std::fmt::Write;

use crate::btf::MAX_DEPTH;
use crate::{Btf, Error, Kind, Type, TypeId};

/// No spelling grows much beyond this many bytes.
const MAX_LEN: usize = 256;

/// How many types one spelling may pass through. Prototypes nest, and those
/// of hostile BTF without end.
const MAX_STEPS: u32 = 512;

impl Btf {
    /// The type as C writes it without a variable: `u64`, `struct task_ctx *`,
    /// `int[4]`, `void (*)(struct sock *)`.
    ///
    /// Typedefs keep their names. What is malformed or too long is written `…`.
    #[must_use]
    pub fn type_name(&self, id: TypeId) -> String {
        let mut steps_left = MAX_STEPS;
        let name = self.spell(id, &mut steps_left);
        name.unwrap_or_else(|_error| "…".to_owned())
    }

    fn spell(&self, id: TypeId, steps_left: &mut u32) -> Result<String, Error> {
        // What stands around the place where a variable's name would be, and
        // the qualifiers of the part that comes next.
        let mut left = String::new();
        let mut right = String::new();
        let mut qualifiers = String::new();
        let mut at = id;
        while left.len() + right.len() + qualifiers.len() <= MAX_LEN {
            let Some(left_now) = steps_left.checked_sub(1) else {
                break;
            };
            *steps_left = left_now;
            let ty = self.get(at)?;
            let word = match ty {
                Type::Ptr { target } => {
                    left = format!("*{qualifiers}{left}");
                    qualifiers.clear();
                    if self.needs_parentheses(target)? {
                        left.insert(0, '(');
                        right.push(')');
                    }
                    at = target;
                    continue;
                }
                Type::Array { element, len, .. } => {
                    match len {
                        0 => right.push_str("[]"),
                        len => push(&mut right, format_args!("[{len}]")),
                    }
                    at = element;
                    continue;
                }
                Type::FuncProto { ret, params } => {
                    let params = self.spell_params(params, steps_left)?;
                    push(&mut right, format_args!("({params})"));
                    at = ret;
                    continue;
                }
                Type::Const { target } | Type::Volatile { target } | Type::Restrict { target } => {
                    push(&mut qualifiers, format_args!("{} ", ty.kind()));
                    at = target;
                    continue;
                }
                Type::TypeTag { target, .. }
                | Type::DeclTag { target, .. }
                | Type::Var { target, .. }
                | Type::Func { proto: target, .. } => {
                    at = target;
                    continue;
                }
                Type::Void => "void".to_owned(),
                Type::Int { name, .. }
                | Type::Float { name, .. }
                | Type::Typedef { name, .. }
                | Type::Datasec { name, .. } => name.to_owned(),
                Type::Record { kind, name, .. } | Type::Fwd { kind, name } => {
                    tagged(kind.kind(), name)
                }
                Type::Enum { name, .. } => tagged(Kind::Enum, name),
            };
            let left = left.trim_end();
            let space = if left.is_empty() { "" } else { " " };
            return Ok(format!("{qualifiers}{word}{space}{left}{right}"));
        }
        Ok("…".to_owned())
    }

    fn spell_params(
        &self,
        params: crate::Params<'_>,
        steps_left: &mut u32,
    ) -> Result<String, Error> {
        if params.len() == 0 {
            return Ok("void".to_owned());
        }
        let mut list = String::new();
        for (index, param) in params.enumerate() {
            if index > 0 {
                list.push_str(", ");
            }
            if *steps_left == 0 || list.len() > MAX_LEN {
                list.push('…');
                break;
            }
            match param?.ty {
                TypeId::VOID => list.push_str("..."),
                ty => list.push_str(&self.spell(ty, steps_left)?),
            }
        }
        Ok(list)
    }

    /// Whether a pointer to the type binds looser than the type itself.
    fn needs_parentheses(&self, target: TypeId) -> Result<bool, Error> {
        let mut at = target;
        for _ in 0..MAX_DEPTH {
            at = match self.get(at)? {
                Type::Const { target }
                | Type::Volatile { target }
                | Type::Restrict { target }
                | Type::TypeTag { target, .. } => target,
                Type::Array { .. } | Type::FuncProto { .. } => return Ok(true),
                _ => return Ok(false),
            };
        }
        Ok(false)
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(what);
}

fn tagged(kind: Kind, name: &str) -> String {
    match name {
        "" => format!("{kind} {{…}}"),
        name => format!("{kind} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;

    #[test]
    fn types_are_spelled_as_in_c() {
        let mut types = Builder::new();
        let int = types.int("int", 4);
        let sock = types.record("sock", 4, &[]);
        let sock_ptr = types.ptr(sock);
        let const_int = types.wrap(Kind::Const, "", int);
        let ptr = types.ptr(const_int);
        let const_ptr = types.wrap(Kind::Const, "", ptr);
        let row = types.array(int, 4);
        let table = types.array(row, 2);
        let table_ptr = types.ptr(table);
        let proto = types.prototype(int, &[("sk", sock_ptr), ("", const_ptr), ("", TypeId(0))]);
        let callback = types.ptr(proto);
        let callbacks = types.array(callback, 3);
        let anonymous = types.union("", 4, &[]);
        let color = types.enumeration("color", 4, &[]);
        let tagged = types.wrap(Kind::TypeTag, "arena", sock);
        let tagged = types.ptr(tagged);
        let alias = types.typedef("u32", int);
        let flexible = types.array(alias, 0);
        let nothing = types.prototype(TypeId(0), &[]);
        let function = types.function("f", nothing);
        let cycle = TypeId(function.0 + 1);
        types.ptr(cycle);
        let own = TypeId(cycle.0 + 1);
        types.prototype(own, &[("", own), ("", own), ("", own)]);
        let btf = Btf::parse(types.finish(), "a test").unwrap();
        for (id, text) in [
            (TypeId(0), "void"),
            (sock_ptr, "struct sock *"),
            (ptr, "const int *"),
            (const_ptr, "const int *const"),
            (table, "int[2][4]"),
            (table_ptr, "int (*)[2][4]"),
            (callback, "int (*)(struct sock *, const int *const, ...)"),
            (
                callbacks,
                "int (*[3])(struct sock *, const int *const, ...)",
            ),
            (anonymous, "union {…}"),
            (color, "enum color"),
            (tagged, "struct sock *"),
            (flexible, "u32[]"),
            (function, "void(void)"),
            (cycle, "…"),
            (own, "…"),
            (TypeId(1000), "…"),
        ] {
            assert_eq!(btf.type_name(id), text);
        }
    }
}
