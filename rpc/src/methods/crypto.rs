//! Encrypted disks and their keys.
//!
//! A key may be given in the call, as in SPDK, or by the absolute path of a file that holds it, or be drawn by chance, which are ours. No answer and no
//! saved call holds a key, where SPDK's show it: `accel_crypto_keys_get` says where it comes from. What was given in a call is therefore not
//! saved, and must be given again before a saved configuration is loaded.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bdev::keys::undigits;
use bdev::{KeyError, KeySource, NodeSpec, Table};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::bdev_leaf::{Name, delete};
use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::Complaint;

const PRODUCT: &str = "crypto";
/// The one cipher there is, and the one way to make a tweak of a block's number.
const CIPHER: &str = "AES_XTS";
const TWEAK: &str = "SIMPLE_LBA";

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Parse;
    vec![
        Line::new("accel_crypto_key_create", Runtime, Change, BAD, key_create),
        Line::new("accel_crypto_key_destroy", Runtime, Change, BAD, key_destroy),
        Line::new("accel_crypto_keys_get", Runtime, Look, BAD, keys_get),
        Line::new("bdev_crypto_create", Runtime, Change, BAD, crypto_create),
        Line::new("bdev_crypto_delete", Runtime, Change, Complaint::Invalid, crypto_delete),
    ]
}

