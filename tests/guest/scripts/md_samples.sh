# Prints what mdadm and Linux write on members of arrays of each kind, a line for each piece: its name, and the piece, gzip and base64.
#   tests/guest/run --timeout 600 md_samples.sh | grep -v ^mdadm | while read name piece; do base64 -d <<< $piece | gzip -d > spec/tests/md/samples/$name; done
exec 7>&1 >&2
for m in loop raid0 raid1 raid10 raid456; do modprobe $m || die "no $m"; done
cd /dev/shm
send() { echo "$1 $(busybox gzip -9 -c | base64 -w0)" >&7; }
disks() {
  local i; count=$1
  for ((i = 0; i < count; i++)); do truncate -s ${2:-12}M m$i; losetup /dev/loop$i m$i; done
}
make() { mdadm --create /dev/md0 --run --homehost=stone "$@" > log 2>&1 < <(yes) || die "$*: $(cat log)"; }
write() { busybox dd if=/dev/urandom of=/dev/md0 bs=4K seek=$1 count=1 conv=fsync 2>/dev/null; }
# number FILE BYTE SIZE TYPE
number() { od -An -t$4$3 -j $2 -N$3 $1 | tr -d ' '; }
piece() { tail -c +$(($2 + 1)) $1 | head -c $3; }
# keep NAME MEMBER...: stops the array; what is on some of its members
keep() {
  local name=$1 i f at sb features size; shift
  udevadm settle 2>/dev/null
  wait_for 20 mdadm --stop /dev/md0 || die "$name does not stop"
  for i in "$@"; do
    f=m$i size=$(($(stat -c %s m$i) / 512))
    mdadm --examine /dev/loop$i 2>&1 | sed 1d | sed 's/ *$//; /^$/d' | send $name.$i.examine
    case $(mdadm --examine /dev/loop$i | awk '/Version :/ { print $3 }') in
      0.90*) at=$((((size & ~127) - 128) * 512))
        piece $f $at 4096 | send $name.$i.sb
        [ $(($(number $f $((at + 132)) 4 u) & 256)) = 0 ] || piece $f $((at + 4096)) 1024 | send $name.$i.bitmap
        continue ;;
      1.0) at=$((((size - 16) & ~7) * 512)) ;;
      1.1) at=0 ;;
      1.2) at=4096 ;;
      *) die "$name.$i: $(mdadm --examine /dev/loop$i 2>&1)" ;;
    esac
    piece $f $at $(((256 + 2 * $(number $f $((at + 220)) 4 u) + 511) / 512 * 512)) | send $name.$i.sb
    features=$(number $f $((at + 8)) 4 u)
    [ $((features & 1)) = 0 ] || piece $f $((at + $(number $f $((at + 96)) 4 d) * 512)) 1024 | send $name.$i.bitmap
    [ $((features & 8)) = 0 ] || piece $f $((at + $(number $f $((at + 188)) 4 d) * 512)) 512 | send $name.$i.bblog
    # All logs of a PPL begin 128 KiB apart; the first one is shown, and the second.
    [ $((features & 3072)) = 0 ] || for log in 0 1; do
      piece $f $((at + $(number $f $((at + 96)) 2 d) * 512 + log * 131072)) 4096 | send $name.$i.ppl$log
    done
    [ "$(mdadm --examine /dev/loop$i | awk '/Device Role :/ { print $4 }')" != Journal ] ||
      piece $f $((($(number $f $((at + 128)) 8 u) + $(number $f $((at + 152)) 8 u)) * 512)) 4096 | send $name.$i.journal
  done
  for ((i = 0; i < count; i++)); do losetup -d /dev/loop$i; rm m$i; done
}
two="/dev/loop0 /dev/loop1" three="$two /dev/loop2" four="$three /dev/loop3" five="$four /dev/loop4"

for v in 1.0 1.1 1.2; do
  disks 2; make --metadata=$v --name=m$v --level=1 -n2 --bitmap=internal --assume-clean $two; write 3; keep raid1-$v 0 1
done
disks 2; make --metadata=0.90 --level=1 -n2 --bitmap=internal --assume-clean $two; write 3; keep raid1-0.90 0 1
disks 4; make --metadata=0.90 --level=5 -n3 -x1 --assume-clean --chunk=64 $four; keep raid5-0.90-spare 0 3
disks 4; make --metadata=0.90 --level=10 -n4 --layout=f2 --assume-clean --chunk=32 $four
mdadm /dev/md0 --fail /dev/loop2; write 1; keep raid10-0.90-failed 0 2
disks 3; make --metadata=1.2 --level=5 -n3 --consistency-policy=ppl --assume-clean $three; write 7; write 300; keep raid5-ppl 0 1 2
disks 4; make --metadata=1.2 --level=5 -n3 --write-journal /dev/loop3 $three; mdadm --wait /dev/md0; write 7; keep raid5-journal 0 3
disks 5; make --metadata=1.2 --level=6 -n4 -x1 --assume-clean --name=spare $five; keep raid6-spare 0 4
disks 3; make --metadata=1.2 --level=1 -n3 --assume-clean --failfast /dev/loop0 --write-mostly /dev/loop1 /dev/loop2; keep raid1-write-mostly 0 1 2
disks 3; make --metadata=1.2 --level=5 -n3 --chunk=512 --layout=ra /dev/loop0 missing /dev/loop2; keep raid5-degraded 0 2
disks 2; make --metadata=1.2 --level=1 -n2 --assume-clean $two
for bad in "2500 8" "4096 3" "9000 512"; do echo "$bad" > /sys/block/md0/md/dev-loop0/bad_blocks; done
write 5; sleep 1; keep raid1-bad-blocks 0 1
disks 3; make --metadata=1.2 --level=0 -n3 --chunk=16 $three; keep raid0-same 0
for l in original alternate; do
  disks 2; truncate -s 9M m1; losetup -c /dev/loop1; make --metadata=1.2 --level=0 -n2 --layout=$l $two; keep raid0-$l 0 1
done
disks 5; make --metadata=1.2 --level=10 -n5 --layout=o2 --assume-clean $five; keep raid10-o2 0
disks 4; make --metadata=1.1 --level=10 -n4 --layout=n2 $four; mdadm --wait /dev/md0; mdadm /dev/md0 --fail /dev/loop1; write 1; keep raid10-failed 0 1
# A reshape, a replacement and a resync, each stopped on its way.
disks 4 24; make --metadata=1.2 --level=5 -n3 --assume-clean --chunk=64 $three; mdadm /dev/md0 --add /dev/loop3
echo 50 > /sys/block/md0/md/sync_speed_max; echo 10 > /sys/block/md0/md/sync_speed_min
mdadm --grow /dev/md0 -n4 --backup-file=/root/backup; sleep 3; keep raid5-reshape 0 3
disks 3; make --metadata=1.2 --level=1 -n2 --assume-clean $two
echo 1 > /sys/block/md0/md/sync_speed_max; mdadm /dev/md0 --add /dev/loop2; mdadm /dev/md0 --replace /dev/loop0 --with /dev/loop2; sleep 2; keep raid1-replacement 0 2
echo 20 > /proc/sys/dev/raid/speed_limit_max
disks 3; make --metadata=1.2 --level=5 -n3 --bitmap=internal --bitmap-chunk=64K $three; sleep 3; keep raid5-resync 0 2
# A member that missed writes.
disks 2; make --metadata=1.2 --level=1 -n2 --bitmap=internal --bitmap-chunk=64K --assume-clean $two; mdadm /dev/md0 --fail /dev/loop1
for n in 1 50 51 99; do write $((n * 16)); done; sleep 6; keep raid1-dirty 0 1
