//! The method table: what can be called, when, with which parameters.
//!
//! Every method is one line in one list (`methods::table`). A line names the method, says in which phase of start-up it may be
//! called ([`Phases`]), how it shares the process with other calls ([`Manner`]), how it complains about parameters it cannot read
//! ([`Complaint`]: SPDK's texts differ from method to method), and which older parameter forms it still takes.
//!
//! Parameters are plain structs with `deny_unknown_fields`: SPDK turns a call down for one name it does not know, and clients
//! rely on that to find out what a server can do. `bdev_get_iostat{name}` and its like, which 26.05 refuses and real clients still
//! send, are rewritten to today's form first ([`Method::accepting`]), unless the table is strict.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::audit::Audit;
use crate::error::{INTERNAL_ERROR, INVALID_PARAMS, PARSE_ERROR, RpcError, RpcResult};

/// The phases of start-up a method may be called in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Phases {
    /// Only before `framework_start_init` (the process was started with `--wait-for-rpc`).
    Startup,
    /// Only after it.
    Runtime,
    /// Always.
    Both,
}

/// How a call shares the process with other calls.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Looks, changes nothing: runs beside everything else.
    Look,
    /// Changes the set-up: one at a time in the whole process, so that steps of two clients do not interleave.
    Change,
    /// May wait for something to happen: does not hold up later calls of its connection.
    Wait,
}

/// What a method says about parameters it cannot read (the texts of SPDK 26.05, which differ).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// −32603 "spdk_json_decode_object failed": the block device methods.
    Decode,
    /// −32602 "Invalid parameters": the targets and the framework.
    Invalid,
    /// −32700 "spdk_json_decode_object failed": RAID.
    Parse,
    /// −32602 with another text.
    Text(&'static str),
    /// A method without parameters: −32602 "NAME requires no parameters".
    NoParams,
}

impl Complaint {
    pub(crate) fn error(self, method: &str, cause: &str) -> RpcError {
        const DECODE: &str = "spdk_json_decode_object failed";
        let error = match self {
            Complaint::Decode => RpcError::new(INTERNAL_ERROR, DECODE),
            Complaint::Invalid => RpcError::new(INVALID_PARAMS, "Invalid parameters"),
            Complaint::Parse => RpcError::new(PARSE_ERROR, DECODE),
            Complaint::Text(text) => RpcError::new(INVALID_PARAMS, text),
            Complaint::NoParams => RpcError::new(INVALID_PARAMS, format!("{method} requires no parameters")),
        };
        error.because(cause)
    }
}

/// The parameters of a method that has none.
#[derive(Debug, Default, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

type Answer = Pin<Box<dyn Future<Output = RpcResult<Value>> + Send>>;
type Handler<C> = Box<dyn Fn(Arc<C>, &str, Complaint, Value) -> Answer + Send + Sync>;

/// One line of the table.
pub struct Method<C> {
    name: &'static str,
    phases: Phases,
    manner: Manner,
    complaint: Complaint,
    audited: bool,
    legacy: Option<fn(&mut Map<String, Value>)>,
    alias_of: Option<&'static str>,
    handler: Handler<C>,
}

impl<C: Send + Sync + 'static> Method<C> {
    /// A method with typed parameters and a typed result.
    pub fn new<P, R, F, H>(name: &'static str, phases: Phases, manner: Manner, complaint: Complaint, handler: H) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
        F: Future<Output = RpcResult<R>> + Send + 'static,
        H: Fn(Arc<C>, P) -> F + Send + Sync + 'static,
    {
        let handler = move |context: Arc<C>, name: &str, complaint: Complaint, params: Value| -> Answer {
            match decode::<P>(params) {
                Ok(params) => {
                    let answer = handler(context, params);
                    Box::pin(async move { to_value(answer.await?) })
                }
                Err(cause) => {
                    let error = complaint.error(name, &cause);
                    Box::pin(std::future::ready(Err(error)))
                }
            }
        };
        Method {
            name,
            phases,
            manner,
            complaint,
            audited: manner == Manner::Change,
            legacy: None,
            alias_of: None,
            handler: Box::new(handler),
        }
    }

    /// The same method, rewriting older parameter forms to today's before they are read.
    pub fn accepting(mut self, legacy: fn(&mut Map<String, Value>)) -> Self {
        self.legacy = Some(legacy);
        self
    }

    /// Marks a method that changes something beside others, so that its calls are written down as well.
    pub fn audited(mut self) -> Self {
        self.audited = true;
        self
    }

    /// Marks the line as another name of a method; listed only when aliases are asked for.
    pub fn alias_of(mut self, name: &'static str) -> Self {
        self.alias_of = Some(name);
        self
    }
}

