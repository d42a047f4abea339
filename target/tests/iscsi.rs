//! The iSCSI front end against real initiators: libiscsi's tools and QEMU's. Needs no root. A tool that is not installed
//! is said so and skipped.
use bdev::{Table, graph::Graph, node::NodeSpec};
use reactor::Reactors;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Output},
    time::{Duration, Instant},
};
use target::iscsi::{Auth, InitiatorGroup, Iscsi, LunMap, Options, PgIgMap, Portal, TargetNode};

const IQN: &str = "iqn.2016-06.io.spdk:quarry";

struct House {
    reactors: Reactors,
    graph: Graph,
    iscsi: Iscsi,
    runtime: tokio::runtime::Runtime,
    at: SocketAddr,
}

impl House {
    /// Two cores, three volumes (512, 4096, null), one target.
    fn new() -> Self {
        let config = reactor::Config {
            count: 2,
            ..Default::default()
        };
        let reactors = Reactors::start(config).expect("reactors start");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let graph = Graph::new(reactors.clone());
        let memory = |blocks, block_size| Table::Memory {
            blocks,
            block_size,
            physical_block_size: None,
            optimal_io: 0,
        };
        runtime.block_on(async {
            graph
                .build(NodeSpec::new("vol0", memory(131072, 512)))
                .await
                .expect("vol0");
            graph
                .build(NodeSpec::new("vol1", memory(8192, 4096)))
                .await
                .expect("vol1");
            let null = Table::Null {
                blocks: 131072,
                block_size: 512,
                physical_block_size: None,
            };
            graph.build(NodeSpec::new("null", null)).await.expect("null");
        });
        let iscsi = Iscsi::new(reactors.clone(), graph.clone());
        let portal = Portal {
            host: "127.0.0.1".into(),
            port: 0,
        };
        iscsi
            .create_portal_group(1, &[portal], false, false)
            .expect("portal group");
        let any = InitiatorGroup {
            tag: 1,
            initiators: vec!["ANY".into()],
            netmasks: vec!["ANY".into()],
        };
        iscsi.create_initiator_group(any).expect("initiator group");
        let luns = ["vol0", "vol1", "null"].iter().enumerate().map(|(i, volume)| LunMap {
            bdev_name: volume.to_string(),
            lun_id: i as u16,
        });
        iscsi
            .create_target_node(&TargetNode {
                name: "quarry".into(),
                alias_name: "the quarry".into(),
                pg_ig_maps: vec![PgIgMap { pg_tag: 1, ig_tag: 1 }],
                luns: luns.collect(),
                queue_depth: 64,
                auth: Auth::default(),
                header_digest: false,
                data_digest: false,
            })
            .expect("target node");
        let port = iscsi.portal_groups()[0].portals[0].port;
        Self {
            reactors,
            graph,
            iscsi,
            runtime,
            at: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    fn url(&self, lun: u16) -> String {
        format!("iscsi://{}/{IQN}/{lun}", self.at)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let all_gone = self.iscsi.shutdown(Duration::from_secs(10));
        self.reactors.stop();
        assert!(all_gone || std::thread::panicking(), "connections did not end");
    }
}

/// Runs a tool; `None` if it is not there.
fn tool(name: &str, args: &[&str]) -> Option<Output> {
    match Command::new("timeout").arg("120").arg(name).args(args).output() {
        Ok(output) if output.status.code() == Some(127) => {
            println!("skipped: {name} not installed");
            None
        }
        Ok(output) => Some(output),
        Err(_) => {
            println!("skipped: timeout not installed");
            None
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn discovery_and_inquiry() {
    let house = House::new();
    if let Some(out) = tool("iscsi-ls", &["-s", &format!("iscsi://{}", house.at)]) {
        let text = text(&out);
        assert!(out.status.success(), "{text}");
        assert!(text.contains(&format!("Target:{IQN} Portal:{},1", house.at)), "{text}");
        assert!(
            text.contains("Lun:0") && text.contains("Lun:1") && text.contains("Lun:2"),
            "{text}"
        );
    }
    for args in [vec![], vec!["-e", "1", "-c", "0x83"], vec!["-e", "1", "-c", "0xb0"]] {
        let url = house.url(0);
        let mut all = args.clone();
        all.push(&url);
        if let Some(out) = tool("iscsi-inq", &all) {
            let text = text(&out);
            assert!(out.status.success(), "{args:?}: {text}");
        }
    }
}

#[test]
fn qemu_reads_back_what_it_wrote() {
    let house = House::new();
    for (lun, size) in [(0, "64 MiB"), (1, "32 MiB")] {
        let url = house.url(lun);
        let Some(out) = tool("qemu-img", &["info", &url]) else {
            return;
        };
        let info = text(&out);
        if info.contains("Unknown protocol") {
            println!("skipped: qemu-block-extra not installed");
            return;
        }
        assert!(info.contains(size), "{info}");
        let script = [
            "-f",
            "raw",
            "-c",
            "write -P 0xa5 4k 1M",
            "-c",
            "write -P 0x5a 1028k 64k",
            "-c",
            "flush",
            "-c",
            "read -P 0xa5 4k 1M",
            "-c",
            "read -P 0x5a 1028k 64k",
            "-c",
            "read -P 0 0 4k",
            "-c",
            "discard 4k 512k",
            "-c",
            "write -z 516k 64k",
            "-c",
            "read -P 0 516k 64k",
            "-c",
            "read -P 0xa5 580k 64k",
        ];
        let mut args = script.to_vec();
        args.push(&url);
        let Some(out) = tool("qemu-io", &args) else { return };
        let text = text(&out);
        assert!(
            out.status.success() && !text.contains("failed") && !text.contains("error"),
            "{text}"
        );
    }
}
