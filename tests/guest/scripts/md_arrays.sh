# Arrays of every kind, made by mdadm on windows of one disk that Ashlar serves (NQN, namespace 1), filled, and stopped.  For each a line
#   array NAME SHA256 OFFSET... | LENGTH
# with the bytes of the disk at which its members begin, in MiB, and how long each is.
nvme_start
for m in loop raid0 raid1 raid10 raid456; do modprobe $m || die "no $m"; done
nvme_connect $NQN; disk=$(nvme_disk $NQN)
at=0 sizes=()
# members COUNT MIB: so many new windows, as /dev/loopN.
members() {
  local i; count=$1 long=$2 offsets= devs=
  for ((i = 0; i < count; i++)); do
    losetup -o $((at << 20)) --sizelimit $((${sizes[i]:-$long} << 20)) /dev/loop$i $disk || die "no loop device"
    offsets="$offsets $at" devs="$devs /dev/loop$i" at=$((at + long))
  done
}
make() { mdadm --create /dev/md0 --run --homehost=stone "$@" > log 2>&1 < <(yes) || die "$*: $(cat log)"; }
fill() { busybox dd if=/dev/urandom of=/dev/md0 bs=64k conv=fsync 2>/dev/null; }
keep() {
  local sum i; sum=$(sha256sum < /dev/md0 | cut -d' ' -f1)
  udevadm settle 2>/dev/null
  wait_for 20 mdadm --stop /dev/md0 || die "$1 does not stop"
  for ((i = 0; i < count; i++)); do losetup -d /dev/loop$i; done
  echo "array $1 $sum$offsets | $long"
  sizes=()
}
# begin NAME COUNT ARGS...: COUNT members of 3 MiB, filled whole, so that it does not count what parity was before.  array: and kept as it is.
begin() {
  name=$1; members $2 3
  make --name=$1 --raid-devices=$2 --metadata=1.2 --data-offset=1024 --assume-clean "${@:3}" $devs; fill
}
array() { begin "$@"; keep $1; }
# lose N...: members fail, and something is written without them.
lose() {
  local n
  for n in "$@"; do run mdadm /dev/md0 --fail /dev/loop$n 2>/dev/null >&2; done
  busybox dd if=/dev/urandom of=/dev/md0 bs=4k seek=33 count=70 conv=fsync,notrunc 2>/dev/null; keep $name
}
for l in left-asymmetric right-asymmetric left-symmetric right-symmetric parity-first parity-last; do
  array raid5-$l 3 --level=5 --layout=$l --chunk=4 --bitmap=none
done
array raid5-wide 6 --level=5 --chunk=64 --bitmap=internal
array raid4 4 --level=4 --chunk=16 --bitmap=none
for l in left-symmetric right-asymmetric parity-last ddf-zero-restart ddf-N-restart ddf-N-continue left-symmetric-6 parity-first-6; do
  array raid6-$l 5 --level=6 --layout=$l --chunk=8 --bitmap=none
done
for l in n2 f2 o2 n3; do array raid10-$l 4 --level=10 --layout=$l --chunk=32 --bitmap=internal; done
array raid10-odd 3 --level=10 --layout=n2 --chunk=1024 --bitmap=none
array raid1 3 --level=1 --bitmap=internal
for l in original alternate; do
  sizes=(3 2 3 2); members 4 3; make --name=raid0-$l --level=0 --layout=$l --raid-devices=4 --metadata=1.2 --data-offset=1024 --chunk=16 $devs; fill; keep raid0-$l
done
for v in 1.0 1.1 0.90; do
  # 0.90 has numbers for names, and this one's is 0.
  named="--name=raid5-$v"; [ $v != 0.90 ] || named=
  members 3 3; make $named --metadata=$v --level=5 --raid-devices=3 --assume-clean --bitmap=none --chunk=64 $devs; fill; keep raid5-$v
done
for l in ppl-raid5 ppl-lost; do
  members 4 5; make --name=$l --level=5 --raid-devices=4 --metadata=1.2 --assume-clean --chunk=16 --consistency-policy=ppl $devs; fill; keep $l
done
# One whose member is being replaced, and hardly was; and one with a spare that is to replace a member later, by Ashlar.
members 4 8; make --name=swap-linux --level=5 --raid-devices=3 --spare-devices=1 --metadata=1.2 --data-offset=1024 --assume-clean --chunk=16 --bitmap=internal $devs; fill
echo 1 > /sys/block/md0/md/sync_speed_min; echo 1 > /sys/block/md0/md/sync_speed_max
run mdadm /dev/md0 --replace /dev/loop1 --with /dev/loop3 >&2; wait_for 10 grep -q recover /sys/block/md0/md/sync_action || die "nobody is replaced"; keep swap-linux
members 3 8; make --name=swap-here --level=1 --raid-devices=2 --spare-devices=1 --metadata=1.2 --data-offset=1024 --assume-clean --bitmap=internal $devs; fill; keep swap-here
begin lost-raid5 4 --level=5 --chunk=32 --bitmap=internal; lose 1
begin lost-raid6 5 --level=6 --chunk=16 --bitmap=none; lose 4 0
begin lost-raid10 4 --level=10 --layout=o2 --chunk=16 --bitmap=internal; lose 2
begin lost-raid1 3 --level=1 --bitmap=internal; lose 0 2
# What a member's log says it lacks is rubbish there.
begin bad-raid5 3 --level=5 --chunk=16 --bitmap=none
for bad in "2048 8" "2648 40"; do echo "$bad" > /sys/block/md0/md/dev-loop1/bad_blocks; done
# The log is written with the next change of the superblock.
busybox dd if=/dev/urandom of=/dev/md0 bs=4k seek=300 count=1 conv=fsync,notrunc 2>/dev/null; sleep 1
keep bad-raid5; at1=${offsets% *}; at1=${at1##* }
for s in 2048 2648; do busybox dd if=/dev/urandom of=$disk bs=512 seek=$((at1 * 2048 + s)) count=8 conv=notrunc,fsync 2>/dev/null; done
echo PASS
