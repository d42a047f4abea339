# A verified write load goes on while the target is killed and started again: both hosts must reconnect by themselves and
# every block be right.  NVME_PORT, ISCSI_PORT, NQN, NSID, IQN, LUN, SECONDS_EACH.  Says "LOAD" once the load runs.
nvme_start; iscsi_start
step connect
nvme_connect $NQN --ctrl-loss-tmo=120 --reconnect-delay=1 --keep-alive-tmo=5
iscsiadm -m discovery -t st -p 127.0.0.1:$ISCSI_PORT > /tmp/disc || die "discovery: $(cat /tmp/disc)"
# Notice a dead target quickly, wait for a new one for long.
for s in node.conn[0].timeo.noop_out_interval=2 node.conn[0].timeo.noop_out_timeout=2 node.session.timeo.replacement_timeout=120; do
  iscsiadm -m node -T $IQN -p 127.0.0.1:$ISCSI_PORT -o update -n ${s%%=*} -v ${s#*=}
done
run iscsiadm -m node -T $IQN -p 127.0.0.1:$ISCSI_PORT --login > /dev/null
wait_for 15 iscsi_disk $IQN $LUN || die "no disk of $IQN"
a=$(nvme_disk $NQN $NSID) b=$(iscsi_disk $IQN $LUN)
echo "nvme $a, iscsi $b"
for d in $a $b; do
  (fio_verify $d $SECONDS_EACH --size=16M > /tmp/fio.${d##*/} 2>&1; echo $? > /tmp/status.${d##*/}) &
  pids="$pids $!"
done
sleep 4
echo LOAD
wait $pids
for d in $a $b; do
  sed "s#^#$d: #" /tmp/fio.${d##*/}
  [ "$(cat /tmp/status.${d##*/})" = 0 ] || die "$d: fio failed; $(dmesg | tail -20)"
done
echo "reconnected: $(dmesg | grep -ci 'reconnect') lines of nvme, $(grep -c . /tmp/iscsid.log) of iscsid"
dmesg | grep -qiE 'nvme.*(reconnect|error recovery)' || die "the NVMe host never had to reconnect: was the target killed?"
run nvme disconnect -n $NQN
run iscsiadm -m node --logoutall=all > /dev/null
echo PASS
