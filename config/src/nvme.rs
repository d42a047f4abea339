//! Hosts and listeners of NVMe, each in two spellings: a text where that says it all, else a map.
//!
//! ```yaml
//! listeners: [10.0.0.1:4420, {address: 10.0.0.1:4421, secure: true}]
//! hosts: [nqn.2026-11.org.example:plain, {nqn: nqn.2026-11.org.example:tls, psk: key1}]
//! ```
use crate::schema::At;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData, net::SocketAddr};

/// Where hosts connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// IP address and port.
    pub address: SocketAddr,
    /// By TLS, with the host's `psk`, or not at all.
    pub secure: bool,
}

/// A host that may connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its NQN.
    pub nqn: String,
    /// Names of its keys.
    pub keys: Keys,
}

/// Names of a host's keys, from `targets.nvme.keys`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    /// It comes by TLS with this one.
    pub psk: Option<At<String>>,
    /// It proves that it has this one.
    pub dhchap_key: Option<At<String>>,
    /// The controller proves that it has this one.
    pub dhchap_ctrlr_key: Option<At<String>>,
}

impl Keys {
    /// With the keys' names in the file.
    pub fn all(&self) -> [(&'static str, &Option<At<String>>); 3] {
        [
            ("psk", &self.psk),
            ("dhchap_key", &self.dhchap_key),
            ("dhchap_ctrlr_key", &self.dhchap_ctrlr_key),
        ]
    }
}

impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Self {
        Self { address, secure: false }
    }
}

/// The long spelling.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongListener {
    address: SocketAddr,
    #[serde(default)]
    secure: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongHost {
    nqn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    psk: Option<At<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dhchap_key: Option<At<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dhchap_ctrlr_key: Option<At<String>>,
}

impl From<LongListener> for Listener {
    fn from(long: LongListener) -> Self {
        Self {
            address: long.address,
            secure: long.secure,
        }
    }
}

impl From<LongHost> for Host {
    fn from(long: LongHost) -> Self {
        Self {
            nqn: long.nqn,
            keys: Keys {
                psk: long.psk,
                dhchap_key: long.dhchap_key,
                dhchap_ctrlr_key: long.dhchap_ctrlr_key,
            },
        }
    }
}

/// Either spelling, told apart by what the file has, so that places stay known (docs/adr/0003-yaml.md).
trait Spelled: Sized {
    type Long: for<'de> Deserialize<'de> + Into<Self>;
    const EXPECTED: &'static str;
    fn short(text: &str) -> Result<Self, String>;
}

impl Spelled for Listener {
    type Long = LongListener;
    const EXPECTED: &'static str = "an address and port, or a map of `address` and `secure`";
    fn short(text: &str) -> Result<Self, String> {
        let address: Result<SocketAddr, _> = text.parse();
        address.map(Into::into).map_err(|error| error.to_string())
    }
}

impl Spelled for Host {
    type Long = LongHost;
    const EXPECTED: &'static str = "an NQN, or a map of `nqn` and its keys";
    fn short(text: &str) -> Result<Self, String> {
        Ok(Self {
            nqn: text.into(),
            keys: Keys::default(),
        })
    }
}

struct Either<T>(PhantomData<T>);

impl<'de, T: Spelled> Visitor<'de> for Either<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::short(text).map_err(E::custom)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::Long::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
    }
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl Serialize for Listener {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.secure {
            return self.address.serialize(serializer);
        }
        let (address, secure) = (self.address, self.secure);
        LongListener { address, secure }.serialize(serializer)
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.keys == Keys::default() {
            return self.nqn.serialize(serializer);
        }
        let long = LongHost {
            nqn: self.nqn.clone(),
            psk: self.keys.psk.clone(),
            dhchap_key: self.keys.dhchap_key.clone(),
            dhchap_ctrlr_key: self.keys.dhchap_ctrlr_key.clone(),
        };
        long.serialize(serializer)
    }
}
