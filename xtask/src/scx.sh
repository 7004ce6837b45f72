# What a guest with a real scheduler does instead of filling maps: starts the scheduler that the
# kernel's command line names, makes load, lets bpfreeze look at the running kernel, and lists
# the tasks. init.sh reads this file, so its functions are there.

mkdir -p /run /tmp/load /sys/kernel/debug
mount -t debugfs debugfs /sys/kernel/debug
cd /out || fail "no /out"

# task NAME COMMANDS: a task of this name. The shell runs only what is built in, so that it
# starts no others.
task() {
    printf '#!/bin/sh\n%s\n' "$2" >"/tmp/load/$1"
    chmod +x "/tmp/load/$1"
    "/tmp/load/$1" &
}

# sleepers FROM TO
sleepers() {
    at=$1
    while [ "$at" -le "$2" ]; do
        task "sleeper-$at" 'read -r _ <>/tmp/load/never'
        at=$((at + 1))
    done
}

# tasks FILE: every task with its name, and whether it is under the scheduler. The
# shell expands the names, so that the one process that reads them is not among them.
tasks() {
    grep -sE '#threads:|^ext.enabled ' /proc/[0-9]*/task/[0-9]*/sched >"$1"
}

ln -s config "/boot/config-$(uname -r)"
mkfifo /tmp/load/never
# The scheduler meets some tasks when it is switched on, and others when they are forked.
sleepers 1 20

"$(word guest.scheduler)" >scheduler.log 2>&1 &
scheduler=$!
while [ "$(cat /sys/kernel/sched_ext/state)" != enabled ]; do
    kill -0 $scheduler 2>/dev/null || fail "scheduler: $(tail -n 20 scheduler.log)"
    sleep 1
done
echo "bpfreeze-guest: the scheduler is enabled at $(uptime_ms) ms"

sleepers 21 40
for at in 1 2; do
    task "busy-$at" 'while :; do :; done'
done
for at in 1 2; do
    mkfifo "/tmp/load/ping-$at.in" "/tmp/load/pong-$at.in"
    task "ping-$at" "
        exec 3<>/tmp/load/ping-$at.in 4<>/tmp/load/pong-$at.in
        echo >&4
        while read -r _ <&3; do echo >&4; done"
    task "pong-$at" "
        exec 3<>/tmp/load/ping-$at.in 4<>/tmp/load/pong-$at.in
        while read -r _ <&4; do echo >&3; done"
done
# These leave slots behind that were used and freed.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    sleep 1 &
    gone="$gone $!"
done
# Not quoted: a list.
wait $gone

echo "bpfreeze-guest: there is load at $(uptime_ms) ms"
uname -r >uname.txt
dmesg >dmesg.txt
if [ -x /bin/bpfreeze ]; then
    tasks tasks-before.txt
    witness live-dump bpfreeze dump live --format json
    tasks tasks-after.txt
    witness live-again bpfreeze dump live --format json
fi
[ "$(cat /sys/kernel/sched_ext/state)" = enabled ] || fail "scheduler: $(tail -n 20 scheduler.log)"
echo "bpfreeze-guest: witnesses have spoken at $(uptime_ms) ms"

# The last word is a list of tasks that is still true after it was sent.
send .
patience=100
tasks tasks.txt
while :; do
    send tasks.txt
    tasks /tmp/again
    cmp -s tasks.txt /tmp/again && break
    mv /tmp/again tasks.txt
    [ $((patience -= 1)) -gt 0 ] || fail "tasks come and go"
done
echo "bpfreeze-guest: ready at $(uptime_ms) ms"
read -r _ <>/tmp/load/never
