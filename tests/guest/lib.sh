# For guest scripts, sourced before them.
step() { read -r up _ < /proc/uptime; echo "== [$up] $*"; }
die() { echo "FAIL: $*" >&2; exit 1; }
# run CMD...: say it, run it, end the script when it fails.
run() { echo "+ $*"; "$@" || die "'$*' ended with status $?"; }
# wait_for SECONDS CMD...: until CMD succeeds.
wait_for() { local n=$(($1 * 10)); shift; until "$@" >/dev/null 2>&1; do n=$((n - 1)); [ $n -gt 0 ] || return 1; sleep 0.1; done; }
# within SECONDS CMD...: the same for CMDs that take long themselves.
within() { local end=$((SECONDS + $1 + 1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done; }
# Watches for times at which this whole machine stands still (an emulated CPU on a busy host does); still: the longest, in microseconds.
still_watch() {
  (trap 'exit 0' TERM; before=${EPOCHREALTIME/./} longest=0
   while sleep 0.2; do
     now=${EPOCHREALTIME/./}; [ $((now - before - 200000)) -gt $longest ] && { longest=$((now - before - 200000)); echo $longest > /tmp/still; }
     before=$now
   done) &
}
still() { cat /tmp/still 2>/dev/null || echo 0; }
sha() { sha256sum "$@" | cut -d' ' -f1; }
# ask WORD...: has the story on the host do it (blackbox::Helper); prints its answer.  x=$(ask ...) || exit 1
ask() {
  local reply
  exec 9<>/dev/tcp/127.0.0.1/$HELPER_PORT || die "the host's helper is not there"
  echo "$*" >&9; IFS= read -r reply <&9; exec 9>&-
  case $reply in FAIL*) echo "$* -> $reply" >&2; return 1 ;; esac
  echo "$reply"
}
# ask_until SECONDS WANTED WORD...: until the answer is as wanted (a pattern).
ask_until() {
  local n=$1 wanted=$2 reply; shift 2
  while :; do
    reply=$(ask "$@") || return 1
    case $reply in $wanted) return 0 ;; esac
    n=$((n - 1)); [ $n -gt 0 ] || { echo "$* -> $reply, not $wanted" >&2; return 1; }
    sleep 1
  done
}
# fails TEXT CMD...: it must fail, and say TEXT.
fails() {
  local text=$1 said; shift
  if said=$("$@" 2>&1); then die "'$*' should have failed, but said: $said"; fi
  case $said in *"$text"*) echo "+ $* -> $text" ;; *) die "'$*' failed without saying '$text': $said" ;; esac
}

