# Every SCSI command that sg3-utils knows and a disk has, from a real host; reservations of two hosts; a disk that grows.
# IQN, FIRST_PORT; LUN 0 is the sparse file 0.img, LUN 1 is 1.img, 64 MiB each in blocks of 512.  HELPER_PORT.
iscsi_start
iscsi_login $IQN $FIRST_PORT
within 15 iscsi_disk $IQN 1 || die "no disks"
a=$(iscsi_disk $IQN 0) b=$(iscsi_disk $IQN 1)
blocks=131072
# told TEXT... -- CMD...: it must succeed without a complaint, and its output have a line with each TEXT (an extended pattern).
told() {
  local texts=() text
  while [ "$1" != -- ]; do texts+=("$1"); shift; done; shift
  "$@" > /tmp/out 2> /tmp/err || die "'$*' ended with status $?: $(cat /tmp/out /tmp/err)"
  ! grep -qiE "fail|error in|too short|truncat|unexpected|malformed|bad response" /tmp/err || die "'$*' complains: $(cat /tmp/err)"
  for text in "${texts[@]}"; do grep -qE -- "$text" /tmp/out /tmp/err || die "'$*' does not say '$text': $(cat /tmp/out /tmp/err)"; done
  echo "+ $*"
}
# at DISK BLOCK [BLOCKS]: what is there, by its sum.
at() { dd if=$1 bs=64k skip=$(($2 * 512)) count=$((${3:-8} * 512)) iflag=direct,skip_bytes,count_bytes status=none | sha; }
# sg_xcopy opens nothing else.
sg() { echo /dev/$(ls /sys/block/${1##*/}/device/scsi_generic); }
kib() { ask kib $1.img || exit 1; }
dd if=/dev/urandom of=/tmp/data bs=4096 count=1 status=none; data=$(sha /tmp/data)
dd if=/dev/zero of=/tmp/zero bs=4096 count=1 status=none; zero=$(sha /tmp/zero)

step "what a unit tells"
told "Block limits" "Third party copy" "Management network" "Mode page policy" "SCSI ports" -- sg_vpd $a
for page in $(sg_vpd $a | sed -n 's/.*\[\(.*\)\]$/\1/p'); do told -- sg_vpd -p $page $a; done
told "LU_CONG=0" "version=0x06" "TPGS=1 +3PC=1" "CmdQue=1" "ASHLAR" -- sg_inq $a
for page in 0 0x80 0x83 0x86 0xb0 0xb1 0xb2; do told -- sg_inq -p $page $a; done
told "UUID identifier" "$IQN,t,0x0001" "Relative target port: 0x1" -- sg_vpd -p di $a
told "Write same non-zero \(WSNZ\): 1" "Maximum compare and write length: 255" "Maximum transfer length: 8192 blocks" "Maximum unmap LBA count: 1048576" -- sg_vpd -p bl $a
told "Unmap command supported \(LBPU\): 1" "\(LBPWS\): 1" "\(LBPRZ\): 1" "thin provisioned" -- sg_vpd -p lbpv $a
told "lbpme=1, lbprz=1" "Last LBA=131071 " "length=512 bytes" "physical block length=4096" -- sg_readcap -l $a
told "Last LBA=131071 " -- sg_readcap $a
told " 48 .*overwrite" " 89 .*Compare and write" " 83 .*Extended copy" " 5f .*preempt and abort" " 42 .*Unmap" -- sg_opcodes -a $a
told "Abort task" "Logical unit reset" "Clear task set" -- sg_opcodes -t $a
told "Total bytes processed" "Non-medium error count = 0" "Informational Exceptions" -- sg_logs -A $a
told "DpoFua=1" "Caching" "Control" "Informational exceptions" -- sg_modes -a $a
told "2 lun entries" "0001000000000000" -- sg_luns $a
told "active/optimized" "AN_SUP : 1" -- sg_rtpg -d $a
told "No Sense" -- sg_requests $a
told -- sg_turs -n 3 $a
told -- sg_sync $a
told -- sg_start --start $a

step "unmap, write same, LBA status"
[ "$(kib 0)" = 0 ] || die "a sparse file takes $(kib 0) KiB"
told "blocks: +131072 +deallocated" -- sg_get_lba_status -l 0 $a
dd if=/dev/urandom of=$a bs=64k count=64 oflag=direct status=none
run sg_sync $a
[ $(kib 0) -ge 4096 ] || die "4 MiB written take $(kib 0) KiB"
told "blocks: +8192 +mapped" -- sg_get_lba_status -l 0 $a
run sg_unmap --force -l 0 -n 4096 $a
[ "$(at $a 0)" = $zero ] && [ "$(at $a 4096)" != $zero ] || die "sg_unmap has unmapped something else"
told "blocks: +4096 +deallocated" -- sg_get_lba_status -l 0 $a
run sg_write_same --16 --unmap --lba=4096 --num=2048 --in=/dev/zero $a
[ "$(at $a 4096)" = $zero ] && [ "$(at $a 6144)" != $zero ] || die "WRITE SAME with UNMAP has unmapped something else"
[ $(kib 0) -le 1100 ] || die "1 MiB takes $(kib 0) KiB"
head -c 512 /tmp/data > /tmp/block
for size in 10 16; do run sg_write_same --$size --lba=100 --num=8 --in=/tmp/block $a; done
for n in 0 7; do [ "$(at $a $((100 + n)) 1)" = $(sha /tmp/block) ] || die "WRITE SAME has not written block $n"; done
[ "$(at $a 108 1)" = $(head -c 512 /dev/zero | sha) ] || die "WRITE SAME has written too much"
run blkdiscard $a
[ "$(kib 0)" = 0 ] || die "a discarded disk takes $(kib 0) KiB"
run blkdiscard --zeroout $a

step "compare and write"
cat /tmp/zero /tmp/data > /tmp/swap
run sg_compare_and_write --in=/tmp/swap --lba=64 --num=8 $a
[ "$(at $a 64)" = $data ] || die "not written"
# 14: miscompare
sg_compare_and_write --in=/tmp/swap --lba=64 --num=8 $a > /tmp/out 2>&1; status=$?
[ $status = 14 ] || die "a miscompare gives status $status: $(cat /tmp/out)"
[ "$(at $a 64)" = $data ] || die "written after a miscompare"
run sg_verify --lba=64 --count=8 $a
run sg_verify --lba=64 --count=8 --ndo=4096 --in=/tmp/data $a
sg_verify --lba=64 --count=8 --ndo=4096 --in=/tmp/zero $a > /tmp/out 2>&1; status=$?
[ $status = 14 ] || die "VERIFY of other data gives status $status: $(cat /tmp/out)"

step "extended copy"
dd if=/dev/urandom of=$a bs=64k count=16 seek=16 oflag=direct status=none
run sg_xcopy if=$(sg $a) of=$(sg $b) skip=2048 seek=4096 count=2048 bs=512
[ "$(at $a 2048 2048)" = "$(at $b 4096 2048)" ] || die "another copy"
[ "$(at $b 6144)" = $zero ] || die "copied too much"
told -- sg_copy_results -p $(sg $a)

step "reservations of two hosts"
iscsi_host other iqn.2026-01.org.ashlar.test:other
iscsi_login $IQN $FIRST_PORT other
within 15 iscsi_disk $IQN 0 $FIRST_PORT iqn.2026-01.org.ashlar.test:other || die "no disk for the other host"
o=$(iscsi_disk $IQN 0 $FIRST_PORT iqn.2026-01.org.ashlar.test:other)
a=$(iscsi_disk $IQN 0 $FIRST_PORT iqn.2026-01.org.ashlar.test:guest)
# pr DISK ARGS...: again after a unit attention (6), which tells what another host has changed.
pr() {
  local disk=$1 status; shift
  for n in 1 2 3; do
    sg_persist -n "$@" $disk > /tmp/pr 2>&1; status=$?
    [ $status = 6 ] || return $status
  done
}
must() { pr "$@" || die "sg_persist $*: $(cat /tmp/pr)"; }
refused() { pr "$@"; local status=$?; [ $status = 24 ] || die "sg_persist $* gives status $status, not a conflict: $(cat /tmp/pr)"; }
io() { case $2 in read) dd if=$1 of=/dev/null bs=4096 count=1 iflag=direct status=none ;; write) dd if=/tmp/data of=$1 bs=4096 count=1 seek=1000 oflag=direct status=none ;; esac 2> /tmp/io; }
# rights R W: what the other host may do.
rights() {
  local what may
  for what in read:$1 write:$2; do
    may=no; io $o ${what%:*} && may=yes
    [ $may = ${what#*:} ] || die "type $type, $3: ${what%:*}: $may"
  done
  io $a write || die "type $type: the holder cannot write"
}
for type in 1 3 5 6 7 8; do
  must $a --out --register --param-sark=0xa1
  must $a --out --reserve --param-rk=0xa1 --prout-type=$type
  case $type in 1 | 5 | 7) rights yes no "a stranger" ;; *) rights no no "a stranger" ;; esac
  refused $o --out --reserve --param-rk=0xb1 --prout-type=$type
  must $o --out --register --param-sark=0xb1
  case $type in 1) rights yes no "a registrant" ;; 3) rights no no "a registrant" ;; *) rights yes yes "a registrant" ;; esac
  case $type in
    7 | 8) must $o --out --reserve --param-rk=0xb1 --prout-type=$type ;;
    *) refused $o --out --reserve --param-rk=0xb1 --prout-type=$type ;;
  esac
  must $a --in --read-full-status
  must $a --out --release --param-rk=0xa1 --prout-type=$type
  must $a --out --clear --param-rk=0xa1
  must $a --in --read-keys; grep -qi "no registered reservation keys" /tmp/pr || die "type $type: $(cat /tmp/pr)"
  pr $o --in --read-keys
  echo "type $type"
