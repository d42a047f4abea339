# Arrays that mdadm has made on windows of one disk that Ashlar serves (NQN, namespace 1), each filled and synced, and then written to at a few places until
# somebody takes this machine away.  For each a line  array NAME SHA256 OFFSET... | LENGTH  as in md_arrays.sh, with the sum of its second half, which is left alone; then "LOAD".
nvme_start
for m in loop raid1 raid10 raid456; do modprobe $m || die "no $m"; done
nvme_connect $NQN; disk=$(nvme_disk $NQN)
at=0 md=0 loop=0
array() {
  local name=$1 count=$2 i offsets= devs=; shift 2
  for ((i = 0; i < count; i++)); do
    losetup -o $((at << 20)) --sizelimit $((10 << 20)) /dev/loop$loop $disk || die "no loop device"
    offsets="$offsets $at" devs="$devs /dev/loop$loop" at=$((at + 10)) loop=$((loop + 1))
  done
  mdadm --create /dev/md$md --run --homehost=stone --raid-devices=$count --assume-clean "$@" $devs > log 2>&1 < <(yes) || die "$*: $(cat log)"
  busybox dd if=/dev/urandom of=/dev/md$md bs=64k conv=fsync 2>/dev/null
  local half=$(($(blockdev --getsize64 /dev/md$md) / 2 / 65536))
  echo "array $name $(busybox dd if=/dev/md$md bs=64k skip=$half 2>/dev/null | sha256sum | cut -d' ' -f1)$offsets | 10"
  md=$((md + 1))
}
named="--metadata=1.2 --data-offset=1024"
array five 3 --name=five $named --level=5 --chunk=16 --bitmap=internal --bitmap-chunk=128
array six 4 --name=six $named --level=6 --chunk=16 --bitmap=internal --bitmap-chunk=128
array ten 4 --name=ten $named --level=10 --layout=n2 --chunk=16 --bitmap=internal --bitmap-chunk=128
array one 2 --name=one $named --level=1 --bitmap=internal --bitmap-chunk=128
array bare 3 --name=bare $named --level=5 --chunk=16 --bitmap=none
# With partial parity logs, and one of them lacks a member: Linux starts neither again without its log.
for name in logged lacks; do array $name 3 --name=$name --metadata=1.2 --level=5 --chunk=16 --consistency-policy=ppl; done
mdadm /dev/md6 --fail /dev/loop$((loop - 2)) 2> /dev/null || die "nothing fails"
# Until bits are cleared.
sleep 12
for ((i = 0; i < md; i++)); do
  fio --name=dirty$i --filename=/dev/md$i --rw=randwrite --bs=4k --size=1M --direct=1 --ioengine=libaio --iodepth=8 --time_based --runtime=300 > /tmp/fio$i 2>&1 &
done
dirty() { case $(cat /sys/block/md$1/md/array_state) in active | write-pending) ;; *) return 1 ;; esac; }
for ((i = 0; i < md; i++)); do wait_for 60 dirty $i || die "md$i is not written to: $(cat /sys/block/md$i/md/array_state /tmp/fio$i)"; done
sleep 3
echo LOAD
sleep 300