# ---- NVMe/TCP
nvme_start() { modprobe nvme_core multipath=Y; modprobe nvme-tcp || die "no nvme-tcp"; }
# tls_start: the kernel's helper for TLS handshakes, and an nvme command that knows TLS (both in /opt/tls, see make).
tls_start() {
  local d
  for d in dev proc sys; do mount --rbind /$d /opt/tls/$d || die "no /opt/tls/$d"; done
  mkdir -p /opt/tls/etc/nvme; cp /etc/nvme/* /opt/tls/etc/nvme/
  modprobe tls || die "no tls"; modprobe nvme-keyring || die "no nvme-keyring"
  printf '[debug]\nloglevel=1\ntls=0\nnl=0\n[authenticate]\nkeyrings=.nvme\n' > /opt/tls/etc/tlshd.conf
  chroot /opt/tls tlshd -s -c /etc/tlshd.conf > /tmp/tlshd.log 2>&1 &
}
nvme_tls() { chroot /opt/tls nvme "$@"; }
# nvme_disk NQN [NSID]: the block device of a connected subsystem's namespace.
nvme_disk() {
  local s n
  for s in /sys/class/nvme-subsystem/*; do
    [ "$(cat $s/subsysnqn 2>/dev/null)" = "$1" ] || continue
    for n in $s/nvme*n*; do
      [ -e $n/nsid ] && [ "$(cat $n/nsid)" = "${2:-1}" ] && [ -b /dev/${n##*/} ] && { echo /dev/${n##*/}; return 0; }
    done
  done
  return 1
}
# nvme_connect NQN [ARGS...]: connects and prints nothing; use nvme_disk.
nvme_connect() { local nqn=$1; shift; run nvme connect -t tcp -a 127.0.0.1 -s $NVME_PORT -n $nqn "$@"; wait_for 15 nvme_disk $nqn || die "no disk of $nqn"; }

# ---- iSCSI
iscsi_start() {
  modprobe iscsi_tcp || die "no iscsi_tcp"; modprobe sd_mod; modprobe sg
  setsid iscsid -f > /tmp/iscsid.log 2>&1 &
  wait_for 10 iscsiadm -m iface || die "iscsid does not answer: $(cat /tmp/iscsid.log)"
}
# iscsi_disk IQN [LUN [PORT [INITIATOR]]]: the block device of a logged-in session's LUN; of the session through this port, of this host.
iscsi_disk() {
  local s b
  for s in /sys/class/iscsi_session/session*; do
    [ "$(cat $s/targetname 2>/dev/null)" = "$1" ] || continue
    [ -z "${3:-}" ] || [ "$(cat $s/device/connection*/iscsi_connection/*/persistent_port 2>/dev/null)" = "$3" ] || continue
    [ -z "${4:-}" ] || [ "$(cat $s/initiatorname 2>/dev/null)" = "$4" ] || continue
    for b in $s/device/target*/*:*:*:${2:-0}/block/sd*; do [ -b /dev/${b##*/} ] && { echo /dev/${b##*/}; return 0; }; done
  done
  return 1
}
# iscsi_login IQN [ADDRESS:]PORT [IFACE [NAME=VALUE...]]: logs in without discovery, with these settings of the node record.
iscsi_login() {
  local iqn=$1 port=$2 iface=${3:-default} setting; shift 2; shift
  case $port in *:*) ;; *) port=127.0.0.1:$port ;; esac
  local record="-m node -T $iqn -p $port -I $iface"
  run iscsiadm $record -o new > /dev/null
  for setting in "$@"; do run iscsiadm $record -o update -n "${setting%%=*}" -v "${setting#*=}" > /dev/null; done
  run iscsiadm $record --login > /dev/null
}
# iscsi_host IFACE NAME: another initiator name for logins with this interface.
iscsi_host() {
  run iscsiadm -m iface -I $1 -o new > /dev/null
  run iscsiadm -m iface -I $1 -o update -n iface.initiatorname -v $2 > /dev/null
}
# A device manager, for those who need its names and rules (multipathd).
udev_start() {
  /usr/lib/systemd/systemd-udevd --daemon || die "no udevd"
  udevadm trigger --action=add --subsystem-match=block --subsystem-match=scsi; udevadm settle -t 30
}

# fio_verify FILE SECONDS [ARGS...]: random writes and reads, every block checked.
fio_verify() {
  local file=$1 seconds=$2; shift 2
  run fio --name=verify --filename=$file --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c \
    --verify_fatal=1 --verify_backlog=64 --time_based --runtime=$seconds --output-format=terse --terse-version=3 "$@" |
    awk -F';' '/^3;/ { printf "fio: %d s, %d reads/s, %d writes/s, error %d\n", '$seconds', $8, $49, $5; next } { print }'
  [ "${PIPESTATUS[0]}" = 0 ] || exit 1
}
# load_start DISK [ARGS...]: the same in the background, until load_stop WHY ends it; that sets longest, of all reads and writes in microseconds.
load_start() {
  local disk=$1; shift
  fio --name=load --filename=$disk --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --size=16M --verify=crc32c --verify_fatal=1 \
    --verify_backlog=64 --time_based --runtime=600 --output-format=terse --terse-version=3 "$@" > /tmp/load 2>&1 &
  load=$!
}
load_stop() {
  local status
  kill $load; wait $load; status=$?
  awk -F';' '/^3;/ { printf "fio: %d reads/s, %d writes/s, error %d, longest read %d us, longest write %d us\n", $8, $49, $5, $39, $80; next } { print }' /tmp/load
  # 128: fio was told to end, and had found nothing wrong.
  [ $status = 128 ] && awk -F';' '/^3;/ { seen = 1; if ($5) bad = 1 } END { exit bad || !seen }' /tmp/load || die "$1: fio ended with $status: $(dmesg | tail -20)"
  longest=$(awk -F';' '/^3;/ { print ($39 > $80 ? $39 : $80) }' /tmp/load)
}
