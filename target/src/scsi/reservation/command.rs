//! PERSISTENT RESERVE IN and OUT (SPC-5 6.15, 6.16), RESERVE and RELEASE (SPC-2 7.16, 7.21).
use super::{Refused, state::REGISTRANTS};
use crate::scsi::{NexusId, Outcome, nexus::Open};
use reactor::Buf;
use spec::scsi::{
    Sense, Status,
    reservation::{self as list, FullStatus, In, LIST_MAX, Out, Parameters, Type},
};

fn refused(why: Refused) -> Result<Outcome, Sense> {
    match why {
        Refused::Conflict => Ok(Outcome::status(Status::ReservationConflict)),
        Refused::Sense(sense) => Err(sense),
    }
}

pub(crate) fn persistent_in(open: &Open, action: In, room: u16) -> Result<Outcome, Sense> {
    let reservations = &open.unit.reservations;
    let said = reservations.read(|state| match action {
        In::ReadKeys => list::read_keys(state.generation, state.registrants.values().copied()),
        In::ReadReservation => list::read_reservation(state.generation, state.holding_key()),
        In::ReportCapabilities => list::capabilities(reservations.can_persist(), state.persist).to_vec(),
        In::ReadFullStatus => {
            debug_assert!(state.registrants.len() <= REGISTRANTS);
            let nexuses = state.registrants.iter().map(|(nexus, key)| FullStatus {
                key: *key,
                holds: state.held.as_ref().filter(|_| state.holds(nexus)).map(|held| held.kind),
                port: nexus.port,
                initiator: nexus.initiator.clone(),
            });
            list::read_full_status(state.generation, nexuses)
        }
    });
    match said {
        Ok(list) => Ok(Outcome::list(&list, room.into())),
        Err(why) => refused(why),
    }
}

pub(crate) async fn persistent_out(
    open: &Open,
    action: Out,
    kind: Option<Type>,
    len: u32,
    data: &Buf,
) -> Result<Outcome, Sense> {
    // What came is what the CDB says, or less if the transport was told so.
    if len as usize > LIST_MAX || data.len() < len as usize {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let parameters = Parameters::parse(action, &data.slice(0..len as usize).to_vec())?;
    let ports = open.ports();
    let done = open
        .unit
        .reservations
        .out(&open.nexus, &ports, action, kind, &parameters)
        .await;
    match done {
        Err(why) => refused(why),
        Ok(aborted) => {
            if !aborted.is_empty() {
                // Not one's own: this very command is one of them.
                let hit = |nexus: &NexusId| *nexus != open.nexus && aborted.contains(nexus);
                for unit in open.unit.reservations.units() {
                    unit.tasks.abort(|member| hit(&member.nexus)).await;
                }
            }
            Ok(Outcome::good())
        }
    }
}

pub(crate) async fn reserve(open: &Open) -> Result<Outcome, Sense> {
    match open.unit.reservations.reserve(&open.nexus, open.session).await {
        Ok(()) => Ok(Outcome::good()),
        Err(why) => refused(why),
    }
}

pub(crate) async fn release(open: &Open) -> Result<Outcome, Sense> {
    match open.unit.reservations.release(&open.nexus, open.session).await {
        Ok(()) => Ok(Outcome::good()),
        Err(why) => refused(why),
    }
}
