# File systems and raw I/O with every kind of session, every byte checked, and space given back.
# IQN, FIRST_PORT; LUN 0 is the sparse file 0.img (XFS: 320 MiB), LUN 1 is 1.img (ext4: 96 MiB).  HELPER_PORT.  files/fsx if it could be built.
for module in crc32c_generic ext4 xfs; do modprobe -q $module; done
iscsi_start
login() {
  iscsi_login $IQN $FIRST_PORT default "$@"
  within 15 iscsi_disk $IQN 1 || die "no disks"
  x=$(iscsi_disk $IQN 0) e=$(iscsi_disk $IQN 1)
}
logout() { run iscsiadm -m node --logoutall=all > /dev/null; run iscsiadm -m node -o delete; }
kib() { ask kib $1.img || exit 1; }
# Header and data digest, InitialR2T, ImmediateData, burst sizes, our and their largest segment, R2Ts: what is asked for, and what is agreed.
step "kinds of sessions"
while read -r header data initial immediate first burst ours theirs r2ts; do
  login "node.conn[0].iscsi.HeaderDigest=$header" "node.conn[0].iscsi.DataDigest=$data" node.session.iscsi.InitialR2T=$initial \
    node.session.iscsi.ImmediateData=$immediate node.session.iscsi.FirstBurstLength=$first node.session.iscsi.MaxBurstLength=$burst \
    "node.conn[0].iscsi.MaxRecvDataSegmentLength=$ours" "node.conn[0].iscsi.MaxXmitDataSegmentLength=$theirs" node.session.iscsi.MaxOutstandingR2T=$r2ts
  iscsiadm -m session -P 2 > /tmp/session
  for agreed in "HeaderDigest: $header" "DataDigest: $data" "InitialR2T: $initial" "ImmediateData: $immediate" "MaxBurstLength: $burst" \
    "MaxOutstandingR2T: $r2ts" "MaxRecvDataSegmentLength: $ours" "MaxXmitDataSegmentLength: $theirs"; do
    grep -q "$agreed\$" /tmp/session || die "not agreed: $agreed: $(cat /tmp/session)"
  done
  fio --name=kinds --filename=$e --rw=randwrite --bssplit=512/15:4k/25:60k/20:64k/20:260k/15:1M/5 --size=6M --direct=1 --ioengine=libaio --iodepth=8 \
    --verify=crc32c --verify_fatal=1 --do_verify=1 --norandommap=0 --output-format=terse --terse-version=3 > /tmp/fio 2>&1 ||
    die "$header $data $initial $immediate $first $burst $ours $theirs $r2ts: $(cat /tmp/fio; dmesg | tail)"
  dmesg | grep -iE "digest|conn error|detected conn" && die "the kernel complained"
  echo "digests $header, $data; InitialR2T $initial, ImmediateData $immediate; bursts of $first, $burst; segments of $ours, $theirs; $r2ts R2Ts"
  logout
done <<END
None None No Yes 65536 262144 262144 262144 1
CRC32C None Yes Yes 65536 262144 262144 65536 1
None CRC32C No No 16384 65536 65536 8192 4
CRC32C CRC32C Yes No 512 512 512 512 1
CRC32C CRC32C No Yes 512 1048576 262144 262144 4
None CRC32C No Yes 8192 16384 4096 4096 2
END

step "two sessions, two file systems"
iscsi_host other iqn.2026-01.org.ashlar.test:other
login "node.conn[0].iscsi.HeaderDigest=CRC32C" "node.conn[0].iscsi.DataDigest=CRC32C"
run blkdiscard $x; run blkdiscard $e
before="$(kib 0) $(kib 1)"
[ "$before" = "0 0" ] || die "discarded disks take $before KiB"
run mkfs.xfs -q -f $x; run mkfs.ext4 -q -F $e
mkdir -p /mnt/xfs /mnt/ext4
run mount -o discard $x /mnt/xfs; run mount $e /mnt/ext4
torture() {
  local fs=$1
  mkdir -p /mnt/$fs/many /mnt/$fs/sync /mnt/$fs/kept
  # Many files, buffered and random; few files, each write on stable storage; then files to look at later.
  fio --directory=/mnt/$fs --verify=crc32c --verify_fatal=1 --do_verify=1 --output-format=terse --terse-version=3 \
    --name=many --directory=/mnt/$fs/many --nrfiles=40 --filesize=4k-200k --size=3M --rw=randwrite --bsrange=1k-64k --bs_unaligned --ioengine=psync --fsync_on_close=1 --numjobs=2 \
    --name=sync --directory=/mnt/$fs/sync --nrfiles=4 --size=1M --rw=randwrite --bs=4k --ioengine=psync --fdatasync=2 \
    --name=direct --directory=/mnt/$fs/sync --size=8M --rw=randwrite --bs=16k --direct=1 --ioengine=libaio --iodepth=8 > /tmp/fio.$fs 2>&1 || return 1
  local n; for n in $(seq 40); do dd if=/dev/urandom of=/mnt/$fs/kept/$n bs=1k count=$((n * 13)) status=none || return 1; done
  if [ -x /ashlar/files/fsx ]; then /ashlar/files/fsx -N 1500 -S $RANDOM /mnt/$fs/fsx > /tmp/fsx.$fs 2>&1 || return 1; fi
}
for fs in xfs ext4; do (torture $fs; echo $? > /tmp/status.$fs) & pids="$pids $!"; done
wait $pids
for fs in xfs ext4; do [ "$(cat /tmp/status.$fs)" = 0 ] || die "$fs: $(tail -20 /tmp/fio.$fs /tmp/fsx.$fs; dmesg | tail)"; done
[ ! -x /ashlar/files/fsx ] || tail -n 2 /tmp/fsx.*

step "space is given back"
(cd /mnt; find xfs ext4 -type f | sort | xargs sha256sum > /tmp/sums); echo "$(wc -l < /tmp/sums) files"
run sync
full="$(kib 0) $(kib 1)"
rm -r /mnt/xfs/many /mnt/xfs/sync /mnt/ext4/many /mnt/ext4/sync
run sync; run fstrim -v /mnt/ext4
given() { [ $(kib 0) -lt $((${full% *} - 8000)) ] && [ $(kib 1) -lt $((${full#* } - 8000)) ]; }
within 20 given || die "still $(kib 0) and $(kib 1) KiB of $full"
echo "$full KiB before, $(kib 0) $(kib 1) after"
grep -E "/(kept|fsx)" /tmp/sums > /tmp/kept
clean() { run umount /mnt/xfs; run umount /mnt/ext4; run xfs_repair -n $x > /tmp/repair 2>&1; run e2fsck -fn $e; }
clean
step "the same after another login"
logout
login
clean_again() { run xfs_repair -n $x > /tmp/repair 2>&1; run e2fsck -fn $e; }
clean_again
run mount $x /mnt/xfs; run mount $e /mnt/ext4
(cd /mnt && sha256sum --quiet -c /tmp/kept) || die "files differ"
echo "$(wc -l < /tmp/kept) files right"
run umount /mnt/xfs; run umount /mnt/ext4
logout
dmesg | grep -v 'Power-on or device reset' | grep -iE 'I/O error|EXT4-fs error|XFS.*(corrupt|error)|timeout|BUG:|oops' && die "the kernel complained"
echo PASS
