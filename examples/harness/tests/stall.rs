#![cfg(test)]
//! A scheduler starves a task. The kernel's watchdog ends the scheduler and
//! says as much; why, only the scheduler's own state tells.
//!
//! `cargo xtask test` makes what the guest is booted from: a kernel with
//! `sched_ext`, and a RAM disk with `guest/init.sh` and the scheduler.

use std::path::PathBuf;
use std::time::Duration;

use example_harness::Guest;

/// With emulation, on a busy machine, minutes are normal.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn the_task_that_starves_is_in_a_queue_that_nobody_empties()
-> Result<(), Box<dyn std::error::Error>> {
    let parts = std::env::var_os("BPFREEZE_HARNESS");
    let parts = PathBuf::from(parts.expect("BPFREEZE_HARNESS; run: cargo xtask test"));
    let mut guest = Guest::boot(&parts.join("vmlinuz"), &parts.join("initrd"))?;

    // The guest says that the scheduler has failed.
    guest.wait_for("harness: the scheduler is disabled", PATIENCE)?;

    // Pauses the guest for a few milliseconds. From here on nothing that
    // happens in it changes what is asserted.
    let capture = guest.freeze()?.capture()?;
    let pause = capture.report().longest().expect("the guest ran");
    assert!(
        pause < Duration::from_secs(5),
        "the guest stood for {pause:?}"
    );
    let dump = capture.open()?;

    // What the kernel told the scheduler at its end.
    assert_eq!(dump.var("exit_reason")?.as_str()?, "runnable task stall");
    let message = dump.var("exit_msg")?;
    assert!(message.as_str()?.contains("failed to run for"), "{message}");

    // Whoever waits: what the scheduler kept for that task.
    let console = guest.console();
    let pid = console.split_once("harness: light task ").expect("a pid").1;
    let pid: i32 = pid.lines().next().unwrap_or_default().parse()?;
    let task = dump.map("task_ctx")?.entry(pid)?;
    assert_eq!(task.owner()?.field("comm")?.as_str()?, "sh");
    assert_eq!(task.field("queue")?.as_str()?, "QUEUE_LIGHT");

    // And why: tasks came to that queue, and none ever left it.
    assert!(dump.var("light.nr_queued")?.as_u64()? > 0);
    assert_eq!(dump.var("light.nr_dispatched")?.as_u64()?, 0);
    assert!(dump.var("normal.nr_dispatched")?.as_u64()? > 0);
    Ok(())
}
