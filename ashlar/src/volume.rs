//! `ashlar volume`: what hosts get, and the exact commands with which they get it.
use crate::{ask, cli, human};
use rpc::client::{Client, ClientError};
use serde::Deserialize;
use serde_json::{Value, json};

/// The part of `ashlar_get_volumes` that is shown.
#[derive(Clone, Debug, Deserialize)]
pub struct Volume {
    name: String,
    uuid: String,
    bytes: u64,
    block_size: u32,
    read_only: bool,
    served: Vec<Way>,
}

/// One way for hosts to a volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "protocol", rename_all = "lowercase")]
enum Way {
    Nvmf {
        nqn: String,
        nsid: u32,
        listeners: Vec<Listener>,
    },
    Iscsi {
        iqn: String,
        lun: u16,
        portals: Vec<Portal>,
    },
}

#[derive(Clone, Debug, Deserialize)]
struct Listener {
    traddr: String,
    trsvcid: String,
    #[serde(default)]
    secure_channel: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Portal {
    host: String,
    port: u16,
}

impl Portal {
    fn address(&self) -> String {
        let bare = self.host.trim_matches(['[', ']']);
        if bare.contains(':') {
            format!("[{bare}]:{}", self.port)
        } else {
            format!("{bare}:{}", self.port)
        }
    }
}

/// Runs the command.
pub fn run(ask: &cli::Ask, command: &cli::VolumeCommand) -> Result<(), ClientError> {
    let mut client = ask::connect(ask)?;
    let params = match command {
        cli::VolumeCommand::Ls => json!({}),
        cli::VolumeCommand::Show { name } => json!({ "name": name }),
    };
    if ask.json {
        let volumes: Value = client.call("ashlar_get_volumes", params)?;
        let one = matches!(command, cli::VolumeCommand::Show { .. });
        ask::print_json(if one { &volumes[0] } else { &volumes });
        return Ok(());
    }
    let volumes: Vec<Volume> = client.call("ashlar_get_volumes", params)?;
    ask::print_text(&match command {
        cli::VolumeCommand::Ls => list(&volumes),
        cli::VolumeCommand::Show { .. } => volumes.iter().map(how_to_use).collect(),
    });
    Ok(())
}

/// What `ashlar serve` prints once it serves.
pub fn announcement(client: &mut Client) -> Result<String, ClientError> {
    let volumes: Vec<Volume> = client.call("ashlar_get_volumes", json!({}))?;
    Ok(volumes
        .iter()
        .filter(|volume| !volume.served.is_empty())
        .map(how_to_use)
        .collect())
}

fn list(volumes: &[Volume]) -> String {
    let rows = volumes.iter().flat_map(|volume| {
        let line = |way: String, at: String| {
            let mode = if volume.read_only { "ro" } else { "rw" };
            vec![
                volume.name.clone(),
                human::size(volume.bytes),
                volume.block_size.to_string(),
                mode.into(),
                way,
                at,
            ]
        };
        let mut lines: Vec<_> = volume
            .served
            .iter()
            .map(|way| match way {
                Way::Iscsi { iqn, lun, portals } => line(
                    format!("{iqn} LUN {lun}"),
                    portals.iter().map(Portal::address).collect::<Vec<_>>().join(", "),
                ),
                Way::Nvmf { nqn, nsid, listeners } => line(
                    format!("{nqn} NSID {nsid}"),
                    listeners
                        .iter()
                        .map(|l| format!("{}:{}", l.traddr, l.trsvcid))
                        .collect::<Vec<_>>()
                        .join(", "),
                ),
            })
            .collect();
        if lines.is_empty() {
            lines.push(line("not served".into(), String::new()))
        }
        lines
    });
    human::table(&["VOLUME", ">SIZE", ">BLOCK", "MODE", "TARGET", "AT"], rows)
}

/// Size and identity of a volume, and for each way to it the lines to type on a host.
fn how_to_use(volume: &Volume) -> String {
    let mode = if volume.read_only { ", read-only" } else { "" };
    let size = human::size(volume.bytes);
    let mut text = format!(
        "{}: {size} ({} bytes) in blocks of {}{mode}, UUID {}\n",
        volume.name, volume.bytes, volume.block_size, volume.uuid
    );
    for way in &volume.served {
        match way {
            Way::Iscsi { iqn, lun, portals } => {
                text += &format!("  iSCSI     {iqn} LUN {lun}\n");
                for portal in portals {
                    let at = portal.address();
                    text += &format!("    iscsiadm -m discovery -t sendtargets -p {at}\n");
                    text += &format!("    iscsiadm -m node -T {iqn} -p {at} --login\n");
                    text += &format!("    qemu-img info iscsi://{at}/{iqn}/{lun}\n");
                }
            }
            Way::Nvmf { nqn, nsid, listeners } => {
                text += &format!("  NVMe/TCP  {nqn} NSID {nsid}\n");
                for l in listeners {
                    let tls = if l.secure_channel { " --tls" } else { "" };
                    text += &format!(
                        "    nvme connect -t tcp -a {} -s {} -n {nqn}{tls}\n",
                        l.traddr, l.trsvcid
                    );
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> Volume {
        serde_json::from_value(json!({
            "name": "mem", "uuid": "3a", "bytes": 67108864, "block_size": 512, "read_only": false,
            "served": [
                {"protocol": "iscsi", "iqn": "iqn.x:mem", "lun": 0, "portals": [{"host": "[::1]", "port": 3260}]},
                {"protocol": "nvmf", "nqn": "nqn.x:mem", "nsid": 1,
                    "listeners": [{"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}]},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn the_lines_to_type_are_exact() {
        assert_eq!(
            how_to_use(&volume()),
            "mem: 64 MiB (67108864 bytes) in blocks of 512, UUID 3a\n  \
               iSCSI     iqn.x:mem LUN 0\n    \
                 iscsiadm -m discovery -t sendtargets -p [::1]:3260\n    \
                 iscsiadm -m node -T iqn.x:mem -p [::1]:3260 --login\n    \
                 qemu-img info iscsi://[::1]:3260/iqn.x:mem/0\n  \
               NVMe/TCP  nqn.x:mem NSID 1\n    \
                 nvme connect -t tcp -a 127.0.0.1 -s 4420 -n nqn.x:mem\n"
        );
    }

    #[test]
    fn a_volume_nobody_is_given_is_listed_as_such() {
        let idle = Volume {
            served: Vec::new(),
            ..volume()
        };
        assert!(list(&[idle]).contains("not served"));
        assert_eq!(list(&[volume()]).lines().count(), 3);
    }
}
