//! Features a host may read and set (Base 2.0d, 5.27). None is saved; all are forgotten with the controller.
use super::options::TransportOptions;
use spec::nvme::{
    NSID_ALL, Sqe, Status,
    feature::{self, CAPABILITY_CHANGEABLE as CHANGEABLE, CAPABILITY_PER_NAMESPACE as PER_NAMESPACE, Select, fid},
};
use std::collections::BTreeMap;

/// The features of one controller that can have different values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// Arbitration (01h): kept for the host; queues are served in the order their commands arrive.
    pub arbitration: u32,
    /// Error recovery (05h).
    pub error_recovery: u32,
    /// Temperature threshold (04h): one for each sensor and direction there is, which is the composite one's.
    pub temperature: [u32; 2],
    /// Volatile write cache (06h).
    pub write_cache: u32,
    /// Asynchronous event configuration (0Bh).
    pub async_events: u32,
    /// Write atomicity (0Ah).
    pub atomicity: u32,
    /// Keep-alive timer (0Fh) in milliseconds.
    pub keep_alive_ms: u32,
    /// Host behavior support (16h): advanced command retry (byte 0) and copy descriptor formats (bytes 4 and 5).
    advanced_retry: bool,
    copy_formats: u16,
    /// Timestamp (0Eh): milliseconds since 1970 that a host has set, and the reactor's clock then or at the reset.
    timestamp: (Option<u64>, u64),
    /// Reservation notification mask (82h) of the namespaces that have one.
    reservation_masks: BTreeMap<u32, u32>,
    /// I/O queues granted.
    pub io_queues: u16,
}

/// What Get or Set Features answers: the completion's word, and data for the features that have some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A word.
    Word(u32),
    /// Data.
    Bytes(Vec<u8>),
    /// The host identifier, 16 bytes.
    HostIdentifier,
}

/// Features every controller supports, with their capabilities as Get Features tells them. Discovery controllers
/// know events, keep-alive and the host identifier only.
pub const SUPPORTED: [(u8, u32); 14] = [
    (fid::ARBITRATION, CHANGEABLE),
    (fid::POWER_MANAGEMENT, CHANGEABLE),
    (fid::TEMPERATURE_THRESHOLD, CHANGEABLE),
    (fid::ERROR_RECOVERY, CHANGEABLE),
    (fid::VOLATILE_WRITE_CACHE, 0),
    (fid::NUMBER_OF_QUEUES, CHANGEABLE),
    (fid::WRITE_ATOMICITY, CHANGEABLE),
    (fid::ASYNC_EVENT_CONFIG, CHANGEABLE),
    (fid::KEEP_ALIVE_TIMER, CHANGEABLE),
    (fid::TIMESTAMP, CHANGEABLE),
    (fid::HOST_BEHAVIOR, CHANGEABLE),
    (fid::HOST_IDENTIFIER, 0),
    (fid::RESERVATION_MASK, CHANGEABLE | PER_NAMESPACE),
    (fid::RESERVATION_PERSISTENCE, CHANGEABLE | PER_NAMESPACE),
];

/// Asynchronous events that can be configured: SMART warnings never occur, but hosts set their bits.
const EVENTS: u32 = 0xff | feature::AEN_NAMESPACE_ATTRIBUTE | feature::AEN_ANA | feature::AEN_DISCOVERY_LOG;
/// Copy descriptor format 2, as a bit of host behavior support.
const COPY_FORMAT_2: u16 = 1 << 2;
/// Over and under temperature threshold of the composite temperature: off.
const TEMPERATURE: [u32; 2] = [0xffff, 0];

impl Features {
    /// What a controller has that is fresh at `now` on the reactor's clock.
    pub fn new(keep_alive_ms: u32, io_queues: u16, now: u64) -> Self {
        Self {
            arbitration: 0,
            error_recovery: 0,
            temperature: TEMPERATURE,
            write_cache: 1,
            async_events: 0,
            atomicity: 0,
            keep_alive_ms,
            advanced_retry: false,
            copy_formats: 0,
            timestamp: (None, now),
            reservation_masks: BTreeMap::new(),
            io_queues,
        }
    }

    /// Which reservation notices the host does not want of `nsid`; a bit for each [`Notice`](spec::nvme::reservation::Notice).
    pub fn reservation_mask(&self, nsid: u32) -> u32 {
        self.reservation_masks.get(&nsid).copied().unwrap_or_default()
    }

    /// The host wants to copy from one namespace to another (descriptor format 2).
    pub fn copies_across(&self) -> bool {
        self.copy_formats & COPY_FORMAT_2 != 0
    }

