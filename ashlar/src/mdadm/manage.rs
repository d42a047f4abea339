//! What is done to an array that runs: members go and come, it is compared, it grows.
use super::{Outcome, cli::MdadmArgs};
use crate::{ask, cli as house, plan};
use rpc::client::Client;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(200);

/// Does what is asked, in the order that `--help` tells.
pub fn run(client: &mut Client, args: &MdadmArgs, name: &str) -> Outcome {
    let nothing = [&args.fail, &args.remove, &args.re_add, &args.add, &args.replace];
    let nothing = nothing.into_iter().all(Vec::is_empty);
    if nothing && args.size.is_none() && args.action.is_none() && !args.wait {
        let modes = "--examine, --detail, --create, --assemble, --stop or --grow";
        let verbs = "--fail, --remove, --re-add, --add, --replace, --action or --wait";
        return Err(format!("nothing is asked: {modes}, or of an array {verbs}").into());
    }
    if args.replace.len() != args.with.len() {
        let (old, new) = (args.replace.len(), args.with.len());
        return Err(
            format!("--replace names {old} disks and --with {new}; each needs one that takes its place").into(),
        );
    }
    let size = args.size.as_deref().map(bytes).transpose()?;
    for disk in &args.fail {
        call(client, "ashlar_fail_member", json!({"name": name, "member": disk}))?;
        ask::print_text(&format!("mdadm: set {disk} faulty in {name}\n"))
    }
    let mut gone = Vec::new();
    for word in &args.remove {
        match word.as_str() {
            "failed" => gone.extend(failed(client, name)?),
            // The array has let go of them, and there is nothing to wipe.
            "detached" => (),
            disk => gone.push(disk.to_owned()),
        }
    }
    gone.dedup();
    for disk in &gone {
        change(client, "raid-remove", name, json!({"disks": [disk]}))?;
        ask::print_text(&format!("mdadm: hot removed {disk} from {name}\n"))
    }
    if !args.re_add.is_empty() {
        change(client, "raid-readd", name, json!({"disks": args.re_add}))?;
        for disk in &args.re_add {
            ask::print_text(&format!("mdadm: re-added {disk}\n"))
        }
    }
    if !args.add.is_empty() {
        change(
            client,
            "raid-add",
            name,
            json!({"disks": args.add, "force": args.force}),
        )?;
        for disk in &args.add {
            ask::print_text(&format!("mdadm: added {disk}\n"))
        }
    }
    for (old, new) in args.replace.iter().zip(&args.with) {
        change(client, "raid-replace", name, json!({"disk": old, "with": new}))?;
        ask::print_text(&format!("mdadm: Marked {old} in {name} for replacement by {new}\n"))
    }
    if let Some(size) = size {
        let mut params = json!({ "name": name });
        if let Some(bytes) = size {
            params["bytes_per_member"] = bytes.into()
        }
        call(client, "ashlar_grow_array", params)?;
        ask::print_text(&format!("mdadm: component size of {name} has been set\n"))
    }
    match args.action.as_deref() {
        Some("idle") => call(client, "ashlar_cancel_array", json!({ "name": name })).map(drop)?,
        Some("frozen") => call(client, "ashlar_pause_array", json!({ "name": name })).map(drop)?,
        Some(word) => {
            let params = json!({"name": name, "repair": word == "repair"});
            call(client, "ashlar_scrub_array", params).map(drop)?
        }
        None => (),
    }
    match args.wait {
        true => wait(client, name),
        false => Ok(()),
    }
}

fn call(client: &mut Client, method: &str, params: Value) -> Outcome<Value> {
    // With the cause, which `plan::plain` takes for the word of a refusal.
    Ok(client.call(method, params)?)
}

fn change(client: &mut Client, verb: &str, array: &str, options: Value) -> Outcome {
    let options: Map<String, Value> = options.as_object().cloned().unwrap_or_default();
    plan::apply(client, verb, array, options, &house::How::default()).map(drop)
}

/// Disks that have lost their places.
fn failed(client: &mut Client, name: &str) -> Outcome<Vec<String>> {
    let told = call(client, "ashlar_get_arrays", json!({ "name": name }))?;
    let lists = ["members", "extras"].into_iter();
    let disks = lists.flat_map(|list| told[0][list].as_array().into_iter().flatten());
    let failed = disks.filter(|disk| disk["state"] == "failed");
    Ok(failed
        .filter_map(|disk| disk["disk"].as_str().map(str::to_owned))
        .collect())
}

/// A size as mdadm reads it, in KiB without a unit; nothing for as much as there is.
fn bytes(text: &str) -> Outcome<Option<u64>> {
    if text == "max" {
        return Ok(None);
    }
    let (number, shift) = match text.char_indices().next_back() {
        Some((at, 'K')) => (&text[..at], 10),
        Some((at, 'M')) => (&text[..at], 20),
        Some((at, 'G')) => (&text[..at], 30),
        Some((at, 'T')) => (&text[..at], 40),
        _ => (text, 10),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift));
    let bytes = bytes.filter(|bytes| *bytes > 0);
    let why = || format!("--size={text}: expected max, or a number of KiB, or one with K, M, G or T behind it");
    bytes.map(Some).ok_or_else(|| why().into())
}

/// Until nothing is done to it.
fn wait(client: &mut Client, name: &str) -> Outcome {
    loop {
        let told = call(client, "ashlar_get_arrays", json!({ "name": name }))?;
        if told[0]["progress"].is_null() {
            return Ok(());
        }
        std::thread::sleep(LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_mdadm() {
        for (text, wanted) in [
            ("max", None),
            ("1024", Some(1 << 20)),
            ("3G", Some(3 << 30)),
            ("8M", Some(8 << 20)),
        ] {
            assert_eq!(bytes(text).expect(text), wanted, "{text}");
        }
        for text in ["", "0", "M", "-1", "1.5G", "99999999999T", "5µ"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
