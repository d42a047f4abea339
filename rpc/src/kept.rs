//! Options of SPDK's that mean nothing here: taken, checked, kept and reported.
//!
//! Clients tune SPDK's buffer pools, sockets and initiator before they do anything else (Longhorn, simplyblock), and every saved SPDK
//! configuration begins with such calls. Ashlar sizes its memory by other means (docs: the arena and its pools), so these values change nothing.
//! Refusing the calls would keep those clients and files out for no gain; taking them silently and forgetting them would be a lie the
//! next `framework_get_config` brings to light. So each is typed, merged over its defaults, and shown again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::error::{RpcError, RpcResult};
use crate::method::{Complaint, Phases};

/// One such method.
pub struct KeptOption {
    /// The method that sets it.
    pub method: &'static str,
    /// The subsystem whose configuration it belongs to.
    pub subsystem: &'static str,
    /// When it may be set.
    pub phases: Phases,
    /// What is said about unreadable parameters.
    pub complaint: Complaint,
    /// Saved even if never set, as SPDK does.
    always: bool,
    defaults: fn() -> Value,
}

/// All of them, in the order they are saved.
pub static OPTIONS: [KeptOption; 7] = [
    KeptOption {
        method: "iobuf_set_options",
        subsystem: "iobuf",
        phases: Phases::Startup,
        complaint: Complaint::Text("spdk_json_decode_object failed"),
        always: true,
        defaults: || {
            json!({"small_pool_count": 8192, "large_pool_count": 1024, "small_bufsize": 8192, "large_bufsize": 135_168,
                   "enable_numa": false})
        },
    },
    KeptOption {
        method: "accel_set_options",
        subsystem: "accel",
        phases: Phases::Startup,
        complaint: Complaint::Parse,
        always: false,
        defaults: || {
            json!({"small_cache_size": 128, "large_cache_size": 16, "task_count": 2048, "sequence_count": 2048,
                   "buf_count": 2048})
        },
    },
    KeptOption {
        method: "bdev_set_options",
        subsystem: "bdev",
        phases: Phases::Startup,
        complaint: Complaint::Invalid,
        always: true,
        defaults: || {
            json!({"bdev_io_pool_size": 65535, "bdev_io_cache_size": 256, "bdev_auto_examine": true,
                   "iobuf_small_cache_size": 128, "iobuf_large_cache_size": 16})
        },
    },
    KeptOption {
        method: "bdev_iscsi_set_options",
        subsystem: "bdev",
        phases: Phases::Both,
        complaint: Complaint::Decode,
        always: false,
        defaults: || json!({"timeout_sec": 30}),
    },
    KeptOption {
        method: "bdev_nvme_set_options",
        subsystem: "bdev",
        phases: Phases::Both,
        complaint: Complaint::Decode,
        always: false,
        defaults: nvme_defaults,
    },
    KeptOption {
        method: "bdev_nvme_set_hotplug",
        subsystem: "bdev",
        phases: Phases::Runtime,
        complaint: Complaint::Text("Invalid argument"),
        always: false,
        defaults: || json!({"enable": false, "period_us": 100_000}),
    },
    KeptOption {
        method: "scheduler_set_options",
        subsystem: "scheduler",
        phases: Phases::Startup,
        complaint: Complaint::Invalid,
        always: false,
        defaults: || json!({"isolated_core_mask": "0x0", "scheduling_core": 0}),
    },
];

fn nvme_defaults() -> Value {
    json!({
        "action_on_timeout": "none", "timeout_us": 0, "timeout_admin_us": 0, "keep_alive_timeout_ms": 10_000,
        "arbitration_burst": 0, "low_priority_weight": 0, "medium_priority_weight": 0, "high_priority_weight": 0,
        "nvme_adminq_poll_period_us": 10_000, "nvme_ioq_poll_period_us": 0, "io_queue_requests": 0,
        "delay_cmd_submit": true, "transport_retry_count": 4, "bdev_retry_count": 3, "transport_ack_timeout": 0,
        "ctrlr_loss_timeout_sec": 0, "reconnect_delay_sec": 0, "fast_io_fail_timeout_sec": 0,
        "disable_auto_failback": false, "generate_uuids": false, "transport_tos": 0, "nvme_error_stat": false,
        "rdma_srq_size": 0, "io_path_stat": false, "allow_accel_sequence": false, "rdma_max_cq_size": 0,
        "rdma_cm_event_timeout_ms": 0, "rdma_umr_per_io": false, "dhchap_digests": [], "dhchap_dhgroups": [],
        "tcp_connect_timeout_ms": 0, "enable_flush": false, "multipath_opts": {}, "poll_group_requests": 0
    })
}

/// The socket implementations SPDK's clients ask about, and the only one that is ours.
const SOCKETS: [&str; 3] = ["posix", "uring", "ssl"];

fn socket_defaults() -> Value {
    json!({"recv_buf_size": 2_097_152, "send_buf_size": 2_097_152, "enable_recv_pipe": true, "enable_quickack": false,
           "enable_placement_id": 0, "enable_zerocopy_send_server": true, "enable_zerocopy_send_client": false,
           "zerocopy_threshold": 0, "tls_version": 0, "enable_ktls": false})
}

/// What was set.
#[derive(Debug)]
pub struct Kept {
    set: Mutex<BTreeMap<String, Value>>,
    socket: Mutex<String>,
}