    /// The timestamp data structure (Base 2.0d, figure 320): what the host set, moved on; or time since the controller began.
    fn timestamp_at(&self, now: u64) -> [u8; 8] {
        let (set, since) = self.timestamp;
        let ms = set.unwrap_or_default() + now.saturating_sub(since) / 1_000_000;
        let mut data = ms.to_le_bytes();
        // Origin in bits 3:1: 1, a host set it. Two bytes of milliseconds more would last 8,900 years.
        data[6] = u8::from(set.is_some()) << 1;
        data[7] = 0;
        data
    }

    /// Get Features, at `now` on the reactor's clock.
    pub fn get(&self, sqe: &Sqe, discovery: bool, now: u64) -> Result<Answer, Status> {
        let (d10, d11) = (sqe.cdw1(0), sqe.cdw1(1));
        let id = d10 as u8;
        let select = Select::of(d10).ok_or(Status::INVALID_FIELD)?;
        let (_, capabilities) = supported(id, discovery)?;
        if select == Select::Capabilities {
            return Ok(Answer::Word(capabilities));
        }
        let fresh = Features::new(self.keep_alive_ms, self.io_queues, now);
        let from = if select == Select::Current { self } else { &fresh };
        Ok(Answer::Word(match id {
            fid::ARBITRATION => from.arbitration,
            fid::POWER_MANAGEMENT => 0,
            fid::TEMPERATURE_THRESHOLD => match (d11 >> 16 & 0xf, d11 >> 20 & 3) {
                // Sensor 0 is the composite temperature; there are no others.
                (0, over @ 0..=1) => from.temperature[over as usize] | d11 & 0x0030_0000,
                _ => return Err(Status::INVALID_FIELD),
            },
            fid::ERROR_RECOVERY => from.error_recovery,
            fid::VOLATILE_WRITE_CACHE => from.write_cache,
            fid::NUMBER_OF_QUEUES => queues(self.io_queues),
            fid::WRITE_ATOMICITY => from.atomicity,
            fid::ASYNC_EVENT_CONFIG => from.async_events,
            fid::KEEP_ALIVE_TIMER => from.keep_alive_ms,
            fid::RESERVATION_MASK => match sqe.nsid.get() {
                0 | NSID_ALL => return Err(Status::INVALID_NAMESPACE),
                nsid => from.reservation_mask(nsid),
            },
            // The namespace's, and not ours: `admin` tells the value in force.
            fid::RESERVATION_PERSISTENCE => 0,
            fid::TIMESTAMP => return Ok(Answer::Bytes(from.timestamp_at(now).to_vec())),
            fid::HOST_BEHAVIOR => {
                let mut data = vec![0; 512];
                data[0] = from.advanced_retry.into();
                data[4..6].copy_from_slice(&from.copy_formats.to_le_bytes());
                return Ok(Answer::Bytes(data));
            }
            fid::HOST_IDENTIFIER => match d11 & 1 {
                1 => return Ok(Answer::HostIdentifier),
                // Fabrics hosts have 16-byte identifiers only.
                _ => return Err(Status::INVALID_FIELD),
            },
            _ => return Err(Status::INVALID_FIELD),
        }))
    }

