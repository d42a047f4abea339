//! What each command needs: who may send it past a reservation, and which state of the target port it works in.
//!
//! | | from a nexus without access by the reservation | source |
//! |---|---|---|
//! | [`Reservation::Free`] | allowed | SPC-5 table 66, SBC-4 table 13 |
//! | [`Reservation::Reads`] | allowed with write exclusive types, a conflict with exclusive access types | |
//! | [`Reservation::Changes`] | a conflict | |
//! | [`Reservation::Own`] | decided by the command itself | SPC-5 table 67, SPC-2 table 9 |
//!
//! [`Rule::of`] names every command, so that one that is new does not compile before somebody has looked it up.
use super::{
    nexus::Open,
    reservation::{Refused, Verdict},
};
use spec::scsi::{AccessState, Command, Sense};

/// What a command does as reservations see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "see the table above")]
pub enum Reservation {
    Free,
    Reads,
    Changes,
    Own,
}

/// Which states of the target port a command works in (SPC-5 5.18.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every one.
    Always,
    /// Standby too. Sizes are among them, so that a host can set up a path that is not active yet.
    Standby,
    /// The active ones.
    Active,
}

/// What a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Of persistent reservations.
    pub reservation: Reservation,
    /// It passes another nexus's RESERVE (6) or (10) (SPC-2 table 9, SBC-2 table 12).
    pub passes_reserve: bool,
    /// Of the target port.
    pub access: Access,
}

impl Rule {
    /// That of a command.
    pub fn of(command: &Command) -> Self {
        use {Access::*, Reservation::*};
        let (reservation, passes_reserve, access) = match command {
            Command::Inquiry { .. } | Command::ReportLuns { .. } | Command::RequestSense { .. } => (Free, true, Always),
            Command::ReportTargetPortGroups { .. } => (Free, false, Always),
            Command::SetTargetPortGroups { .. } => (Changes, false, Always),
            Command::TestUnitReady => (Free, false, Active),
            Command::ModeSense { .. } | Command::ReportOpcodes { .. } | Command::ReportTmfs { .. } => {
                (Free, false, Standby)
            }
            Command::LogSense { .. } => (Free, true, Standby),
            Command::ModeSelect { .. } | Command::LogSelect { .. } => (Changes, false, Standby),
            Command::ReadCapacity10 | Command::ReadCapacity16 { .. } => (Free, true, Standby),
            Command::PersistentReserveIn { .. } | Command::PersistentReserveOut { .. } => (Own, false, Standby),
            Command::Reserve | Command::Release => (Own, true, Active),
            Command::PreventAllow { prevent: false }
            | Command::StartStop {
                start: true,
                condition: 0,
                ..
            } => (Free, true, Active),
            Command::Read(_)
            | Command::Verify { .. }
            | Command::PreFetch { .. }
            | Command::GetLbaStatus { .. }
            | Command::ReadDefectData { .. } => (Reads, false, Active),
            Command::PreventAllow { prevent: true }
            | Command::SendDiagnostic { .. }
            | Command::StartStop { .. }
            | Command::SynchronizeCache { .. }
            | Command::Write(_)
            | Command::WriteSame { .. }
            | Command::CompareAndWrite(_)
            | Command::OrWrite(_)
            | Command::WriteAndVerify { .. }
            | Command::WriteAtomic { .. }
            | Command::Sanitize { .. }
            | Command::ExtendedCopy { .. }
            | Command::ReceiveCopyResults { .. }
            | Command::Unmap { .. } => (Changes, false, Active),
        };
        Self {
            reservation,
            passes_reserve,
            access,
        }
    }

    /// The command is done from a nexus with this `verdict` through a port in this `state`, or why not.
    pub fn check(self, verdict: Verdict, state: AccessState) -> Result<(), Refused> {
        let reached = match self.access {
            Access::Always => true,
            Access::Standby => state.is_active() || state == AccessState::Standby,
            Access::Active => state.is_active(),
        };
        if !reached {
            return Err(Refused::Sense(match state {
                AccessState::Standby => Sense::PORT_STANDBY,
                AccessState::Transitioning => Sense::PORT_TRANSITION,
                AccessState::Offline => Sense::PORT_OFFLINE,
                _ => Sense::PORT_UNAVAILABLE,
            }));
        }
        let allowed = match (verdict, self.reservation) {
            (Verdict::All, _) => true,
            // PERSISTENT RESERVE IN and OUT find out themselves that there is a RESERVE.
            (Verdict::Reserved, _) => self.passes_reserve,
            (_, Reservation::Free | Reservation::Own) => true,
            (Verdict::Reads, Reservation::Reads) => true,
            _ => false,
        };
        if allowed { Ok(()) } else { Err(Refused::Conflict) }
    }
}

