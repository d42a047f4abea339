# Commands that do not end in time: what the kernel does about them, and that nothing is left of it.
# IQN, FIRST_PORT; LUN 0 is the table "bad" (errors) on "late" (delays).  HELPER_PORT.
iscsi_start
# Without pings a command's time-out is looked at at once.
iscsi_login $IQN $FIRST_PORT default "node.conn[0].timeo.noop_out_interval=0" "node.conn[0].timeo.noop_out_timeout=0"
within 15 iscsi_disk $IQN || die "no disk"
d=$(iscsi_disk $IQN); sd=/sys/block/${d##*/}
stuck() { awk '{ print $1 + $2 }' $sd/inflight; }
# latency MICROSECONDS: of reads and writes.
latency() { for kind in avg_read p99_read avg_write p99_write; do ask rpc bdev_delay_update_latency "{\"delay_bdev_name\": \"late\", \"latency_type\": \"$kind\", \"latency_us\": $1}" > /dev/null || exit 1; done; }
inject() { ask rpc bdev_error_inject_error "{\"name\": \"bad\", \"io_type\": \"$1\", \"error_type\": \"$2\", \"num\": $3}" > /dev/null || exit 1; }
release() { ask rpc bdev_error_resume_pending '{"name": "bad"}' > /dev/null; }
# loaded WHY: the load ends well, and nothing is left of it.
loaded() {
  load_stop "$1"
  [ "$(stuck)" = 0 ] || die "$1: $(stuck) commands are stuck at the host"
  ask_until 10 0 busy || die "$1: commands are stuck at the target"
  [ "$(cat $sd/device/state)" = running ] || die "$1: the disk is $(cat $sd/device/state)"
}

step "resets under load"
load_start $d; sleep 1
latency 20000
for way in d d t; do run sg_reset -$way $d; sleep 1; done
latency 0
loaded "resets"

step "commands that end too late are aborted"
echo 1 > $sd/device/timeout; echo 2 > $sd/device/eh_timeout
aborted() { iscsiadm -m session -s | awk '/eh_abort_cnt/ { print $2 }'; }
load_start $d; sleep 1
latency 6000000
sleep 3
latency 0
# It is set for commands that come later; those that are late already have up to six seconds.
sleep 6
loaded "late commands"
before=$(aborted)
[ $before -gt 0 ] || die "the host has aborted nothing"
echo "$before aborts"

step "commands that do not end"
load_start $d; sleep 1
dmesg -C
inject all pending 8
sleep 15
release
# The answer to a reset, and the first command after it.
within 30 sh -c "dmesg | grep -q 'device reset occurred'" || die "the host has reset nothing: $(dmesg)"
sleep 2
loaded "commands that do not end"
[ $(aborted) -gt $before ] || die "the host has aborted nothing"
echo "$(($(aborted) - before)) aborts, and then a reset"

step "the session is dropped under load"
echo 30 > $sd/device/timeout
load_start $d; sleep 1
for n in 1 2 3; do
  dmesg -C
  ask rpc iscsi_target_node_request_logout "{\"name\": \"$IQN\"}" > /dev/null || exit 1
  within 20 sh -c "dmesg | grep -q 'device reset occurred'" || die "the session has not come back: $(dmesg; iscsiadm -m session -P 1)"
done
loaded "a session that has to move"
run iscsiadm -m node --logoutall=all > /dev/null
dmesg | grep -iE "BUG:|oops|hung task" && die "the kernel complained"
echo PASS
