# One subsystem, served by two processes from one file: Linux sees one disk with two paths, and loses nothing when either dies.
# PORT_A, PORT_B, NQN, HELPER_PORT.  The host's helper knows  kill a|b  and  start a|b.
nvme_start
# What fails must not wait for I/O that never ends.
trap 'timeout 20 nvme disconnect-all > /dev/null 2>&1' EXIT
step "both processes are two controllers of one subsystem"
join() { run nvme connect -t tcp -a 127.0.0.1 -s $1 -n $NQN -i 1 --ctrl-loss-tmo=120 --reconnect-delay=1 --keep-alive-tmo=5 > /dev/null; }
join $PORT_A; join $PORT_B
wait_for 15 nvme_disk $NQN || die "no disk"
d=$(nvme_disk $NQN)
of() { grep -l "trsvcid=$1" /sys/class/nvme/nvme*/address | sed 's#/address##; s#.*/##'; }
a=$(of $PORT_A) b=$(of $PORT_B)
subsystems=$(grep -l "^$NQN$" /sys/class/nvme-subsystem/*/subsysnqn | wc -l)
[ $subsystems = 1 ] || die "$subsystems subsystems: $(nvme list-subsys)"
ids="$(cat /sys/class/nvme/$a/cntlid) $(cat /sys/class/nvme/$b/cntlid)"
echo "$d by $a and $b, controller ids $ids"
set -- $ids
[ $1 -lt 1000 ] && [ $2 -ge 1000 ] || die "controller ids $ids"
paths() { nvme list-subsys $d | grep -c " live"; }
both() { [ "$(paths)" = 2 ]; }
wait_for 10 both || die "$(nvme list-subsys $d)"
[ "$(ls /sys/block | grep -cE '^nvme[0-9]+n1$')" = 1 ] || die "more than one disk: $(ls /sys/block)"
run nvme ns-descs $d
# Both paths carry I/O, so that either death hits some.
echo round-robin > /sys/class/nvme-subsystem/$(basename $(dirname $(grep -l "^$NQN$" /sys/class/nvme-subsystem/*/subsysnqn)))/iopolicy || die "no iopolicy"
sectors() { awk '{ n += $3 + $7 } END { print n + 0 }' /sys/class/nvme/$1/nvme*c*n*/stat 2>/dev/null; }
moving() { local before=$(sectors $1); sleep 0.7; [ "$(sectors $1)" -gt $((before + 50)) ]; }
live() { [ "$(cat /sys/class/nvme/$1/state)" = live ]; }
fio --name=verify --filename=$d --size=24M --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c --verify_fatal=1 \
  --verify_backlog=64 --time_based --runtime=32 --output-format=terse --terse-version=3 > /tmp/fio 2>&1 &
fio=$!
wait_for 20 moving $a || die "no I/O by $a"
wait_for 5 moving $b || die "no I/O by $b"
step "the first process is killed"
ask kill a > /dev/null || exit 1
wait_for 5 sh -c "[ \$(cat /sys/class/nvme/$a/state) != live ]" || die "$a does not notice"
wait_for 5 moving $b || die "no I/O by $b alone"
step "it comes back"
ask start a > /dev/null || exit 1
wait_for 15 live $a || die "$a is $(cat /sys/class/nvme/$a/state): $(dmesg | tail -5)"
wait_for 5 moving $a || die "no I/O by $a again"
step "the second process is killed"
ask kill b > /dev/null || exit 1
wait_for 5 moving $a || die "no I/O by $a alone"
ask start b > /dev/null || exit 1
wait_for 15 live $b || die "$b is $(cat /sys/class/nvme/$b/state)"
wait_for 5 moving $b || die "no I/O by $b again"
kill -0 $fio || die "fio ended before the deaths were over"
wait $fio; status=$?
awk -F';' '/^3;/ { printf "fio: %d reads/s, %d writes/s, error %d, longest read %d us, longest write %d us\n", $8, $49, $5, $39, $80; next } { print }' /tmp/fio
[ $status = 0 ] || die "fio ended with $status: $(dmesg | tail -20)"
awk -F';' '/^3;/ { if ($39 > 5e6 || $80 > 5e6) exit 1 }' /tmp/fio || die "an I/O took more than five seconds"
dmesg | grep -iE "duplicate|identifiers changed|I/O error" && die "the kernel complained"
both || die "$(nvme list-subsys $d)"
run nvme disconnect -n $NQN > /dev/null
echo PASS
