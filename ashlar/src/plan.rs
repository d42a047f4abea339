//! `ashlar do`, `ashlar can` and `ashlar plan`: changes to what is on disks, planned, carried out and taken back.
use crate::{ask, cli, human};
use lvol::stack::{Advice, Rules};
use rpc::client::{Client, ClientError};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{error::Error, io::Read};

type Outcome = Result<(), Box<dyn Error>>;

/// Runs `ashlar plan`.
pub fn run(ask: &cli::Ask, command: &cli::PlanCommand) -> Outcome {
    if let cli::PlanCommand::Stack { features } = command {
        return stack(ask, features);
    }
    let mut client = ask::connect(ask)?;
    match command {
        cli::PlanCommand::Verbs { name } => verbs(&mut client, ask, name.as_deref()),
        cli::PlanCommand::Stack { features } => stack(ask, features),
        cli::PlanCommand::Ls => list(&mut client, ask),
        cli::PlanCommand::Show { number, bytes } => {
            let plan: Value = client.call("ashlar_get_plans", json!({ "number": number }))?;
            print(ask, &plan, *bytes)
        }
        cli::PlanCommand::Apply { file } => {
            let text = match file.to_str() {
                Some("-") => {
                    let mut text = String::new();
                    std::io::stdin().read_to_string(&mut text)?;
                    text
                }
                _ => std::fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))?,
            };
            let plan: Value = serde_json::from_str(&text)
                .map_err(|why| format!("{}: {why}; a plan is what --dry-run --json prints", file.display()))?;
            told(ask, client.call("ashlar_apply_plan", json!({ "plan": plan }))?)
        }
        cli::PlanCommand::Undo { number } => {
            let past: Value = client.call("ashlar_undo", json!({ "number": number }))?;
            match ask.json {
                true => ask::print_json(&past),
                false => ask::print_text(&format!("Plan {number} was taken back.\n")),
            }
            Ok(())
        }
    }
}

/// Runs `ashlar plan stack`. The rules are built in, so no target is asked.
fn stack(ask: &cli::Ask, features: &[String]) -> Outcome {
    let given: Vec<&str> = features.iter().map(String::as_str).collect();
    let advice = Rules::default().advice(&given);
    if ask.json {
        ask::print_json(&advice);
    }
    let Advice { order, rows, broken } = advice;
    if !ask.json {
        let lines = rows.into_iter().map(|row| {
            let only = match row.exclusive {
                None => String::new(),
                Some((rule, true)) => rule.word().to_owned(),
                Some((rule, false)) => format!("{} (advice)", rule.word()),
            };
            let layer = format!("{:?}", row.layer).to_lowercase();
            vec![
                row.name.to_owned(),
                layer,
                row.weight.to_string(),
                only,
                row.why.to_owned(),
            ]
        });
        let mut text = match given.is_empty() {
            true => String::new(),
            false => format!("The best order, lowest first: {}\n\n", order.join(", ")),
        };
        text += &human::table(&["FEATURE", "LAYER", ">WEIGHT", "ONLY", "WHY"], lines);
        for one in &broken {
            let manner = if one.hard { "Refused" } else { "Advice" };
            text += &format!("\n{manner}, {one}");
        }
        text += if broken.is_empty() { "" } else { "\n" };
        ask::print_text(&text);
    }
    match broken.iter().find(|one| one.hard) {
        Some(one) => Err(format!("{} is refused by the rule {}", given.join(", "), one.rule.word()).into()),
        None => Ok(()),
    }
}

/// Runs `ashlar do`.
pub fn perform(ask: &cli::Ask, args: &cli::Do, registry: &lvol::Registry) -> Outcome {
    let (name, object) = match (&args.verb, &args.object) {
        (Some(name), Some(object)) if !args.help => (name, object),
        (name, _) => return teach(registry, name.as_deref()),
    };
    let mut client = ask::connect(ask)?;
    let known: Vec<Verb> = client.call("ashlar_get_verbs", ())?;
    let verb = known.iter().find(|verb| verb.name == *name);
    let mut options = Map::new();
    for (name, value) in &args.options {
        let kind = verb.and_then(|verb| verb.options.iter().find(|option| option.name == *name));
        options.insert(name.clone(), typed(kind.map(|option| &option.kind), value));
    }
    change(&mut client, ask, name, object, options, &args.how)
}

