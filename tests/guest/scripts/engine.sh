# Verified I/O by both protocols while the engine of the target is killed and stopped (`ask trouble`): no error, no reconnect, no gap.
# NVME_PORT, ISCSI_PORT, NQN, NSID, IQN, LUN, SECONDS_EACH.
nvme_start; iscsi_start
step connect
nvme_connect $NQN
iscsiadm -m discovery -t st -p 127.0.0.1:$ISCSI_PORT > /tmp/disc || die "discovery: $(cat /tmp/disc)"
run iscsiadm -m node -T $IQN -p 127.0.0.1:$ISCSI_PORT --login > /dev/null
wait_for 15 iscsi_disk $IQN $LUN || die "no disk of $IQN"
a=$(nvme_disk $NQN $NSID) b=$(iscsi_disk $IQN $LUN)
echo "nvme $a, iscsi $b"
step "verified I/O while the engine is in trouble"
for d in $a $b; do
  (fio_verify $d $SECONDS_EACH --size=8M > /tmp/fio.${d##*/} 2>&1; echo $? > /tmp/status.${d##*/}) &
  pids="$pids $!"
done
sleep 3
ask trouble || exit 1
wait $pids
for d in $a $b; do
  sed "s#^#$d: #" /tmp/fio.${d##*/}
  [ "$(cat /tmp/status.${d##*/})" = 0 ] || die "$d: fio failed; $(dmesg | tail -20)"
done
run nvme disconnect -n $NQN
run iscsiadm -m node --logoutall=all > /dev/null
dmesg | grep -iE 'I/O error|nvme.*(reconnect|error recovery|timeout)|detected conn error|abort' && die "the kernel complained"
echo PASS
