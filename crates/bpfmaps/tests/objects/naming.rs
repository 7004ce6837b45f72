//! Objects in words, for tests: kind and fields, `?` for one that is missing.

use std::fmt::Display;

use bpfmaps::{Object, ObjectKind, ProgRef, Socket};

/// The object, without its address.
pub(crate) fn object(object: &Object) -> String {
    match &object.kind {
        ObjectKind::Task { pid, tgid, comm } => {
            format!("task {} {} {}", or(pid), or(tgid), or(comm))
        }
        ObjectKind::Inode {
            ino,
            device,
            fs,
            path,
        } => format!("inode {} {} {} {}", or(ino), or(device), or(fs), or(path)),
        ObjectKind::Socket(of) => socket(of),
        ObjectKind::Cgroup { id, path } => format!("cgroup {} {}", or(id), or(path)),
        ObjectKind::Prog {
            id,
            name,
            prog_type,
        } => format!("prog {} {} {}", or(id), or(name), or(prog_type)),
        ObjectKind::Map { id, name, map_type } => {
            format!("map {} {} {}", or(id), or(name), or(map_type))
        }
        ObjectKind::Device {
            ifindex,
            name,
            prog,
        } => format!("device {} {}{}", or(ifindex), or(name), with(prog)),
        ObjectKind::Cpu {
            cpu,
            queue_size,
            prog,
        } => format!("cpu {} {}{}", or(cpu), or(queue_size), with(prog)),
        ObjectKind::PerfEvent {
            event_type,
            config,
            cpu,
            pid,
        } => format!(
            "perf_event {} {} {} {}",
            or(event_type),
            or(config),
            or(cpu),
            or(pid)
        ),
        other => panic!("{other:?}"),
    }
}

fn or<T: Display>(part: &Option<T>) -> String {
    part.as_ref().map_or("?".to_owned(), ToString::to_string)
}

fn with(prog: &Option<ProgRef>) -> String {
    prog.as_ref().map_or(String::new(), |prog| {
        format!(" prog {} {}", prog.id, or(&prog.name))
    })
}

fn socket(socket: &Socket) -> String {
    let Socket {
        family,
        socket_type,
        protocol,
        state,
        local,
        remote,
        device,
        queue,
        cookie,
    } = socket;
    let mut words = vec![or(family), or(socket_type), or(protocol)];
    words.extend(state.clone());
    words.extend(local.as_ref().map(|local| format!("at {local}")));
    words.extend(remote.as_ref().map(|remote| format!("to {remote}")));
    words.extend(device.as_ref().map(|device| format!("on {device}")));
    words.extend(queue.map(|queue| format!("queue {queue}")));
    words.extend(cookie.map(|cookie| format!("cookie {cookie}")));
    words.join(" ")
}
