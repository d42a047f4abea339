//! Checks that hold for any bytes: what the fuzz targets run, and the ordinary tests over the corpus.
use super::{
    Sqe,
    auth::{self, FromHost, GroupId, HashId, Reason},
    command::DsmRange,
    discovery, fabrics,
    feature::Select,
    identify::{self, NamespaceIds},
    log::GetLogPage,
    nqn_is_valid, nqn_of,
    tcp::{self, Digests, Header},
    tls::{self, ClientHello, Identity},
};
use zerocopy::{FromBytes, IntoBytes};

/// A PDU header is either refused by a byte that is in it, or its parts fit into what it says it is long.
pub fn tcp_pdu(bytes: &[u8]) {
    let Ok((header, _)) = Header::ref_from_prefix(bytes) else {
        return;
    };
    for bits in 0..4 {
        for (pda, max) in [(0, 8192), (31, 65536), (0, u32::MAX)] {
            match header.check(Digests::of(bits), pda, max) {
                Ok(layout) => {
                    let end = layout.head as u64 + u64::from(layout.data) + if layout.data_digest { 4 } else { 0 };
                    assert_eq!(end, u64::from(header.plen.get()), "{header:?} {layout:?}");
                    assert!(
                        layout.head < tcp::HEAD_MAX && layout.head >= layout.kind.header_len() && layout.data <= max
                    );
                }
                Err(fatal) => assert!(fatal.info < 8, "{fatal:?}"),
            }
        }
    }
}

/// Every reading of a submission entry gives something, and what is written back reads the same.
pub fn sqe(bytes: &[u8]) {
    let Ok((sqe, rest)) = Sqe::ref_from_prefix(bytes) else {
        return;
    };
    let ranged = Sqe { ..*sqe }.with_range(sqe.slba(), sqe.blocks());
    assert_eq!((ranged.slba(), ranged.blocks()), (sqe.slba(), sqe.blocks()));
    assert!((1..=65536).contains(&sqe.blocks()));
    let ask = GetLogPage::of(sqe);
    assert_eq!(GetLogPage::of(&ask.put(Sqe::default())), ask);
    let connect = fabrics::Connect::of(sqe);
    assert_eq!(fabrics::Connect::of(&connect.sqe(1)), connect);
    let _ = (
        fabrics::Property::of(sqe),
        Select::of(sqe.cdw1(0)),
        sqe.fuse(),
        sqe.psdt(),
        sqe.prinfo(),
        sqe.fctype(),
    );
    // What follows is the data a command may bring.
    let _ = NamespaceIds::from_descriptors(rest);
    if let Ok((range, _)) = DsmRange::ref_from_prefix(rest) {
        assert_eq!(DsmRange::read_from_bytes(range.as_bytes()).as_ref(), Ok(range));
    }
    if let Ok((data, _)) = fabrics::ConnectData::ref_from_prefix(rest) {
        if let Some(nqn) = data.subnqn() {
            assert!(nqn.len() < 256 && (!nqn_is_valid(nqn) || nqn.len() <= super::NQN_MAX));
        }
        let _ = data.hostnqn();
    }
    if let Ok((entry, _)) = discovery::Entry::ref_from_prefix(rest) {
        let _ = (entry.address(), entry.subnqn());
    }
    let _ = (
        nqn_of(rest),
        identify::IdentifyController::ref_from_prefix(rest).map(|(id, _)| id.nn),
    );
}

/// A message is either refused with a reason that goes back, or what is read from it was in it.
pub fn auth(bytes: &[u8]) {
    let transaction = |bytes: &[u8]| u16::from_le_bytes([bytes[4], bytes[5]]);
    match FromHost::parse(bytes) {
        Err(reason) => {
            let told = auth::failure1(7, reason);
            assert_eq!((told.len(), told[7]), (8, reason as u8), "{reason:?}");
        }
        Ok(FromHost::Negotiate(ask)) => {
            assert!(ask.hashes.len() <= 30 && ask.groups.len() <= 30, "{ask:?}");
            let listed = |id: u8| bytes[8..].contains(&id);
            assert!(ask.hashes.iter().all(|hash| listed(*hash as u8)), "{ask:?}");
            assert!(ask.groups.iter().all(|group| listed(*group as u8)), "{ask:?}");
            assert_eq!((ask.transaction, ask.secure_channel), (transaction(bytes), bytes[6]));
        }
        Ok(FromHost::Reply(reply)) => {
            let (len, value) = (usize::from(bytes[6]), reply.value.len());
            assert_eq!(reply.response, bytes[16..16 + len]);
            assert!(reply.challenge.is_none_or(|c2| c2 == bytes[16 + len..16 + 2 * len]));
            assert_eq!(reply.value, bytes[16 + 2 * len..16 + 2 * len + value]);
            assert_eq!(reply.transaction, transaction(bytes));
            // Each byte less than that is refused.
            let short = FromHost::parse(&bytes[..16 + 2 * len + value - 1]);
            assert_eq!(short, Err(Reason::IncorrectPayload));
        }
        Ok(FromHost::Success2(of) | FromHost::Failure(of)) => assert_eq!(of, transaction(bytes)),
    }
    // What the controller says is as long as it says, whatever the values in it.
    let Some((&pick, value)) = bytes.split_first() else {
        return;
    };
    let hash = HashId::ALL[usize::from(pick) % HashId::ALL.len()];
    let group = GroupId::ALL[usize::from(pick >> 4) % GroupId::ALL.len()];
    let value = &value[..value.len().min(group.bits() as usize / 8)];
    let said = auth::challenge(3, hash, group, 1, &[0x5a; 64][..hash.size()], value);
    assert_eq!(said.len(), 16 + hash.size() + value.len());
    assert!(said.len() <= auth::MAX_LEN && FromHost::parse(&said).is_err());
    let said = auth::success1(3, hash, Some(&[0x5a; 64][..hash.size()]));
    assert_eq!(said.len(), 16 + hash.size());
}

/// A first message is refused, or incomplete, or read; a part of it comes to nothing else; and nobody proves a key by chance.
pub fn tls_hello(bytes: &[u8]) {
    let whole = ClientHello::parse(bytes);
    for cut in [bytes.len() / 3, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        match ClientHello::parse(&bytes[..cut]) {
            Ok(None) => {}
            early => assert_eq!(early, whole, "{cut} bytes of {}", bytes.len()),
        }
    }
    let Ok(Some(hello)) = whole else {
        return;
    };
    assert!(tls::begins_tls(bytes) && hello.offers.len() <= 16);
    for offer in &hello.offers {
        assert!(offer.identity.len() < bytes.len());
        if let Some(identity) = Identity::parse(&offer.identity) {
            assert_eq!(identity.to_string().as_bytes(), offer.identity);
            assert!(!hello.proves(offer, identity.hash, &[0xa5; 48][..identity.hash.size()]));
        }
    }
}

#[cfg(test)]
mod tests {
    fn replay(target: &str, check: fn(&[u8])) {
        let dir = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let files: Vec<_> = std::fs::read_dir(&dir)
            .unwrap_or_else(|e| panic!("{dir}: {e}"))
            .collect();
        assert!(files.len() >= 4, "{dir} has {} files", files.len());
        for file in files {
            check(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn the_corpora_replay() {
        replay("nvme_tcp_pdu", super::tcp_pdu);
        replay("nvme_sqe", super::sqe);
        replay("nvme_auth", super::auth);
        replay("nvme_tls_hello", super::tls_hello);
    }
}
