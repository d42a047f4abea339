//! What a host asks for besides commands: login, ping, text (discovery), logout. Each is answered at once.
use super::*;
use crate::iscsi::{
    login::{self, Directory},
    slot::Aborted,
};
use spec::iscsi::text::Key;

/// Reasons of a logout (11.14.1).
const CLOSE_SESSION: u8 = 0;
const CLOSE_CONNECTION: u8 = 1;
/// Answers to it (11.15.1).
pub(super) const LOGGED_OUT: u8 = 0;
const NO_CONNECTION: u8 = 1;
const NO_RECOVERY: u8 = 2;
pub(super) const CLEANUP_FAILED: u8 = 3;

impl Session {
    pub(super) fn login_step(&mut self, pdu: &Incoming, now: Time, directory: &mut dyn Directory) {
        let Some(step) = self.login.step(&pdu.bhs, &pdu.data.to_vec(), directory) else {
            return self.close(Some("not a login request"));
        };
        if self.stat_sn == 0 {
            // The first request: its numbers are where both sides start.
            self.stat_sn = pdu.bhs.exp_stat_sn();
        }
        self.exp_cmd_sn = pdu.bhs.cmd_sn();
        self.max_cmd_sn = self.exp_cmd_sn;
        match step.then {
            login::Then::Continue => (),
            login::Then::Close => {
                self.phase = Phase::Closing;
                self.cause = Some("login refused");
            }
            login::Then::Done => {
                self.phase = Phase::Full;
                self.since = now;
                self.agreed = self.login.agreed;
                if let Some(order) = self.login.sequencer() {
                    self.sit_down(order);
                }
                let welcome = self.login.welcome();
                // As it was when the session began.
                let depth = self
                    .login
                    .sequencer()
                    .map_or(welcome.depth, |(order, _)| order.depth() as u16);
                let depth = depth.clamp(1, 1024);
                self.slots = (0..depth + EXTRA).map(|_| Slot::new()).collect();
                self.tags = vec![NO_TAG; self.slots.len()];
                self.free = (0..depth + EXTRA).rev().collect();
                self.events.push_back(Event::LoggedIn);
            }
        }
        let text = Buf::from_slice(&step.text);
        self.answer(step.response.as_bytes(), text);
    }

    pub(super) fn nop_out(&mut self, pdu: Incoming) {
        let nop: &NopOut = pdu.bhs.view();
        if nop.itt.get() == NO_TAG {
            return; // the answer to a ping, and hearing it was all we wanted
        }
        let len = pdu.data.len().min(self.agreed.their_segment as usize);
        let answer = NopIn {
            opcode: Opcode::NopIn as u8,
            flags: FINAL,
            lun: nop.lun,
            itt: nop.itt,
            ttt: U32::new(NO_TAG),
            data_segment_len: len24(len),
            ..Default::default()
        };
        self.answer(answer.as_bytes(), pdu.data.slice(0..len));
    }

    pub(super) fn logout(&mut self, request: &LogoutRequest) {
        let own = self.login.hello().map_or(0, |hello| hello.cid);
        match request.flags & 0x7f {
            CLOSE_SESSION | CLOSE_CONNECTION if self.seat.is_some() => self.events.push_back(Event::Logout(*request)),
            CLOSE_SESSION => self.log_out(request.itt, true),
            CLOSE_CONNECTION if request.cid.get() == own => self.log_out(request.itt, true),
            CLOSE_CONNECTION => self.answer_logout(request.itt, NO_CONNECTION),
            _ => self.answer_logout(request.itt, NO_RECOVERY),
        }
    }