fn params(verb: &str, object: &str, options: &Map<String, Value>, how: &cli::How) -> Value {
    let mut params = json!({ "verb": verb, "object": object, "options": options });
    if let Some(seed) = how.seed {
        params["seed"] = json!(seed);
    }
    if let Some(time) = how.time {
        params["time"] = json!(time);
    }
    if let Some(host) = &how.host {
        params["host"] = json!(host);
    }
    params
}

/// Plans with `--dry-run`, else carries out; prints what came of it.
pub fn change(
    client: &mut Client,
    ask: &cli::Ask,
    verb: &str,
    object: &str,
    options: Map<String, Value>,
    how: &cli::How,
) -> Outcome {
    if how.dry_run {
        let plan = client
            .call("ashlar_plan", params(verb, object, &options, how))
            .map_err(plain)?;
        return print(ask, &plan, how.bytes);
    }
    told(ask, apply(client, verb, object, options, how)?)
}

/// Carries out.
pub fn apply(
    client: &mut Client,
    verb: &str,
    object: &str,
    options: Map<String, Value>,
    how: &cli::How,
) -> Result<Value, Box<dyn Error>> {
    client
        .call("ashlar_change", params(verb, object, &options, how))
        .map_err(plain)
}

/// What the user should know before.
pub fn warnings(
    client: &mut Client,
    verb: &str,
    object: &str,
    options: &Map<String, Value>,
    how: &cli::How,
) -> Result<Vec<String>, Box<dyn Error>> {
    let plan: Value = client
        .call("ashlar_plan", params(verb, object, options, how))
        .map_err(plain)?;
    let warnings = plan["warnings"].as_array().cloned().unwrap_or_default();
    Ok(warnings.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// A refusal is a sentence that needs no method's name in front.
pub fn plain(error: ClientError) -> Box<dyn Error> {
    match error {
        ClientError::Refused { error, .. } if error.data.as_ref().is_some_and(Value::is_string) => {
            error.message.clone().into()
        }
        other => other.into(),
    }
}

fn told(ask: &cli::Ask, applied: Value) -> Outcome {
    if ask.json {
        ask::print_json(&applied);
        return Ok(());
    }
    let lines = |key: &str| applied[key].as_array().cloned().unwrap_or_default();
    let mut text = String::new();
    for line in lines("summary") {
        text += &format!("{}\n", line.as_str().unwrap_or_default());
    }
    for line in lines("warnings") {
        text += &format!("Warning: {}\n", line.as_str().unwrap_or_default());
    }
    ask::print_text(&text);
    Ok(())
}

fn print(ask: &cli::Ask, plan: &Value, bytes: bool) -> Outcome {
    if ask.json {
        ask::print_json(plan);
        return Ok(());
    }
    ask::print_text(&text(plan, bytes)?);
    Ok(())
}

/// A plan for people, with the bytes before and after or without them.
pub fn text(plan: &Value, bytes: bool) -> Result<String, Box<dyn Error>> {
    let plan: lvol::Plan = serde_json::from_value(plan.clone())?;
    let mut text = plan.to_string();
    if bytes {
        for write in plan.steps.iter().flat_map(|step| &step.writes) {
            text += &format!("\n{} from byte {}\n", write.disk, write.offset);
            text += &lvol::plan::differences(write).join("\n");
            text.push('\n');
        }
    }
    Ok(text)
}

#[derive(Deserialize)]
struct Past {
    number: u64,
    time: u64,
    state: Value,
    request: Value,
    summary: Vec<String>,
}

fn list(client: &mut Client, ask: &cli::Ask) -> Outcome {
    let plans: Value = client.call("ashlar_get_plans", json!({}))?;
    if ask.json {
        ask::print_json(&plans);
        return Ok(());
    }
    let plans: Vec<Past> = serde_json::from_value(plans)?;
    if plans.is_empty() {
        ask::print_text("Nothing was changed on any disk yet.\n");
        return Ok(());
    }
    let rows = plans.into_iter().map(|past| {
        let state = match &past.state {
            Value::String(word) => word.clone(),
            other => format!("failed: {}", other["failed"].as_str().unwrap_or_default()),
        };
        let word = |key: &str| past.request[key].as_str().unwrap_or_default().to_owned();
        vec![
            past.number.to_string(),
            human::utc(past.time),
            state,
            format!("{} {}", word("verb"), word("object")),
            past.summary.join(" "),
        ]
    });
    ask::print_text(&human::table(
        &[">PLAN", "WHEN (UTC)", "STATE", "WHAT", "CHANGES"],
        rows,
    ));
    Ok(())
}

#[derive(Deserialize)]
struct Verb {
    name: String,
    about: String,
    object: String,
    options: Vec<Opt>,
}

#[derive(Deserialize)]
struct Opt {
    name: String,
    #[serde(rename = "type")]
    kind: Value,
    required: bool,
    about: String,
}

fn verbs(client: &mut Client, ask: &cli::Ask, name: Option<&str>) -> Outcome {
    let all: Value = client.call("ashlar_get_verbs", ())?;
    if ask.json {
        ask::print_json(&all);
        return Ok(());
    }
    let mut all: Vec<Verb> = serde_json::from_value(all)?;
    let Some(name) = name else {
        ask::print_text(&summary(all));
        return Ok(());
    };
    all.retain(|verb| verb.name == name);
    let verb = all
        .first()
        .ok_or_else(|| format!("there is no verb {name:?}; `ashlar plan verbs` lists them"))?;
    ask::print_text(&describe(verb));
    Ok(())
}

/// Verbs, a line each.
fn summary(all: Vec<Verb>) -> String {
    let rows = all.into_iter().map(|verb| vec![verb.name, verb.object, verb.about]);
    human::table(&["VERB", "OBJECT", "WHAT IT DOES"], rows)
}

/// A verb and what it takes.
fn describe(verb: &Verb) -> String {
    let rows = verb.options.iter().map(|option| {
        let must = if option.required { "required" } else { "" };
        let kind = type_word(&option.kind);
        vec![option.name.clone(), kind, must.to_owned(), option.about.clone()]
    });
    let mut text = format!("{} {}: {}\n\n", verb.name, verb.object.to_uppercase(), verb.about);
    text += &human::table(&["OPTION", "TYPE", "", "WHAT IT IS"], rows);
    text += &format!(
        "\n`ashlar can OBJECT {}` says what each may be for an object now.\n",
        verb.name
    );
    text
}

/// A type, in a word or as the words it may be.
fn type_word(kind: &Value) -> String {
    match kind {
        Value::String(word) => word.clone(),
        other => {
            let words = other["choice"].as_array();
            let words = words.map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("|"));
            words.unwrap_or_default()
        }
    }
}

/// Runs `ashlar do [VERB] --help`: needs no running target, for what a verb takes is built in.
fn teach(registry: &lvol::Registry, name: Option<&str>) -> Outcome {
    let described = |verb: &'static dyn lvol::plan::Verb| {
        let value = serde_json::to_value(lvol::plugin::VerbReport::from(verb))?;
        serde_json::from_value::<Verb>(value)
    };
    let text = match name {
        Some(name) => describe(&described(registry.verb(name)?)?),
        None => {
            let verbs = registry
                .verbs()
                .into_iter()
                .map(described)
                .collect::<Result<Vec<_>, _>>()?;
            format!(
                "ashlar do VERB OBJECT [NAME=VALUE…] [--dry-run]: changes what is on disks. `ashlar do VERB --help` tells what a verb takes.\n\n{}",
                summary(verbs)
            )
        }
    };
    ask::print_text(&text);
    Ok(())
}

