# dm-multipath over two portal groups with ALUA: the better one is used, lost in three ways and used again under verified load,
# states are followed, hosts set them, reservations hold on every path, the map grows.
# IQN; FIRST_PORT on 127.0.0.1 is portal group 1, SECOND_PORT on 127.0.0.2 is 2.  HELPER_PORT.
key=0xabc123
cat > /etc/multipath.conf <<END
defaults {
  user_friendly_names yes
  find_multipaths no
  polling_interval 1
  max_polling_interval 1
  reservation_key $key
}
blacklist {
  devnode "^(vd|nvme|loop|ram)"
}
devices {
  device {
    vendor "ASHLAR"
    product ".*"
    path_grouping_policy group_by_prio
    detect_prio no
    prio alua
    prio_args exclusive_pref_bit
    hardware_handler "1 alua"
    path_checker tur
    failback immediate
    no_path_retry 20
    fast_io_fail_tmo 1
  }
}
END
for module in dm-multipath dm-service-time scsi_dh_alua; do modprobe $module || die "no $module"; done
udev_start; iscsi_start
multipathd -d -s -v3 > /tmp/multipathd.log 2>&1 & daemon=$!
within 10 multipathd show status || die "no multipathd: $(cat /tmp/multipathd.log)"
alua() { ask rpc iscsi_target_node_set_alua_state "{\"name\": \"$IQN\", \"pg_tag\": $1, \"alua_state\": \"$2\"${3:+, \"preferred\": $3}}" > /dev/null || exit 1; }
# state DISK ALUA-STATE: as the kernel has it.
state() { [ "$(cat /sys/block/$1/device/access_state)" = "$2" ]; }
sectors() { awk '{ print $3 + $7 }' /sys/block/$1/stat; }
# moving DISK: I/O goes this way, and much of it.
moving() { local before=$(sectors $1); sleep 0.5; [ $(sectors $1) -gt $((before + 50)) ]; }
only() { moving $1 && ! moving $2; }
# moves_to DISK OTHER WHY
moves_to() { within 10 only $1 $2 || die "$3: no I/O by $1, or still by $2: $(multipath -ll; dmesg | tail -25; uptime; tail -100 /tmp/multipathd.log)"; echo "$3: I/O by $1"; }

still_watch
step "two ways to one map"
quick='node.conn[0].timeo.noop_out_interval=1 node.conn[0].timeo.noop_out_timeout=1'
alua 2 active_non_optimized
iscsi_login $IQN 127.0.0.1:$FIRST_PORT default $quick
iscsi_login $IQN 127.0.0.2:$SECOND_PORT default $quick
within 15 iscsi_disk $IQN 0 $FIRST_PORT || die "no disk by the first portal"
within 15 iscsi_disk $IQN 0 $SECOND_PORT || die "no disk by the second portal"
one=$(basename $(iscsi_disk $IQN 0 $FIRST_PORT)) two=$(basename $(iscsi_disk $IQN 0 $SECOND_PORT))
m=/dev/mapper/mpatha
wait_for 15 test -b $m || die "no map: $(multipathd show paths)"
ways() { [ "$(multipathd show paths raw format '%m %t %T' | grep -c "^mpatha active ready")" = ${1:-2} ]; }
within 10 ways || die "$(multipath -ll)"
multipath -ll
for expected in "$one active/optimized" "$two active/non-optimized"; do
  within 10 state $expected || die "not $expected but $(cat /sys/block/${expected% *}/device/access_state)"
done

step "states are followed"
load_start $m
moves_to $one $two "the better way"
for bad in active_non_optimized standby unavailable; do
  alua 2 active_optimized; alua 1 $bad
  moves_to $two $one "$bad"
  alua 1 active_optimized; alua 2 active_non_optimized
  moves_to $one $two "optimized again"
done
alua 2 active_optimized; alua 1 active_optimized true
moves_to $one $two "both optimized, one preferred"
alua 1 active_optimized false; alua 2 active_non_optimized

step "the portal group is deleted"
ask rpc iscsi_delete_portal_group '{"tag": 1}' > /dev/null || exit 1
moves_to $two $one "it is gone"
ask rpc iscsi_create_portal_group "{\"tag\": 1, \"portals\": [{\"host\": \"127.0.0.1\", \"port\": \"$FIRST_PORT\"}]}" > /dev/null || exit 1
ask rpc iscsi_target_node_add_pg_ig_maps "{\"name\": \"$IQN\", \"pg_ig_maps\": [{\"pg_tag\": 1, \"ig_tag\": 1}]}" || exit 1
within 20 only $one $two || die "no I/O by the portal that came back: $(multipath -ll; iscsiadm -m session -P 1 | grep -i state; dmesg | tail -5)"
echo "it is back: I/O by $one"