impl Phases {
    fn include(self, started: bool) -> bool {
        match self {
            Phases::Startup => !started,
            Phases::Runtime => started,
            Phases::Both => true,
        }
    }
}

/// The names in a table: what `rpc_get_methods` lists.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(Vec<(&'static str, Phases, bool)>);

impl Catalogue {
    /// The names, sorted: all of them or those that may be called now; with or without aliases.
    pub fn names(&self, started: Option<bool>, aliases: bool) -> Vec<&'static str> {
        self.0
            .iter()
            .filter(|(_, phases, alias)| started.is_none_or(|s| phases.include(s)) && (aliases || !alias))
            .map(|line| line.0)
            .collect()
    }
}

fn to_value(result: impl Serialize) -> RpcResult<Value> {
    serde_json::to_value(result).map_err(|e| RpcError::internal("Internal error").because(e.to_string()))
}

fn decode<P: DeserializeOwned>(mut params: Value) -> Result<P, String> {
    whole_numbers(&mut params);
    match params {
        Value::Null => serde_json::from_value(Value::Object(Map::new())),
        Value::Array(items) if items.is_empty() => serde_json::from_value(Value::Object(Map::new())),
        // serde would read an array as the struct's fields in order; nobody means that.
        Value::Array(_) => return Err("parameters must be an object".into()),
        other => serde_json::from_value(other),
    }
    .map_err(|e| e.to_string())
}

/// SPDK reads `4096.0` and `4e3` as whole numbers; some clients compute sizes in floating point.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
                return;
            };
            // Beyond 2^53 a float no longer names one whole number.
            if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 {
                *number = Number::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(members) => members.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// Moves an old parameter to its new name, unless the new one is there too.
pub fn rename(params: &mut Map<String, Value>, old: &str, new: &str) {
    if let Some(value) = params.remove(old) {
        params.entry(new).or_insert(value);
    }
}

/// Drops parameters that mean nothing here and that older or other clients send.
pub fn ignore(params: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        params.remove(*name);
    }
}

/// What the table has to know of the process it serves.
pub trait Process: Send + Sync + 'static {
    /// Whether `framework_start_init` has been done.
    fn started(&self) -> bool;
    /// Where calls that change something are written down, if they are.
    fn audit(&self) -> Option<&Audit> {
        None
    }
}

/// All methods, and what limits them.
pub struct Table<C> {
    methods: BTreeMap<&'static str, Method<C>>,
    allowed: Option<HashSet<String>>,
    strict: bool,
    changes: tokio::sync::Mutex<()>,
}

impl<C: Process> Table<C> {
    /// A table of these methods. A name given twice keeps the later line.
    pub fn new(methods: Vec<Method<C>>) -> Self {
        Table {
            methods: methods.into_iter().map(|m| (m.name, m)).collect(),
            allowed: None,
            strict: false,
            changes: tokio::sync::Mutex::new(()),
        }
    }

    /// Only these may be called (SPDK's `--rpcs-allowed`).
    pub fn allowing(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.allowed = Some(names.into_iter().collect());
        self
    }

    /// Takes only the parameter forms of SPDK 26.05.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// What can be called, for the method that lists it.
    pub fn catalogue(&self) -> Catalogue {
        let allowed = self
            .methods
            .values()
            .filter(|m| self.allowed.as_ref().is_none_or(|names| names.contains(m.name)));
        Catalogue(allowed.map(|m| (m.name, m.phases, m.alias_of.is_some())).collect())
    }

    /// How a call of this method shares the process; unknown ones fail at once, so they count as looking.
    pub fn manner(&self, name: &str) -> Manner {
        self.methods.get(name).map_or(Manner::Look, |m| m.manner)
    }

    /// True if calls of this method change something and may be made.
    pub fn audits(&self, name: &str) -> bool {
        let allowed = self.allowed.as_ref().is_none_or(|names| names.contains(name));
        allowed && self.methods.get(name).is_some_and(|method| method.audited)
    }

