# A real NVMe/TCP host: what it is told, two ways to one namespace, reservations, commands beyond reading and writing,
# namespaces that come, grow and go.  FIRST_PORT, SECOND_PORT, HELPER_PORT.
nvme_start
nqn=nqn.2026-11.io.ashlar:host
NVME_PORT=$FIRST_PORT
listener() { echo "{\"nqn\": \"$nqn\", \"listen_address\": {\"trtype\": \"TCP\", \"adrfam\": \"IPv4\", \"traddr\": \"127.0.0.1\", \"trsvcid\": \"$1\"}${2:+, $2}}"; }
add_host() { ask rpc nvmf_subsystem_add_listener "$(listener $1)"; }
ana() { ask rpc nvmf_subsystem_listener_set_ana_state "$(listener $1 "\"ana_state\": \"$2\"")" > /dev/null || exit 1; }
ask rpc nvmf_create_subsystem "{\"nqn\": \"$nqn\", \"allow_any_host\": true, \"ana_reporting\": true, \"serial_number\": \"S1\", \"model_number\": \"Quarry\"}" || exit 1
ask rpc nvmf_subsystem_add_ns "{\"nqn\": \"$nqn\", \"namespace\": {\"bdev_name\": \"first\", \"nsid\": 1, \"uuid\": \"6f2d1a34-0000-4000-8000-000000000001\"}}" || exit 1
add_host $FIRST_PORT || exit 1; add_host $SECOND_PORT || exit 1
ana $SECOND_PORT non_optimized

step "discovery"
nvme discover -t tcp -a 127.0.0.1 -s $FIRST_PORT > /tmp/discovery || die "$(cat /tmp/discovery)"
for port in $FIRST_PORT $SECOND_PORT; do grep -q "trsvcid: *$port" /tmp/discovery || die "no $port in $(cat /tmp/discovery)"; done

step "connect, with digests one way"
nvme_connect $nqn --hdr-digest --data-digest
run nvme connect -t tcp -a 127.0.0.1 -s $SECOND_PORT -n $nqn
d=$(nvme_disk $nqn 1)
paths() { nvme list-subsys $d | grep -c ' live'; }
both() { [ "$(paths)" = 2 ]; }
wait_for 10 both || die "$(nvme list-subsys $d)"
c1=$(grep -l "trsvcid=$FIRST_PORT" /sys/class/nvme/nvme*/address | sed 's#/address##; s#.*/##')
c2=$(grep -l "trsvcid=$SECOND_PORT" /sys/class/nvme/nvme*/address | sed 's#/address##; s#.*/##')
echo "$d by $c1 and $c2"

# What nvme-cli shows, without what differs from run to run.
echo "@@ begin"
show() {
  local all="$*"
  echo "# nvme $all" | sed -E "s#/dev/nvme[0-9]+(n[0-9]+)?#DEVICE#"
  nvme "$@" 2>&1 | grep -vE "^(cntlid|subnqn|fr |[Dd]ata [Uu]nits|data_units|host_(read|write)|num_err|power_on|controller_busy|hostid|frs1|Device:)" |
    sed -E "s/nvme[0-9]+(c[0-9]+)?(n[0-9]+)?/nvmeX/g; s/subsys[0-9]+/subsysX/g; s/$FIRST_PORT/PORT1/g; s/$SECOND_PORT/PORT2/g; s/(src_addr|hostnqn)=[^ ,]*/\1=X/g; s/[[:space:]]+$//"
}
show id-ctrl /dev/$c1
show id-ns $d
show ns-descs $d
show list-ns /dev/$c1
show ana-log /dev/$c1
show effects-log /dev/$c1 -c 0
show changed-ns-list-log /dev/$c1
show fw-log /dev/$c1
for f in 1 2 4 5 6 7 8 0xa 0xb 0xf; do show get-feature /dev/$c1 -f $f; done
for f in 0x82 0x83; do show get-feature $d -n 1 -f $f; done
show smart-log /dev/$c1
show supported-log-pages /dev/$c1
show fid-support-effects-log /dev/$c1
show nvm-id-ctrl /dev/$c1
show cmdset-ind-id-ns $d -n 1
show resv-report $d -e
show resv-notif-log /dev/$c1
show list-subsys $d
echo "@@ end"
run nvme smart-log /dev/$c1 > /tmp/smart; run nvme error-log /dev/$c1 > /tmp/errors
grep -q "critical_warning[[:space:]]*: 0" /tmp/smart || die "$(cat /tmp/smart)"

step "commands"
dd if=/dev/urandom of=/tmp/data bs=4096 count=1 status=none
dd if=/dev/zero of=/tmp/zero bs=4096 count=1 status=none
run nvme write $d -s 64 -c 7 -z 4096 -d /tmp/data
run nvme compare $d -s 64 -c 7 -z 4096 -d /tmp/data
fails Compare nvme compare $d -s 64 -c 7 -z 4096 -d /tmp/zero
run nvme verify $d -s 64 -c 7
run nvme copy $d --sdlba=128 --slbs=64 --blocks=7
run nvme compare $d -s 128 -c 7 -z 4096 -d /tmp/data
run nvme write-zeroes $d -s 64 -c 7
run nvme compare $d -s 64 -c 7 -z 4096 -d /tmp/zero
run nvme dsm $d --ad --slbs=128 --blocks=8
run nvme compare $d -s 128 -c 7 -z 4096 -d /tmp/zero
run nvme flush $d
blocks=$(($(blockdev --getsize64 $d) / 512))
fails LBA nvme read $d -s $blocks -c 0 -z 512 -d /tmp/out
nvme error-log /dev/$c1 | grep -qi "LBA_RANGE\|0x80\|LBA Out" || die "the failed read is not in the error log: $(nvme error-log /dev/$c1 | head -20)"

