//! What goes over the sockets between the two processes: messages in JSON, with bytes behind them where there are bytes.
//!
//! A frame is two little-endian 32-bit lengths, that of the JSON and that of the bytes, then both. The two ends are the same executable, so there is no
//! version to agree on; a frame that cannot be read ends the line all the same, and with it the engine, which is then started anew.
use super::Reads;
use crate::{Desired, Request, Settings, Stamp, activation::Desires, engine::Create, events::Change, plan::Plan};
use bdev::{Event, GraphError, NodeInfo, Table};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest JSON or byte run in a frame: a list of everything on the largest machine there is.
const LONGEST: u32 = 1 << 30;

/// What the engine wants done. Carried out in the background; the answer bears the command's number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Command {
    Build {
        wish: Create,
        under: Option<String>,
    },
    Replace {
        name: String,
        table: Table,
    },
    Remove {
        name: String,
        now: Option<String>,
    },
    Resize {
        name: String,
        blocks: u64,
    },
    Rescan,
    /// Answered by the node and how many bytes each of its ends has, in JSON; the bytes come behind that.
    Look {
        name: String,
        reads: Reads,
    },
    /// Answered by the bytes.
    Read {
        name: String,
        start: u64,
        blocks: u32,
    },
    /// The bytes come with it.
    Write {
        name: String,
        start: u64,
    },
    Flush {
        name: String,
    },
    Withdraw {
        volume: String,
    },
}

impl Command {
    /// True if it changes nothing, so that nobody needs to wait for it when the engine has ended.
    pub fn reads(&self) -> bool {
        use Command::*;
        match self {
            Look { .. } | Read { .. } => true,
            Build { .. }
            | Replace { .. }
            | Remove { .. }
            | Resize { .. }
            | Rescan
            | Write { .. }
            | Flush { .. }
            | Withdraw { .. } => false,
        }
    }
}

/// What the engine wants to know, or to be remembered. Answered at once, so it may wait for the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Question {
    Info { name: String },
    Brief { name: String },
    List,
    Claim { name: String, by: String },
    Unclaim { number: u64 },
    Recall,
    Remember { wish: Create },
    WaitFor { wish: Create },
    WaitNoMore { name: String },
    Desire { desires: Desires },
    Offers { volume: String },
    Host { volume: String },
}

/// What is asked of the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Call {
    /// Whether it is alive.
    Ping,
    /// What is wanted of it from now on.
    Adopt {
        settings: Box<Settings>,
    },
    Create {
        wish: Create,
    },
    CreateOrWait {
        wish: Create,
    },
    Delete {
        name: String,
        force: bool,
    },
    Resize {
        name: String,
        blocks: u64,
    },
    TakeWhole {
        name: String,
    },
    Examine {
        name: String,
    },
    WaitForExamine,
    Rescan,
    Disks,
    Disk {
        name: String,
    },
    Groups,
    Plugins,
    Verbs,
    VolumesOf {
        group: String,
    },
    Volumes,
    Extras,
    Found {
        only: Option<String>,
    },
    Wishes,
    Plan {
        request: Request,
        stamp: Stamp,
    },
    Apply {
        plan: Box<Plan>,
    },
    Change {
        request: Request,
        stamp: Stamp,
    },
    Undo {
        number: u64,
        stamp: Stamp,
    },
    Activate {
        object: String,
        desired: Desired,
    },
    Can {
        verb: Option<String>,
        object: String,
    },
    PartitionTable {
        disk: String,
    },
    History,
    Past {
        number: u64,
    },
    Archive {
        group: String,
    },
    Archived {
        group: String,
        change: u64,
    },
    Copies,
}

impl Call {
    /// True if it changes nothing, so that it may be asked again when the engine was lost before it answered.
    pub fn looks(&self) -> bool {
        use Call::*;
        match self {
            Create { .. }
            | CreateOrWait { .. }
            | Delete { .. }
            | Resize { .. }
            | TakeWhole { .. }
            | Examine { .. }
            | Apply { .. }
            | Change { .. }
            | Activate { .. }
            | Undo { .. } => false,
            Ping
            | Adopt { .. }
            | WaitForExamine
            | Rescan
            | Disks
            | Disk { .. }
            | Groups
            | Plugins
            | Verbs
            | VolumesOf { .. }
            | Volumes
            | Extras
            | Found { .. }
            | Wishes
            | Plan { .. }
            | Can { .. }
            | PartitionTable { .. }
            | History
            | Past { .. }
            | Archive { .. }
            | Archived { .. }
            | Copies => true,
        }
    }
}

