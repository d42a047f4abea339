//! Who knows what about disks, what a verb's options may be now, and a stack that is refused.
use super::harness::Process;
use serde_json::{Value, json};

fn malloc(p: &mut Process, name: &str) {
    let params = json!({"name": name, "num_blocks": 65_536, "block_size": 512});
    p.ok("bdev_malloc_create", params);
}

fn named<'a>(all: &'a Value, name: &str) -> &'a Value {
    let found = all.as_array().expect("a list").iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {all}"))
}

#[test]
fn the_rules_for_stacks_are_told() {
    let mut p = Process::started();
    let told = p.ok("ashlar_plan_stack", json!({"features": ["gpt", "file", "stripe"]}));
    assert_eq!(told["order"], json!(["file", "gpt", "stripe"]));
    assert_eq!(told["rows"][0]["name"], "file");
    let broken = told["broken"].as_array().expect("a list");
    assert!(
        broken
            .iter()
            .any(|one| one["rule"] == "bottom-exclusive" && one["hard"] == true),
        "{told}"
    );
    let fine = p.ok("ashlar_plan_stack", json!({"features": ["file", "gpt", "stripe"]}));
    assert_eq!(fine["broken"], json!([]));
    let all = p.ok("ashlar_plan_stack", json!({}));
    assert!(all["rows"].as_array().is_some_and(|rows| rows.len() > 20), "{all}");
}

#[test]
fn plug_ins_are_listed_with_what_they_have_claimed() {
    let mut p = Process::started();
    malloc(&mut p, "m");
    let all = p.ok("ashlar_get_plugins", json!({}));
    let numbers: Vec<u64> = all["classes"]
        .as_array()
        .expect("classes")
        .iter()
        .filter_map(|c| c["number"].as_u64())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    let empty = |class: &Value| (class["plugins"] == 0).then(|| class["class"].clone());
    let empty: Vec<Value> = all["classes"]
        .as_array()
        .expect("classes")
        .iter()
        .filter_map(empty)
        .collect();
    assert_eq!(empty, [json!("cluster_manager"), json!("lock_manager")]);
    let gpt = named(&all["plugins"], "gpt");
    assert_eq!(
        (&gpt["id"], &gpt["number"], &gpt["api"]),
        (&json!("0x00002001"), &json!(0x2001), &json!("1.0"))
    );
    assert_eq!((&gpt["active"], &gpt["claims"]), (&json!(false), &json!([])));
    assert_eq!(named(&all["plugins"], "memory")["claims"], json!(["m"]));

    p.ok(
        "ashlar_change",
        json!({"verb": "label-create", "object": "m", "options": {"scheme": "gpt"}}),
    );
    let all = p.ok("ashlar_get_plugins", json!({}));
    let gpt = named(&all["plugins"], "gpt");
    assert_eq!((&gpt["active"], &gpt["claims"]), (&json!(true), &json!(["m"])));
    assert!(
        gpt["verbs"]
            .as_array()
            .is_some_and(|verbs| verbs.contains(&json!("partition-create"))),
        "{gpt}"
    );
}

#[test]
fn a_verb_tells_what_its_options_may_be_for_an_object_now() {
    let mut p = Process::started();
    malloc(&mut p, "a");
    malloc(&mut p, "b");
    let options = json!({"disks": ["a"], "extent_size": "1m"});
    p.ok(
        "ashlar_change",
        json!({"verb": "vg-create", "object": "g", "options": options}),
    );
    let can = p.ok("ashlar_can", json!({"object": "g", "verb": "lv-create"}));
    let limits = &can[0]["limits"];
    let size = named(limits, "size");
    // 32 MiB less the first, which is the label's and the metadata's.
    assert_eq!(
        (&size["min"], &size["max"], &size["step"], &size["not_with"]),
        (&json!(1 << 20), &json!(31 << 20), &json!(1 << 20), &json!(["extents"]))
    );
    assert_eq!(named(limits, "stripes")["max"], 1);
    assert_eq!(named(limits, "stripes")["default"], 1);
    assert_eq!(named(limits, "disks")["values"], json!(["a"]));
    let can = p.ok("ashlar_can", json!({"object": "g", "verb": "vg-extend"}));
    assert_eq!(named(&can[0]["limits"], "disks")["values"], json!(["b"]));
    let all = p.ok("ashlar_can", json!({"object": "g"}));
    assert!(
        all.as_array()
            .expect("a list")
            .iter()
            .all(|can| can.get("limits").is_none()),
        "{all}"
    );
}

#[test]
fn a_stripe_that_has_a_disk_twice_is_refused() {
    let mut p = Process::started();
    malloc(&mut p, "a");
    let segments = json!([{"on": "a", "start": 0, "blocks": 4096}]);
    p.ok(
        "ashlar_create_disk",
        json!({"name": "low", "table": {"kind": "linear", "segments": segments}}),
    );
    for on in [json!(["a", "a"]), json!(["a", "low"])] {
        let table = json!({"kind": "stripe", "on": on, "chunk": 8});
        let (code, _) = p.refused("ashlar_create_disk", json!({"name": "s", "table": table}));
        assert_eq!(code, -22, "{on}");
    }
    assert_eq!(p.disks(), ["a", "low"]);
}