done
type=3
must $a --out --register --param-sark=0xa1; must $o --out --register --param-sark=0xb1
must $a --out --reserve --param-rk=0xa1 --prout-type=3
must $o --out --preempt --param-rk=0xb1 --param-sark=0xa1 --prout-type=1
io $a write && die "who was preempted has written"
io $o write || die "who preempted cannot write"
must $a --out --register --param-sark=0xa2
fio --name=held --filename=$a --offset=8M --size=4M --rw=randread --bs=4k --direct=1 --ioengine=libaio --iodepth=16 --time_based --runtime=4 > /tmp/fio 2>&1 & fio=$!
sleep 2
must $o --out --preempt-abort --param-rk=0xb1 --param-sark=0xa2 --prout-type=1
wait $fio || die "a reader has been harmed: $(cat /tmp/fio)"
must $o --in --read-reservation; grep -q "Key=0xb1" /tmp/pr || die "$(cat /tmp/pr)"
must $o --out --clear --param-rk=0xb1
io $a write; io $a write || die "after the clearing: $(cat /tmp/io)"
must $a --out --register-ignore --param-sark=0xa3
must $a --in --report-capabilities; grep -q "Persist Through Power Loss Capable(PTPL_C): 1" /tmp/pr || die "$(cat /tmp/pr)"