/// From the engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Up {
    /// It knows again what the one before it knew; calls are answered from now on.
    Ready,
    Command {
        number: u64,
        command: Box<Command>,
    },
    /// The answer to a call; what it is, in JSON, comes behind, or else the problem.
    Answer {
        number: u64,
        problem: Option<Problem>,
    },
    Change(Change),
    /// The disk that was looked up last has been looked at to the end.
    Looked,
}

/// To the engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Down {
    /// With the node, if it has been added.
    Event {
        event: Event,
        node: Option<Box<NodeInfo>>,
    },
    /// The answer to a command.
    Done {
        number: u64,
        problem: Option<GraphError>,
    },
    Call {
        number: u64,
        call: Box<Call>,
    },
}

pub use crate::change::ChangeError as Problem;

/// One message as a frame; the bytes follow it as they are.
pub struct Frame {
    head: Vec<u8>,
    bytes: Vec<u8>,
}

/// A message as a frame.
pub fn frame(message: &impl Serialize, bytes: Vec<u8>) -> io::Result<Frame> {
    let mut head = vec![0; 8];
    serde_json::to_writer(&mut head, message)?;
    let (Ok(json_len), Ok(bytes_len)) = (u32::try_from(head.len() - 8), u32::try_from(bytes.len())) else {
        return Err(io::Error::other("a message of more than 4 GiB"));
    };
    head[..4].copy_from_slice(&json_len.to_le_bytes());
    head[4..8].copy_from_slice(&bytes_len.to_le_bytes());
    Ok(Frame { head, bytes })
}

fn lengths(head: [u8; 8]) -> io::Result<(usize, usize)> {
    let [a, b, c, d, e, f, g, h] = head;
    let (json, bytes) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    match json <= LONGEST && bytes <= LONGEST {
        true => Ok((json as usize, bytes as usize)),
        false => Err(io::Error::other("a frame longer than any that is sent")),
    }
}

/// The next message and the bytes behind it.
pub async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(T, Vec<u8>)> {
    let mut head = [0; 8];
    from.read_exact(&mut head).await?;
    let (json, bytes) = lengths(head)?;
    let (mut body, mut rest) = (vec![0; json], vec![0; bytes]);
    from.read_exact(&mut body).await?;
    from.read_exact(&mut rest).await?;
    Ok((serde_json::from_slice(&body)?, rest))
}

/// Sends a frame.
pub async fn send(to: &mut (impl AsyncWriteExt + Unpin), frame: &Frame) -> io::Result<()> {
    to.write_all(&frame.head).await?;
    to.write_all(&frame.bytes).await
}

/// [`receive`], waiting.
pub fn receive_now<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<(T, Vec<u8>)> {
    let mut head = [0; 8];
    from.read_exact(&mut head)?;
    let (json, bytes) = lengths(head)?;
    let (mut body, mut rest) = (vec![0; json], vec![0; bytes]);
    from.read_exact(&mut body)?;
    from.read_exact(&mut rest)?;
    Ok((serde_json::from_slice(&body)?, rest))
}

/// [`send`], waiting.
pub fn send_now(to: &mut impl Write, frame: &Frame) -> io::Result<()> {
    to.write_all(&frame.head)?;
    to.write_all(&frame.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received() {
        let call = Call::Disk { name: "d".into() };
        let mut sent = Vec::new();
        send_now(
            &mut sent,
            &frame(
                &Down::Call {
                    number: 7,
                    call: Box::new(call),
                },
                b"behind".to_vec(),
            )
            .unwrap(),
        )
        .unwrap();
        let (message, bytes) = receive_now::<Down>(&mut sent.as_slice()).unwrap();
        assert!(
            matches!(message, Down::Call { number: 7, call } if matches!(&*call, Call::Disk { name } if name == "d"))
        );
        assert_eq!(bytes, b"behind");
    }

    #[test]
    fn what_cannot_be_a_frame_is_an_error_and_takes_no_memory() {
        for bytes in [&[0xff; 8][..], &[2, 0, 0, 0, 0, 0, 0, 0, b'{', b'x'], &[1, 0, 0]] {
            assert!(receive_now::<Down>(&mut &bytes[..]).is_err());
        }
    }
}
