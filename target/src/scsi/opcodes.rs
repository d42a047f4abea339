//! REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 6.34, 6.36), and which commands
//! a unit has at all: both ask the one table in [`spec::scsi::opcodes`].
use super::{nexus::Open, primary};
use spec::scsi::{
    Sense,
    opcodes::{self, Entry, Needs, Reporting, TaskManagement},
};

/// What the iSCSI session does (RFC 7143 11.5.1). Its TARGET WARM and COLD RESET have no place in the list.
const FUNCTIONS: TaskManagement = TaskManagement {
    abort_task: true,
    abort_task_set: true,
    clear_aca: false,
    clear_task_set: true,
    logical_unit_reset: true,
    query_task: false,
    query_task_set: false,
    query_asynchronous_event: false,
    i_t_nexus_reset: false,
};

/// The unit has what a row of the table asks for.
pub(super) fn has(open: &Open, needs: Needs) -> bool {
    match needs {
        Needs::Nothing => true,
        Needs::Atomic => primary::limits(open).atomic > 0,
        Needs::Unmap => open.thin(),
        Needs::Removable => open.unit.options.removable,
        Needs::ExplicitAccess => open.device.ports().explicit,
        Needs::Writable => !open.read_only(),
        Needs::Erasable => primary::limits(open).block_erase,
        Needs::Keyed => !open.read_only() && open.graph.can_rekey(&open.unit.volume),
    }
}

/// How a command is refused whose row of the table asks for what the unit has not.
#[cold]
pub(super) fn refusal(open: &Open, row: &Entry) -> Sense {
    opcodes::refusal(row, |needs| has(open, needs)).sense()
}

pub(super) fn report_opcodes(open: &Open, what: Reporting, timeouts: bool) -> Result<Vec<u8>, Sense> {
    opcodes::report(what, timeouts, |needs| has(open, needs))
}

pub(super) fn report_tmfs(extended: bool) -> Vec<u8> {
    FUNCTIONS.encode(extended)
}