step "reservations"
run nvme resv-register $d --nrkey=0x11 --rrega=0 --cptpl=3
nvme get-feature $d -n 1 -f 0x83 | grep -q "0x.*1$" || die "not kept: $(nvme get-feature $d -n 1 -f 0x83)"
run nvme resv-acquire $d --crkey=0x11 --rtype=1 --racqa=0
nvme resv-report $d -e | tee /tmp/report
grep -qiE "rkey *: *(0x)?11" /tmp/report || die "not registered"
grep -qE "rtype *: *1" /tmp/report || die "not reserved"
run nvme write $d -s 64 -c 7 -z 4096 -d /tmp/data
run nvme resv-release $d --crkey=0x11 --rtype=1 --rrela=0
run nvme resv-register $d --crkey=0x11 --rrega=1

step "two ways under verified load"
still_watch
fio --name=verify --filename=$d --offset=1M --size=24M --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c --verify_fatal=1 \
  --verify_backlog=64 --time_based --runtime=45 --output-format=terse --terse-version=3 > /tmp/fio 2>&1 &
fio=$!
path() { basename $(readlink -f /sys/class/nvme/$1)/nvme*c*n1 2>/dev/null; }
sectors() { awk '{ print $3 + $7 }' /sys/class/nvme/$1/nvme*c*n*/stat 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'; }
moving() { local before=$(sectors $1); sleep 1; [ $(sectors $1) -gt $((before + 100)) ]; }
wait_for 20 moving $c1 || die "no I/O by the optimized way: $(nvme list-subsys $d)"
! moving $c2 || die "I/O by the worse way"
state() { cat /sys/class/nvme/$1/nvme*c*n1/ana_state; }
for bad in inaccessible change; do
  ana $FIRST_PORT $bad
  wait_for 5 test "$(state $c1)" = $bad || die "$c1 is $(state $c1), not $bad"
  wait_for 5 moving $c2 || die "no I/O by the other way while the first is $bad"
  ana $FIRST_PORT optimized
  wait_for 5 moving $c1 || die "the first way is not used again after $bad"
done
step "the first portal goes and comes back"
ask rpc nvmf_subsystem_remove_listener "$(listener $FIRST_PORT)" > /dev/null || exit 1
wait_for 5 moving $c2 || die "no I/O after the portal went"
add_host $FIRST_PORT > /dev/null || exit 1
wait_for 30 moving $c1 || die "no I/O by the portal that came back: $(nvme list-subsys $d)"
step "namespaces come, grow and go"
ask rpc nvmf_subsystem_add_ns "{\"nqn\": \"$nqn\", \"namespace\": {\"bdev_name\": \"second\", \"nsid\": 2}}" > /dev/null || exit 1
wait_for 5 nvme_disk $nqn 2 || die "the second namespace is not seen"
e=$(nvme_disk $nqn 2)
ask rpc bdev_null_resize '{"name": "second", "new_size": 64}' > /dev/null || exit 1
wait_for 5 test "$(blockdev --getsize64 $e)" = $((64 << 20)) || wait_for 5 sh -c "[ \$(blockdev --getsize64 $e) = $((64 << 20)) ]" || die "$e has $(blockdev --getsize64 $e) bytes"
ask rpc nvmf_subsystem_remove_ns "{\"nqn\": \"$nqn\", \"nsid\": 2}" > /dev/null || exit 1
wait_for 5 sh -c "! [ -e $e ]" || die "$e is still there"
step "resets under load"
for n in 1 2 3; do run nvme reset /dev/$c1; sleep 1; run nvme reset /dev/$c2; sleep 1; done
wait $fio; status=$?
awk -F';' '/^3;/ { printf "fio: %d reads/s, %d writes/s, error %d, longest read %d us, longest write %d us\n", $8, $49, $5, $39, $80; next } { print }' /tmp/fio
[ $status = 0 ] || die "fio ended with $status: $(dmesg | tail -20)"
# Whatever happened to a way, no I/O waited five seconds, or longer if the whole machine stood still.
awk -F';' -v most=$((5000000 + $(still))) '/^3;/ { if ($39 > most || $80 > most) exit 1 }' /tmp/fio || die "an I/O took too long; the machine stood still for $(still) us"
run nvme disconnect -n $nqn > /dev/null
step "connect-all finds both ways"
run nvme connect-all -t tcp -a 127.0.0.1 -s $FIRST_PORT
wait_for 15 nvme_disk $nqn 1 || die "no disk: $(nvme list-subsys)"
d=$(nvme_disk $nqn 1)
wait_for 10 both || die "$(nvme list-subsys $d)"
run nvme disconnect-all
echo PASS