impl Default for Kept {
    fn default() -> Self {
        Kept {
            set: Mutex::default(),
            socket: Mutex::new("posix".into()),
        }
    }
}

/// Lays `params` over `base`; a name `base` has not, or a value of another type, is refused.
fn merge(base: &mut Value, params: Map<String, Value>) -> Result<(), String> {
    for (name, value) in params {
        let known = base.get_mut(&name).ok_or_else(|| format!("unknown field `{name}`"))?;
        let fits = match (&*known, &value) {
            (_, Value::Null) => continue,
            (Value::Number(_), Value::Number(n)) => n.is_u64() || n.is_i64(),
            (known, value) => std::mem::discriminant(known) == std::mem::discriminant(value),
        };
        if !fits {
            return Err(format!("`{name}` must be like {known}, got {value}"));
        }
        *known = value;
    }
    Ok(())
}

impl Kept {
    /// Sets an option of [`OPTIONS`] by its method.
    pub fn set(&self, option: &KeptOption, params: Map<String, Value>) -> Result<(), String> {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let mut value = set.get(option.method).cloned().unwrap_or_else(option.defaults);
        merge(&mut value, params)?;
        set.insert(option.method.to_owned(), value);
        Ok(())
    }

    /// The calls that bring a subsystem's kept options about.
    pub fn saved(&self, subsystem: &str) -> Vec<(&'static str, Value)> {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        OPTIONS
            .iter()
            .filter(|o| o.subsystem == subsystem)
            .filter_map(|o| {
                let value = set.get(o.method).cloned().or_else(|| o.always.then(o.defaults))?;
                Some((o.method, value))
            })
            .collect()
    }

    /// What one option stands at.
    pub fn get(&self, method: &str) -> Value {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let default = || {
            OPTIONS
                .iter()
                .find(|o| o.method == method)
                .map_or(Value::Null, |o| (o.defaults)())
        };
        set.get(method).cloned().unwrap_or_else(default)
    }

    /// The default socket implementation's name.
    pub fn socket(&self) -> String {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the default socket implementation's name.
    pub fn set_socket(&self, name: &str) -> RpcResult<()> {
        if !SOCKETS.contains(&name) {
            return Err(
                RpcError::invalid().because(format!("no socket implementation `{name}`; there are {SOCKETS:?}"))
            );
        }
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
        Ok(())
    }

    /// Options of a socket implementation.
    pub fn socket_options(&self, name: &str) -> RpcResult<Value> {
        if !SOCKETS.contains(&name) {
            return Err(
                RpcError::invalid().because(format!("no socket implementation `{name}`; there are {SOCKETS:?}"))
            );
        }
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(set
            .get(&format!("sock/{name}"))
            .cloned()
            .unwrap_or_else(socket_defaults))
    }

    /// Keeps options of a socket implementation.
    pub fn set_socket_options(&self, name: &str, params: Map<String, Value>) -> RpcResult<()> {
        let mut value = self.socket_options(name)?;
        merge(&mut value, params).map_err(|cause| RpcError::invalid().because(cause))?;
        self.set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(format!("sock/{name}"), value);
        Ok(())
    }

    /// The calls that bring the socket options about.
    pub fn saved_sockets(&self) -> Vec<(&'static str, Value)> {
        let mut calls = vec![("sock_set_default_impl", json!({"impl_name": self.socket()}))];
        for name in SOCKETS {
            let set = self
                .set
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&format!("sock/{name}"))
                .cloned();
            if let Some(Value::Object(options)) = set {
                let mut params = Map::from_iter([("impl_name".to_owned(), Value::from(name))]);
                params.extend(options);
                calls.push(("sock_impl_set_options", Value::Object(params)));
            }
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn what_is_set_is_typed_merged_and_shown_again() {
        let kept = Kept::default();
        let option = OPTIONS
            .iter()
            .find(|o| o.method == "iobuf_set_options")
            .expect("listed");
        kept.set(option, object(json!({"small_pool_count": 1}))).expect("fits");
        kept.set(option, object(json!({"large_pool_count": 2}))).expect("fits");
        assert!(
            kept.set(option, object(json!({"small_pool_cont": 1})))
                .expect_err("a typo")
                .contains("small_pool_cont")
        );
        assert!(kept.set(option, object(json!({"enable_numa": 1}))).is_err());
        assert_eq!(
            kept.saved("iobuf"),
            [(
                "iobuf_set_options",
                json!({"small_pool_count": 1, "large_pool_count": 2, "small_bufsize": 8192,
                                          "large_bufsize": 135_168, "enable_numa": false})
            )]
        );
        assert_eq!(kept.saved("accel"), []);
        assert_eq!(kept.saved("bdev").len(), 1);
    }

    #[test]
    fn socket_options_are_kept_for_each_implementation() {
        let kept = Kept::default();
        kept.set_socket_options("posix", object(json!({"enable_quickack": true})))
            .expect("fits");
        assert!(kept.set_socket_options("quic", Map::new()).is_err());
        assert_eq!(kept.socket_options("posix").expect("known")["enable_quickack"], true);
        assert_eq!(kept.socket_options("uring").expect("known")["enable_quickack"], false);
        let calls = kept.saved_sockets();
        assert_eq!(
            (calls.len(), calls[1].0, &calls[1].1["impl_name"]),
            (2, "sock_impl_set_options", &json!("posix"))
        );
    }
}