step "a reservation outlives the target"
must $a --out --register-ignore --param-sark=0xa4 --param-aptpl
must $a --out --reserve --param-rk=0xa4 --prout-type=1
ask restart > /dev/null || exit 1
# Both sessions come back by themselves; the kernel retries meanwhile.
within 30 io $a read || die "the session does not come back"
within 30 io $o read || die "the other session does not come back"
must $a --in --read-reservation; grep -q "Key=0xa4" /tmp/pr || die "not kept: $(cat /tmp/pr)"
io $o write && die "the other host has written"
io $a write || die "the holder cannot write"
must $a --out --clear --param-rk=0xa4
io $o write; io $o write || die "after the clearing: $(cat /tmp/io)"
run iscsiadm -m node -T $IQN -I other --logout > /dev/null

step "a disk grows"
# What is left to be told of the restart goes first.
io $b read
dmesg -C
ask grow 1.img 80 > /dev/null && ask rpc bdev_aio_rescan '{"name": "disk1"}' > /dev/null || exit 1
io $b read
dmesg | grep -q "Capacity data has changed" || die "the kernel was not told: $(dmesg)"
run iscsiadm -m session -R > /dev/null
within 5 test $(blockdev --getsize64 $b) = $((80 << 20)) || die "$b has $(blockdev --getsize64 $b) bytes"
dd if=/tmp/data of=$b bs=4096 seek=$(((80 << 8) - 1)) oflag=direct status=none || die "the last block cannot be written"
[ "$(at $b $(((80 << 11) - 8)))" = $data ] || die "the last block is another"

step "sanitize"
# By fail-fast off and IMMED on: progress is asked for meanwhile.
printf '\125\252\125\252' > /tmp/pattern
run sg_sanitize --quick --overwrite --pattern=/tmp/pattern --ipl=4 --count=1 --early $a
sg_requests --progress $a > /tmp/progress 2>&1; cat /tmp/progress
within 60 sg_turs $a || die "SANITIZE does not end: $(sg_turs -v $a 2>&1)"
[ "$(dd if=$a bs=512 skip=1000 count=1 iflag=direct status=none | od -An -tx1 -N4 | tr -d ' ')" = 55aa55aa ] || die "not overwritten"
run sg_sanitize --quick --block --early $a
within 60 sg_turs $a || die "SANITIZE does not end: $(sg_turs -v $a 2>&1)"
[ "$(at $a 1000)" = $zero ] || die "not erased"
[ "$(kib 0)" = 0 ] || die "an erased disk takes $(kib 0) KiB"
run iscsiadm -m node --logoutall=all > /dev/null
dmesg | grep -iE "BUG:|oops" && die "the kernel complained"
echo PASS
