#!/bin/busybox sh
# The first program of the guest: runs the scheduler and a task that it starves, and waits until
# the kernel's watchdog has ended the scheduler.

/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

say() {
    echo "harness: $*"
}

fail() {
    say "failed: $*"
    sleep 1000000
}

# Whoever loads a scheduler keeps its maps, also when the kernel has ended it.
/bin/loader schedule /two_queues.bpf.o >/tmp/log 2>&1 &
loader=$!
until [ "$(cat /sys/kernel/sched_ext/state)" = enabled ]; do
    kill -0 $loader 2>/dev/null || fail "$(cat /tmp/log)"
    sleep 0.1
done
say "the scheduler is enabled"

sh -c 'while :; do :; done' &
renice -n 10 $! || fail "renice"
say "light task $!"

while [ "$(cat /sys/kernel/sched_ext/state)" != disabled ]; do
    sleep 1
done
say "the scheduler is $(cat /sys/kernel/sched_ext/state)"
sleep 1000000
