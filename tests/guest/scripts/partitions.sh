# Every volume in files/volumes is found, mounted, read, written and left clean.  Lines: "nvme NQN NSID NAME" and
# "iscsi IQN LUN NAME"; files/NAME.sums lists what must be in it.  NVME_PORT, ISCSI_PORT, SECONDS_EACH.
list=/ashlar/files/volumes
nvme_start; iscsi_start

step discovery
: > /tmp/nvme; : > /tmp/iscsi
if grep -q ^nvme $list; then nvme discover -t tcp -a 127.0.0.1 -s $NVME_PORT > /tmp/nvme || die "nvme discover: $(cat /tmp/nvme)"; fi
if grep -q ^iscsi $list; then iscsiadm -m discovery -t st -p 127.0.0.1:$ISCSI_PORT > /tmp/iscsi || die "iscsiadm discovery: $(cat /tmp/iscsi)"; fi
cat /tmp/nvme /tmp/iscsi
while read -r kind name unit label; do
  case $kind in
    nvme) grep -qE "^subnqn: +$name\$" /tmp/nvme || die "discovery does not name $name" ;;
    iscsi) awk '{ print $2 }' /tmp/iscsi | grep -qxF "$name" || die "discovery does not name $name" ;;
  esac
done < $list

step connect
for nqn in $(awk '$1 == "nvme" { print $2 }' $list | sort -u); do nvme_connect $nqn; done
for iqn in $(awk '$1 == "iscsi" { print $2 }' $list | sort -u); do run iscsiadm -m node -T $iqn -p 127.0.0.1:$ISCSI_PORT --login > /tmp/login; done
nvme list

step "mount, every file's sha256"
n=0
while read -r kind name unit label; do
  wait_for 15 ${kind}_disk $name $unit || die "no disk for $name $unit"
  disk=$(${kind}_disk $name $unit)
  echo "$label: $kind $disk $(blockdev --getsize64 $disk) bytes"
  mkdir -p /mnt/$label
  run mount -t ext4 $disk /mnt/$label
  (cd /mnt/$label && sha256sum --quiet -c /ashlar/files/$label.sums) || die "$label: files differ"
  echo "$label: $(wc -l < /ashlar/files/$label.sums) files right"
  n=$((n + 1))
done < $list
[ $n -gt 0 ] || die "no volumes given"

step "fio --verify=crc32c, $SECONDS_EACH s, all at once"
while read -r kind name unit label; do
  (fio_verify /mnt/$label/fio $SECONDS_EACH --size=8M > /tmp/fio.$label 2>&1; echo $? > /tmp/fio.$label.status) &
  pids="$pids $!"
done < $list
wait $pids
while read -r kind name unit label; do
  sed "s/^/$label: /" /tmp/fio.$label
  [ "$(cat /tmp/fio.$label.status)" = 0 ] || die "$label: fio failed"
done < $list

step "unmount, check"
while read -r kind name unit label; do
  (cd /mnt/$label && sha256sum --quiet -c /ashlar/files/$label.sums) || die "$label: files differ after fio"
  run umount /mnt/$label
  run e2fsck -fn $(${kind}_disk $name $unit)
done < $list
dmesg | grep -v 'Power-on or device reset' | grep -iE 'I/O error|EXT4-fs error|timeout|reset' && die "the kernel complained"

step disconnect
for nqn in $(awk '$1 == "nvme" { print $2 }' $list | sort -u); do run nvme disconnect -n $nqn; done
run iscsiadm -m node --logoutall=all > /dev/null
echo PASS
