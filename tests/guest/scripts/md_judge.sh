# Linux looks at arrays that Ashlar has written to.  FILE arrays: lines as md_arrays.sh prints them, with what the array holds now and how many members it
# lacks:  array NAME SHA256 OFFSET... | LENGTH | DEGRADED
# Each is put together without a resync (swap-here goes on to replace a member), holds what it should, and has no stripe whose members disagree.
nvme_start
for m in loop raid0 raid1 raid10 raid456; do modprobe $m || die "no $m"; done
nvme_connect $NQN; disk=$(nvme_disk $NQN)
md() { cat /sys/block/md0/md/$1; }
idle() { [ "$(md sync_action)" = idle ]; }
while read -r _ name sum rest; do
  offsets=${rest%% | *} rest=${rest#* | } long=${rest% | *} degraded=${rest#* | } i=0 devs=
  for at in $offsets; do
    losetup -o $((at << 20)) --sizelimit $((long << 20)) /dev/loop$i $disk || die "no loop device"
    devs="$devs /dev/loop$i"; i=$((i + 1))
  done
  mdadm --assemble --run /dev/md0 $devs > log 2>&1 || { for d in $devs; do mdadm --examine $d; done; die "$name is not assembled: $(cat log)"; }
  if [ -e /sys/block/md0/md/sync_action ]; then
    if [ $name = swap-here ]; then
      # Nothing is done to an array that was only put together.
      mdadm --readwrite /dev/md0; given_up() { mdadm --detail /dev/md0 | grep -q faulty; }
      wait_for 60 given_up || { mdadm --detail /dev/md0; die "$name: the member that was replaced is still used"; }
      wait_for 10 idle
    fi
    idle || die "$name is resynchronised: $(md sync_action)"
    [ "$(md degraded)" = "$degraded" ] || { mdadm --detail /dev/md0; die "$name lacks $(md degraded) members, not $degraded"; }
  fi
  now=$(sha256sum < /dev/md0 | cut -d' ' -f1)
  [ "$now" = "$sum" ] || { mdadm --detail /dev/md0; die "$name holds something else"; }
  case $name in
    made-*) run e2fsck -fn /dev/md0 >&2 ;;
    # One of its members lacks something, which was read from the others.
    bad-*) cat /sys/block/md0/md/dev-*/bad_blocks | grep -q ' 72$' || die "$name lacks nothing: $(cat /sys/block/md0/md/dev-*/bad_blocks)" ;;
  esac
  if [ -e /sys/block/md0/md/sync_action ] && [ $degraded = 0 ]; then
    echo check > /sys/block/md0/md/sync_action; wait_for 30 idle || die "$name: the check does not end"
    [ "$(md mismatch_cnt)" = 0 ] || die "$name: $(md mismatch_cnt) sectors disagree"
  fi
  udevadm settle 2>/dev/null
  wait_for 20 mdadm --stop /dev/md0 || die "$name does not stop"
  for d in $devs; do losetup -d $d; done
  echo "$name is as it should be"
done < /ashlar/files/arrays
dmesg | grep -iE 'I/O error' && die "the kernel complained"
echo PASS
