//! What entries belong to or refer to, in a few words.

use std::fmt::Display;
use std::io;

use bpfmaps::{Object, ObjectKind, ProgRef, Socket};

use super::page::{Page, Role};

/// Words that are separated by blanks.
type Words = Vec<(Role, String)>;

/// An object on the current line.
pub(super) fn write(page: &mut Page<'_>, object: &Object) -> io::Result<()> {
    let mut blanks = 0;
    for (role, word) in words(object) {
        page.space(blanks)?;
        page.word(role, &word)?;
        blanks = 1;
    }
    Ok(())
}

/// The same as one text.
pub(super) fn text(object: &Object) -> String {
    let words: Vec<String> = words(object).into_iter().map(|(_, word)| word).collect();
    words.join(" ")
}

fn words(object: &Object) -> Words {
    let (kind, mut words) = described(&object.kind);
    // Nothing but its address tells it from others of its kind.
    if words.is_empty() {
        words.extend(object.kva.map(|kva| (Role::Address, kva.to_string())));
    }
    if !kind.is_empty() {
        words.insert(0, (Role::Plain, kind.to_owned()));
    }
    words
}

/// The kind of an object, which is empty where the words say it, and the words
/// for what is known of it.
fn described(kind: &ObjectKind) -> (&str, Words) {
    let mut words = Words::new();
    let kind = match kind {
        ObjectKind::Task { pid, tgid, comm } => {
            push(&mut words, Role::Title, "", *pid);
            push(&mut words, Role::Text, "", in_parentheses(comm.as_ref()));
            push(&mut words, Role::Plain, "of ", tgid.filter(|_| tgid != pid));
            match pid {
                Some(_) => "pid",
                None => "task",
            }
        }
        ObjectKind::Inode {
            ino,
            device,
            fs,
            path,
        } => {
            push(&mut words, Role::Title, "", *ino);
            push(&mut words, Role::Text, "", path.as_ref());
            push(&mut words, Role::Plain, "on ", device.as_ref());
            let other = fs.as_ref().filter(|_| fs != device);
            push(&mut words, Role::Plain, "", in_parentheses(other));
            "inode"
        }
        ObjectKind::Socket(of) => return socket(of),
        ObjectKind::Cgroup { id, path } => {
            push(&mut words, Role::Text, "", path.as_ref());
            let unnamed = id.filter(|_| path.is_none());
            push(&mut words, Role::Title, "id ", unnamed);
            "cgroup"
        }
        ObjectKind::Prog {
            id,
            name,
            prog_type,
        } => {
            push(&mut words, Role::Title, "", *id);
            push(&mut words, Role::Name, "", named(name.as_ref()));
            push(&mut words, Role::Plain, "", in_parentheses(*prog_type));
            "prog"
        }
        ObjectKind::Map { id, name, map_type } => {
            push(&mut words, Role::Title, "", *id);
            push(&mut words, Role::Name, "", named(name.as_ref()));
            push(&mut words, Role::Plain, "", in_parentheses(*map_type));
            "map"
        }
        ObjectKind::Device {
            ifindex,
            name,
            prog,
        } => {
            push(&mut words, Role::Title, "", *ifindex);
            push(&mut words, Role::Name, "", name.as_ref());
            ending(&mut words, prog.as_ref());
            "device"
        }
        ObjectKind::Cpu {
            cpu,
            queue_size,
            prog,
        } => {
            push(&mut words, Role::Title, "", *cpu);
            push(&mut words, Role::Plain, "queue of ", *queue_size);
            ending(&mut words, prog.as_ref());
            "cpu"
        }
        ObjectKind::PerfEvent {
            event_type,
            config,
            cpu,
            pid,
        } => {
            push(&mut words, Role::Name, "", event_type.as_ref());
            let config = config.map(|config| format!("{config:#x}"));
            push(&mut words, Role::Plain, "config ", config);
            let cpu = cpu.map(|cpu| match cpu {
                -1 => "any cpu".to_owned(),
                cpu => format!("cpu {cpu}"),
            });
            push(&mut words, Role::Plain, "on ", cpu);
            push(&mut words, Role::Plain, "of pid ", *pid);
            "perf event"
        }
        ObjectKind::Instruction { symbol, prog } => {
            push(&mut words, Role::Name, "", symbol.as_ref());
            ending(&mut words, prog.as_ref());
            "instruction"
        }
        _ => "object",
    };
    (kind, words)
}

fn push(words: &mut Words, role: Role, before: &str, value: Option<impl Display>) {
    words.extend(value.map(|value| (role, format!("{before}{value}"))));
}

fn in_parentheses(value: Option<impl Display>) -> Option<String> {
    value.map(|value| format!("({value})"))
}

/// A name that is one.
fn named(name: Option<&String>) -> Option<&String> {
    name.filter(|name| !name.is_empty())
}

/// The program that an object runs.
fn ending(words: &mut Words, prog: Option<&ProgRef>) {
    if let Some(prog) = prog {
        push(words, Role::Title, "prog ", Some(prog.id));
        push(words, Role::Name, "", named(prog.name.as_ref()));
    }
}

/// A socket, called by its protocol where that says the family too.
fn socket(socket: &Socket) -> (&str, Words) {
    let mut words = Words::new();
    let family = socket.family.as_deref();
    let kind = match (family, socket.protocol.as_deref()) {
        (Some("inet" | "inet6"), Some(protocol)) => protocol,
        (Some(family), _) => {
            push(&mut words, Role::Plain, "", socket.socket_type.as_ref());
            family
        }
        (None, _) => "socket",
    };
    push(&mut words, Role::Text, "", socket.local.as_ref());
    push(&mut words, Role::Text, "→ ", socket.remote.as_ref());
    push(&mut words, Role::Plain, "", socket.state.as_ref());
    push(&mut words, Role::Name, "on ", socket.device.as_ref());
    push(&mut words, Role::Plain, "queue ", socket.queue);
    // Who asks for cookies knows sockets by them.
    push(&mut words, Role::Plain, "cookie ", socket.cookie);
    (kind, words)
}
