# What the nvme group of blktests proves of a target, asked again in our own words: each step names the cases it stands for.
# Those that do not apply are in tests/README.md.  P1 to P4 (ports), HELPER_PORT.  The host's helper knows
#   rpc METHOD JSON | many N, none N (subsystems) | spaces NQN N | churn NQN N | restart QUEUES | bytes OFFSET LENGTH (of disk's file)
nvme_start
# What fails must not wait for I/O that never ends.
trap 'timeout 20 nvme disconnect-all > /dev/null 2>&1' EXIT
nqn=nqn.2026-11.io.ashlar:blk uuid=6f2d1a34-0000-4000-8000-000000000b1c discovery=nqn.2014-08.org.nvmexpress.discovery
NVME_PORT=$P1
rpc() { ask rpc "$@" > /dev/null || exit 1; }
at() { echo "\"listen_address\": {\"trtype\": \"TCP\", \"adrfam\": \"IPv4\", \"traddr\": \"127.0.0.1\", \"trsvcid\": \"$1\"}"; }
listen() { rpc nvmf_subsystem_add_listener "{\"nqn\": \"$1\", $(at $2)}"; }
deaf() { rpc nvmf_subsystem_remove_listener "{\"nqn\": \"$1\", $(at $2)}"; }
subsystem() { rpc nvmf_create_subsystem "{\"nqn\": \"$1\", \"allow_any_host\": ${2:-true}, \"ana_reporting\": true, \"max_namespaces\": 128}"; }
space() { rpc nvmf_subsystem_add_ns "{\"nqn\": \"$1\", \"namespace\": {\"bdev_name\": \"$3\", \"nsid\": $2, \"uuid\": \"$4\"}}"; }
# Names of controllers: of this subsystem [through this port].
controllers() {
  local c
  for c in /sys/class/nvme/nvme*; do
    [ "$(cat $c/subsysnqn 2>/dev/null)" = "$1" ] || continue
    [ -z "${2:-}" ] || grep -q "trsvcid=$2" $c/address || continue
    echo ${c##*/}
  done
}
# says PATTERN CMD...: it works, and says so.
says() { local said; said=$("${@:2}" 2>&1) || die "'${*:2}' failed: $said"; grep -qiE "$1" <<< "$said" || die "'${*:2}' does not say $1: $said"; }
is() { [ "$(cat /sys/class/nvme/$1/state 2>/dev/null)" = "$2" ]; }
gone() { [ -z "$(controllers $1)" ]; }
leave() { run nvme disconnect -n $1 > /dev/null; wait_for 10 gone $1 || die "$1 is still connected"; }
left_over() { [ "$(ask rpc nvmf_subsystem_get_controllers "{\"nqn\": \"$1\"}")" != "[]" ]; }
nobody() { ! left_over $1; }
discover() { nvme discover -t tcp -a 127.0.0.1 -s $P1 > /tmp/discovery 2>&1 || die "discovery: $(cat /tmp/discovery)"; }
generation() { discover; sed -n 's/.*Generation counter \([0-9]*\).*/\1/p' /tmp/discovery; }
told() { grep -c "^subnqn: *$1" /tmp/discovery; }
load() { fio --name=load --filename=$1 --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --time_based --runtime=600 --size=16M "${@:2}" > /tmp/fio.load 2>&1 & load=$!; }
unload() { kill $load 2>/dev/null; wait $load; }

step "002: a discovery controller tells of every subsystem of its port, 200 of them, and of none that went"
run nvme connect -t tcp -a 127.0.0.1 -s $P1 -n $discovery -k 5 > /dev/null      # for 003
dc=$(controllers $discovery) began=$(cut -d. -f1 /proc/uptime)
before=$(generation)
ask many 200 > /dev/null || exit 1
after=$(generation)
[ $(told nqn.2026-11.io.ashlar:many) = 200 ] || die "$(told nqn.2026-11.io.ashlar:many) of 200 are told"
[ $after -gt $before ] || die "the generation counter was $before and is $after"
ask none 200 > /dev/null || exit 1
[ $(generation) -gt $after ] || die "the generation counter did not move when they went"
[ $(told nqn.2026-11.io.ashlar:many) = 0 ] || die "some are still told"

step "030: the generation counter tells of subsystems, hosts that may and hosts that may not"
two=nqn.2026-11.io.ashlar:two host=$(cat /etc/nvme/hostnqn)
moved() { local now=$(generation); [ $now -gt $last ] || die "$1: the counter stays $now"; last=$now; }
last=$(generation)
subsystem $two false; listen $two $P1; moved "a subsystem came"
[ $(told $two) = 0 ] || die "told to a host that may not"
rpc nvmf_subsystem_add_host "{\"nqn\": \"$two\", \"host\": \"$host\"}"; moved "the host may"
[ $(told $two) = 1 ] || die "not told to a host that may"
rpc nvmf_subsystem_remove_host "{\"nqn\": \"$two\", \"host\": \"$host\"}"; moved "the host may not"
rpc nvmf_delete_subsystem "{\"nqn\": \"$two\"}"; moved "the subsystem went"

step "016, 017: a subsystem of a hundred namespaces, and a host that sees them all"
subsystem $two; listen $two $P1
ask spaces $two 100 > /dev/null || exit 1
discover; [ $(told $two) = 1 ] || die "not told"
# Not with one queue: Linux 6.12 then gives each namespace a scheduler, whose requests race for one page fragment (found so; later
# kernels have a lock there), and the host ends with "failed to send request -5".
nvme_connect $two
c=$(controllers $two)
wait_for 30 nvme_disk $two 100 || die "namespace 100 is not seen"
nvme list-ns /dev/$c > /tmp/list || die "list-ns: $(tail -30 /tmp/list; cat /sys/class/nvme/$c/state; dmesg | tail -40)"
[ $(grep -c : /tmp/list) = 100 ] || die "$(grep -c : /tmp/list) namespaces are listed"
leave $two
rpc nvmf_delete_subsystem "{\"nqn\": \"$two\"}"

step "031: a subsystem is deleted right after its host has left, ten times"
for n in 0 1 2 3 4 5 6 7 8 9; do
  subsystem $two; space $two 1 ram 6f2d1a34-0000-4000-8000-00000000003$n; listen $two $P1
  run nvme connect -t tcp -a 127.0.0.1 -s $P1 -n $two -i 1 > /dev/null
  run nvme disconnect -n $two > /dev/null
  rpc nvmf_delete_subsystem "{\"nqn\": \"$two\"}"
done

step "006, 008, 004: connect; the namespace is the one that was made, by UUID and NGUID"
nvme_connect $nqn
d=$(nvme_disk $nqn) c=$(controllers $nqn)
[ "$(cat /sys/block/${d##*/}/uuid)" = $uuid ] || die "UUID $(cat /sys/block/${d##*/}/uuid)"
[ "$(cat /sys/block/${d##*/}/wwid)" = uuid.$uuid ] || die "wwid $(cat /sys/block/${d##*/}/wwid)"
says "^nguid[[:space:]]*: *$(tr -d - <<< $uuid)" nvme id-ns $d
step "021, 023, 025, 026, 027, 028: list, smart-log, effects-log, ns-descs, ns-rescan, list-subsys"
says $d nvme list
says "critical_warning[[:space:]]*: 0" nvme smart-log $d
run nvme effects-log /dev/$c
# Flush is supported, Write is and changes blocks: nvme-cli 2.3 shows nothing of what it reads from a fabrics controller.
effects=$(nvme get-log /dev/$c -i 5 -l 4096 -b 2> /dev/null | od -An -v -j 1024 -N 8 -tx1 | tr -d ' ')
[ "${effects:0:2}" = 01 ] && [ "${effects:8:2}" = 03 ] || die "effects of Flush and Write: $effects"
says "uuid[[:space:]]*: *$uuid" nvme ns-descs $d
run nvme ns-rescan /dev/$c
says "tcp.*trsvcid=$P1.*live" nvme list-subsys

step "014: what was flushed is in the file"
dd if=/dev/urandom of=/tmp/data bs=1M count=4 status=none
run dd if=/tmp/data of=$d bs=1M oflag=direct status=none
run nvme flush $d
[ "$(ask bytes 0 4194304)" = "$(sha /tmp/data)" ] || die "the file has other bytes"
step "018: a read behind the end is refused by name, and nothing else happens"
blocks=$(blockdev --getsz $d)
fails "LBA" nvme read $d -s $blocks -c 0 -z 512 -d /tmp/out
fails "LBA" nvme read $d -s $((blocks - 1)) -c 1 -z 1024 -d /tmp/out
is $c live || die "$c is $(cat /sys/class/nvme/$c/state)"
step "019: ten ranges are deallocated, and only they"
slbs=100,200,300,400,500,600,700,800,900,1000
run nvme dsm $d --ad --slbs=$slbs --blocks=10,10,10,10,10,10,10,10,10,10
run dd if=$d of=/tmp/out bs=1M count=4 iflag=direct status=none
for n in ${slbs//,/ }; do dd if=/dev/zero of=/tmp/data bs=512 seek=$n count=10 conv=notrunc status=none; done
cmp /tmp/data /tmp/out || die "other blocks than those were touched, or not all of them"
step "029: I/O from user space of 511 to 1025 blocks"
user_io() {
  dd if=/dev/urandom of=/tmp/data bs=512 count=$2 status=none; rm -f /tmp/out
  run nvme write $d -s $1 -c $(($2 - 1)) -z $(($2 * 512)) -d /tmp/data > /dev/null
  run nvme read $d -s $1 -c $(($2 - 1)) -z $(($2 * 512)) -d /tmp/out > /dev/null
  cmp /tmp/data /tmp/out || die "$2 blocks at $1 came back different"
}
echo 20 > /proc/sys/vm/nr_hugepages       # memory in one piece for nvme-cli
user_io 1 511; user_io 1 512; user_io 1 513; user_io 511 1023; user_io 511 1024; user_io 511 1025
echo 0 > /proc/sys/vm/nr_hugepages
step "005, 022: resets by sysfs and by command"
echo 1 > /sys/class/nvme/$c/reset_controller || die "$(dmesg | tail -5)"
wait_for 10 is $c live || die "$c is $(cat /sys/class/nvme/$c/state)"
run nvme reset /dev/$c
wait_for 10 is $c live || die "$c is $(cat /sys/class/nvme/$c/state)"
step "010: verified I/O to the namespace"
fio_verify $d 5 --size=32M
step "012, 035: a file system on it, and verified I/O to a file"
modprobe xfs
run mkfs.xfs -q -f $d
run mount -t xfs $d /mnt
fio_verify /mnt/file 5 --size=16M
run umount /mnt
run xfs_repair -n $d > /dev/null 2>&1

step "054: reservations: register, replace, unregister, acquire, preempt, release, clear"
report() { nvme resv-report $d -e | grep -E "^ *(rtype|regctl|rcsts|rkey) *:" | sed -E 's/ +//g; s/:0x/:/' | tr '\n' ' '; }
expect() { local now=$(report); [ "$now" = "$1" ] || die "$2: '$now', not '$1'"; }
none="rtype:0 regctl:0 "
expect "$none" start
run nvme resv-register $d --nrkey=4 --rrega=0 > /dev/null; expect "rtype:0 regctl:1 rcsts:0 rkey:4 " register
run nvme resv-register $d --crkey=4 --nrkey=5 --rrega=2 > /dev/null; expect "rtype:0 regctl:1 rcsts:0 rkey:5 " replace
run nvme resv-register $d --crkey=5 --rrega=1 > /dev/null; expect "$none" unregister
run nvme resv-register $d --nrkey=4 --rrega=0 > /dev/null
run nvme resv-acquire $d --crkey=4 --rtype=1 --racqa=0 > /dev/null; expect "rtype:1 regctl:1 rcsts:1 rkey:4 " acquire
run nvme resv-acquire $d --crkey=4 --prkey=4 --rtype=2 --racqa=1 > /dev/null; expect "rtype:2 regctl:1 rcsts:1 rkey:4 " preempt
run nvme resv-release $d --crkey=4 --rtype=2 --rrela=0 > /dev/null; expect "rtype:0 regctl:1 rcsts:0 rkey:4 " release
run nvme resv-acquire $d --crkey=4 --rtype=1 --racqa=0 > /dev/null
run nvme resv-release $d --crkey=4 --rrela=1 > /dev/null; expect "$none" clear

step "059: what Linux makes of the atomic write unit is what was said"
q=/sys/block/${d##*/}/queue
if [ -e $q/atomic_write_max_bytes ]; then
  unit=$(nvme id-ns $d | awk -F: '/^nawupf/ { print $2 + 0 }') feat=$(nvme id-ns $d | awk -F: '/^nsfeat/ { print $2 }')
  (((feat & 2) != 0)) || unit=$(nvme id-ctrl /dev/$c | awk -F: '/^awupf/ { print $2 + 0 }')
  said=$(((unit + 1) * 512)) max=$(cat $q/atomic_write_max_bytes) hw=$(($(cat $q/max_hw_sectors_kb) * 1024))
  echo "said $said, Linux: $max (unit $(cat $q/atomic_write_unit_min_bytes) to $(cat $q/atomic_write_unit_max_bytes)), largest I/O $hw"
  # Linux wants a power of two and no more than one I/O; without a multipath node it tells, with one it may say nothing at all.
  [ $max = 0 ] || [ $max = $((said < hw ? said : hw)) ] || die "atomic_write_max_bytes is $max"
  [ $max -ge $(cat $q/atomic_write_unit_max_bytes) ] || die "the unit is larger than the most"
fi

step "053: rescans under verified load"
(fio_verify $d 8 --size=16M > /tmp/fio.rescan 2>&1; echo $? > /tmp/status.rescan) &
for n in 1 2 3 4 5 6 7 8; do echo 1 > /sys/class/nvme/$c/rescan_controller; sleep 0.7; done
wait; cat /tmp/fio.rescan; [ "$(cat /tmp/status.rescan)" = 0 ] || die "fio"
step "040: reset and removal under load leave nothing hanging here and nothing left over there"
load $d; sleep 2
echo 1 > /sys/class/nvme/$c/reset_controller || die "reset"
sleep 1
echo 1 > /sys/class/nvme/$c/delete_controller || die "removal"
wait_for 10 sh -c "! kill -0 $load" || die "fio hangs"; unload
wait_for 10 nobody $nqn || die "left over: $(ask rpc nvmf_subsystem_get_controllers "{\"nqn\": \"$nqn\"}")"

step "047: queues of their own for writes, and polled ones"
queues() { cat /sys/class/nvme/$(controllers $nqn)/queue_count; }
nvme_connect $nqn -i 1 -W 1
[ $(queues) = 3 ] || die "$(queues) queues, not an admin queue, one to read and one to write"
run fio --name=rw --filename=$(nvme_disk $nqn) --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --size=2M > /dev/null
leave $nqn
nvme_connect $nqn -i 1 -W 1 -P 1
[ $(queues) = 4 ] || die "$(queues) queues"
run fio --name=poll --filename=$(nvme_disk $nqn) --rw=randrw --bs=4k --direct=1 --ioengine=pvsync2 --hipri --size=1M > /dev/null
leave $nqn

step "039: a medium error is told as one, in the host's log and in the error log"
rpc bdev_error_create '{"base_name": "bad"}'
subsystem $two; space $two 1 EE_bad 6f2d1a34-0000-4000-8000-000000000039; listen $two $P1
nvme_connect $two
b=$(nvme_disk $two) c=$(controllers $two)
rpc bdev_error_inject_error '{"name": "EE_bad", "io_type": "read", "error_type": "failure", "num": 1000}'
dmesg -C
fails "error reading" dd if=$b of=/dev/null bs=4096 count=1 iflag=direct status=none
dmesg | grep -iE "I/O Error|Unrecovered Read|critical" || die "the kernel says nothing: $(dmesg)"
nvme error-log /dev/$c | grep -m1 -iE "status_field[[:space:]]*: *0x0*[1-9]|status_field[[:space:]]*:.*(281|Unrecovered|error)" || die "$(nvme error-log /dev/$c | head -20)"
rpc bdev_error_inject_error '{"name": "EE_bad", "io_type": "clear", "error_type": "failure"}'
run dd if=$b of=/dev/null bs=4096 count=1 iflag=direct status=none
fails "Opcode" nvme admin-passthru /dev/$c --opcode=0x96 --data-len=512 -r
fails "Opcode" nvme io-passthru $b --opcode=0x7e --namespace-id=1
is $c live || die "$c is $(cat /sys/class/nvme/$c/state)"

step "055: a write to a namespace that went without a word fails, and hangs nothing"
mask=$(nvme get-feature /dev/$c -f 0xb | sed 's/.*: *//;s/^0x//;s/^0*//')
run nvme set-feature /dev/$c -f 0xb --value=0 > /dev/null
rpc nvmf_subsystem_remove_ns "{\"nqn\": \"$two\", \"nsid\": 1}"
[ -b $b ] || die "the host has heard of it"
fails "Namespace" timeout 20 nvme write $b -s 1 -c 0 -z 512 -d /tmp/data
run nvme set-feature /dev/$c -f 0xb --value=0x${mask:-0} > /dev/null
run nvme ns-rescan /dev/$c
wait_for 5 sh -c "! [ -b $b ]" || die "$b is still there"

step "052: namespaces come and go one after the other, and the host sees each"
for n in 11 12 13 14 15 16; do
  space $two $n void 6f2d1a34-0000-4000-8000-0000000052$n
  wait_for 5 nvme_disk $two $n || die "namespace $n did not come"
  rpc nvmf_subsystem_remove_ns "{\"nqn\": \"$two\", \"nsid\": $n}"
  wait_for 5 sh -c "! nvme list-ns /dev/$c | grep -q :" || die "namespace $n did not go"
done
step "051: two at once enable and disable one namespace; host and target agree in the end"
ask churn $two 60 || exit 1
rpc nvmf_subsystem_add_ns "{\"nqn\": \"$two\", \"namespace\": {\"bdev_name\": \"void\", \"nsid\": 5}}"
wait_for 10 nvme_disk $two 5 || die "namespace 5 is not seen"
run dd if=$(nvme_disk $two 5) of=/dev/null bs=4096 count=1 iflag=direct status=none
leave $two
rpc nvmf_delete_subsystem "{\"nqn\": \"$two\"}"

step "058: three namespaces in ANA groups of their own, remapped with new UUIDs over and over"
ana() { rpc nvmf_subsystem_listener_set_ana_state "{\"nqn\": \"$1\", $(at $2), \"anagrpid\": $3, \"ana_state\": \"$4\"}"; }
subsystem $two
for p in $P1 $P2 $P3; do listen $two $p; done
i=0; for p in $P1 $P2 $P3; do i=$((i + 1)); for g in 1 2 3; do [ $g = $i ] || ana $two $p $g inaccessible; done; done
for p in $P1 $P2 $P3; do run nvme connect -t tcp -a 127.0.0.1 -s $p -n $two > /dev/null; done
for round in 0 1 2 3 4 5 6 7; do
  for n in $(shuf -e 1 2 3); do [ $round = 0 ] || rpc nvmf_subsystem_remove_ns "{\"nqn\": \"$two\", \"nsid\": $n}"; done
  for n in $(shuf -e 1 2 3); do
    rpc nvmf_subsystem_add_ns "{\"nqn\": \"$two\", \"namespace\": {\"bdev_name\": \"part$n\", \"nsid\": $n, \"uuid\": \"6f2d1a34-0058-4000-8000-00000000000$n\", \"anagrpid\": $(((n + round) % 3 + 1))}}"
  done
done
for n in 1 2 3; do wait_for 10 nvme_disk $two $n || die "namespace $n is not seen: $(nvme list-subsys)"; done
reads() { dd if=$(nvme_disk $two $1) of=/dev/null bs=4096 count=1 iflag=direct status=none; }
for n in 1 2 3; do wait_for 10 reads $n || die "namespace $n cannot be read: $(dmesg | tail)"; done
leave $two
rpc nvmf_delete_subsystem "{\"nqn\": \"$two\"}"

step "057: four ports of two nodes; the group goes over and comes back under verified load"
for p in $P2 $P3 $P4; do listen $nqn $p; done
states() { local p; for p in $P1 $P2 $P3 $P4; do ana $nqn $p 1 $1; shift; done; }
states optimized non_optimized inaccessible inaccessible
for p in $P1 $P2 $P3 $P4; do run nvme connect -t tcp -a 127.0.0.1 -s $p -n $nqn -i 1 > /dev/null; done
wait_for 15 nvme_disk $nqn || die "no disk"
d=$(nvme_disk $nqn)
sectors() { awk '{ n += $3 + $7 } END { print n + 0 }' /sys/class/nvme/$1/nvme*c*n*/stat; }
moving() { local before=$(sectors $1); sleep 0.7; [ $(sectors $1) -gt $((before + 50)) ]; }
(fio_verify $d 14 --size=16M > /tmp/fio.ana 2>&1; echo $? > /tmp/status.ana) &
wait_for 10 moving $(controllers $nqn $P1) || die "no I/O by the first port"
states inaccessible inaccessible optimized non_optimized
wait_for 5 moving $(controllers $nqn $P3) || die "no I/O by the third port after it went over"
states optimized non_optimized inaccessible inaccessible
wait_for 5 moving $(controllers $nqn $P1) || die "no I/O by the first port after it came back"
wait; cat /tmp/fio.ana; [ "$(cat /tmp/status.ana)" = 0 ] || die "fio"
leave $nqn
for p in $P2 $P3 $P4; do deaf $nqn $p; done

step "003: the discovery controller of the beginning has been kept alive"
[ $(($(cut -d. -f1 /proc/uptime) - began)) -gt 20 ] || sleep 20
is $dc live || die "$dc is $(cat /sys/class/nvme/$dc/state)"
dmesg | grep -E "$dc: .*(keep|reconnect|error recovery)" && die "it was not"
run nvme disconnect -n $discovery > /dev/null

step "060: hosts are thrown out while they connect, are connected, and leave"
again() { nvme connect -t tcp -a 127.0.0.1 -s $P1 -n $nqn -i 2 -k 5 -c 1 > /dev/null 2>&1; }
for n in 1 2; do
  (for m in 1 2 3; do deaf $nqn $P1; listen $nqn $P1; sleep 0.$((n * m % 10)); done) & thrower=$!
  wait_for 10 again || die "no connection in round $n: $(dmesg | tail)"
  wait $thrower
  c=$(controllers $nqn)
  wait_for 15 is $c live || die "$c is $(cat /sys/class/nvme/$c/state)"
  leave $nqn
done
wait_for 10 nobody $nqn || die "left over: $(ask rpc nvmf_subsystem_get_controllers "{\"nqn\": \"$nqn\"}")"

step "061: the subsystem is taken down and set up again under load"
run nvme connect -t tcp -a 127.0.0.1 -s $P1 -n $nqn -i 2 -k 5 -c 1 -l 60 > /dev/null
wait_for 15 nvme_disk $nqn || die "no disk"
d=$(nvme_disk $nqn) c=$(controllers $nqn)
(fio_verify $d 12 --size=16M > /tmp/fio.down 2>&1; echo $? > /tmp/status.down) &
sleep 2
for n in 1 2 3; do
  rpc nvmf_delete_subsystem "{\"nqn\": \"$nqn\"}"
  wait_for 10 is $c connecting || die "$c is $(cat /sys/class/nvme/$c/state)"
  subsystem $nqn; space $nqn 1 disk $uuid; listen $nqn $P1
  wait_for 20 is $c live || die "$c is $(cat /sys/class/nvme/$c/state): $(dmesg | tail)"
done
wait; cat /tmp/fio.down; [ "$(cat /tmp/status.down)" = 0 ] || die "fio: $(dmesg | tail)"
step "048: after the target has come back with other limits the host has as many queues as it may"
[ $(queues) = 3 ] || die "$(queues) queues"
for n in 1 2; do
  ask restart $n > /dev/null || exit 1
  wait_for 20 sh -c "[ \$(cat /sys/class/nvme/$c/queue_count) = $((n + 1)) ]" || die "$(queues) queues, not $((n + 1))"
  wait_for 20 is $c live || die "$c is $(cat /sys/class/nvme/$c/state)"
  run dd if=$d of=/dev/null bs=4096 count=8 iflag=direct status=none
done

leave $nqn
dmesg | grep -iE "BUG|oops|hung task|blocked for more" && die "the kernel complained"
echo PASS
