# Prints spec/tests/md/layouts.txt: where Linux puts which chunk, for every level and layout.
#   tests/guest/run --timeout 1200 md_layouts.sh > spec/tests/md/layouts.txt
for m in loop raid0 raid10 raid456; do modprobe $m || die "no $m"; done
cd /dev/shm
# Chunk n of an array: a number that is like no other, 512 times.
for ((n = 0; n < 512; n++)); do printf '%016x\n' $(((n + 1) * 0x9e3779b97f4a7c15)); done > numbers
sed 's/\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)/\8\7\6\5\4\3\2\1/' numbers |
  awk '{ for (i = 0; i < 512; i++) printf "%s", $1; print "" }' | busybox xxd -r -p > pattern
first() { od -An -v -tx8 -w4096 | awk '{ print $1 }'; }
[ "$(first < pattern | cmp - numbers)" = "" ] || die "the pattern is not as it should be"
clear() { for i in 0 1 2 3 4 5 6; do losetup -d /dev/loop$i 2>/dev/null; rm -f m$i; done; }
# array NAME MEMBERS ROWS ARGS...: ROWS of each member are shown
array() {
  local name=$1 members=$2 rows=$3 devs= i size level=; shift 3
  for ((i = 0; i < members; i++)); do
    truncate -s ${sizes[i]:-1280}K m$i; losetup /dev/loop$i m$i; devs="$devs /dev/loop$i"
  done
  mdadm --create /dev/md0 --run --metadata=1.2 --data-offset=1024 --chunk=4 --raid-devices=$members "$@" $devs > log 2>&1 < <(yes) || die "$name: $(cat log)"
  size=$(cat /sys/block/md0/size)
  busybox dd if=pattern of=/dev/md0 bs=4096 count=$((size / 8)) conv=fsync 2>/dev/null
  wait_for 10 mdadm --stop /dev/md0 || die "$name does not stop"
  field() { od -An -tu$2 -j $((4096 + $1)) -N$2 m0 | tr -d ' '; }
  echo "array $name level $(field 72 4) layout $(field 76 4) size $(field 80 8) chunk $(field 88 4) sectors $size"
  for ((i = 0; i < members; i++)); do
    tail -c +1048577 m$i | first | head -n $rows | awk -v f=numbers 'BEGIN { while ((getline n < f) > 0) at[n] = i++ }
      { printf("%s%s", (NR > 1 ? " " : ""), (($1 in at) ? at[$1] : ($1 ~ /^0*$/ ? "-" : "x" $1))) } END { print "" }'
  done
  clear
}
echo "# Where $(uname -s) $(uname -r | sed 's/[-+].*//') puts what, printed by tests/guest/scripts/md_layouts.sh: arrays of chunks of 4 KiB whose chunk n was filled with the word
# (n + 1) * 0x9e3779b97f4a7c15. Behind each array a line for each member: what its chunks hold, a number of a chunk of the array, another word in
# hexadecimal with x before it, or - for zeros."
fixed="--assume-clean --bitmap=none --size=128"
for k in 3 4 5; do for l in left-asymmetric right-asymmetric left-symmetric right-symmetric parity-first parity-last; do
  array raid5-$l-$k $k 12 $fixed --level=5 --layout=$l
done; done
for k in 3 5; do array raid4--$k $k 12 $fixed --level=4; done
for k in 4 5 6; do for l in left-asymmetric right-asymmetric left-symmetric right-symmetric parity-first parity-last ddf-zero-restart ddf-N-restart ddf-N-continue left-asymmetric-6 right-asymmetric-6 left-symmetric-6 right-symmetric-6 parity-first-6; do
  array raid6-$l-$k $k 12 $fixed --level=6 --layout=$l
done; done
for k in 2 3 4 5 6; do for l in n2 f2 o2 n3 f3 o3; do
  case $k$l in 2?3) continue ;; esac
  array raid10-$l-$k $k 64 $fixed --level=10 --layout=$l
done; done
for l in original alternate; do
  sizes=(1152 1088 1120); array raid0-$l-3 3 64 --level=0 --layout=$l
  sizes=(1052 1056 1060 1060 1100); array raid0-$l-5 5 64 --level=0 --layout=$l
  sizes=(1056 1056 1056 1056); array raid0-$l-4 4 64 --level=0 --layout=$l
done
