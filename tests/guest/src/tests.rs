//! The tests, once for each guest, apart by what they are about: the frozen guest or the live one.

use bpfmaps::Guest as Frozen;
use bpfmaps::contract::{self, World};
use guestmem::RawImage;
use kernel::Finder;
use serde_json::Value;

use crate::checks::agree;
use crate::documents::Dump;
use crate::guest::{Guest, parse};
use crate::witnesses::Backend;
use crate::{agreement, allocators, bpftool, info, objects, programs, queries, rows, support};

const SCHEMA: &str = include_str!("../../../crates/render/schema/bpfreeze-1.schema.json");

/// The promises of the trait, on every map of a real kernel.
pub(crate) fn contract_is_kept(guest: &Guest) {
    let image = RawImage::open(&guest.ram()).expect("an image");
    let kernel = Finder::new().find_in_image(&image).expect("a kernel");
    let frozen = Frozen::new(kernel).expect("maps");
    contract::check(&frozen, World::Still);
}

/// What is written of a real kernel is what the schema says.
pub(crate) fn documents_are_valid(guest: &Guest) {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    for arguments in [["dump", "RAM", "--limit", "3"].as_slice(), &["maps", "RAM"]] {
        let arguments = [arguments, &["--format", "json"]].concat();
        let document: Value = parse(&guest.bpfreeze_of_gaps(&arguments), "bpfreeze");
        let errors = schema.iter_errors(&document);
        agree(
            errors
                .map(|error| format!("{} at {}", error, error.instance_path()))
                .collect(),
        );
    }
}

/// The head of a dump and `info` speak of the same kernel.
fn dump_names_the_kernel(guest: &Guest) {
    let output = guest.bpfreeze(&["dump", "RAM", "--map", "h", "--format", "json"]);
    let dump: Dump = parse(&output, "bpfreeze dump");
    assert_eq!(dump.kernel.release, guest.text("uname.txt").trim());
    assert_eq!(dump.maps.len(), 1, "one map is called h");
    let output = guest.bpfreeze(&["dump", "RAM", "--map", "twin", "--format", "json"]);
    let dump: Dump = parse(&output, "bpfreeze dump");
    assert_eq!(dump.maps.len(), 2, "two maps are called twin");
}

/// The tests that read the frozen guest.
mod frozen {
    use super::{
        Backend, Guest, allocators, bpftool, info, objects, programs, queries, rows, support,
    };

    pub(super) use super::{contract_is_kept, documents_are_valid, dump_names_the_kernel};
    pub(super) use crate::doors::captured_when_it_stood;
    pub(super) use bpftool::{agrees as bpftool_agrees, format_is_met as bpftools_format_is_met};
    pub(super) use info::is_true as info_is_true;
    pub(super) use queries::are_answered as queries_are_answered;

    pub(super) fn maps_are_listed(guest: &Guest) {
        rows::are_true(guest, Backend::Guest);
    }

    pub(super) fn programs_are_listed(guest: &Guest) {
        programs::are_listed(guest, Backend::Guest);
    }

    pub(super) fn dump_is_true(guest: &Guest) {
        support::dump_is_true(guest, Backend::Guest);
    }

    pub(super) fn allocators_are_true(guest: &Guest) {
        allocators::are_true(guest, Backend::Guest);
    }

    pub(super) fn objects_are_true(guest: &Guest) {
        objects::are_true(guest, Backend::Guest);
    }
}

/// The tests that read what bpfreeze said inside.
mod live {
    use super::{
        Backend, Guest, agreement, allocators, bpftool, info, objects, programs, rows, support,
    };

    pub(super) use bpftool::format_is_met_live as bpftools_format_is_met;
    pub(super) use info::is_true_live as info_is_true;

    pub(super) fn frozen_and_live_agree(guest: &Guest) {
        agreement::agrees_with_frozen(guest, Backend::Live);
    }

    pub(super) fn maps_are_listed(guest: &Guest) {
        rows::are_true(guest, Backend::Live);
    }

    pub(super) fn programs_are_listed(guest: &Guest) {
        programs::are_listed(guest, Backend::Live);
    }

    pub(super) fn dump_is_true(guest: &Guest) {
        support::dump_is_true(guest, Backend::Live);
    }

    pub(super) fn allocators_are_true(guest: &Guest) {
        allocators::are_true(guest, Backend::Live);
    }

    pub(super) fn objects_are_true(guest: &Guest) {
        objects::are_true(guest, Backend::Live);
    }
}

macro_rules! for_guests {
    ($($module:ident $name:literal)*) => {
        $(mod $module {
            for_guests!(@backend $name, guest, frozen: [
                info_is_true
                maps_are_listed
                programs_are_listed
                contract_is_kept
                documents_are_valid
                dump_is_true
                allocators_are_true
                objects_are_true
                queries_are_answered
                bpftool_agrees
                bpftools_format_is_met
                dump_names_the_kernel
                captured_when_it_stood
            ]);
            for_guests!(@backend $name, live, live: [
                info_is_true
                maps_are_listed
                programs_are_listed
                dump_is_true
                allocators_are_true
                objects_are_true
                frozen_and_live_agree
                bpftools_format_is_met
            ]);
        })*
    };
    (@backend $name:literal, $backend:ident, $checks:ident: [$($test:ident)*]) => {
        mod $backend {
            $(#[test]
            fn $test() {
                crate::tests::$checks::$test(&crate::guest::Guest::open($name));
            })*
        }
    };
}

for_guests! { la57 "la57" la48 "la48" high "high" }

/// The running kernel's memory, read in the guest that has most witnesses.
mod kcore {
    use super::{Backend, Guest, agreement, support};

    #[test]
    fn dump_is_true() {
        support::dump_is_true(&Guest::open("la57"), Backend::Kcore);
    }

    #[test]
    fn frozen_and_kcore_agree() {
        agreement::agrees_with_frozen(&Guest::open("la57"), Backend::Kcore);
    }
}

/// The guests of other kernels, which `cargo xtask test-matrix` boots.
mod matrix {
    for_guests! { v6_1 "6.1" v6_18 "6.18" v7_2 "7.2" }
}
