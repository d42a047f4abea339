//! Where reservations with APTPL = 1 are kept: one small file for each volume, named by its UUID.
//!
//! ```text
//!   {state directory}/reservations/{uuid}.json      {"version":1,"registrants":[…],"held":…}
//!                                                   crc32c 9a8b7c6d
//! ```
//!
//! `crate::keep` puts it there before the host gets its status: after a power cut there is the old state or the new one. A file
//! that cannot be read was damaged from outside; what
//! it said is unknown, and hosts it kept out must stay out. So the volume comes up with an exclusive access reservation of all
//! registrants, of whom there are none: cluster nodes register as they always do at start and go on, and anybody can be let
//! in again by a registered host's CLEAR.
use super::state::{Held, State};
use crate::{keep, scsi::NexusId};
use serde::{Deserialize, Serialize};
use spec::scsi::{TransportId, reservation::Type};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};
use uuid::Uuid;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    registrants: Vec<Registrant>,
    held: Option<Holding>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registrant {
    initiator: String,
    isid: [u8; 6],
    target: String,
    port: u16,
    key: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holding {
    /// Its place in the list; none: all registrants hold it.
    by: Option<usize>,
    kind: u8,
}

/// The file's body for a state. The generation is not kept (SPC-5 6.15.2: a power loss sets it to zero).
pub fn encode(state: &State) -> Vec<u8> {
    let one = |(nexus, key): (&NexusId, &u64)| Registrant {
        initiator: nexus.initiator.name.clone(),
        isid: nexus.initiator.isid.unwrap_or_default(),
        target: nexus.target.clone(),
        port: nexus.port,
        key: *key,
    };
    let document = Document {
        version: 1,
        registrants: state.registrants.iter().map(one).collect(),
        held: state.held.as_ref().map(|held| Holding {
            by: held
                .by
                .as_ref()
                .and_then(|by| state.registrants.keys().position(|nexus| nexus == by)),
            kind: held.kind as u8,
        }),
    };
    // Numbers and text cannot fail to become JSON.
    serde_json::to_vec(&document).unwrap_or_default()
}

/// Reads what [`encode`] made, or says what is wrong with it.
pub fn decode(body: &[u8]) -> Result<State, String> {
    let document: Document = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if document.version != 1 {
        return Err(format!("its version is {} and not 1", document.version));
    }
    let nexus = |one: &Registrant| NexusId {
        initiator: TransportId {
            name: one.initiator.clone(),
            isid: Some(one.isid),
        },
        target: one.target.clone(),
        port: one.port,
    };
    let held = match &document.held {
        None => None,
        Some(held) => {
            let kind = Type::from_nibble(held.kind).ok_or_else(|| format!("there is no type {}", held.kind))?;
            let by = match held.by {
                Some(at) => Some(document.registrants.get(at).ok_or("its holder is not registered")?),
                None if kind.is_all_registrants() => None,
                None => return Err("its reservation has no holder".into()),
            };
            Some(Held {
                by: by.map(nexus),
                kind,
            })
        }
    };
    Ok(State {
        generation: 0,
        persist: true,
        registrants: document
            .registrants
            .iter()
            .map(|one| (nexus(one), one.key))
            .collect::<BTreeMap<_, _>>(),
        held,
    })
}

/// What is believed of a file that cannot be read; see above.
pub fn closed() -> State {
    State {
        persist: true,
        held: Some(Held {
            by: None,
            kind: Type::ExclusiveAccessAllRegistrants,
        }),
        ..State::default()
    }
}

/// The folder, and the thread that writes to it.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    writer: keep::Writer,
}

impl Store {
    /// Makes the folder under the state directory.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        Ok(Self {
            folder: keep::folder(state_dir, "reservations")?,
            writer: keep::Writer::start("reservations")?,
        })
    }

    /// The file of a volume.
    pub fn path(&self, volume: Uuid) -> PathBuf {
        self.folder.join(format!("{}.json", volume.simple()))
    }

    /// What is kept for a volume: nothing, a state, or why it cannot be read. Blocks; for control threads.
    pub fn load(&self, volume: Uuid) -> Result<Option<State>, String> {
        let body = keep::load(&self.path(volume))?;
        body.map(|body| decode(&body)).transpose()
    }

    /// Makes the file say `state`, or be gone, on stable storage.
    pub async fn save(&self, volume: Uuid, state: Option<&State>) -> io::Result<()> {
        let body = state.map(encode);
        self.writer.save(&self.path(volume), body.as_deref()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(keys: u64) -> State {
        let nexus = |n: u64| NexusId {
            initiator: TransportId {
                name: format!("iqn.x:host{n}"),
                isid: Some([0, 2, 0x3d, 0, 0, n as u8]),
            },
            target: "iqn.x:t".into(),
            port: 1,
        };
        State {
            generation: 0,
            persist: true,
            registrants: (0..keys).map(|n| (nexus(n), u64::MAX - n)).collect(),
            held: Some(Held {
                by: Some(nexus(0)),
                kind: Type::ExclusiveAccessRegistrantsOnly,
            }),
        }
    }

    #[test]
    fn a_file_has_its_golden_bytes_and_reads_back() {
        let bytes = encode(&state(1));
        let sealed = keep::seal(&bytes);
        let text = std::str::from_utf8(&sealed).unwrap();
        assert_eq!(
            text,
            "{\"version\":1,\"registrants\":[{\"initiator\":\"iqn.x:host0\",\"isid\":[0,2,61,0,0,0],\"target\":\"iqn.x:t\",\
             \"port\":1,\"key\":18446744073709551615}],\"held\":{\"by\":0,\"kind\":6}}\ncrc32c 922efc2b\n"
        );
        assert_eq!(decode(&bytes), Ok(state(1)));
        for kind in Type::ALL {
            let mut state = state(3);
            let by = (!kind.is_all_registrants()).then(|| state.registrants.keys().nth(2).unwrap().clone());
            state.held = Some(Held { by, kind });
            assert_eq!(decode(&encode(&state)), Ok(state));
        }
    }

    #[test]
    fn nobody_gets_past_a_file_that_cannot_be_read() {
        let stranger = state(1).registrants.into_keys().next().unwrap();
        let mut closed = closed();
        assert_eq!(closed.verdict(&stranger), super::super::state::Verdict::Nothing);
        closed.registrants.insert(stranger.clone(), 1);
        assert_eq!(closed.verdict(&stranger), super::super::state::Verdict::All);
    }
}
