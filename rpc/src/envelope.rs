//! The envelope of JSON-RPC 2.0 as SPDK reads and writes it.
//!
//! Looser than the specification: `jsonrpc` may be missing, `params` may be `null`. Stricter: a member it does not know spoils the
//! request. Answers have their keys in the order jsonrpc, id, result or error, without blanks, and end with a newline.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{RpcError, RpcResult};

/// One call, or what is left of it when it is not one.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// String, number or null; `None` when there was none (or none that could be used).
    pub id: Option<Value>,
    /// Method and parameters.
    pub call: RpcResult<(String, Value)>,
}

/// What a JSON value on the socket asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// One call.
    One(Request),
    /// Several; the answers come back in one array.
    Batch(Vec<Request>),
}

impl Incoming {
    /// Reads a value from the socket.
    pub fn read(value: Value) -> Incoming {
        match value {
            Value::Array(items) if !items.is_empty() => Incoming::Batch(items.into_iter().map(Request::read).collect()),
            other => Incoming::One(Request::read(other)),
        }
    }
}

impl Request {
    fn read(value: Value) -> Request {
        let Value::Object(mut members) = value else {
            return Request::invalid();
        };
        let version = members.remove("jsonrpc");
        let method = members.remove("method");
        let params = members.remove("params").unwrap_or(Value::Null);
        let id = members.remove("id");
        let known_id = matches!(id, None | Some(Value::Null | Value::String(_) | Value::Number(_)));
        if !members.is_empty() || !known_id || version.is_some_and(|v| v != "2.0") {
            return Request::invalid();
        }
        match (method, params) {
            (Some(Value::String(method)), params @ (Value::Null | Value::Object(_) | Value::Array(_))) => Request {
                id,
                call: Ok((method, params)),
            },
            _ => Request {
                id,
                call: Err(RpcError::invalid_request()),
            },
        }
    }

    fn invalid() -> Request {
        Request {
            id: None,
            call: Err(RpcError::invalid_request()),
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The request's id; null where it had none.
    pub id: Value,
    /// What the method returned.
    pub outcome: RpcResult<Value>,
}

impl Reply {
    /// The answer to a request, or `None` where there is to be none: a success that nobody gave an id.
    pub fn to(id: Option<Value>, outcome: RpcResult<Value>) -> Option<Reply> {
        match (id, outcome) {
            (None | Some(Value::Null), Ok(_)) => None,
            (id, outcome) => Some(Reply {
                id: id.unwrap_or(Value::Null),
                outcome,
            }),
        }
    }

    /// The answer as a line.
    pub fn line(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            jsonrpc: &'static str,
            id: &'a Value,
            #[serde(skip_serializing_if = "Option::is_none")]
            result: Option<&'a Value>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a RpcError>,
        }
        let line = Line {
            jsonrpc: "2.0",
            id: &self.id,
            result: self.outcome.as_ref().ok(),
            error: self.outcome.as_ref().err(),
        };
        // Values and strings always serialise; an empty line would be the one visible sign if they did not.
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The answers to a batch as one line, or nothing when there are none.
    pub fn batch_line(replies: &[Reply]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for reply in replies {
            bytes.push(if bytes.is_empty() { b'[' } else { b',' });
            let line = reply.line();
            bytes.extend_from_slice(&line[..line.len() - 1]);
        }
        if !bytes.is_empty() {
            bytes.extend_from_slice(b"]\n");
        }
        bytes
    }
}

/// A request as a client sends it: without `params` when there are none.
pub fn request(id: u64, method: &str, params: Value) -> Vec<u8> {
    let mut members = Map::new();
    members.insert("jsonrpc".into(), "2.0".into());
    members.insert("id".into(), id.into());
    members.insert("method".into(), method.into());
    if !params.is_null() {
        members.insert("params".into(), params);
    }
    serde_json::to_vec(&members).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Incoming {
        Incoming::read(serde_json::from_str(text).expect("test data"))
    }

    fn one(text: &str) -> Request {
        match read(text) {
            Incoming::One(request) => request,
            Incoming::Batch(_) => panic!("{text} is no batch"),
        }
    }

    #[test]
    fn requests_are_read_as_spdk_reads_them() {
        let full = one(r#"{"jsonrpc":"2.0","method":"m","params":{"a":1},"id":7}"#);
        assert_eq!(
            full,
            Request {
                id: Some(json!(7)),
                call: Ok(("m".into(), json!({"a":1})))
            }
        );
        assert_eq!(
            one(r#"{"method":"m"}"#),
            Request {
                id: None,
                call: Ok(("m".into(), Value::Null))
            }
        );
        assert_eq!(one(r#"{"method":"m","id":null,"params":null}"#).id, Some(Value::Null));
        for bad in [
            r#"{"jsonrpc":"1.0","method":"m"}"#,
            r#"{"jsonrpc":2.0,"method":"m"}"#,
            r#"{"method":"m","id":{}}"#,
            r#"{"method":"m","id":[1]}"#,
            r#"{"method":"m","extra":1}"#,
            r#"{"id":1}"#,
            r#"{"method":1}"#,
            r#"{"method":"m","params":"p"}"#,
            "[]",
            "3",
        ] {
            assert_eq!(one(bad).call, Err(RpcError::invalid_request()), "{bad}");
        }
        assert!(
            matches!(read(r#"[{"method":"m"},1]"#), Incoming::Batch(items) if items.len() == 2 && items[1].call.is_err())
        );
    }

    #[test]
    fn answers_have_spdks_key_order_and_no_blanks() {
        let good = Reply::to(Some(json!("x")), Ok(json!({"b": 1, "a": [true]}))).expect("has an id");
        assert_eq!(
            good.line(),
            b"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":{\"b\":1,\"a\":[true]}}\n"
        );
        let bad = Reply::to(None, Err(RpcError::method_not_found())).expect("errors are always told");
        assert_eq!(
            bad.line(),
            b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}\n"
        );
        assert_eq!(Reply::to(None, Ok(json!(true))), None);
        assert_eq!(Reply::to(Some(Value::Null), Ok(json!(true))), None);
        let null = Reply::to(Some(json!(1)), Ok(Value::Null)).expect("has an id");
        assert_eq!(null.line(), b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n");
        let both = Reply::batch_line(&[good, bad]);
        assert!(both.starts_with(b"[{\"jsonrpc\"") && both.ends_with(b"}]\n"));
        assert_eq!(Reply::batch_line(&[]), b"");
    }
}
