# TLS by a real host: both versions of identities, wrong keys, new keys, digests, authentication on top, reconnects.
# TLS_PORT, PLAIN_PORT, HELPER_PORT, KEY_256, KEY_OTHER (PSKs), KEY_CHAP (the host's secret).
nvme_start
tls_start
NVME_PORT=$TLS_PORT
nqn=nqn.2026-11.io.ashlar:tls
host=$(cat /etc/nvme/hostnqn)
keys() { ask rpc nvmf_subsystem_set_keys "{\"nqn\": \"$nqn\", \"host\": \"$host\", $1}" > /dev/null || exit 1; }
# insert KEY VERSION [NQN]: the only key of the host in its keyring.
insert() { nvme_tls check-tls-key -d "$1" -I $2 -n $host -c ${3:-$nqn} -i > /tmp/insert.log 2>&1 || die "no key: $(cat /tmp/insert.log)"; }
clear_keys() { local id; for id in $(grep -o '^[0-9a-f]* .* psk ' /proc/keys | cut -d' ' -f1); do chroot /opt/tls keyctl unlink 0x$id %:.nvme 2>/dev/null; done; }
connect() { nvme_tls connect -t tcp -a 127.0.0.1 -s $TLS_PORT -n $nqn --hostnqn $host -i 2 --tls "$@"; }
works() {
  step "$1"; shift
  connect "$@" || die "$* -> $(dmesg | tail -5; tail -5 /tmp/tlshd.log)"
  wait_for 20 nvme_disk $nqn || die "no disk: $(dmesg | tail -5)"
  fio_verify $(nvme_disk $nqn) 3
}
done_with() { run nvme disconnect -n $nqn > /dev/null; }
refused() { step "$1"; shift; if connect "$@"; then die "that should have been refused"; fi; }

refused "no key"
insert $KEY_OTHER 0
refused "a wrong key"
clear_keys
insert $KEY_256 0
works "TLS_AES_128_GCM_SHA256, identity of version 0"
case $(ask rpc nvmf_subsystem_get_qpairs "{\"nqn\": \"$nqn\"}") in *TLS_AES_128_GCM_SHA256*) ;; *) die "nobody says that it is encrypted" ;; esac
step "the target goes away and comes back"
ask restart > /dev/null || exit 1
run dd if=$(nvme_disk $nqn) of=/dev/null bs=4096 count=256 iflag=direct status=none
fio_verify $(nvme_disk $nqn) 3
done_with
works "with digests" -g -G
done_with
step "the discovery service"
insert $KEY_256 0 nqn.2014-08.org.nvmexpress.discovery
nvme_tls discover -t tcp -a 127.0.0.1 -s $TLS_PORT --hostnqn $host --tls > /tmp/discover.log || die "$(cat /tmp/discover.log)"
for text in "treq:    required" "sectype: tls13" $nqn; do grep -q "$text" /tmp/discover.log || die "no '$text': $(cat /tmp/discover.log)"; done
clear_keys
insert $KEY_256 1
works "identity of version 1"
done_with
step "new keys while connected"
works "the old one" 
keys '"psk": "other"'
run dd if=$(nvme_disk $nqn) of=/dev/null bs=4096 count=16 iflag=direct status=none
done_with
refused "the old key"
clear_keys
insert $KEY_OTHER 1
works "the new key"
done_with
step "authentication within TLS"
keys '"dhchap_key": "chap"'
refused "a host that cannot prove itself"
works "a host that can" --dhchap-secret=$KEY_CHAP
done_with
step "a host without TLS, where it is required"
if nvme connect -t tcp -a 127.0.0.1 -s $TLS_PORT -n $nqn --hostnqn $host; then die "that should have been refused"; fi
step "a host with TLS, where there is none"
insert $KEY_256 1 nqn.2026-11.io.ashlar:plain
if nvme_tls connect -t tcp -a 127.0.0.1 -s $PLAIN_PORT -n nqn.2026-11.io.ashlar:plain --hostnqn $host --tls; then die "that should have been refused"; fi
dmesg | grep -iE "BUG|oops" && die "the kernel complained"
echo PASS