/// Whether a command may be done now. For commands of a nexus that is not free to do everything.
#[cold]
pub(super) fn check(open: &Open, command: &Command) -> Result<(), Refused> {
    Rule::of(command).check(open.verdict(), open.access())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::scsi::{Cdb, opcodes::TABLE, reservation::Type};

    /// Every row of the table of commands against the standards' tables, by operation code.
    #[test]
    fn every_command_conflicts_where_the_standards_say() {
        for row in TABLE {
            let mut block = [0; 16];
            (block[0], block[1]) = (row.opcode, row.action.unwrap_or(0));
            if row.opcode == 0x5f {
                block[2] = Type::WriteExclusive as u8;
            }
            if row.opcode == 0xa3 {
                block[9] = 16;
            }
            let Ok(command) = Cdb(block).command() else {
                panic!("{}: a plain block does not decode", row.name)
            };
            let rule = Rule::of(&command);
            let passes = |verdict| rule.check(verdict, AccessState::ActiveOptimized).is_ok();
            let found = (
                passes(Verdict::Reads),
                passes(Verdict::Nothing),
                passes(Verdict::Reserved),
            );
            let expected = match row.opcode {
                // TEST UNIT READY, MODE SENSE, MAINTENANCE IN.
                0x00 | 0x1a | 0x5a | 0xa3 => (true, true, false),
                // REQUEST SENSE, INQUIRY, LOG SENSE, PREVENT ALLOW (allow), READ CAPACITY, REPORT LUNS, RESERVE and RELEASE (which look themselves).
                0x03 | 0x12 | 0x4d | 0x1e | 0x16 | 0x17 | 0x25 | 0x56 | 0x57 | 0xa0 => (true, true, true),
                0x9e if row.action == Some(0x10) => (true, true, true),
                // PERSISTENT RESERVE IN and OUT.
                0x5e | 0x5f => (true, true, false),
                // READ, VERIFY, PRE-FETCH, READ DEFECT DATA, GET LBA STATUS.
                0x08 | 0x28 | 0x88 | 0xa8 | 0x2f | 0x8f | 0xaf | 0x34 | 0x90 | 0x37 | 0xb7 => (true, false, false),
                0x9e if row.action == Some(0x12) => (true, false, false),
                // COMPARE AND WRITE, ORWRITE, WRITE AND VERIFY, WRITE ATOMIC, SANITIZE, EXTENDED COPY and its results.
                0x83 | 0x84 | 0x89 | 0x8b | 0x2e | 0x8e | 0xae | 0x9c | 0x48 => (false, false, false),
                // SEND DIAGNOSTIC.
                0x1d => (false, false, false),
                // WRITE, MODE SELECT, LOG SELECT, START STOP (stop), SYNCHRONIZE CACHE, WRITE SAME, UNMAP, SET TARGET PORT GROUPS.
                0x0a | 0x2a | 0x8a | 0xaa | 0x15 | 0x55 | 0x4c | 0x1b | 0x35 | 0x91 | 0x41 | 0x93 | 0x42 | 0xa4 => {
                    (false, false, false)
                }
                other => panic!("{}: look {other:#x} up in SPC-5 table 66 or SBC-4 table 13", row.name),
            };
            assert_eq!(found, expected, "{}", row.name);
            assert!(passes(Verdict::All), "{}", row.name);
        }
        let start = Cdb::new(&[0x1b, 0, 0, 0, 1, 0]).command().unwrap();
        assert_eq!(
            Rule::of(&start).check(Verdict::Nothing, AccessState::ActiveOptimized),
            Ok(())
        );
    }

    #[test]
    fn ports_that_are_not_active_say_why() {
        let read = Cdb::new(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]).command().unwrap();
        let refusal = |state| Rule::of(&read).check(Verdict::All, state).err();
        let sense = |sense| Some(Refused::Sense(sense));
        assert_eq!(refusal(AccessState::ActiveNonOptimized), None);
        assert_eq!(refusal(AccessState::Standby), sense(Sense::PORT_STANDBY));
        assert_eq!(refusal(AccessState::Unavailable), sense(Sense::PORT_UNAVAILABLE));
        assert_eq!(refusal(AccessState::Offline), sense(Sense::PORT_OFFLINE));
        assert_eq!(refusal(AccessState::Transitioning), sense(Sense::PORT_TRANSITION));
        let size = Rule::of(&Command::ReadCapacity10);
        assert_eq!(size.check(Verdict::Nothing, AccessState::Standby), Ok(()));
        assert!(size.check(Verdict::All, AccessState::Unavailable).is_err());
        let groups = Rule::of(&Command::ReportTargetPortGroups {
            extended: false,
            room: 0,
        });
        assert_eq!(groups.check(Verdict::All, AccessState::Offline), Ok(()));
    }
}