    /// Set Features. `data` is what the host sent along.
    pub fn set(&mut self, sqe: &Sqe, data: &[u8], discovery: bool, policy: Policy<'_>) -> Result<u32, Status> {
        let (d10, d11) = (sqe.cdw1(0), sqe.cdw1(1));
        let id = d10 as u8;
        let (_, capabilities) = supported(id, discovery)?;
        if d10 & 1 << 31 != 0 {
            return Err(Status::FEATURE_NOT_SAVEABLE);
        }
        if id == fid::HOST_IDENTIFIER {
            // On fabrics the identifier comes with Connect and stays (Base 2.0d, 5.27.1.25).
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
        if capabilities & CHANGEABLE == 0 {
            return Err(Status::FEATURE_NOT_CHANGEABLE);
        }
        match id {
            fid::ARBITRATION => self.arbitration = d11,
            // One power state: 0.
            fid::POWER_MANAGEMENT if d11 & 0x1f == 0 => {}
            fid::TEMPERATURE_THRESHOLD => match (d11 >> 16 & 0xf, d11 >> 20 & 3) {
                (0 | 0xf, over @ 0..=1) => self.temperature[over as usize] = d11 & 0xffff,
                _ => return Err(Status::INVALID_FIELD),
            },
            // DULBE needs deallocated blocks to be reported as errors, which no namespace does.
            fid::ERROR_RECOVERY if d11 & 1 << 16 == 0 => self.error_recovery = d11,
            fid::NUMBER_OF_QUEUES => {
                let (submission, completion) = (d11 & 0xffff, d11 >> 16);
                if submission == 0xffff || completion == 0xffff {
                    return Err(Status::INVALID_FIELD);
                }
                if policy.has_io {
                    return Err(Status::COMMAND_SEQUENCE_ERROR);
                }
                let wanted = submission.min(completion) as u16 + 1;
                self.io_queues = wanted.min(policy.io_queues);
                return Ok(queues(self.io_queues));
            }
            fid::WRITE_ATOMICITY => self.atomicity = d11 & 1,
            fid::ASYNC_EVENT_CONFIG => self.async_events = d11 & EVENTS,
            fid::KEEP_ALIVE_TIMER if d11 == 0 && discovery => self.keep_alive_ms = 0,
            // An I/O controller keeps its timer (Base 2.0d, 3.9).
            fid::KEEP_ALIVE_TIMER if d11 == 0 => return Err(Status::KEEP_ALIVE_TIMEOUT_INVALID),
            fid::KEEP_ALIVE_TIMER => self.keep_alive_ms = policy.transport.keep_alive_ms(d11),
            fid::HOST_BEHAVIOR => match data {
                // ETDAS, LBAFEE and HDISNS need what no controller of ours has.
                [acre @ 0..=1, 0, 0, 0, low, high, ..] => {
                    let formats = u16::from_le_bytes([*low, *high]);
                    if formats & !COPY_FORMAT_2 != 0 {
                        return Err(Status::INVALID_FIELD);
                    }
                    (self.advanced_retry, self.copy_formats) = (*acre == 1, formats);
                }
                _ => return Err(Status::INVALID_FIELD),
            },
            fid::TIMESTAMP => match data.first_chunk::<6>() {
                Some(ms) => {
                    let mut wide = [0; 8];
                    wide[..6].copy_from_slice(ms);
                    self.timestamp = (Some(u64::from_le_bytes(wide)), policy.now);
                }
                None => return Err(Status::DATA_SGL_LENGTH_INVALID),
            },
            fid::RESERVATION_MASK => {
                let all = policy.namespaces.iter().copied();
                let which = sqe.nsid.get();
                let hit: Vec<u32> = all.filter(|&nsid| which == NSID_ALL || which == nsid).collect();
                if hit.is_empty() && which != NSID_ALL {
                    return Err(Status::INVALID_NAMESPACE);
                }
                self.reservation_masks
                    .extend(hit.into_iter().map(|nsid| (nsid, d11 & 0xe)));
            }
            // The namespace's, and not ours: `admin` sets it.
            fid::RESERVATION_PERSISTENCE => {}
            _ => return Err(Status::INVALID_FIELD),
        }
        Ok(0)
    }
}

/// What Set Features is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The reactor's clock.
    pub now: u64,
    /// Namespaces the host may see.
    pub namespaces: &'a [u32],
    /// How keep-alive timeouts are rounded.
    pub transport: &'a TransportOptions,
    /// Most I/O queues.
    pub io_queues: u16,
    /// An I/O queue exists, so their number is settled.
    pub has_io: bool,
}

/// Number of Queues: submission and completion queues, both less one.
fn queues(n: u16) -> u32 {
    let less = u32::from(n.saturating_sub(1));
    less | less << 16
}

