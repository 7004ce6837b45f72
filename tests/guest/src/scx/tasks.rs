//! The tasks that the guest's own /proc lists.

use std::collections::BTreeSet;

use serde::Deserialize;

/// A task, as /proc lists it, or as it owns a slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Task {
    pub(super) pid: u32,
    tgid: u32,
    pub(super) comm: String,
}

/// The tasks that the scheduler has, from lines of their files `sched` in /proc: a name, and some
/// lines further whether `sched_ext` has them.
///
/// # Panics
/// Panics if the list is something else.
pub(super) fn under_scheduler(list: &str) -> BTreeSet<Task> {
    let mut under = BTreeSet::new();
    let mut task = None;
    for line in list.lines() {
        let (path, rest) = line.split_once("/sched:").expect("a file sched");
        let number = |at: usize| {
            let part = path.split('/').nth(at).expect("/proc/PID/task/TID");
            part.parse::<u32>().expect("a number")
        };
        if let Some((comm, _)) = rest.rsplit_once(" (") {
            task = Some(Task {
                pid: number(4),
                tgid: number(2),
                comm: comm.to_owned(),
            });
        } else if let Some(enabled) = rest.strip_prefix("ext.enabled") {
            let task = task.take().expect("a name before it");
            assert_eq!(task.pid, number(4), "{line}");
            let enabled = enabled.trim_start_matches([' ', ':']);
            assert!(["0", "1"].contains(&enabled), "{line}");
            if enabled == "1" {
                under.insert(task);
            }
        }
    }
    under
}

#[cfg(test)]
mod tests {
    use super::under_scheduler;

    #[test]
    fn lists_are_read() {
        let check = |lines: &[&str], expected: &[(u32, u32, &str)]| {
            let under = under_scheduler(&lines.join("\n"));
            let under: Vec<_> = under
                .iter()
                .map(|task| (task.pid, task.tgid, task.comm.as_str()))
                .collect();
            assert_eq!(under, expected);
        };
        check(&[], &[]);
        let lines = [
            "/proc/7/task/8/sched:a (b) c (8, #threads: 2)",
            "/proc/7/task/8/sched:ext.enabled  :     1",
            "/proc/9/task/9/sched:migration/0 (9, #threads: 1)",
            "/proc/9/task/9/sched:ext.enabled  :     0",
        ];
        check(&lines, &[(8, 7, "a (b) c")]);
    }
}
