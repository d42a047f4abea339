//! `--assemble` and `--stop`: arrays come into service, and out of it.
use super::{Outcome, array, cli::MdadmArgs};
use crate::{ask, plan};
use lvol::Desired;
use rpc::client::Client;
use serde_json::{Value, json};
use uuid::Uuid;

/// An array as discovery knows it, running or not.
struct Known {
    /// `md/NAME`.
    disk: String,
    /// Identity.
    id: String,
    runs: bool,
}

/// Does it for the arrays that are meant.
pub fn run(client: &mut Client, args: &MdadmArgs) -> Outcome {
    let arrays = meant(args, &known(client)?)?;
    for disk in arrays {
        let desired = match (args.stop, args.run) {
            (true, _) => Desired::Inactive,
            (false, true) => Desired::Anyway,
            (false, false) => Desired::Active,
        };
        let params = json!({"name": disk, "desired": desired});
        client.call::<Value>("ashlar_activate", params).map_err(plan::plain)?;
        let told = match args.stop {
            true => format!("mdadm: stopped /dev/{disk}\n"),
            false => format!("mdadm: /dev/{disk} has been started{}.\n", members(client, &disk)),
        };
        ask::print_text(&told)
    }
    Ok(())
}

/// Every array that discovery has found.
fn known(client: &mut Client) -> Outcome<Vec<Known>> {
    let groups: Value = client.call("ashlar_get_groups", json!({})).map_err(plan::plain)?;
    let arrays = groups.as_array().into_iter().flatten();
    let one = |group: &Value| {
        let volume = &group["volumes"][0];
        Some(Known {
            disk: volume["disk"].as_str()?.to_owned(),
            id: group["id"].as_str()?.to_owned(),
            runs: volume["inactive"].is_null(),
        })
    };
    Ok(arrays.filter(|group| group["format"] == "md").filter_map(one).collect())
}

/// The arrays that the arguments mean.
fn meant(args: &MdadmArgs, known: &[Known]) -> Outcome<Vec<String>> {
    let all = known.iter().map(|array| array.disk.as_str());
    if let Some(text) = &args.uuid {
        // mdadm writes colons, and takes any such mark.
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let id: Uuid = digits.parse().map_err(|_| format!("{text:?} is no UUID of an array"))?;
        let named = known.iter().find(|array| array.id == id.to_string());
        let there = named.ok_or_else(|| format!("no disk belongs to an array with the UUID {text}"))?;
        return match args.names.first().map(|name| array(name)) {
            Some(name) if name != there.disk => {
                Err(format!("the array with the UUID {text} is {:?}, and not {name:?}", there.disk).into())
            }
            _ => Ok(vec![there.disk.clone()]),
        };
    }
    if args.scan {
        if let Some(name) = args.names.first() {
            return Err(format!("--scan means all arrays; {name:?} is named besides").into());
        }
        let wanted = known.iter().filter(|array| array.runs == args.stop);
        return Ok(wanted.map(|array| array.disk.clone()).collect());
    }
    let named = |name: &String| {
        let disk = array(name);
        match all.clone().find(|known| *known == disk) {
            Some(_) => Ok(disk.to_owned()),
            None if args.assemble && args.names.first() != Some(name) => Err(format!(
                "{name:?}: no array is called that; the members of one are found by themselves and not named"
            )),
            None => Err(format!(
                "{name:?}: no array is called that; `ashlar raid ls` lists those that run"
            )),
        }
    };
    Ok(args.names.iter().map(named).collect::<Result<_, _>>()?)
}

/// With how many members it runs, in mdadm's words; nothing for arrays that run with all of them or not at all.
fn members(client: &mut Client, disk: &str) -> String {
    let told = client.call::<Value>("ashlar_get_arrays", json!({ "name": disk }));
    let members = told.ok().and_then(|told| told[0]["members"].as_array().cloned());
    let Some(members) = members else {
        return String::new();
    };
    let all = members.len();
    match members.iter().filter(|member| member["state"] == "in_sync").count() {
        there if there == all => format!(" with {all} drives"),
        1 => format!(" with 1 drive (out of {all})"),
        there => format!(" with {there} drives (out of {all})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: MdadmArgs,
    }

    fn told(line: &str) -> Result<Vec<String>, String> {
        let words = ["mdadm"].into_iter().chain(line.split(' '));
        let args = Line::try_parse_from(words).map_err(|why| why.to_string())?.args;
        let id = |number: u128| Uuid::from_u128(number).to_string();
        let known = [("md/a", 0xabc, true), ("md/b", 2, false), ("md/c", 3, true)].map(|(disk, number, runs)| Known {
            disk: disk.into(),
            id: id(number),
            runs,
        });
        meant(&args, &known).map_err(|why| why.to_string())
    }

    #[test]
    fn arrays_are_named_by_path_by_uuid_or_all_at_once() {
        let list = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(told("--stop /dev/md/a md/c"), list(&["md/a", "md/c"]));
        assert_eq!(told("-A /dev/md/b --run"), list(&["md/b"]));
        assert_eq!(told("-A --uuid=00000000:00000000:00000000:00000abc"), list(&["md/a"]));
        assert_eq!(
            told("-A md/a --uuid=00000000-0000-0000-0000-000000000abc"),
            list(&["md/a"])
        );
        assert_eq!(told("--stop --scan"), list(&["md/a", "md/c"]));
        assert_eq!(told("--assemble --scan"), list(&["md/b"]));
        for (line, why) in [
            (
                "-A md/c --uuid=00000000:00000000:00000000:00000abc",
                "is \"md/a\", and not",
            ),
            ("-A --uuid=00000000:00000000:00000000:00000001", "no disk belongs"),
            ("-A --uuid=xyz", "no UUID"),
            ("-A md/a /dev/sda", "found by themselves"),
            ("--stop md/z", "no array is called that"),
            ("--stop --scan md/a", "all arrays"),
            ("--stop --assemble md/a", "cannot be used with"),
            ("md/a --run", "--assemble"),
            ("md/a --with b", "--replace"),
            ("--grow md/a", "--size"),
            ("--stop", "NAME"),
        ] {
            let said = told(line).expect_err(line);
            assert!(said.contains(why), "{line}: {said}");
        }
    }

    #[test]
    fn options_of_one_line_are_read_as_mdadm_reads_them() {
        let parse = |line: &str| {
            let words = ["mdadm"].into_iter().chain(line.split(' '));
            Line::try_parse_from(words).map(|line| line.args).expect(line)
        };
        let args = parse("/dev/md/a --fail x --remove x --add y --replace p q --with r s");
        assert_eq!(
            (args.names, args.fail, args.remove),
            (vec!["/dev/md/a".to_owned()], vec!["x".to_owned()], vec!["x".into()])
        );
        assert_eq!(
            (args.replace.join(" "), args.with.join(" ")),
            ("p q".into(), "r s".into())
        );
        let args = parse("--grow md/a --size=max");
        assert!(args.grow && args.size.as_deref() == Some("max"));
        let args = parse("md/a --remove failed detached --re-add b");
        assert_eq!((args.remove.len(), args.re_add.len()), (2, 1));
    }
}
