//! The kinds of guest: a kernel, a machine, and what happens in it.

use clap::ValueEnum;

use crate::debian::Series;
use crate::doors::Dump;
use crate::qemu::Machine;
use crate::scheduler::Scheduler;

/// The maps that bpfreeze dumps inside in bpftool's format: one of each shape.
const FORMATS: &str = "h,flows,counts_pc,flow_slots,count_slots_pc,flows_lru,sections.bss,\
                       lpm_v4,jumps,devices,devhash,cpus,sized,by_key,ports";

/// The kinds of guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// 6.12, 1 GiB, five levels of page tables.
    La57,
    /// 6.12, 1 GiB, four levels of page tables, one CPU that is there but never brought up.
    La48,
    /// 6.12, 4 GiB, half of it above the gap below 4 GiB.
    High,
    /// 6.12, large maps for the benchmarks, and a race of bpfreeze against bpftool inside.
    Bench,
    /// 6.1 on the other type of machine: 4 GiB, a quarter of it above a gap that begins where
    /// Firecracker's does.
    #[value(name = "6.1")]
    V6_1,
    /// 6.18.
    #[value(name = "6.18")]
    V6_18,
    /// 7.2.
    #[value(name = "7.2")]
    V7_2,
    /// 6.18 under `scx_rusty`, with load.
    #[value(name = "scx_rusty")]
    ScxRusty,
    /// 6.18 under `scx_p2dq`, with load.
    #[value(name = "scx_p2dq")]
    ScxP2dq,
}

impl Variant {
    /// The guests that the tests read.
    pub(crate) const TESTED: [Self; 3] = [Self::La57, Self::La48, Self::High];

    /// Its name, also that of its folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::La57 => "la57",
            Self::La48 => "la48",
            Self::High => "high",
            Self::Bench => "bench",
            Self::V6_1 => "6.1",
            Self::V6_18 => "6.18",
            Self::V7_2 => "7.2",
            Self::ScxRusty | Self::ScxP2dq => self.scheduler().map_or("", |it| it.name),
        }
    }

    /// The series of its kernel.
    pub(crate) fn series(self) -> Series {
        match self {
            Self::La57 | Self::La48 | Self::High | Self::Bench => Series::V6_12,
            Self::V6_1 => Series::V6_1,
            Self::V6_18 | Self::ScxRusty | Self::ScxP2dq => Series::V6_18,
            Self::V7_2 => Series::V7_2,
        }
    }

    /// The scheduler that runs in it. No maps are made there.
    pub(crate) fn scheduler(self) -> Option<Scheduler> {
        match self {
            Self::ScxRusty => Some(Scheduler::RUSTY),
            Self::ScxP2dq => Some(Scheduler::P2DQ),
            _ => None,
        }
    }

    /// What QEMU writes of it once it is frozen.
    pub(crate) fn dumps(self) -> &'static [Dump] {
        match self {
            Self::La48 => &Dump::ALL,
            // Without the kernel's note, and with a hole below 4 GiB.
            Self::High => &[Dump::Kdump],
            _ => &[],
        }
    }

    /// How many captures are made of it while it runs.
    pub(crate) fn captures(self) -> u32 {
        // The others stand still once they are filled.
        self.scheduler().map_or(0, |_| 3)
    }

    /// The machine that it boots on.
    pub(crate) fn machine(self) -> Machine {
        let (plan, witnesses) = match self {
            Self::La57 => ("full", "all"),
            Self::Bench => ("bench", "race"),
            _ => ("full", "small"),
        };
        let more = match self {
            Self::La48 => " maxcpus=2",
            _ => "",
        };
        let task = match self.scheduler() {
            Some(Scheduler { name, .. }) => format!("guest.scheduler={name}"),
            None => format!(
                "guest.plan={plan} guest.seed=1 guest.witnesses={witnesses} guest.formats={FORMATS}"
            ),
        };
        Machine {
            kind: match self {
                Self::V6_1 => "pc",
                _ => "q35",
            },
            cpu: match self {
                Self::La48 => "max,-la57",
                _ => "max",
            },
            smp: match self {
                Self::La48 => "3",
                // Schedulers keep something for each last-level cache.
                Self::ScxRusty | Self::ScxP2dq => "2,sockets=2",
                _ => "2",
            },
            memory: match self {
                Self::High | Self::V6_1 => 4096,
                _ => 1024,
            },
            devices: match self {
                // The kernel's note gets into what QEMU dumps.
                Self::La48 => &["vmcoreinfo"],
                _ => &[],
            },
            // On a busy machine an emulated timer is late enough for the kernel
            // to give up on it at boot.
            cmdline: format!("console=ttyS0 no_timer_check quiet panic=-1 {task}{more}"),
        }
    }
}