/// An argument as the option wants it.
fn typed(kind: Option<&Value>, text: &str) -> Value {
    match kind.and_then(Value::as_str) {
        Some("list" | "disks") => text
            .split(',')
            .filter(|word| !word.is_empty())
            .map(Value::from)
            .collect(),
        Some("flag") => match text {
            "" | "true" | "yes" | "y" => true.into(),
            "false" | "no" | "n" => false.into(),
            other => other.into(),
        },
        Some("number") => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}

#[derive(Deserialize)]
struct Limit {
    name: String,
    #[serde(rename = "type")]
    kind: Value,
    required: bool,
    about: String,
    default: Option<Value>,
    min: Option<u64>,
    max: Option<u64>,
    step: Option<u64>,
    ranges: Option<Vec<(u64, u64)>>,
    values: Option<Vec<Value>>,
    #[serde(default)]
    others: bool,
    #[serde(default)]
    not_with: Vec<String>,
}

impl Limit {
    /// A value, for people: sizes in units.
    fn word(&self, value: &Value) -> String {
        match (value, self.kind == "size") {
            (Value::Number(number), true) => number.as_u64().map_or_else(|| number.to_string(), human::size),
            (Value::String(word), _) => word.clone(),
            (other, _) => other.to_string(),
        }
    }

    /// What it may be now, in a line.
    fn now(&self) -> String {
        let mut parts = Vec::new();
        let one = self.min.zip(self.max).into_iter();
        let runs: Vec<(u64, u64)> = one.chain(self.ranges.iter().flatten().copied()).collect();
        if let Some((first, _)) = runs.first() {
            let step = self
                .step
                .filter(|step| step != first)
                .map(|step| format!(", by {}", self.word(&step.into())));
            let words = runs.iter().map(|(min, max)| match min == max {
                true => self.word(&(*min).into()),
                false => format!("{} to {}", self.word(&(*min).into()), self.word(&(*max).into())),
            });
            let words: Vec<String> = words.collect();
            parts.push(format!("{}{}", words.join(", "), step.unwrap_or_default()));
        }
        match self.values.as_deref() {
            Some([]) => parts.push("nothing is possible now".into()),
            Some(values) if self.kind != "flag" => {
                let words: Vec<String> = values.iter().map(|value| self.word(value)).collect();
                let more = if self.others { ", …" } else { "" };
                parts.push(format!("{}{more}", words.join(", ")));
            }
            _ => {}
        }
        if let Some(default) = &self.default {
            parts.push(format!("{} without it", self.word(default)));
        }
        if !self.not_with.is_empty() {
            parts.push(format!("not with {}", self.not_with.join(", ")));
        }
        parts.join("; ")
    }
}

#[derive(Deserialize)]
struct Can {
    verb: String,
    #[serde(default)]
    limits: Vec<Limit>,
    possible: bool,
    code: Option<String>,
    reason: Option<String>,
    way_out: Option<String>,
}

/// Runs `ashlar can`: with a verb, the exit status is the answer.
pub fn can(ask: &cli::Ask, args: &cli::Can) -> Outcome {
    let mut params = json!({ "object": args.object });
    if let Some(verb) = &args.verb {
        params["verb"] = json!(verb);
    }
    let answer: Value = ask::connect(ask)?.call("ashlar_can", params).map_err(plain)?;
    let all: Vec<Can> = serde_json::from_value(answer.clone())?;
    if ask.json {
        ask::print_json(&answer);
    } else {
        let rows = all.iter().map(|can| {
            let why = [can.reason.as_deref(), can.way_out.as_deref()];
            let why: Vec<&str> = why.into_iter().flatten().collect();
            vec![
                can.verb.clone(),
                if can.possible { "yes" } else { "no" }.to_owned(),
                can.code.clone().unwrap_or_default(),
                why.join("; "),
            ]
        });
        let mut text = human::table(&["VERB", "NOW", "CODE", "WHY NOT"], rows);
        let limits: Vec<&Limit> = all.iter().flat_map(|can| &can.limits).collect();
        if !limits.is_empty() {
            let rows = limits.into_iter().map(|limit| {
                let name = match limit.required {
                    true => format!("{} (required)", limit.name),
                    false => limit.name.clone(),
                };
                vec![name, type_word(&limit.kind), limit.now(), limit.about.clone()]
            });
            text += &format!("\n{}", human::table(&["OPTION", "TYPE", "NOW", "WHAT IT IS"], rows));
        }
        ask::print_text(&text);
    }
    match (&args.verb, all.first()) {
        (Some(verb), Some(can)) if !can.possible => {
            Err(format!("{verb} is not possible on {} now", args.object).into())
        }
        _ => Ok(()),
    }
}
