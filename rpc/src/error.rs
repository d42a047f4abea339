//! What goes wrong in a call, as SPDK's clients expect to read it.
//!
//! Clients match on the code *and* on the text: spdk-csi looks for "No such device" and "already exists", Longhorn switches on
//! −17, −19 and −32603. Both are therefore API; the reason a person needs goes into the optional `data` member, which those
//! clients ignore.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The text is not JSON (JSON-RPC 2.0 section 5.1). The connection is closed after it: a stream of bare values has no resync point.
pub const PARSE_ERROR: i64 = -32700;
/// JSON, but not a request (JSON-RPC 2.0 section 5.1).
pub const INVALID_REQUEST: i64 = -32600;
/// No method of this name, or it is not on the allow-list (JSON-RPC 2.0 section 5.1).
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters do not fit (JSON-RPC 2.0 section 5.1).
pub const INVALID_PARAMS: i64 = -32602;
/// The call failed (JSON-RPC 2.0 section 5.1); SPDK also uses it for parameters it cannot decode.
pub const INTERNAL_ERROR: i64 = -32603;
/// The method exists, but not in this phase of start-up (SPDK's own code).
pub const INVALID_STATE: i64 = -1;

/// The error numbers calls answer with, by their Linux values.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Errno {
    /// Operation not permitted: the disk is claimed by something else.
    Perm = 1,
    /// No such file or directory.
    NoEnt = 2,
    /// Input/output error.
    Io = 5,
    /// Resource temporarily unavailable.
    Again = 11,
    /// Cannot allocate memory.
    NoMem = 12,
    /// Device or resource busy.
    Busy = 16,
    /// File exists.
    Exist = 17,
    /// No such device.
    NoDev = 19,
    /// Invalid argument.
    Inval = 22,
    /// No space left on device.
    NoSpc = 28,
    /// Operation not supported.
    NotSup = 95,
    /// Address already in use.
    AddrInUse = 98,
    /// Connection timed out.
    TimedOut = 110,
}

/// A failed call: what stands under `error` in the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} (code {code}{})", .data.as_ref().map(|d| format!(": {}", plain(d))).unwrap_or_default())]
pub struct RpcError {
    /// A JSON-RPC code or a negative error number.
    pub code: i64,
    /// SPDK's text.
    pub message: String,
    /// The cause in words, where the text alone does not tell. Not part of SPDK's answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

fn plain(data: &Value) -> String {
    data.as_str().map_or_else(|| data.to_string(), str::to_owned)
}

impl RpcError {
    /// An error with this code and text.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        RpcError {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// An error number, with the C library's text for it.
    pub fn errno(errno: Errno) -> Self {
        Self::os(errno as i32)
    }

    /// The same for a number that came from the system.
    pub fn os(number: i32) -> Self {
        let text = std::io::Error::from_raw_os_error(number).to_string();
        // The standard library appends " (os error N)"; SPDK's texts are the bare strerror(3) ones.
        let bare = text.rfind(" (os error").map_or(text.as_str(), |end| &text[..end]);
        Self::new(-i64::from(number), bare)
    }

    /// From a failed file operation: its number where it has one, −EIO otherwise.
    pub fn io(error: &std::io::Error) -> Self {
        let by_kind = match error.kind() {
            std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => Errno::Inval,
            std::io::ErrorKind::Unsupported => Errno::NotSup,
            _ => Errno::Io,
        };
        Self::os(error.raw_os_error().unwrap_or(by_kind as i32)).because(error.to_string())
    }

    /// −32602 with this text.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    /// −32602 "Invalid parameters", the text most nvmf and iscsi methods answer with whatever the cause.
    pub fn invalid() -> Self {
        Self::invalid_params("Invalid parameters")
    }

    /// −32603 with this text.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(INTERNAL_ERROR, message)
    }

    /// −32601.
    pub fn method_not_found() -> Self {
        Self::new(METHOD_NOT_FOUND, "Method not found")
    }

    /// −32600.
    pub fn invalid_request() -> Self {
        Self::new(INVALID_REQUEST, "Invalid request")
    }

    /// −32700.
    pub fn parse_error() -> Self {
        Self::new(PARSE_ERROR, "Parse error")
    }

    /// The method waits for the end of start-up.
    pub fn too_early() -> Self {
        Self::new(
            INVALID_STATE,
            "Method may only be called after framework is initialized using framework_start_init RPC.",
        )
    }

    /// The method belongs to start-up, which is over.
    pub fn too_late() -> Self {
        Self::new(
            INVALID_STATE,
            "Method may only be called before framework is initialized. Use --wait-for-rpc command line parameter and then \
             issue this RPC before the framework_start_init RPC.",
        )
    }

    /// The same error with its cause in words.
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.data = Some(Value::String(cause.into()));
        self
    }
}

/// What a method returns.
pub type RpcResult<T> = Result<T, RpcError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_carry_the_c_librarys_words() {
        for (errno, code, text) in [
            (Errno::NoDev, -19, "No such device"),
            (Errno::Exist, -17, "File exists"),
            (Errno::Busy, -16, "Device or resource busy"),
            (Errno::NoEnt, -2, "No such file or directory"),
            (Errno::Perm, -1, "Operation not permitted"),
            (Errno::Inval, -22, "Invalid argument"),
            (Errno::NoSpc, -28, "No space left on device"),
            (Errno::NotSup, -95, "Operation not supported"),
        ] {
            assert_eq!(RpcError::errno(errno), RpcError::new(code, text));
        }
    }

    #[test]
    fn the_cause_travels_as_data_and_only_when_there_is_one() {
        let bare = serde_json::to_string(&RpcError::errno(Errno::NoDev)).expect("plain data");
        assert_eq!(bare, r#"{"code":-19,"message":"No such device"}"#);
        let told = RpcError::internal("spdk_json_decode_object failed").because("unknown field `nmae`");
        assert_eq!(
            told.to_string(),
            "spdk_json_decode_object failed (code -32603: unknown field `nmae`)"
        );
    }
}
