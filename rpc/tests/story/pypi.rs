//! SPDK's own client from PyPI, unmodified: its command line and its library.

use std::path::{Path, PathBuf};
use std::process::Command;

use rpc::methods::TableOptions;
use serde_json::Value;

use crate::harness::{Process, python, run};

fn spdk_rpc(python: &Path, socket: PathBuf, arguments: &str) -> Command {
    let mut command = Command::new("sh");
    let line = format!(
        "exec '{}' -s '{}' {arguments}",
        python.with_file_name("spdk-rpc").display(),
        socket.display()
    );
    command.args(["-c", &line]);
    command
}

#[test]
fn its_command_line_sets_up_saves_and_loads() {
    let Some(python) = python("SPDK's command line") else {
        return;
    };
    let p = Process::started();
    let call = |arguments: &str| run(&mut spdk_rpc(&python, p.socket(), arguments));
    let image = p.dir.path().join("aio.img");
    std::fs::File::create(&image)
        .and_then(|f| f.set_len(16 << 20))
        .expect("an image");
    let (nvme, iscsi) = (50_000 + std::process::id() % 5000, 55_000 + std::process::id() % 5000);
    assert_eq!(call("bdev_malloc_create 64 512 -b Malloc0"), "Malloc0\n");
    assert_eq!(call("bdev_null_create Null0 64 4096"), "Null0\n");
    assert_eq!(call(&format!("bdev_aio_create {} Aio0 512", image.display())), "Aio0\n");
    assert_eq!(call("bdev_split_create Malloc0 2"), "Malloc0p0 Malloc0p1\n");
    assert_eq!(
        call("bdev_delay_create -b Malloc0p1 -d Delay0 -r 10 -t 20 -w 30 -n 40"),
        "Delay0\n"
    );
    call("bdev_delay_update_latency Delay0 avg_read 11");
    call("bdev_error_create Null0");
    call("bdev_error_inject_error EE_Null0 read failure -n 2");
    call("bdev_passthru_create -b Aio0 -p Pass0");
    call("bdev_malloc_create 8 512 -b M1");
    call("bdev_malloc_create 8 512 -b M2");
    call("bdev_raid_create -n Raid0 -z 64 -r raid0 -b 'M1 M2'");
    call("bdev_wait_for_examine");
    let bdevs: Value = serde_json::from_str(&call("bdev_get_bdevs")).expect("JSON");
    assert_eq!(bdevs.as_array().map(Vec::len), Some(11));
    call("bdev_get_bdevs -b Raid0 -t 100");
    call("bdev_get_iostat --names Malloc0,Null0");
    call("bdev_get_iostat --names Malloc0 -c --reset-mode all");
    call("bdev_reset_iostat -b Malloc0 -m maxmin");
    call("nvmf_create_transport -t TCP -q 64 -c 8192");
    call("nvmf_create_subsystem nqn.2016-06.io.spdk:cnode1 -a -s SPDK00000000000001 -d Ashlar -r -m 8");
    call("nvmf_subsystem_add_ns nqn.2016-06.io.spdk:cnode1 Malloc0p0 -n 2 -g ABCDEF0123456789ABCDEF0123456789");
    call(&format!(
        "nvmf_subsystem_add_listener nqn.2016-06.io.spdk:cnode1 -t tcp -a 127.0.0.1 -f ipv4 -s {nvme} -n optimized"
    ));
    call(&format!(
        "nvmf_subsystem_add_listener discovery -t tcp -a 127.0.0.1 -f ipv4 -s {nvme}"
    ));
    call("nvmf_subsystem_add_host nqn.2016-06.io.spdk:cnode1 nqn.2014-08.org.example:h");
    call("nvmf_subsystem_get_listeners nqn.2016-06.io.spdk:cnode1");
    call("nvmf_get_stats");
    call(&format!("iscsi_create_portal_group 1 127.0.0.1:{iscsi}"));
    call("iscsi_create_initiator_group 2 ANY 127.0.0.0/8");
    call("iscsi_create_target_node disk1 disk1_alias 'Delay0:0 Raid0:1' 1:2 64 -d");
    call("iscsi_target_node_add_lun iqn.2016-06.io.spdk:disk1 Pass0 -i 4");
    call("log_set_print_level DEBUG");
    call("framework_get_reactors");
    call("spdk_get_version");
    call("notify_get_notifications -i 0 -n 3");
    // Everything at once, as `rpc.py -b` sends it.
    let mut batch = spdk_rpc(
        &python,
        p.socket(),
        "-b <<'END'\nbdev_null_create B0 8 512\nbdev_get_bdevs -b B0\nbdev_null_delete B0\nEND",
    );
    assert!(run(&mut batch).contains("\"name\": \"B0\""));

    let first = call("save_config");
    let kept = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(kept.path(), &first).expect("written");
    let dir = p.dir.path().to_owned();
    // The image stays where it was while the first process goes.
    std::fs::copy(&image, dir.with_extension("img")).expect("copied");
    drop(p);
    std::fs::create_dir_all(&dir).expect("the folder again");
    std::fs::rename(dir.with_extension("img"), dir.join("aio.img")).expect("moved back");

    let q = Process::waiting(TableOptions::default());
    run(&mut spdk_rpc(
        &python,
        q.socket(),
        &format!("load_config < '{}'", kept.path().display()),
    ));
    let second = run(&mut spdk_rpc(&python, q.socket(), "save_config"));
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("save_config prints JSON");
    assert_eq!(parse(&second), parse(&first));
    run(&mut spdk_rpc(&python, q.socket(), "spdk_kill_instance SIGTERM"));
    drop(q);
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn its_errors_reach_the_caller_as_spdks_would() {
    let Some(python) = python("SPDK's library") else { return };
    let p = Process::started();
    let script = r#"
import json, sys
from spdk.rpc.client import JSONRPCClient, JSONRPCException
client = JSONRPCClient(sys.argv[1], timeout=20)

def refused(code, text, call, **params):
    try:
        call(**params)
    except JSONRPCException as error:
        answer = json.loads(error.message.split("response:\n", 1)[1])
        assert (answer["code"], answer["message"]) == (code, text), error.message
        return
    raise AssertionError(f"expected {text}")

refused(-19, "No such device", client.bdev_get_bdevs, name="nope")
refused(-32603, "spdk_json_decode_object failed", client.bdev_malloc_create, nam="x")
client.bdev_malloc_create(name="M", num_blocks=2048, block_size=512)
refused(-17, "File exists", client.bdev_malloc_create, name="M", num_blocks=2048, block_size=512)
client.nvmf_create_transport(trtype="TCP")
refused(-32603, "Transport type 'TCP' already exists", client.nvmf_create_transport, trtype="TCP")
nqn = "nqn.2016-06.io.spdk:c"
client.nvmf_create_subsystem(nqn=nqn)
refused(-32603, "Unable to create subsystem " + nqn, client.nvmf_create_subsystem, nqn=nqn)
refused(-32602, "Invalid parameters", client.nvmf_subsystem_get_listeners, nqn=nqn + "x")
refused(-32602, "Invalid parameters", client.nvmf_subsystem_add_ns, nqn=nqn, namespace={"bdev_name": "nope"})
refused(-32602, "Invalid parameters", client.iscsi_create_target_node, name="d", alias_name="d", luns=[{"bdev_name": "nope", "lun_id": 0}],
        pg_ig_maps=[], queue_depth=1)
refused(-32601, "Method not found", client.no_such_method)
print("PASS")
"#;
    let said = run(Command::new(&python).args(["-c", script]).arg(p.socket()));
    assert_eq!(said, "PASS\n");
}
