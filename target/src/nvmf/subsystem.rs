//! A subsystem: what hosts connect to. Namespaces, hosts, listeners and controllers under one lock that only the control
//! plane, Connect and admin commands take.
use super::{
    ana::{Changes, Ways},
    controller::{Controller, Served},
    error::NvmfError,
    guard::Guard,
    options::{ListenAddress, ListenerInfo, NamespaceInfo, SubsystemConfig, SubsystemInfo},
};
use spec::nvme::{identify::NamespaceIds, nqn_is_valid};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};
use uuid::Uuid;

/// Listeners a subsystem may have.
const LISTENERS: usize = 16;

/// See the module's description.
pub struct Subsystem {
    /// Names it in per-core tables; never used twice.
    pub id: u64,
    /// As it was created.
    pub config: SubsystemConfig,
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// What its controllers have served.
    pub served: Served,
    /// When it came to be.
    pub born: Instant,
    inner: Mutex<Inner>,
}

/// Names of a host's keys in the keyring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostKeys {
    /// It comes by TLS with this one.
    pub psk: Option<String>,
    /// The host proves that it has this one.
    pub dhchap_key: Option<String>,
    /// The controller proves that it has this one, when the host asks.
    pub dhchap_ctrlr_key: Option<String>,
}

/// What changes.
pub struct Inner {
    /// Any host may connect.
    pub allow_any_host: bool,
    /// Hosts that may.
    pub hosts: BTreeMap<String, HostKeys>,
    /// Namespaces by id.
    pub namespaces: BTreeMap<u32, Namespace>,
    /// Listeners in the order they came.
    pub listeners: Vec<Listener>,
    /// Controllers by CNTLID.
    pub controllers: BTreeMap<u16, Arc<Controller>>,
    /// What hosts were told of asymmetric access.
    pub ana: Changes,
    next_cntlid: u16,
    /// The subsystem is being deleted: no more controllers.
    pub closing: bool,
}

/// A namespace as the control plane sees it.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Volume, ids, group, visibility.
    pub info: NamespaceInfo,
    /// What stands before it.
    pub guard: Arc<Guard>,
}

/// A listener as the control plane sees it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where, with the port that was bound.
    pub address: ListenAddress,
    /// PORTID in the discovery log.
    pub port_id: u16,
    /// How good the way through it is.
    pub ways: Ways,
    /// By TLS, or not at all.
    pub secure: bool,
}

impl Namespace {
    /// True if `host` may see it.
    pub fn visible_to(&self, host: &str) -> bool {
        !self.info.no_auto_visible || self.info.hosts.iter().any(|h| h == host)
    }

    /// The identifiers hosts are told.
    pub fn ids(&self) -> NamespaceIds {
        NamespaceIds {
            eui64: self.info.eui64.unwrap_or_default(),
            nguid: self.info.nguid,
            uuid: *self.info.uuid.as_bytes(),
        }
    }
}

impl Subsystem {
    /// Checks the wishes and makes a subsystem of them.
    pub fn new(id: u64, config: SubsystemConfig) -> Result<Self, NvmfError> {
        if !nqn_is_valid(&config.nqn) || config.nqn == spec::nvme::DISCOVERY_NQN {
            return Err(NvmfError::BadNqn(config.nqn));
        }
        let serial = config
            .serial_number
            .clone()
            .unwrap_or_else(|| stable_serial(&config.nqn));
        let model = config
            .model_number
            .clone()
            .unwrap_or_else(|| SubsystemConfig::MODEL.into());
        check_text("serial_number", &serial, 20)?;
        check_text("model_number", &model, 40)?;
        if config.min_cntlid == 0 || config.max_cntlid > 0xffef || config.min_cntlid > config.max_cntlid {
            let why = format!(
                "{} to {} does not lie within 1 to 65519",
                config.min_cntlid, config.max_cntlid
            );
            return Err(NvmfError::Invalid {
                what: "min_cntlid, max_cntlid",
                why,
            });
        }
        if config.max_namespaces == 0 || config.max_namespaces > 1 << 16 {
            let why = format!("{} is not one of 1 to 65536", config.max_namespaces);
            return Err(NvmfError::Invalid {
                what: "max_namespaces",
                why,
            });
        }
        let inner = Inner {
            allow_any_host: config.allow_any_host,
            hosts: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            listeners: Vec::new(),
            controllers: BTreeMap::new(),
            ana: Changes::default(),
            next_cntlid: config.min_cntlid,
            closing: false,
        };
        Ok(Self {
            id,
            serial,
            model,
            config,
            served: Served::default(),
            born: Instant::now(),
            inner: Mutex::new(inner),
        })
    }

