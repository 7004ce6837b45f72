//! What the kernel says of one map.

use std::fs;
use std::os::fd::AsRawFd;

use guestmem::Kva;
use libbpf_rs::libbpf_sys::bpf_map_info;
use nix::errno::Errno;

use super::sys::{self, OpenMap};
use crate::{MapInfo, MapType};

/// The description of the map with this id; `None` if there is none any more.
pub(super) fn describe(id: u32) -> Result<Option<MapInfo>, Errno> {
    let map = match OpenMap::open(id) {
        Ok(map) => map,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_raw_fd());
    let fdinfo = fs::read_to_string(path).unwrap_or_default();
    Ok(Some(map_info(map.info(), &fdinfo)))
}

fn map_info(info: &bpf_map_info, fdinfo: &str) -> MapInfo {
    MapInfo {
        id: info.id,
        name: sys::text(&info.name),
        map_type: MapType(info.type_),
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        flags: info.map_flags,
        map_extra: info.map_extra,
        btf_id: Some(info.btf_id).filter(|&id| id != 0),
        btf_key_type_id: info.btf_key_type_id,
        btf_value_type_id: info.btf_value_type_id,
        btf_vmlinux_value_type_id: info.btf_vmlinux_value_type_id,
        frozen: field(fdinfo, "frozen").map(|frozen| frozen != 0),
        memory: field(fdinfo, "memlock"),
        kva: None::<Kva>,
    }
}

/// A number of `/proc/PID/fdinfo/FD`, which has a `name:<tab>value` a line.
fn field(fdinfo: &str, name: &str) -> Option<u64> {
    fdinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// Whether an opened map is the one that was described: ids come back, if
/// only after two thousand million others.
pub(super) fn is_same(map: &MapInfo, opened: &OpenMap) -> bool {
    let info = opened.info();
    map.name == sys::text(&info.name)
        && (
            map.map_type.0,
            map.key_size,
            map.value_size,
            map.max_entries,
        ) == (info.type_, info.key_size, info.value_size, info.max_entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_fills_what_the_info_lacks() {
        let info = bpf_map_info {
            id: 7,
            name: [97; 16],
            ..Default::default()
        };
        let map = map_info(&info, "memlock:\t4096\nmap_id:\t7\nfrozen:\t1\n");
        assert_eq!((map.memory, map.frozen), (Some(4096), Some(true)));
        assert_eq!((map.name.len(), map.btf_id), (16, None));
        // Without /proc.
        let map = map_info(&info, "");
        assert_eq!((map.memory, map.frozen), (None, None));
    }
}
