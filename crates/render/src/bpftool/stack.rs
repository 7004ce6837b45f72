//! Stack traces as the bytes that a look-up gives.

use bpfmaps::{Frame, MapInfo};

/// `BPF_F_STACK_BUILD_ID` of `map_flags`: frames are `struct
/// bpf_stack_build_id`.
const BUILD_ID: u32 = 1 << 5;

// `status` of that struct (`enum bpf_stack_build_id_status`).
const VALID: i32 = 1;
const IP: i32 = 2;

/// The most frames that a stack can have (the limit of the sysctl
/// `kernel.perf_event_max_stack`), each as a `struct bpf_stack_build_id`.
const MAX_LEN: u32 = 640 * 1024 * 32;

/// The frames as `value_size` bytes, the rest zero; `None` for sizes that no
/// stack has.
pub(super) fn value(info: &MapInfo, frames: &[Frame]) -> Option<Vec<u8>> {
    if info.value_size > MAX_LEN {
        return None;
    }
    let len = usize::try_from(info.value_size).ok()?;
    let mut bytes = Vec::with_capacity(len);
    for frame in frames {
        let (status, build_id, place) = match frame {
            Frame::Address { ip, .. } | Frame::NoBuildId { ip } => (IP, [0; 20], *ip),
            Frame::BuildId { build_id, offset } => (VALID, *build_id, *offset),
        };
        if info.flags & BUILD_ID != 0 {
            bytes.extend(status.to_le_bytes());
            bytes.extend(build_id);
        }
        bytes.extend(place.to_le_bytes());
    }
    bytes.resize(len, 0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_form_that_the_map_has() {
        let check = |flags, value_size, frames: &[Frame], hex: &str| {
            let info = MapInfo {
                flags,
                value_size,
                ..MapInfo::default()
            };
            let bytes = value(&info, frames).unwrap();
            assert_eq!(crate::hex::Hex(&bytes).to_string(), hex);
        };
        let address = Frame::Address {
            ip: 0x1122,
            symbol: None,
        };
        check(0, 16, &[address], "22110000000000000000000000000000");
        let build_id = Frame::BuildId {
            build_id: [0xab; 20],
            offset: 0x10,
        };
        let known = format!("01000000{}1000000000000000", "ab".repeat(20));
        check(BUILD_ID, 32, &[build_id], &known);
        let ip = Frame::NoBuildId { ip: 0x10 };
        let unknown = format!("02000000{}1000000000000000", "00".repeat(20));
        check(BUILD_ID, 32, &[ip], &unknown);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let info = MapInfo {
            value_size: u32::MAX,
            ..MapInfo::default()
        };
        assert_eq!(value(&info, &[]), None);
    }
}