    /// NQN.
    pub fn nqn(&self) -> &str {
        &self.config.nqn
    }

    /// The changing part. Its invariants hold between statements, so a poisoned lock is still a good one.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// As the control plane reports it.
    pub fn info(&self) -> SubsystemInfo {
        let inner = self.inner();
        SubsystemInfo {
            nqn: self.config.nqn.clone(),
            discovery: false,
            listen_addresses: inner.listeners.iter().map(|l| l.address.clone()).collect(),
            allow_any_host: inner.allow_any_host,
            hosts: inner.hosts.clone().into_iter().collect(),
            serial_number: self.serial.clone(),
            model_number: self.model.clone(),
            max_namespaces: self.config.max_namespaces,
            ana_reporting: self.config.ana_reporting,
            min_cntlid: self.config.min_cntlid,
            max_cntlid: self.config.max_cntlid,
            enable_nssr: self.config.enable_nssr,
            shared: self.config.shared,
            dmrsl: self.config.dmrsl,
            wzsl: self.config.wzsl,
            namespaces: inner.namespaces.values().map(|n| n.info.clone()).collect(),
        }
    }

    /// The first free namespace id, or the wanted one if it is free.
    pub fn choose_nsid(&self, wanted: Option<u32>) -> Result<u32, NvmfError> {
        let (inner, max) = (self.inner(), self.config.max_namespaces);
        match wanted.filter(|&n| n != 0) {
            Some(nsid) if nsid > max => Err(NvmfError::Invalid {
                what: "nsid",
                why: format!("{nsid} is more than max_namespaces, {max}"),
            }),
            Some(nsid) if inner.namespaces.contains_key(&nsid) => Err(NvmfError::NamespaceExists {
                nqn: self.nqn().into(),
                nsid,
            }),
            Some(nsid) => Ok(nsid),
            None => (1..=max)
                .find(|nsid| !inner.namespaces.contains_key(nsid))
                .ok_or_else(|| NvmfError::NamespacesFull {
                    nqn: self.nqn().into(),
                    max,
                }),
        }
    }

    /// Room for one more listener at `address`?
    pub fn check_listener(&self, address: &ListenAddress) -> Result<(), NvmfError> {
        let inner = self.inner();
        if address.socket.port() != 0 && inner.listeners.iter().any(|l| l.address == *address) {
            return Err(NvmfError::ListenerExists {
                nqn: self.nqn().into(),
                address: address.socket,
            });
        }
        if inner.listeners.len() >= LISTENERS {
            return Err(NvmfError::ListenersFull { nqn: self.nqn().into() });
        }
        Ok(())
    }

    /// Listeners with the state of every possible group.
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        let inner = self.inner();
        let states = |l: &Listener| (1..=self.config.max_namespaces).map(|g| (g, l.ways.of(g))).collect();
        inner
            .listeners
            .iter()
            .map(|l| ListenerInfo {
                address: l.address.clone(),
                secure: l.secure,
                ana_states: states(l),
            })
            .collect()
    }
}

impl Inner {
    /// True if `host` must prove who it is before it may use a queue.
    pub fn must_authenticate(&self, host: &str) -> bool {
        self.hosts.get(host).is_some_and(|keys| keys.dhchap_key.is_some())
    }

    /// True if `host` may connect.
    pub fn allows(&self, host: &str) -> bool {
        self.allow_any_host || self.hosts.contains_key(host)
    }

    /// True if a connection that came in at `local` came through one of our listeners.
    pub fn listens_on(&self, local: SocketAddr) -> bool {
        self.listener_at(local).is_some()
    }

    /// The listener that a connection at `local` came through: one that names the address before one for all.
    pub fn listener_at(&self, local: SocketAddr) -> Option<&Listener> {
        let on_port = || {
            let port = local.port();
            self.listeners.iter().filter(move |l| l.address.socket.port() == port)
        };
        on_port()
            .find(|l| [local.ip(), local.ip().to_canonical()].contains(&l.address.socket.ip()))
            .or_else(|| on_port().find(|l| l.address.socket.ip().is_unspecified()))
    }

