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
dmesg | grep -iE "BUG|oops" && die "the kernel complained"
echo PASS
