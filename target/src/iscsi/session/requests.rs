//! What a host asks for besides commands: login, ping, text (discovery), logout. Each is answered at once.
use super::*;
use crate::iscsi::login::{Directory, Then};

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
            Then::Continue => (),
            Then::Close => {
                self.phase = Phase::Closing;
                self.cause = Some("login refused");
            }
            Then::Done => {
                self.phase = Phase::Full;
                self.since = now;
                self.agreed = self.login.agreed;
                let welcome = self.login.welcome();
                let depth = welcome.depth.clamp(1, 1024);
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
        let response = match request.flags & 0x7f {
            0 => 0,
            1 if request.cid.get() == self.login.hello().map_or(0, |hello| hello.cid) => 0,
            1 => 1, // no such connection
            _ => 2, // recovery is not for level 0
        };
        let answer = LogoutResponse {
            opcode: Opcode::LogoutResponse as u8,
            flags: FINAL,
            response,
            itt: request.itt,
            time2wait: self.agreed.time2wait.into(),
            time2retain: 0.into(),
            ..Default::default()
        };
        self.answer(answer.as_bytes(), Buf::empty());
        if response == 0 {
            // What was asked before is answered before, as far as it is done; the rest ends with the session.
            self.phase = Phase::Closing;
        }
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
                match name {
                    "SendTargets" => self.send_targets(value, directory),
                    // Values of the running session are not up for negotiation.
                    _ if text::Key::named(name).is_some() => text::put(&mut self.text_out, name, "Reject"),
                    _ => text::put(&mut self.text_out, name, "NotUnderstood"),
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
