# Verified loads on arrays whose members fail meanwhile.  FIVE, SIX, THREE: subsystems of a RAID-5 of f0 f1 f2 with the spare f3, and f4 blank; of a RAID-6 of s0 to s4
# with t0 and t1 blank; of a mirror of m0 m1 m2 with n0 and n1 blank.  NVME_PORT.  HELPER_PORT: "ashlar WORD...", "vanish DISK...", "state ARRAY", "differs ARRAY".
nvme_start
# begin NQN: its disk under two loads: one that verifies as it goes, and one whose blocks are looked at when all is over.
begin() {
  nvme_connect $1; d=$(nvme_disk $1)
  load_start $d
  kept="--name=kept --filename=$d --offset=24M --size=12M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=4 --verify=crc32c --verify_fatal=1 --randseed=7"
  fio $kept --do_verify=0 --rate_iops=100 --output-format=terse > /tmp/kept 2>&1 &
  keeps=$!
  sleep 3
}
whole() { ask_until 90 whole state $1 || die "$1 is not whole again"; }
# end ARRAY: nobody has seen an error, everything is there, and members agree.
end() {
  kill -0 $keeps 2>/dev/null || echo "the other load was over before"
  wait $keeps || die "$1: fio failed: $(cat /tmp/kept; dmesg | tail -20)"
  load_stop $1
  run fio $kept --verify_only --output-format=terse > /tmp/verify || die "$1 holds something else: $(cat /tmp/verify)"
  [ "$(ask differs $1)" = 0 ] || die "members of $1 disagree"
  dmesg | grep -iE 'I/O error|reconnect|timeout' && die "$1: the kernel has seen it"
  run nvme disconnect -n $2 > /dev/null
}

step "RAID-5: one fails and its spare takes over, then another vanishes and a disk is added"
begin $FIVE
ask ashlar raid limit md/five 12 > /dev/null || exit 1
ask ashlar raid fail md/five f1 > /dev/null || exit 1
ask_until 20 rebuild state md/five || exit 1
whole md/five
ask vanish f0 > /dev/null || exit 1
ask_until 20 degraded state md/five || exit 1
ask ashlar do raid-add md/five disks=f4 > /dev/null || exit 1
ask_until 20 rebuild state md/five || exit 1
whole md/five
end md/five $FIVE

step "RAID-6: two at once, each in its way"
begin $SIX
ask ashlar raid limit md/six 12 > /dev/null || exit 1
ask vanish s1 > /dev/null || exit 1
ask ashlar raid fail md/six s3 > /dev/null || exit 1
ask_until 20 degraded state md/six || exit 1
sleep 2
ask ashlar do raid-add md/six disks=t0,t1 > /dev/null || exit 1
ask_until 20 rebuild state md/six || exit 1
whole md/six
end md/six $SIX

step "a mirror of three: two at once"
begin $THREE
ask ashlar raid limit md/three 12 > /dev/null || exit 1
ask vanish m0 m2 > /dev/null || exit 1
ask_until 20 degraded state md/three || exit 1
sleep 2
ask ashlar do raid-add md/three disks=n0,n1 > /dev/null || exit 1
ask_until 20 rebuild state md/three || exit 1
whole md/three
end md/three $THREE
dmesg | grep -iE "BUG:|oops|hung task" && die "the kernel complained"
echo PASS
