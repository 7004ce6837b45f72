#!/bin/busybox sh
# The first program of a guest: fills maps, lets the witnesses speak, sends what they said
# through a virtio port, says so on the console, and stands still.

/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security

fail() {
    echo "bpfreeze-guest: failed: $*"
    sleep 1000000
}

for module in /modules/*.ko; do
    [ ! -e "$module" ] || insmod "$module" || fail "insmod $module"
done
ip link set lo up

word() { # the value of NAME=VALUE on the kernel's command line
    sed -n "s/.*\<$1=\([^ ]*\).*/\1/p" /proc/cmdline
}

uptime_ms() {
    sed 's/\([0-9]*\)\.\([0-9]*\) .*/\1\20/' /proc/uptime
}

# witness NAME COMMAND...: keeps output (compressed), messages, exit status and time
witness() {
    name=$1
    shift
    start=$(uptime_ms)
    { "$@" 2>"$name.err"; echo $? >"$name.status"; } | gzip -1 >"$name.out.gz"
    echo "$name $(cat "$name.status") $(($(uptime_ms) - start)) $*" >>witnesses.txt
}

# race NAME COMMAND...: keeps the time only
race() {
    name=$1
    shift
    start=$(uptime_ms)
    "$@" >/tmp/race 2>"$name.err"
    echo "$name $? $(($(uptime_ms) - start)) ms $(wc -c </tmp/race) bytes: $*" >>race.txt
    rm -f /tmp/race
}

# alone: waits until the maps and programs of ended witnesses are freed
alone() {
    patience=600
    while [ "$(mapmaker count)" -gt "$filled" ]; do
        [ $((patience -= 1)) -gt 0 ] || fail "there were $filled, there are $(mapmaker count)"
        sleep 0.1
    done
}

# send FILES: through the port; the last one of a name counts
send() {
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name")" = sent ] && tar -c -f "/dev/${port##*/}" "$@"
    done
}

# shellcheck disable=SC1091
[ ! -e /scx.sh ] || . /scx.sh

PLAN=$(word guest.plan)
SEED=$(word guest.seed)
cd /out || fail "no /out"

mapmaker "$PLAN" "$SEED" /bpf /out/truth.json >mapmaker.log 2>&1 &
maker=$!
while [ ! -e truth.json ]; do
    kill -0 $maker 2>/dev/null || fail "mapmaker: $(cat mapmaker.log)"
    sleep 0.1
done
echo "bpfreeze-guest: maps are filled at $(uptime_ms) ms"

filled=$(mapmaker count)
dmesg >dmesg.txt
uname -r >uname.txt
cat /proc/cmdline >cmdline.txt
cat /sys/devices/system/cpu/possible >possible.txt
# Those of modules and of BPF programs name their owner in brackets.
grep -vc '\[' /proc/kallsyms >kallsyms-count.txt
grep -E ' (_stext|_text|map_idr|prog_idr|btf_idr|__start_BTF|__stop_BTF|init_uts_ns)$' /proc/kallsyms >kallsyms.txt
grep -m1 '^flags' /proc/cpuinfo >cpuflags.txt
cat /proc/iomem >iomem.txt
cat /sys/kernel/vmcoreinfo >vmcoreinfo.txt

# ids LIMIT: of the maps whose values are no longer than LIMIT bytes
ids() {
    bpftool map show | awk -v limit="$1" '
        /^[0-9]+:/ { id = $1 + 0 }
        / value [0-9]+B/ { sub(/.* value /, ""); if ($0 + 0 <= limit) print id }'
}

case $(word guest.witnesses) in
all | small)
    limit=1000000000
    # bpftool prints seven bytes for one, which takes long for megabytes.
    [ "$(word guest.witnesses)" = small ] && limit=1000000
    witness bpftool-maps bpftool -j map show
    for id in $(ids $limit); do
        witness "bpftool-dump-$id" bpftool -j map dump id "$id"
    done
    if [ -x /bin/bpfreeze ]; then
        witness live-info bpfreeze info live --format json
        alone
        witness live-maps bpfreeze maps live --format json
        alone
        witness live-progs bpfreeze progs live --format json
        alone
        witness live-dump bpfreeze dump live --format json
        # It takes as long as the other, and one guest shows it.
        [ "$(word guest.witnesses)" != all ] ||
            witness kcore-dump bpfreeze dump live --via kcore --format json
        for name in $(word guest.formats | tr , ' '); do
            witness "live-bpftool-$name" bpfreeze dump live --map "$name" --format bpftool
        done
    fi
    ;;
race)
    # The same map by both, with nothing but a file at the end.
    for _ in 1 2 3; do
        race bpftool bpftool -j map dump name sessions
        if [ -x /bin/bpfreeze ]; then
            race bpfreeze-bpftool bpfreeze dump live --map sessions --format bpftool
            race bpfreeze-jsonl bpfreeze dump live --map sessions --format jsonl
        fi
    done
    ;;
esac
rm -f truth.json.gz
gzip -1 truth.json
echo "bpfreeze-guest: witnesses have spoken at $(uptime_ms) ms"

send .
alone
echo "bpfreeze-guest: ready at $(uptime_ms) ms"
sleep 1000000