step "the network says nothing any more"
ip route add blackhole 127.0.0.1/32
within 8 only $two $one; lost=$?
sleep 3
ip route del blackhole 127.0.0.1/32
[ $lost = 0 ] || die "silence: no I/O by $two: $(multipath -ll; dmesg | tail -5)"
echo "silence: I/O by $two"
within 20 only $one $two || die "no I/O by the network that came back: $(multipath -ll; iscsiadm -m session -P 1 | grep -i state; dmesg | tail -5)"
echo "it speaks again: I/O by $one"
step "a host sets states"
sg_stpg --tp=1,2 --state=1,0 /dev/$one 2>&1 | grep -q "Illegal request" || die "STPG is not refused"
# Only now: a host that knows of it at login sets states by itself whenever it changes groups.
ask rpc iscsi_target_node_set_explicit_alua "{\"name\": \"$IQN\", \"enable\": true}" > /dev/null || exit 1
sg_rtpg --decode /dev/$one
# By --tp: identifiers and states; 0 optimized, 1 non-optimized.
run sg_stpg --tp=1,2 --state=1,0 /dev/$one
moves_to $two $one "a host has exchanged them"
run sg_stpg --tp=1,2 --state=0,1 /dev/$two
moves_to $one $two "and back"
sg_stpg --tp=7 --state=0 /dev/$two 2>&1 | grep -q "Illegal request" || die "a group that does not exist has been set"

step "the map grows"
ask grow 0.img 96 > /dev/null && ask rpc bdev_aio_rescan '{"name": "disk0"}' > /dev/null || exit 1
noticed() { dmesg | grep -q "Capacity data has changed"; }
within 10 noticed || die "the kernel was not told of the new size"
for d in $one $two; do echo 1 > /sys/block/$d/device/rescan; done
for d in $one $two; do [ $(blockdev --getsize64 /dev/$d) = $((96 << 20)) ] || die "$d has $(blockdev --getsize64 /dev/$d) bytes"; done
run multipathd resize map mpatha
[ $(blockdev --getsize64 $m) = $((96 << 20)) ] || die "$m has $(blockdev --getsize64 $m) bytes"

step "reservations by mpathpersist"
# keys N: how many registrations there are.
keys() { mpathpersist --in --read-keys $m > /tmp/keys 2>&1; [ "$(grep -c "^ *0x" /tmp/keys)" = $1 ]; }
run mpathpersist --out --register --param-sark=$key $m
keys 2 || die "not registered by both ways: $(cat /tmp/keys)"
run mpathpersist --out --reserve --param-rk=$key --prout-type=5 $m
mpathpersist --in --read-reservation $m | tee /tmp/held
grep -q "Write Exclusive, registrants only" /tmp/held || die "not reserved"
[ "$(ask stranger write)" = 24 ] || die "a stranger has written"
[ "$(ask stranger read)" = 0 ] || die "a stranger cannot read"
alua 2 active_optimized; alua 1 unavailable
moves_to $two $one "the holder writes by the other way"
alua 1 active_optimized; alua 2 active_non_optimized
moves_to $one $two "and by its first"
fails "" mpathpersist --out --reserve --param-rk=0x999 --prout-type=5 $m
run mpathpersist --out --release --param-rk=$key --prout-type=5 $m
[ "$(ask stranger write)" = 0 ] || die "a stranger cannot write after the release"
run mpathpersist --out --reserve --param-rk=$key --prout-type=6 $m
[ "$(ask stranger read)" = 24 ] || die "a stranger can read"
run mpathpersist --out --clear --param-rk=$key $m
keys 0 || die "keys are left: $(cat /tmp/keys)"
[ "$(ask stranger write)" = 0 ] || die "a stranger cannot write after the clearing"

step "end of the load"
load_stop "ways that come and go"
# Five seconds, or longer if the whole machine stood still.
[ $longest -le $((5000000 + $(still))) ] || die "an I/O took $longest us; the machine stood still for $(still) us"
within 10 ways || die "$(multipath -ll)"
step "all that was written is there without multipath"
kill $daemon; wait $daemon
within 10 multipath -f mpatha || die "the map does not go: $(multipath -ll)"
[ "$(sha /dev/$one)" = "$(sha /dev/$two)" ] || die "two ways, two contents"
run iscsiadm -m node --logoutall=all > /dev/null
ask_until 10 0 busy || exit 1
dmesg | grep -iE "BUG:|oops|hung task" && die "the kernel complained"
echo PASS
