# A volume group that Ashlar made of blank disks, used by a Linux host: first its volumes, then its disks by the host's own LVM2, then
# its volumes again.  PHASE=served: NQN is a volume to make a file system on; ask grow makes it larger.  PHASE=disks: the members, as NQNS; LVM2
# takes over.  PHASE=again: NQN and NQN2, with all that either has written.
nvme_start
stamp() { (cd $1 && find . -type f ! -name sums ! -path ./lost+found/\* -print0 | xargs -0 sha256sum > sums && sync); }
check() { (cd $1 && sha256sum --quiet -c sums) || die "$1: files differ"; }

case $PHASE in
served)
  step "a file system on a striped volume"
  nvme_connect $NQN; disk=$(nvme_disk $NQN)
  run mkfs.ext4 -q $disk; mkdir -p /mnt/a; run mount $disk /mnt/a
  for n in 1 2 3 4 5 6; do dd if=/dev/urandom of=/mnt/a/$n bs=64k count=$((n * 9)) status=none; done
  step "larger while it is mounted"
  before=$(blockdev --getsize64 $disk)
  (fio_verify /mnt/a/fio 6 --size=4M > /tmp/fio 2>&1; echo $? > /tmp/fio.status) & sleep 1
  ask grow || exit 1
  grown() { [ "$(blockdev --getsize64 $disk)" -gt $before ]; }
  wait_for 15 grown || die "$disk still has $before bytes"
  run resize2fs $disk; wait
  cat /tmp/fio; [ "$(cat /tmp/fio.status)" = 0 ] || die "fio failed"
  rm /mnt/a/fio; dd if=/dev/urandom of=/mnt/a/large bs=1M count=30 status=none
  stamp /mnt/a; run umount /mnt/a; run e2fsck -fn $disk
  run nvme disconnect -n $NQN ;;
disks)
  modprobe dm-mod || die "no dm-mod"
  step "LVM2 of the host finds the group on the disks"
  for nqn in $NQNS; do nvme_connect $nqn; done
  export LVM_SUPPRESS_FD_WARNINGS=1
  lvm() { command lvm "$@" --config 'devices { use_devicesfile=0 hints="none" obtain_device_list_from_udev=0 external_device_info_source="none" } activation { udev_sync=0 udev_rules=0 monitoring=0 verify_udev_operations=1 } backup { backup=0 archive=0 } global { use_lvmpolld=0 event_activation=0 }'; }
  lvm pvs; lvm vgs; lvm lvs -a -o +devices
  run lvm vgck data
  run lvm vgchange -ay data
  run e2fsck -fn /dev/data/db
  mkdir -p /mnt/a /mnt/b; run mount /dev/data/db /mnt/a; check /mnt/a
  step "and changes it"
  echo more > /mnt/a/more; stamp /mnt/a; run umount /mnt/a
  run lvm lvcreate -y -Wn -n theirs -L 24m -i 2 -I 64k data
  run mkfs.ext4 -q /dev/data/theirs; run mount /dev/data/theirs /mnt/b
  dd if=/dev/urandom of=/mnt/b/x bs=1M count=9 status=none; stamp /mnt/b; run umount /mnt/b
  run lvm lvextend -L +8m data/db
  run lvm vgchange -an data
  for nqn in $NQNS; do run nvme disconnect -n $nqn; done ;;
again)
  step "the volumes again, LVM2's among them"
  for nqn in $NQN $NQN2; do nvme_connect $nqn; done
  mkdir -p /mnt/a /mnt/b
  for pair in "$NQN /mnt/a" "$NQN2 /mnt/b"; do
    set -- $pair; run e2fsck -fn $(nvme_disk $1); run mount $(nvme_disk $1) $2; check $2; run umount $2
    run nvme disconnect -n $1
  done ;;
*) die "no phase $PHASE" ;;
esac
dmesg | grep -iE 'I/O error|EXT4-fs error|timeout' && die "the kernel complained"
echo PASS
