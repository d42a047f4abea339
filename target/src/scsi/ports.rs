//! Target port groups: which ports a target has, and how well each reaches its units (asymmetric access, SPC-5 5.18).
//!
//! Every portal group through which a target can be reached is a target port group with one port. Its state is set by the
//! administrator, or by a host if that is allowed (explicit access: SET TARGET PORT GROUPS).
use super::{Outcome, nexus::Open};
use reactor::Buf;
use spec::scsi::{
    AccessState, Sense,
    target_port_groups::{self as list, Cause, Group},
};
use std::collections::BTreeMap;

/// No list of SET TARGET PORT GROUPS is longer: as many groups as there are tags.
const LIST_MAX: u32 = 4 + 4 * (1 << 16);

/// The ports of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    groups: BTreeMap<u16, Group>,
    /// Hosts may set states.
    pub explicit: bool,
}

impl Ports {
    /// From now on there are ports with exactly these tags. Those that were there keep their states.
    pub fn keep(&mut self, tags: impl IntoIterator<Item = u16>) {
        let mut before = std::mem::take(&mut self.groups);
        for tag in tags {
            let group = before.remove(&tag).unwrap_or(Group {
                tag,
                state: AccessState::default(),
                preferred: false,
                cause: Cause::Unknown,
            });
            self.groups.insert(tag, group);
        }
    }

    /// All groups, by tag.
    pub fn groups(&self) -> Vec<Group> {
        self.groups.values().copied().collect()
    }

    /// The state of a port. One that is going away counts as active until its sessions are gone.
    pub fn access(&self, tag: u16) -> AccessState {
        self.groups.get(&tag).map(|group| group.state).unwrap_or_default()
    }

    /// Sets a state; `None` if there is no such port, `Some(true)` if it had another one.
    pub fn set(&mut self, tag: u16, state: AccessState, cause: Cause) -> Option<bool> {
        let group = self.groups.get_mut(&tag)?;
        let changed = group.state != state;
        if changed {
            (group.state, group.cause) = (state, cause);
        }
        Some(changed)
    }

    /// Sets PREF; `None` if there is no such port, `Some(true)` if it was otherwise.
    pub fn prefer(&mut self, tag: u16, preferred: bool) -> Option<bool> {
        let group = self.groups.get_mut(&tag)?;
        Some(std::mem::replace(&mut group.preferred, preferred) != preferred)
    }
}

pub(super) fn report(open: &Open, extended: bool) -> Vec<u8> {
    // No transition takes time here.
    list::report(&open.device.ports().groups(), extended, 0)
}

pub(super) fn set(open: &Open, len: u32, data: &Buf) -> Result<Outcome, Sense> {
    if len > LIST_MAX || data.len() < len as usize {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let wanted = list::parse_set(&data.slice(0..len as usize).to_vec())?;
    let known = open.device.ports();
    // All are checked before the first is set.
    if wanted.iter().any(|(tag, _)| !known.groups.contains_key(tag)) {
        return Err(Sense::INVALID_PARAMETER);
    }
    open.caused_access(|ports| {
        let mut changed = false;
        for (tag, state) in &wanted {
            changed |= ports.set(*tag, *state, Cause::SetTargetPortGroups) == Some(true);
        }
        changed
    });
    Ok(Outcome::good())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_keep_their_states_while_others_come_and_go() {
        let mut ports = Ports::default();
        ports.keep([1, 2]);
        assert_eq!(ports.set(2, AccessState::Standby, Cause::Implicit), Some(true));
        assert_eq!(
            ports.set(2, AccessState::Standby, Cause::SetTargetPortGroups),
            Some(false)
        );
        assert_eq!(ports.prefer(1, true), Some(true));
        assert_eq!(ports.set(3, AccessState::Standby, Cause::Implicit), None);
        ports.keep([2, 3]);
        let states: Vec<_> = ports.groups().iter().map(|group| (group.tag, group.state)).collect();
        assert_eq!(states, [(2, AccessState::Standby), (3, AccessState::ActiveOptimized)]);
        assert_eq!(ports.groups()[0].cause, Cause::Implicit, "who set it first");
        assert_eq!(ports.access(1), AccessState::ActiveOptimized);
    }
}
