"""Sets up both targets with SPDK's own client, as its users do, and checks the answers' shapes.

usage: provision.py SOCKET FOLDER ISCSI_PORT NVME_PORT
"""
import os
import sys

from spdk.rpc.client import JSONRPCClient, JSONRPCException

socket, folder, iscsi_port, nvme_port = sys.argv[1:5]
client = JSONRPCClient(socket, timeout=30, conn_retries=50)


def refused(text, call, **params):
    """The call must fail with this text: clients match on it."""
    try:
        call(**params)
    except JSONRPCException as error:
        assert text in error.message, f"expected {text!r} in {error.message}"
        return
    raise AssertionError(f"should have been refused with {text!r}")


methods = client.rpc_get_methods()
print(len(methods), "methods;", client.spdk_get_version()["version"])
assert "framework_start_init" in methods

# ---- bdevs: malloc, null, aio, split, delay, error
assert client.bdev_malloc_create(name="Malloc0", num_blocks=131072, block_size=512) == "Malloc0"
refused("File exists", client.bdev_malloc_create, name="Malloc0", num_blocks=8, block_size=512)
assert client.bdev_null_create(name="Null0", num_blocks=262144, block_size=4096) == "Null0"
image = os.path.join(folder, "aio.img")
with open(image, "wb") as f:
    f.truncate(64 << 20)
assert client.bdev_aio_create(name="Aio0", filename=image, block_size=512) == "Aio0"
assert client.bdev_split_create(base_bdev="Malloc0", split_count=2) == ["Malloc0p0", "Malloc0p1"]
assert client.bdev_delay_create(name="Delay0", base_bdev_name="Malloc0p1", avg_read_latency=200, p99_read_latency=200,
                                avg_write_latency=200, p99_write_latency=200) == "Delay0"
client.bdev_malloc_create(name="Malloc1", num_blocks=32768, block_size=512)
client.bdev_error_create(base_name="Malloc1")
client.bdev_wait_for_examine()
names = [b["name"] for b in client.bdev_get_bdevs()]
for name in ["Malloc0", "Malloc0p0", "Malloc0p1", "Delay0", "Null0", "Aio0", "Malloc1", "EE_Malloc1"]:
    assert name in names, f"{name} is not among {names}"
one = client.bdev_get_bdevs(name="Null0")[0]
assert (one["num_blocks"], one["block_size"], one["claimed"]) == (262144, 4096, False), one
assert client.bdev_get_bdevs(name="Malloc0")[0]["claimed"] is True
refused("No such device", client.bdev_get_bdevs, name="nowhere")

# ---- NVMe/TCP
assert client.nvmf_create_transport(trtype="TCP") is True
refused("Transport type 'TCP' already exists", client.nvmf_create_transport, trtype="TCP")
nqn = "nqn.2016-06.io.spdk:cnode1"
assert client.nvmf_create_subsystem(nqn=nqn, allow_any_host=True, serial_number="SPDK00000000000001") is True
refused("Unable to create subsystem " + nqn, client.nvmf_create_subsystem, nqn=nqn)
assert client.nvmf_subsystem_add_ns(nqn=nqn, namespace={"bdev_name": "Malloc0p0"}) == 1
assert client.nvmf_subsystem_add_ns(nqn=nqn, namespace={"bdev_name": "Aio0", "nsid": 5}) == 5
refused("Invalid parameters", client.nvmf_subsystem_add_ns, nqn=nqn, namespace={"bdev_name": "nowhere"})
address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": nvme_port}
assert client.nvmf_subsystem_add_listener(nqn=nqn, listen_address=address) is True
refused("Invalid parameters", client.nvmf_subsystem_add_listener, nqn=nqn, listen_address=address)
assert client.nvmf_subsystem_get_listeners(nqn=nqn)[0]["address"] == address
shown = [s for s in client.nvmf_get_subsystems() if s["nqn"] == nqn][0]
assert [(n["nsid"], n["bdev_name"]) for n in shown["namespaces"]] == [(1, "Malloc0p0"), (5, "Aio0")], shown
assert shown["serial_number"] == "SPDK00000000000001" and shown["allow_any_host"] is True

# ---- iSCSI
assert client.iscsi_create_portal_group(tag=1, portals=[{"host": "127.0.0.1", "port": iscsi_port}]) is True
assert client.iscsi_create_initiator_group(tag=1, initiators=["ANY"], netmasks=["ANY"]) is True
assert client.iscsi_create_target_node(name="disk1", alias_name="disk1 alias", pg_ig_maps=[{"pg_tag": 1, "ig_tag": 1}],
                                       luns=[{"bdev_name": "Delay0", "lun_id": 0}, {"bdev_name": "EE_Malloc1", "lun_id": 1}],
                                       queue_depth=64, disable_chap=True) is True
assert client.iscsi_target_node_add_lun(name="iqn.2016-06.io.spdk:disk1", bdev_name="Null0", lun_id=2) is True
node = client.iscsi_get_target_nodes()[0]
assert node["name"] == "iqn.2016-06.io.spdk:disk1", node
assert sorted((l["lun_id"], l["bdev_name"]) for l in node["luns"]) == [(0, "Delay0"), (1, "EE_Malloc1"), (2, "Null0")], node
assert client.iscsi_get_portal_groups()[0]["portals"][0]["port"] == iscsi_port
assert client.bdev_get_iostat(name="Aio0")["bdevs"][0]["name"] == "Aio0"
print("PASS")
