# The lines that `ashlar serve` printed, executed as they are: files/lines.  Each must work; at the end there are DISKS disks.
nvme_start; iscsi_start
step "the printed lines"
while read -r line; do
  step "$line"
  eval "$line" > /tmp/line 2>&1 < /dev/null || die "status $?: $(cat /tmp/line)"
  sed 's/^/    /' /tmp/line
done < /ashlar/files/lines
disks() { [ "$(ls /sys/block | grep -cE '^(nvme[0-9]+n|sd)')" = $DISKS ]; }
wait_for 20 disks || die "not $DISKS disks but: $(ls /sys/block)"
for d in $(ls /sys/block | grep -E '^(nvme[0-9]+n|sd)'); do
  echo "$d: $(blockdev --getsize64 /dev/$d) bytes"
  step "read $d"; run dd if=/dev/$d of=/dev/null bs=64k count=16 iflag=direct status=none
done
step "leave"
nvme disconnect-all; iscsiadm -m node --logoutall=all > /dev/null
echo PASS