    /// Answers a logout: of this connection (`own`), which ends when its commands have, or of another one that has ended.
    pub fn log_out(&mut self, itt: U32, own: bool) {
        if !own {
            return self.answer_logout(itt, LOGGED_OUT);
        }
        if self.phase != Phase::Full {
            return;
        }
        // What is done is answered before; the rest ends here (11.14.1), and the host hears when it has.
        self.phase = Phase::Closing;
        self.orderly = true;
        let under_way = |slot: &Slot| !matches!(slot.state, State::Free | State::Answering);
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| under_way(slot));
        let slots: Vec<u16> = slots.map(|(id, _)| id as u16).collect();
        self.abort(Then::Logout(itt), &slots, Aborted::Host);
    }

    /// Answers a logout of a connection that is not there.
    pub fn no_connection(&mut self, itt: U32) {
        self.answer_logout(itt, NO_CONNECTION);
    }

    pub(super) fn answer_logout(&mut self, itt: U32, response: u8) {
        let answer = LogoutResponse {
            opcode: Opcode::LogoutResponse as u8,
            flags: FINAL,
            response,
            itt,
            time2wait: self.agreed.time2wait.into(),
            time2retain: 0.into(),
            ..Default::default()
        };
        self.answer(answer.as_bytes(), Buf::empty());
    }

    pub(super) fn text(&mut self, pdu: &Incoming, directory: &mut dyn Directory) {
        let request: &TextRequest = pdu.bhs.view();
        if self.text_in.push(&pdu.data.to_vec()).is_err() {
            self.text_in.take();
            return self.reject(RejectReason::OutOfResources, &pdu.bhs);
        }
        if request.flags & CONTINUE != 0 {
            return self.text_answer(request, Vec::new(), false);
        }
        let said = self.text_in.take();
        if request.ttt.get() == NO_TAG {
            self.text_out.clear();
            let Ok(pairs) = text::pairs(&said) else {
                return self.reject(RejectReason::Protocol, &pdu.bhs);
            };
            for (name, value) in pairs {
                match text::Key::named(name) {
                    Some(Key::SendTargets) => self.send_targets(value, directory),
                    // Told at any time (13.7, 13.12): the next PDU is no longer than that.
                    Some(Key::InitiatorAlias) => (),
                    Some(key @ Key::MaxRecvDataSegmentLength) => match key.rule().number(value) {
                        Some(longest) => self.agreed.their_segment = longest,
                        None => text::put(&mut self.text_out, name, "Reject"),
                    },
                    // Values of the running session are not up for negotiation.
                    Some(_) => text::put(&mut self.text_out, name, "Reject"),
                    None => text::put(&mut self.text_out, name, "NotUnderstood"),
                }
            }
        }
        let most = (self.agreed.their_segment as usize).min(64 << 10);
        let rest = self.text_out.split_off(self.text_out.len().min(most));
        let now = std::mem::replace(&mut self.text_out, rest);
        let done = self.text_out.is_empty();
        self.text_answer(request, now, done);
    }

    fn send_targets(&mut self, value: &str, directory: &mut dyn Directory) {
        let Some(hello) = self.login.hello() else { return };
        let only = match (value, &hello.target) {
            ("All", None) => None,
            // "All" belongs to discovery; in a normal session a host may ask about its own target only (appendix C).
            ("All", Some(_)) => return text::put(&mut self.text_out, "SendTargets", "Reject"),
            ("", Some(own)) => Some(own.clone()),
            ("", None) => return,
            (name, own) if own.as_ref().is_none_or(|own| own == name) => Some(name.to_ascii_lowercase()),
            _ => return,
        };
        for (name, addresses) in directory.targets(&hello.initiator, only.as_deref()) {
            text::put(&mut self.text_out, "TargetName", name);
            for (address, tag) in addresses {
                text::put(&mut self.text_out, "TargetAddress", format_args!("{address},{tag}"));
            }
        }
    }

    fn text_answer(&mut self, request: &TextRequest, text: Vec<u8>, done: bool) {
        // While there is more, the tag is how the host asks for it.
        let (flags, tag) = match (done, text.is_empty()) {
            (true, _) => (FINAL, NO_TAG),
            (false, true) => (0, self.tag()),
            (false, false) => (CONTINUE, self.tag()),
        };
        let answer = TextResponse {
            opcode: Opcode::TextResponse as u8,
            flags,
            lun: request.lun,
            itt: request.itt,
            ttt: U32::new(tag),
            data_segment_len: len24(text.len()),
            ..Default::default()
        };
        self.answer(answer.as_bytes(), Buf::from_slice(&text));
    }
}