fn supported(id: u8, discovery: bool) -> Result<(u8, u32), Status> {
    let found = SUPPORTED.into_iter().find(|&(f, _)| f == id);
    let allowed = !discovery
        || matches!(
            id,
            fid::ASYNC_EVENT_CONFIG | fid::KEEP_ALIVE_TIMER | fid::HOST_IDENTIFIER
        );
    found.filter(|_| allowed).ok_or(Status::INVALID_FIELD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::nvme::command::admin;

    fn policy(transport: &TransportOptions) -> Policy<'_> {
        Policy {
            now: 0,
            namespaces: &[1, 3],
            transport,
            io_queues: 127,
            has_io: false,
        }
    }

    fn set(f: &mut Features, id: u8, d11: u32) -> Result<u32, Status> {
        f.set(
            &Sqe::new(admin::SET_FEATURES, 1, 0)
                .with_cdw1(0, id.into())
                .with_cdw1(1, d11),
            &[1, 0, 0, 0, 4, 0],
            false,
            policy(&TransportOptions::default()),
        )
    }

    fn get(f: &Features, id: u32, d11: u32) -> Result<Answer, Status> {
        f.get(
            &Sqe::new(admin::GET_FEATURES, 1, 0).with_cdw1(0, id).with_cdw1(1, d11),
            false,
            5_000_000,
        )
    }

    #[test]
    fn queues_are_granted_up_to_the_limit_and_before_the_first_is_made() {
        let mut f = Features::new(0, 127, 0);
        assert_eq!(set(&mut f, 7, 0x0003_0003), Ok(0x0003_0003));
        assert_eq!(get(&f, 7, 0), Ok(Answer::Word(0x0003_0003)));
        assert_eq!(set(&mut f, 7, 0x01ff_01ff), Ok(0x007e_007e));
        assert_eq!(set(&mut f, 7, 0xffff_0000), Err(Status::INVALID_FIELD));
        let sqe = Sqe::new(admin::SET_FEATURES, 1, 0).with_cdw1(0, 7);
        let transport = TransportOptions::default();
        let late = Policy {
            has_io: true,
            ..policy(&transport)
        };
        assert_eq!(f.set(&sqe, &[], false, late), Err(Status::COMMAND_SEQUENCE_ERROR));
    }

    #[test]
    fn a_short_keep_alive_is_raised_and_none_is_refused() {
        let mut f = Features::new(15_000, 1, 0);
        assert_eq!(set(&mut f, 0xf, 1), Ok(0));
        assert_eq!(get(&f, 0xf, 0), Ok(Answer::Word(10_000)));
        assert_eq!(set(&mut f, 0xf, 10_001), Ok(0));
        assert_eq!(get(&f, 0xf, 0), Ok(Answer::Word(20_000)), "the next step of KAS");
        assert_eq!(set(&mut f, 0xf, u32::MAX), Ok(0));
        assert_eq!(get(&f, 0xf, 0), Ok(Answer::Word(4_294_960_000)));
        assert_eq!(set(&mut f, 0xf, 0), Err(Status::KEEP_ALIVE_TIMEOUT_INVALID));
    }

    #[test]
    fn every_feature_answers_what_it_is_and_the_rest_is_refused() {
        let mut f = Features::new(15_000, 1, 0);
        for (id, capabilities) in SUPPORTED {
            assert_eq!(
                get(&f, u32::from(id) | 0x300, 1),
                Ok(Answer::Word(capabilities)),
                "{id:x}"
            );
            assert_eq!(
                get(&f, id.into(), 1).is_ok(),
                capabilities & PER_NAMESPACE == 0 || id == 0x83,
                "{id:x}"
            );
        }
        assert_eq!(get(&f, 0x0d, 0), Err(Status::INVALID_FIELD));
        assert_eq!(set(&mut f, 6, 0), Err(Status::FEATURE_NOT_CHANGEABLE));
        assert_eq!(set(&mut f, 0x81, 0), Err(Status::COMMAND_SEQUENCE_ERROR));
        let save = Sqe::new(admin::SET_FEATURES, 1, 0).with_cdw1(0, 1 << 31 | 1);
        assert_eq!(
            f.set(&save, &[], false, policy(&TransportOptions::default())),
            Err(Status::FEATURE_NOT_SAVEABLE)
        );
        assert_eq!(set(&mut f, 4, 0x157), Ok(0));
        assert_eq!(get(&f, 4, 0), Ok(Answer::Word(0x157)));
        assert_eq!(get(&f, 4, 1 << 16), Err(Status::INVALID_FIELD));
    }

    #[test]
    fn time_goes_on_from_what_the_host_set() {
        let mut f = Features::new(0, 1, 0);
        assert_eq!(get(&f, 0x0e, 0), Ok(Answer::Bytes(vec![5, 0, 0, 0, 0, 0, 0, 0])));
        assert_eq!(set(&mut f, 0x0e, 0), Ok(0)); // the data is 00_04_00_00_00_01h
        assert_eq!(get(&f, 0x0e, 0), Ok(Answer::Bytes(vec![6, 0, 0, 0, 4, 0, 2, 0])));
    }

    #[test]
    fn host_behavior_is_kept_and_what_we_cannot_do_is_refused() {
        let mut f = Features::new(0, 1, 0);
        assert_eq!((set(&mut f, 0x16, 0), f.copies_across()), (Ok(0), true));
        let sqe = Sqe::new(admin::SET_FEATURES, 1, 0).with_cdw1(0, 0x16);
        for bad in [&[2, 0, 0, 0, 0, 0][..], &[0, 1, 0, 0, 0, 0], &[0, 0, 0, 0, 8, 0], &[0]] {
            let refused = f.set(&sqe, bad, false, policy(&TransportOptions::default()));
            assert_eq!(refused, Err(Status::INVALID_FIELD), "{bad:?}");
        }
    }
}
