//! Which sessions there are, and how a connection finds its own (RFC 7143 6.3): a new session, one more connection of an old one,
//! or one in the place of another.
use super::{
    login::{Agreed, Hello},
    options::ConnectionInfo,
    sequencer::Sequencer,
};
use crate::scsi::news::SharedNews;
use spec::iscsi::LoginStatus;
use std::{collections::BTreeMap, sync::Arc};

/// A session, for as long as one of its connections is there.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Whose it is. What this connection said first, it says for all.
    pub(super) hello: Hello,
    pub(super) portal_group: u32,
    /// As its first connection agreed.
    pub(super) agreed: Agreed,
    /// Counts commands, if there may be several connections.
    pub(super) order: Option<Arc<Sequencer>>,
    /// What its host has been told, if there may be several connections.
    pub(super) news: SharedNews,
}

/// What a login comes to.
#[derive(Debug)]
pub(super) struct Way {
    /// The session it joins; `None`: a new one.
    pub(super) joins: Option<u16>,
    /// Connections that must be gone before its host hears that it is in.
    pub(super) replaces: Vec<u64>,
}

/// All of them, by TSIH.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) by_tsih: BTreeMap<u16, Session>,
    last: u16,
}

impl Sessions {
    /// Where a host goes that came through this portal group. `connections` are all but its own.
    pub(super) fn way<'a>(
        &self,
        hello: &Hello,
        portal_group: u32,
        connections: impl Iterator<Item = &'a ConnectionInfo> + Clone,
    ) -> Result<Way, LoginStatus> {
        let of = |tsih: u16| connections.clone().filter(move |c| c.tsih == tsih);
        if hello.tsih == 0 {
            // The same initiator port again: the old session is over (6.3.5).
            let same = |s: &&Session| hello.target.is_some() && s.is_of(hello) && s.portal_group == portal_group;
            let old = self.by_tsih.iter().filter(|(_, session)| same(session));
            return Ok(Way {
                joins: None,
                replaces: old.flat_map(|(tsih, _)| of(*tsih)).map(|c| c.id).collect(),
            });
        }
        let session = self.by_tsih.get(&hello.tsih).filter(|session| session.is_of(hello));
        let session = session.ok_or(LoginStatus::NoSession)?;
        if session.portal_group != portal_group {
            return Err(LoginStatus::CannotInclude); // a session is with one portal group (4.4.3)
        }
        let alive = || of(hello.tsih).filter(|c| c.state != "exiting");
        if alive().next().is_none() {
            return Err(LoginStatus::NoSession); // it is ending
        }
        // The same CID again: the old connection is over (6.3.4).
        let others = alive().filter(|c| c.cid != hello.cid).count();
        if others >= usize::from(session.agreed.max_connections) {
            return Err(LoginStatus::TooManyConnections);
        }
        Ok(Way {
            joins: Some(hello.tsih),
            replaces: of(hello.tsih).filter(|c| c.cid == hello.cid).map(|c| c.id).collect(),
        })
    }

    /// A handle nobody has. There are 65,535 and fewer sessions: `max_sessions` and those that are ending.
    pub(super) fn fresh(&mut self) -> Option<u16> {
        (0..=u16::MAX).find_map(|_| {
            self.last = self.last.wrapping_add(1);
            (self.last != 0 && !self.by_tsih.contains_key(&self.last)).then_some(self.last)
        })
    }
}

impl Session {
    fn is_of(&self, hello: &Hello) -> bool {
        let own = &self.hello;
        (&own.initiator, &own.target, own.isid) == (&hello.initiator, &hello.target, hello.isid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(isid: u8, tsih: u16, cid: u16) -> Hello {
        Hello {
            initiator: "iqn.x:host".into(),
            target: Some("iqn.x:quarry".into()),
            isid: [0, 0, 0, 0, 0, isid],
            tsih,
            cid,
            ..Hello::default()
        }
    }

    fn connection(id: u64, tsih: u16, cid: u16, state: &'static str) -> ConnectionInfo {
        ConnectionInfo {
            tsih,
            cid,
            state,
            ..ConnectionInfo::arrived(
                id,
                0,
                1,
                "127.0.0.1:9".parse().unwrap(),
                "127.0.0.1:3260".parse().unwrap(),
            )
        }
    }

    fn sessions(max_connections: u16) -> Sessions {
        let mut sessions = Sessions::default();
        let tsih = sessions.fresh().unwrap();
        let session = Session {
            hello: hello(1, 0, 0),
            portal_group: 1,
            agreed: Agreed {
                max_connections,
                ..Agreed::default()
            },
            order: None,
            news: SharedNews::default(),
        };
        sessions.by_tsih.insert(tsih, session);
        sessions
    }

    #[test]
    fn the_same_port_takes_the_place_of_its_session() {
        let sessions = sessions(1);
        let there = [connection(7, 1, 0, "running"), connection(8, 1, 1, "exiting")];
        let way = |hello: &Hello, group| {
            sessions
                .way(hello, group, there.iter())
                .map(|way| (way.joins, way.replaces))
        };
        assert_eq!(way(&hello(1, 0, 0), 1), Ok((None, vec![7, 8])));
        assert_eq!(
            way(&hello(2, 0, 0), 1),
            Ok((None, vec![])),
            "another port of the same host"
        );
        assert_eq!(way(&hello(1, 0, 0), 2), Ok((None, vec![])), "through another group");
        let discovery = Hello {
            target: None,
            ..hello(1, 0, 0)
        };
        assert_eq!(way(&discovery, 1), Ok((None, vec![])));
    }

    #[test]
    fn connections_join_up_to_what_was_agreed_and_replace_their_like() {
        let sessions = sessions(2);
        let way = |hello: &Hello, group, there: &[ConnectionInfo]| {
            sessions
                .way(hello, group, there.iter())
                .map(|way| (way.joins, way.replaces))
        };
        let one = [connection(7, 1, 0, "running")];
        assert_eq!(way(&hello(1, 1, 1), 1, &one), Ok((Some(1), vec![])));
        assert_eq!(way(&hello(1, 1, 0), 1, &one), Ok((Some(1), vec![7])));
        assert_eq!(way(&hello(1, 1, 1), 2, &one), Err(LoginStatus::CannotInclude));
        assert_eq!(way(&hello(1, 9, 1), 1, &one), Err(LoginStatus::NoSession));
        assert_eq!(
            way(&hello(2, 1, 1), 1, &one),
            Err(LoginStatus::NoSession),
            "somebody else's"
        );
        let two = [connection(7, 1, 0, "running"), connection(8, 1, 1, "running")];
        assert_eq!(way(&hello(1, 1, 2), 1, &two), Err(LoginStatus::TooManyConnections));
        assert_eq!(way(&hello(1, 1, 1), 1, &two), Ok((Some(1), vec![8])));
        let ending = [connection(7, 1, 0, "exiting")];
        assert_eq!(way(&hello(1, 1, 1), 1, &ending), Err(LoginStatus::NoSession));
    }

    #[test]
    fn handles_are_not_zero_and_nobody_elses() {
        let mut sessions = sessions(1);
        sessions.last = u16::MAX;
        assert_eq!(sessions.fresh(), Some(2), "neither 0 nor 1");
    }
}