    /// Makes one call.
    pub async fn call(&self, context: &Arc<C>, name: &str, mut params: Value) -> RpcResult<Value> {
        let forbidden = self.allowed.as_ref().is_some_and(|names| !names.contains(name));
        let method = self
            .methods
            .get(name)
            .filter(|_| !forbidden)
            .ok_or_else(RpcError::method_not_found)?;
        if !method.phases.include(context.started()) {
            return Err(if context.started() {
                RpcError::too_late()
            } else {
                RpcError::too_early()
            });
        }
        if let (Some(legacy), Value::Object(members), false) = (method.legacy, &mut params, self.strict) {
            legacy(members);
        }
        let _alone = match method.manner {
            Manner::Change => Some(self.changes.lock().await),
            Manner::Look | Manner::Wait => None,
        };
        (method.handler)(context.clone(), name, method.complaint, params).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Toy(AtomicBool);
    impl Process for Toy {
        fn started(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sum {
        names: Vec<String>,
        add: Option<u64>,
    }

    async fn sum(_: Arc<Toy>, sum: Sum) -> RpcResult<u64> {
        Ok(sum.names.len() as u64 + sum.add.unwrap_or(0))
    }
    async fn nothing(_: Arc<Toy>, _: NoParams) -> RpcResult<bool> {
        Ok(true)
    }

    fn lines() -> Vec<Method<Toy>> {
        vec![
            Method::new("sum", Phases::Runtime, Manner::Look, Complaint::Decode, sum).accepting(|p| {
                if let Some(name) = p.remove("name") {
                    p.insert("names".into(), json!([name]));
                }
            }),
            Method::new("early", Phases::Startup, Manner::Change, Complaint::NoParams, nothing),
            Method::new(
                "old_early",
                Phases::Startup,
                Manner::Change,
                Complaint::NoParams,
                nothing,
            )
            .alias_of("early"),
        ]
    }

    fn call(table: &Table<Toy>, toy: &Arc<Toy>, name: &str, params: Value) -> RpcResult<Value> {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(table.call(toy, name, params))
    }

    #[test]
    fn parameters_are_typed_and_unknown_ones_are_refused_with_the_methods_own_words() {
        let (table, toy) = (Table::new(lines()), Arc::new(Toy(AtomicBool::new(true))));
        assert_eq!(
            call(&table, &toy, "sum", json!({"names": ["a", "b"], "add": 4e1})),
            Ok(json!(42))
        );
        for bad in [
            json!({"names": ["a"], "nam": 1}),
            json!({}),
            json!({"names": 3}),
            json!([["a"], 1]),
            json!({"names": [], "add": -1}),
        ] {
            let error = call(&table, &toy, "sum", bad.clone()).expect_err("refused");
            assert_eq!(
                (error.code, error.message.as_str()),
                (-32603, "spdk_json_decode_object failed"),
                "{bad}"
            );
        }
        let told = call(&table, &toy, "sum", json!({"names": [], "nam": 1}))
            .expect_err("refused")
            .to_string();
        assert!(told.contains("unknown field `nam`"), "{told}");
    }

    #[test]
    fn older_forms_are_taken_unless_the_table_is_strict() {
        let toy = Arc::new(Toy(AtomicBool::new(true)));
        assert_eq!(
            call(&Table::new(lines()), &toy, "sum", json!({"name": "a"})),
            Ok(json!(1))
        );
        assert!(call(&Table::new(lines()).strict(), &toy, "sum", json!({"name": "a"})).is_err());
    }

    #[test]
    fn phases_and_the_allow_list_limit_what_can_be_called() {
        let (table, toy) = (Table::new(lines()), Arc::new(Toy(AtomicBool::new(false))));
        assert_eq!(
            call(&table, &toy, "sum", json!({"names": []})),
            Err(RpcError::too_early())
        );
        assert_eq!(call(&table, &toy, "early", Value::Null), Ok(json!(true)));
        assert_eq!(table.catalogue().names(Some(false), false), ["early"]);
        assert_eq!(table.catalogue().names(None, true), ["early", "old_early", "sum"]);
        toy.0.store(true, Ordering::Relaxed);
        assert_eq!(call(&table, &toy, "early", Value::Null), Err(RpcError::too_late()));
        assert_eq!(
            call(&table, &toy, "what", Value::Null),
            Err(RpcError::method_not_found())
        );

        let narrow = Table::new(lines()).allowing(["early".to_owned()]);
        assert_eq!(
            call(&narrow, &toy, "sum", json!({"names": []})),
            Err(RpcError::method_not_found())
        );
        assert_eq!(narrow.catalogue().names(None, true), ["early"]);
        toy.0.store(false, Ordering::Relaxed);
        let error = call(&table, &toy, "early", json!({"x": 1})).expect_err("it has none");
        assert_eq!(
            (error.code, error.message.as_str()),
            (-32602, "early requires no parameters")
        );
    }
}
