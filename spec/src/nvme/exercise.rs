//! Checks that hold for any bytes: what the fuzz targets run, and the ordinary tests over the corpus.
use super::{
    Sqe,
    command::DsmRange,
    discovery, fabrics,
    feature::Select,
    identify::{self, NamespaceIds},
    log::GetLogPage,
    nqn_is_valid, nqn_of,
    tcp::{self, Digests, Header},
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
    }
}
