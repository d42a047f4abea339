# In-band authentication by a real host: every hash and group, one way and both ways, wrong keys, new keys.
# FIRST_PORT, HELPER_PORT, KEY_1, KEY_2, KEY_3 (host keys), KEY_C (the controller's).
nvme_start
NVME_PORT=$FIRST_PORT
nqn=nqn.2026-11.io.ashlar:locked
host=$(cat /etc/nvme/hostnqn)
address="\"listen_address\": {\"trtype\": \"TCP\", \"adrfam\": \"IPv4\", \"traddr\": \"127.0.0.1\", \"trsvcid\": \"$FIRST_PORT\"}"
ask rpc nvmf_create_subsystem "{\"nqn\": \"$nqn\"}" > /dev/null || exit 1
ask rpc nvmf_subsystem_add_ns "{\"nqn\": \"$nqn\", \"namespace\": {\"bdev_name\": \"first\"}}" > /dev/null || exit 1
ask rpc nvmf_subsystem_add_listener "{\"nqn\": \"$nqn\", $address}" > /dev/null || exit 1
ask rpc nvmf_subsystem_add_host "{\"nqn\": \"$nqn\", \"host\": \"$host\", \"dhchap_key\": \"one\"}" > /dev/null || exit 1
connect() { nvme connect -t tcp -a 127.0.0.1 -s $FIRST_PORT -n $nqn -i 1 "$@"; }
works() {
  step "$1"; shift
  connect "$@" || die "$* -> $(dmesg | tail -5)"
  wait_for 15 nvme_disk $nqn || die "no disk"
  run dd if=$(nvme_disk $nqn) of=/dev/null bs=4096 count=1 iflag=direct status=none
  run nvme disconnect -n $nqn > /dev/null
}
refused() { step "$1"; shift; if connect "$@"; then die "that should have been refused"; fi; }
refused "no key" 
refused "a wrong key" --dhchap-secret=$KEY_2
works "the right key, the strongest hash and group" --dhchap-secret=$KEY_1
for hash in sha256 sha384 sha512; do
  ask rpc ashlar_nvmf_set_dhchap "{\"digests\": [\"$hash\"], \"dhgroups\": [\"null\"]}" > /dev/null || exit 1
  works "$hash" --dhchap-secret=$KEY_1
done
for group in ffdhe2048 ffdhe3072 ffdhe4096 ffdhe6144 ffdhe8192; do
  ask rpc ashlar_nvmf_set_dhchap "{\"digests\": [\"sha256\"], \"dhgroups\": [\"$group\"]}" > /dev/null || exit 1
  works "$group" --dhchap-secret=$KEY_1
done
ask rpc nvmf_subsystem_set_keys "{\"nqn\": \"$nqn\", \"host\": \"$host\", \"dhchap_key\": \"one\", \"dhchap_ctrlr_key\": \"controller\"}" > /dev/null || exit 1
works "both ways" --dhchap-secret=$KEY_1 --dhchap-ctrl-secret=$KEY_C
refused "a controller that cannot prove itself" --dhchap-secret=$KEY_1 --dhchap-ctrl-secret=$KEY_2
step "new keys while connected"
connect --dhchap-secret=$KEY_1 || die "$(dmesg | tail -5)"
wait_for 15 nvme_disk $nqn || die "no disk"
c=$(ls -d /sys/class/nvme/nvme* | head -1)
ask rpc nvmf_subsystem_set_keys "{\"nqn\": \"$nqn\", \"host\": \"$host\", \"dhchap_key\": \"three\"}" > /dev/null || exit 1
run dd if=$(nvme_disk $nqn) of=/dev/null bs=4096 count=1 iflag=direct status=none
echo "$KEY_3" > $c/dhchap_secret || die "reauthentication with the new key: $(dmesg | tail -5)"
run dd if=$(nvme_disk $nqn) of=/dev/null bs=4096 count=1 iflag=direct status=none
run nvme disconnect -n $nqn > /dev/null
refused "the old key" --dhchap-secret=$KEY_1
works "the new key" --dhchap-secret=$KEY_3
# blktests 042: keys of every length, transformed in every way, as nvme-cli makes them.
use() { ask rpc nvmf_subsystem_set_keys "{\"nqn\": \"$nqn\", \"host\": \"$host\", \"dhchap_key\": \"$1\"${2:+, \"dhchap_ctrlr_key\": \"$2\"}}" > /dev/null || exit 1; }
ask rpc ashlar_nvmf_set_dhchap '{"digests": ["sha256"], "dhgroups": ["null"]}' > /dev/null || exit 1
n=0
for kind in "0 32" "1 32" "2 48" "3 64"; do
  set -- $kind; n=$((n + 1))
  key=$(nvme gen-dhchap-key --hmac=$1 --key-length=$2 -n $host) || die "gen-dhchap-key: $key"
  ask key fresh$n "$key" > /dev/null || exit 1
  use fresh$n; works "a key of $2 bytes, transformed by $1" --dhchap-secret="$key"
done
step "again on a connection in use: the same keys, a new host key, a new controller key, another group, another hash (045)"
use one controller
connect --dhchap-secret=$KEY_1 --dhchap-ctrl-secret=$KEY_C || die "$(dmesg | tail -5)"
wait_for 15 nvme_disk $nqn || die "no disk"
c=$(grep -l "^$nqn$" /sys/class/nvme/nvme*/subsysnqn) c=${c%/*} d=$(nvme_disk $nqn)
fio --name=load --filename=$d --rw=randread --bs=4k --direct=1 --size=2M --time_based --runtime=300 > /tmp/fio.auth 2>&1 & fio=$!
proofs() { dmesg | grep -c "authenticated with hash .*${1:-}"; }
more() { [ $(proofs "$1") -gt $before ]; }
# again FILE KEY WHAT [SAID]: the host authenticates in the background once a key is written; the kernel says when it is through.
again() {
  before=$(proofs "${4:-}")
  echo "$2" > $c/$1 || die "$3: $(dmesg | tail -5)"
  wait_for 20 more "${4:-}" || die "$3: no authentication: $(dmesg | tail -5)"
  kill -0 $fio 2>/dev/null || die "$3: the load ended: $(cat /tmp/fio.auth)"
}
again dhchap_secret "$KEY_1" "the same keys"
use two controller; again dhchap_secret "$KEY_2" "a new host key"
use two three; again dhchap_ctrl_secret "$KEY_3" "a new controller key"
ask rpc ashlar_nvmf_set_dhchap '{"dhgroups": ["ffdhe2048"]}' > /dev/null || exit 1
again dhchap_secret "$KEY_2" "another group" ffdhe2048
ask rpc ashlar_nvmf_set_dhchap '{"digests": ["sha512"]}' > /dev/null || exit 1
again dhchap_secret "$KEY_2" "another hash" "sha512.*ffdhe2048"
kill $fio; wait $fio
run dd if=$d of=/dev/null bs=4096 count=1 iflag=direct status=none
run nvme disconnect -n $nqn > /dev/null
dmesg | grep -iE "BUG|oops" && die "the kernel complained"
echo PASS
