# File systems on arrays whose target is killed while they are written to, and started again.  NVME_PORT; NQNS: their subsystems.  HELPER_PORT: "crash",
# "whole", "differs".
nvme_start
disks= n=0
for q in $NQNS; do
  nvme_connect $q --ctrl-loss-tmo=300 --reconnect-delay=1 --keep-alive-tmo=5
  d=$(nvme_disk $q); disks="$disks $d"
  run mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 $d
  mkdir /mnt/$n; run mount $d /mnt/$n; n=$((n + 1))
done
# Files come and go; the sums of those that were synced are kept elsewhere.
writer() {
  local i=0 size
  while [ ! -e /tmp/stop ]; do
    size=$((RANDOM % 96 + 1)); rm -f /mnt/$1/$((i % 40)); sed -i "/ $((i % 40))\$/d" /tmp/sums.$1
    busybox dd if=/dev/urandom of=/mnt/$1/$((i % 40)) bs=4k count=$size 2>/dev/null && sync /mnt/$1/$((i % 40)) || return 1
    echo "$(sha /mnt/$1/$((i % 40))) $((i % 40))" >> /tmp/sums.$1
    i=$((i + 1)); echo $i > /tmp/count.$1
  done
}
pids=
for ((i = 0; i < n; i++)); do : > /tmp/sums.$i; writer $i & pids="$pids $!"; done
for round in 1 2 3; do
  sleep 4
  ask crash || exit 1
done
sleep 6; touch /tmp/stop
for p in $pids; do wait $p || die "a writer failed: $(dmesg | tail -20)"; done
dmesg | grep -qi reconnect || die "the host never had to reconnect: was the target killed?"
i=0
for d in $disks; do
  run umount /mnt/$i; echo 1 > /proc/sys/vm/drop_caches
  run e2fsck -fn $d
  run mount $d /mnt/$i
  while read -r sum file; do [ "$(sha /mnt/$i/$file)" = $sum ] || die "$d: file $file holds something else"; done < /tmp/sums.$i
  echo "$d: $(cat /tmp/count.$i) files were written, the $(grep -c . /tmp/sums.$i) that are left are right"
  run umount /mnt/$i; i=$((i + 1))
done
ask whole > /dev/null || exit 1
[ "$(ask differs)" = 0 ] || die "members disagree"
dmesg | grep -iE "EXT4-fs error|I/O error, dev.*sector|BUG:|oops" && die "the kernel complained"
run nvme disconnect-all
echo PASS
