# CHAP as a Linux host does it: discovery and login, with each hash, in both directions, and refused with a wrong secret.  Then
# the session moves to another portal.  ISCSI_PORT, PORT2, ONE and BOTH (targets), USER, SECRET, OURS, OUR_SECRET.
iscsi_start
portal=127.0.0.1:$ISCSI_PORT
# refused WHAT CMD...: must fail as open-iscsi fails when it is not let in (24: ISCSI_ERR_LOGIN_AUTH_FAILED).
refused() {
  local what=$1 status; shift
  "$@" > /tmp/refused 2>&1; status=$?
  [ $status = 24 ] || die "$what: status $status, expected 24: $(cat /tmp/refused)"
  echo "$what: refused"
}
node() { local iqn=$1; shift; iscsiadm -m node -T $iqn -p $portal "$@"; }
set_node() { node $1 -o update -n node.session.auth.$2 -v "$3" || die "cannot set $2"; }

step "discovery needs a secret"
refused "discovery without one" iscsiadm -m discovery -t st -p $portal
iscsiadm -m discoverydb -t st -p $portal -o new > /dev/null || die "no record"
set_disc() { iscsiadm -m discoverydb -t st -p $portal -o update -n discovery.sendtargets.auth.$1 -v "$2" || die "cannot set $1"; }
set_disc authmethod CHAP; set_disc username $USER; set_disc password not-the-secret
refused "discovery with a wrong one" iscsiadm -m discoverydb -t st -p $portal --discover
set_disc password "$SECRET"
run iscsiadm -m discoverydb -t st -p $portal --discover
[ "$(iscsiadm -m node | awk '{ print $2 }' | sort | tr '\n' ' ')" = "$BOTH $ONE " ] || die "found $(iscsiadm -m node)"

step "login needs one, too"
refused "login without one" node $ONE --login
set_node $ONE authmethod CHAP; set_node $ONE username $USER; set_node $ONE password not-the-secret
refused "login with a wrong one" node $ONE --login
set_node $ONE password "$SECRET"; set_node $ONE username somebody
refused "login as somebody else" node $ONE --login
set_node $ONE username $USER

dd if=/dev/urandom of=/tmp/pattern bs=64k count=4 status=none
for hash in MD5 SHA1 SHA256 SHA3-256; do
  step "one way, $hash"
  set_node $ONE chap_algs $hash
  run node $ONE --login > /dev/null
  wait_for 20 iscsi_disk $ONE || die "no disk"
  disk=$(iscsi_disk $ONE)
  run dd if=/tmp/pattern of=$disk bs=64k oflag=direct status=none
  [ "$(dd if=$disk bs=64k count=4 iflag=direct status=none | sha)" = "$(sha /tmp/pattern)" ] || die "other data"
  run node $ONE --logout > /dev/null
done

set_both() { set_node $BOTH "$1" "$2"; }
set_both authmethod CHAP; set_both username $USER; set_both password "$SECRET"
step "both ways"
refused "login that asks nothing of the target" node $BOTH --login
set_both username_in $OURS; set_both password_in not-our-secret
node $BOTH --login > /tmp/mutual 2>&1 && die "the host took a wrong secret for the target's"
for hash in MD5 SHA256 SHA3-256,SHA256,SHA1,MD5; do
  set_both password_in "$OUR_SECRET"; set_both chap_algs $hash
  step "both ways, $hash"
  run node $BOTH --login > /dev/null
  wait_for 20 iscsi_disk $BOTH || die "no disk"
  run node $BOTH --logout > /dev/null
done

step "the target sends the host elsewhere"
run node $ONE --login > /dev/null
wait_for 20 iscsi_disk $ONE || die "no disk"
echo MOVE
moved() { iscsiadm -m session -P 1 | grep -q "Current Portal: 127.0.0.1:$PORT2"; }
wait_for 60 moved || die "still at $(iscsiadm -m session -P 1 | grep Portal); $(dmesg | tail -5)"
[ "$(dd if=$(iscsi_disk $ONE) bs=64k count=4 iflag=direct status=none | sha)" = "$(sha /tmp/pattern)" ] || die "other data"
# By session: no record names the portal it is at.
run iscsiadm -m session -u > /dev/null
echo PASS