    /// The next free controller id, going round so that an id is not used again at once.
    pub fn choose_cntlid(&mut self, config: &SubsystemConfig) -> Option<u16> {
        let (min, max) = (config.min_cntlid, config.max_cntlid);
        let count = u32::from(max - min) + 1;
        let start = u32::from(self.next_cntlid.clamp(min, max) - min);
        // `start + i` is reduced to less than `count`, which came out of a u16.
        let id = (0..count)
            .map(|i| min + ((start + i) % count) as u16)
            .find(|id| !self.controllers.contains_key(id))?;
        self.next_cntlid = if id == max { min } else { id + 1 };
        Some(id)
    }
}

/// A serial number that is the same after every restart: made of the NQN.
fn stable_serial(nqn: &str) -> String {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, nqn.as_bytes())
        .simple()
        .to_string()
        .to_uppercase();
    format!("ASH{}", &id[..17])
}

fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), NvmfError> {
    let why = match () {
        _ if text.len() > max => format!("'{text}' is longer than {max} characters"),
        _ if !text.bytes().all(|b| (0x20..0x7f).contains(&b)) => format!("'{text}' is not printable ASCII"),
        _ => return Ok(()),
    };
    Err(NvmfError::Invalid { what, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_checked_in_words() {
        let new = |c| Subsystem::new(1, c).map(|_| ()).map_err(|e| e.to_string());
        let good = SubsystemConfig::new("nqn.2026-11.io.ashlar:a");
        assert_eq!(new(good.clone()), Ok(()));
        assert_eq!(new(SubsystemConfig::new("a")), Err("'a' is not a valid NQN".into()));
        assert!(new(SubsystemConfig::new(spec::nvme::DISCOVERY_NQN)).is_err());
        let long = SubsystemConfig {
            serial_number: Some("x".repeat(21)),
            ..good.clone()
        };
        assert!(new(long).unwrap_err().contains("longer than 20"));
        assert!(
            new(SubsystemConfig {
                min_cntlid: 9,
                max_cntlid: 8,
                ..good.clone()
            })
            .unwrap_err()
            .contains("9 to 8")
        );
        let serial = stable_serial("nqn.2026-11.io.ashlar:a");
        assert_eq!((serial.len(), serial), (20, stable_serial("nqn.2026-11.io.ashlar:a")));
    }

    #[test]
    fn namespace_ids_are_the_first_free_ones() {
        let s = Subsystem::new(
            1,
            SubsystemConfig {
                max_namespaces: 2,
                ..SubsystemConfig::new("nqn.2026-11.io.ashlar:a")
            },
        )
        .unwrap();
        let add = |nsid| {
            let info = NamespaceInfo {
                nsid,
                volume: "v".into(),
                nguid: [0; 16],
                eui64: None,
                uuid: Uuid::nil(),
                anagrpid: nsid,
                no_auto_visible: false,
                hosts: vec![],
                ptpl_file: None,
            };
            let guard = Arc::default();
            s.inner().namespaces.insert(nsid, Namespace { info, guard });
        };
        assert_eq!(s.choose_nsid(None).unwrap(), 1);
        add(1);
        assert_eq!(s.choose_nsid(None).unwrap(), 2);
        assert!(matches!(
            s.choose_nsid(Some(1)),
            Err(NvmfError::NamespaceExists { nsid: 1, .. })
        ));
        assert!(matches!(s.choose_nsid(Some(3)), Err(NvmfError::Invalid { .. })));
        add(2);
        assert!(matches!(
            s.choose_nsid(None),
            Err(NvmfError::NamespacesFull { max: 2, .. })
        ));
    }

    #[test]
    fn controller_ids_go_round() {
        let config = SubsystemConfig {
            min_cntlid: 5,
            max_cntlid: 6,
            ..SubsystemConfig::new("nqn.2026-11.io.ashlar:a")
        };
        let s = Subsystem::new(1, config).unwrap();
        let next = || s.inner().choose_cntlid(&s.config);
        assert_eq!([next(), next(), next()], [Some(5), Some(6), Some(5)]);
    }
}