/// Hexadecimal digits, wiped when they are dropped; no complaint quotes them.
struct Digits(Zeroizing<String>);

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Digits;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key as a string of hexadecimal digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digits, E> {
                self.visit_string(text.to_owned())
            }
            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Digits, E> {
                Ok(Digits(Zeroizing::new(text)))
            }
            // What serde would say of numbers has the number in it.
            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Digits, E> {
                Err(E::custom("a key is a string; put it in quotes"))
            }
            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Digits, E> {
                self.visit_u64(0)
            }
            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Digits, E> {
                self.visit_u64(0)
            }
        }
        deserializer.deserialize_string(Visitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyCreate {
    cipher: String,
    name: String,
    key: Option<Digits>,
    key2: Option<Digits>,
    tweak_mode: Option<String>,
    /// Ours: the absolute path of a file with the digits of both.
    key_file: Option<PathBuf>,
    /// Ours: of so many bits, drawn.
    random: Option<u16>,
}

/// SPDK's text, and why.
fn no_key(errno: Errno, why: impl fmt::Display) -> RpcError {
    RpcError::invalid_params(format!("failed to create DEK, rc -{}", errno as i32)).because(why.to_string())
}

fn refused(error: KeyError) -> RpcError {
    let errno = match &error {
        KeyError::Exists(_) => Errno::Exist,
        KeyError::Unknown(_) => Errno::NoEnt,
        KeyError::Busy(_) => Errno::Busy,
        KeyError::Unfit(_) | KeyError::SameFile { .. } => Errno::Inval,
        KeyError::Open { .. } => Errno::Perm,
        KeyError::Io { .. } | KeyError::NoRandom(_) => Errno::Io,
    };
    no_key(errno, error)
}

/// The key that two halves make.
fn given(context: &Context, name: &str, key: &Digits, key2: Option<&Digits>) -> RpcResult<()> {
    let key2 = key2.ok_or_else(|| no_key(Errno::Inval, "AES_XTS needs a second key: `key2`"))?;
    if key.0.len() != key2.0.len() {
        return Err(no_key(Errno::Inval, "`key` and `key2` are not of one length"));
    }
    let mut both = Zeroizing::new(Vec::with_capacity(key.0.len()));
    for half in [key, key2] {
        let bytes = undigits(half.0.as_bytes());
        both.extend_from_slice(&bytes.ok_or_else(|| no_key(Errno::Inval, "a key is pairs of hexadecimal digits"))?);
    }
    context.graph.keys().give(name, &both).map_err(refused)
}

async fn key_create(context: Arc<Context>, params: KeyCreate) -> RpcResult<bool> {
    if params.cipher != CIPHER {
        return Err(no_key(
            Errno::NotSup,
            format!("cipher {:?}: there is {CIPHER} only", params.cipher),
        ));
    }
    if let Some(mode) = params.tweak_mode.filter(|mode| mode != TWEAK) {
        return Err(no_key(
            Errno::NotSup,
            format!("tweak_mode {mode:?}: there is {TWEAK} only"),
        ));
    }
    let (name, keys) = (&params.name, context.graph.keys());
    match (&params.key, &params.key_file, params.random) {
        (Some(key), None, None) => given(&context, name, key, params.key2.as_ref())?,
        (None, Some(path), None) if params.key2.is_none() => {
            if !path.is_absolute() {
                return Err(no_key(Errno::Inval, "the path of a key file must be absolute"));
            }
            keys.read(name, path).map_err(refused)?
        }
        (None, None, Some(bits @ (128 | 256))) if params.key2.is_none() => keys.draw(name, bits).map_err(refused)?,
        (None, None, None) => return Err(Complaint::Parse.error("accel_crypto_key_create", "missing field `key`")),
        _ => {
            let why = "expected one of `key` with `key2`, `key_file`, and `random` (128 or 256)";
            return Err(no_key(Errno::Inval, why));
        }
    }
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyDestroy {
    key_name: String,
}

async fn key_destroy(context: Arc<Context>, params: KeyDestroy) -> RpcResult<bool> {
    match context.graph.keys().remove(&params.key_name) {
        Ok(()) => Ok(true),
        Err(error @ KeyError::Unknown(_)) => {
            Err(RpcError::invalid_params("No key object found").because(error.to_string()))
        }
        // SPDK lets it go, and its disks with it.
        Err(error) => {
            let text = format!("Failed to destroy key, rc -{}", Errno::Busy as i32);
            Err(RpcError::invalid_params(text).because(error.to_string()))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct KeysGet {
    key_name: Option<String>,
}

async fn keys_get(context: Arc<Context>, params: KeysGet) -> RpcResult<Vec<Value>> {
    let mut all = context.graph.keys().list();
    if let Some(name) = params.key_name {
        all.retain(|key| key.name == name);
        if all.is_empty() {
            return Err(RpcError::invalid_params("key was not found"));
        }
    }
    let shape = |key: bdev::keys::KeyInfo| {
        let mut shape = json!({"name": key.name, "cipher": CIPHER, "tweak_mode": TWEAK, "bits": key.bits});
        match key.source {
            KeySource::Given => (),
            KeySource::File(path) => shape["key_file"] = json!(path),
            KeySource::Random => shape["random"] = key.bits.into(),
        }
        shape
    };
    Ok(all.into_iter().map(shape).collect())
}

/// The calls that bring the keys about: never what they are.
pub(crate) fn saved(context: &Context) -> Vec<(&'static str, Value)> {
    let keys = context.graph.keys().list().into_iter();
    let call = |key: bdev::keys::KeyInfo| {
        let mut params = json!({"name": key.name, "cipher": CIPHER, "tweak_mode": TWEAK});
        match key.source {
            KeySource::Given => {
                tracing::warn!(key = key.name, "is not saved, for it is in no file");
                return None;
            }
            KeySource::File(path) => params["key_file"] = json!(path),
            KeySource::Random => params["random"] = key.bits.into(),
        }
        Some(("accel_crypto_key_create", params))
    };
    keys.filter_map(call).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CryptoCreate {
    base_bdev_name: String,
    name: String,
    key_name: Option<String>,
    // Before SPDK 23.01 the key came with the disk.
    #[serde(rename = "crypto_pmd")]
    _crypto_pmd: Option<String>,
    cipher: Option<String>,
    key: Option<Digits>,
    key2: Option<Digits>,
}

/// The name SPDK gives to a key that came with its disk.
fn own_key(disk: &str) -> String {
    format!("{disk}_{CIPHER}")
}

async fn crypto_create(context: Arc<Context>, params: CryptoCreate) -> RpcResult<String> {
    let keys = context.graph.keys();
    let (key, made) = match params.key_name {
        Some(name) if keys.info(&name).is_some() => (name, false),
        Some(name) => {
            let why = format!("there is no key {name:?}");
            return Err(RpcError::invalid_params("Key was not found").because(why));
        }
        None => {
            let name = own_key(&params.name);
            let none = |why: String| RpcError::internal("No key was found").because(why);
            match (&params.cipher, &params.key) {
                _ if keys.info(&name).is_some() => (name, false),
                (Some(cipher), _) if cipher != CIPHER => {
                    return Err(none(format!("cipher {cipher:?}: there is {CIPHER} only")));
                }
                (_, None) => return Err(none("`key_name` or `key` must be given".into())),
                (_, Some(key)) => {
                    given(&context, &name, key, params.key2.as_ref()).map_err(|error| none(error.to_string()))?;
                    (name, true)
                }
            }
        }
    };
    let table = Table::Crypt {
        on: params.base_bdev_name,
        key: key.clone(),
    };
    // SPDK looks at the name before it looks at who has the disk below.
    let made_disk = match context.graph.info(&params.name) {
        Some(_) => Err(RpcError::errno(Errno::Exist).because(format!("there is a disk {:?} already", params.name))),
        None => context.create_or_wait(NodeSpec::new(&params.name, table)).await,
    };
    if let Err(error) = made_disk {
        if made {
            let _ = keys.remove(&key);
        }
        return Err(error);
    }
    Ok(params.name)
}

async fn crypto_delete(context: Arc<Context>, params: Name) -> RpcResult<bool> {
    let info = context.disk_of(&params.name, PRODUCT)?;
    delete(context.clone(), params, PRODUCT).await?;
    // A key that came with its disk goes with it.
    let (keys, own) = (context.graph.keys(), own_key(&info.name));
    if keys.info(&own).is_some_and(|key| key.source == KeySource::Given) {
        let _ = keys.remove(&own);
    }
    Ok(true)
}
