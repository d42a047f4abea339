//! Where RAID-4, RAID-5 and RAID-6 put what. Chunks of a row (a *stripe*, one chunk of each member) are data, P and for RAID-6 Q:
//!
//! ```text
//!   left-symmetric, 4 members        left-asymmetric, RAID-6, 5 members
//!     0   1   2   P                    Q   0   1   2   P
//!     4   5   P   3                    3   4   5   P   Q
//!     8   P   6   7                    6   7   P   Q   8
//!     P   9  10  11                    9   P   Q  10  11
//! ```
//!
//! The kernel's names and numbers are in `drivers/md/raid5.h` (`ALGORITHM_*`), the rules in `raid5.c` (`raid5_compute_sector`); all are tested against
//! arrays that MD wrote.
use super::{Level, Place, ShapeError, check_chunk};

/// How P goes round in RAID-5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rotation {
    /// Towards the first member; data in order of members.
    LeftAsymmetric,
    /// Towards the last member; data in order of members.
    RightAsymmetric,
    /// Towards the first member; data begin behind the parity. The default.
    LeftSymmetric,
    /// Towards the last member; data begin behind the parity.
    RightSymmetric,
    /// It stays on the first.
    ParityFirst,
    /// It stays on the last, as in RAID-4.
    ParityLast,
}

impl Rotation {
    const ALL: [Self; 6] = [
        Self::LeftAsymmetric,
        Self::RightAsymmetric,
        Self::LeftSymmetric,
        Self::RightSymmetric,
        Self::ParityFirst,
        Self::ParityLast,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::LeftAsymmetric => "left-asymmetric",
            Self::RightAsymmetric => "right-asymmetric",
            Self::LeftSymmetric => "left-symmetric",
            Self::RightSymmetric => "right-symmetric",
            Self::ParityFirst => "parity-first",
            Self::ParityLast => "parity-last",
        }
    }
}

/// How P and Q go round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// RAID-4 and RAID-5: only P.
    P(Rotation),
    /// RAID-6: Q follows P.
    Pq(Rotation),
    /// RAID-6 as a RAID-5 with Q on one more member, the last.
    QLast(Rotation),
    /// RAID-6 of DDF: as right-asymmetric, but Q counts all members.
    DdfZeroRestart,
    /// RAID-6 of DDF: as left-asymmetric, one row later; Q counts all members.
    DdfNRestart,
    /// RAID-6 of DDF: as left-symmetric with Q before P; Q counts all members.
    DdfNContinue,
}

impl Layout {
    /// From MD's number. RAID-4 has no choice.
    pub fn from_number(level: Level, layout: u32) -> Result<Self, ShapeError> {
        let unknown = ShapeError::Layout { level, layout };
        let rotation = |n: u32| Rotation::ALL.get(n as usize).copied().ok_or(unknown);
        match (level, layout) {
            (Level::Raid4, _) => Ok(Self::P(Rotation::ParityLast)),
            (Level::Raid5, n) => rotation(n).map(Self::P),
            (Level::Raid6, 8) => Ok(Self::DdfZeroRestart),
            (Level::Raid6, 9) => Ok(Self::DdfNRestart),
            (Level::Raid6, 10) => Ok(Self::DdfNContinue),
            (Level::Raid6, n @ 16..=20) => rotation(n - 16).map(Self::QLast),
            (Level::Raid6, n) => rotation(n).map(Self::Pq),
            _ => Err(unknown),
        }
    }

    /// MD's number; for RAID-4 that is the one RAID-5 has.
    pub const fn number(self) -> u32 {
        match self {
            Self::P(rotation) | Self::Pq(rotation) => rotation as u32,
            Self::QLast(rotation) => 16 + rotation as u32,
            Self::DdfZeroRestart => 8,
            Self::DdfNRestart => 9,
            Self::DdfNContinue => 10,
        }
    }

    /// Chunks of a row that are no data.
    pub const fn parities(self) -> u16 {
        match self {
            Self::P(_) => 1,
            _ => 2,
        }
    }

    /// True if coefficients of Q count the places of P and Q too, as zeros.
    pub const fn counts_all(self) -> bool {
        matches!(self, Self::DdfZeroRestart | Self::DdfNRestart | Self::DdfNContinue)
    }

    /// mdadm's name.
    pub fn name(self) -> String {
        match self {
            Self::P(rotation) | Self::Pq(rotation) => rotation.name().to_owned(),
            Self::QLast(rotation) => format!("{}-6", rotation.name()),
            Self::DdfZeroRestart => "ddf-zero-restart".to_owned(),
            Self::DdfNRestart => "ddf-N-restart".to_owned(),
            Self::DdfNContinue => "ddf-N-continue".to_owned(),
        }
    }
}

/// What a chunk of a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Data, of this number in the row, in order of the array's addresses.
    Data(u16),
    /// The sum.
    P,
    /// The weighted sum.
    Q,
}

/// Which member is what in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The member that has P.
    pub p: u16,
    /// The member that has Q.
    pub q: Option<u16>,
    members: u16,
    /// The member that has the first data, where they go round from there, and how many go round.
    round: Option<(u16, u16)>,
    counts_all: bool,
}

impl Row {
    /// The member that has the data of this number.
    #[inline]
    pub fn member(&self, data: u16) -> u16 {
        match self.round {
            Some((first, ring)) => (first + data) % ring,
            // In order of members, past P and Q.
            None => {
                let q = self.q.unwrap_or(u16::MAX);
                let mut member = data + u16::from(data >= self.p.min(q));
                member += u16::from(member >= self.p.max(q));
                member
            }
        }
    }

    /// What a member has.
    #[inline]
    pub fn role(&self, member: u16) -> Role {
        if member == self.p {
            return Role::P;
        }
        if Some(member) == self.q {
            return Role::Q;
        }
        Role::Data(match self.round {
            Some((first, ring)) => (member + ring - first) % ring,
            None => member - u16::from(self.p < member) - u16::from(self.q.is_some_and(|q| q < member)),
        })
    }

    /// Which power of the generator belongs to a member that has data, in Q. Without Q it is an order as good as any.
    #[inline]
    pub fn coefficient(&self, member: u16) -> u16 {
        let Some(q) = self.q.filter(|_| !self.counts_all) else {
            return member;
        };
        // They begin behind Q and go round, past P.
        let after_q = |member: u16| (member + self.members - q - 1) % self.members;
        after_q(member) - u16::from(after_q(self.p) < after_q(member))
    }
}

/// The shape of an array with parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parity {
    /// How parity goes round.
    pub layout: Layout,
    members: u16,
    /// Sectors in a chunk.
    chunk: u32,
    /// The same as a power of two, if it is one.
    shift: Option<u8>,
    /// Chunks of data in a row.
    data: u16,
    /// Rows of chunks.
    rows: u64,
}

impl Parity {
    /// Of members that use `member` sectors each, of which whole chunks of `chunk` sectors count.
    pub fn new(layout: Layout, members: u16, chunk: u32, member: u64) -> Result<Self, ShapeError> {
        let level = match layout {
            Layout::P(_) => Level::Raid5,
            _ => Level::Raid6,
        };
        // MD takes RAID-5 of two, which are mirrors, and RAID-6 of three from takeovers. Coefficients repeat after 255.
        let most = if layout.parities() == 2 { 255 } else { 0x7fff };
        if members <= layout.parities() || members > most {
            return Err(ShapeError::Members {
                level,
                members: members.into(),
            });
        }
        check_chunk(chunk, &[member.saturating_mul(members.into())])?;
        Ok(Self {
            layout,
            members,
            chunk,
            // At most 31.
            shift: chunk.is_power_of_two().then_some(chunk.trailing_zeros() as u8),
            data: members - layout.parities(),
            rows: member / u64::from(chunk),
        })
    }

    /// All members.
    pub const fn members(&self) -> u16 {
        self.members
    }

    /// Chunks of data in a row.
    pub const fn data(&self) -> u16 {
        self.data
    }

    /// Sectors in a chunk.
    pub const fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Length of the array in sectors.
    pub fn sectors(&self) -> u64 {
        self.rows * u64::from(self.data()) * u64::from(self.chunk)
    }

    /// Who has what in a row.
    #[inline]
    pub fn row(&self, row: u64) -> Row {
        let n = self.members;
        let turn = |ring: u16| (row % u64::from(ring)) as u16;
        let one = |rotation: Rotation, ring: u16| {
            let p = match rotation {
                Rotation::LeftAsymmetric | Rotation::LeftSymmetric => ring - 1 - turn(ring),
                Rotation::RightAsymmetric | Rotation::RightSymmetric => turn(ring),
                Rotation::ParityFirst => 0,
                Rotation::ParityLast => ring - 1,
            };
            (
                p,
                matches!(rotation, Rotation::LeftSymmetric | Rotation::RightSymmetric),
            )
        };
        let (p, q, round) = match self.layout {
            Layout::P(rotation) => {
                let (p, round) = one(rotation, n);
                (p, None, round.then_some(((p + 1) % n, n)))
            }
            Layout::QLast(rotation) => {
                let (p, round) = one(rotation, n - 1);
                (p, Some(n - 1), round.then_some(((p + 1) % (n - 1), n - 1)))
            }
            Layout::Pq(Rotation::ParityLast) => (n - 2, Some(n - 1), None),
            Layout::Pq(rotation) => {
                let (p, round) = one(rotation, n);
                (p, Some((p + 1) % n), round.then_some(((p + 2) % n, n)))
            }
            Layout::DdfZeroRestart => (turn(n), Some((turn(n) + 1) % n), None),
            Layout::DdfNRestart => {
                let p = n - 1 - (turn(n) + 1) % n;
                (p, Some((p + 1) % n), None)
            }
            Layout::DdfNContinue => {
                let p = n - 1 - turn(n);
                (p, Some((p + n - 1) % n), Some(((p + 1) % n, n)))
            }
        };
        Row {
            p,
            q,
            members: n,
            round,
            counts_all: self.layout.counts_all(),
        }
    }

    /// Where a sector of the array is. It lies below [`sectors`](Self::sectors).
    #[inline(always)]
    pub fn place(&self, sector: u64) -> Place {
        debug_assert!(sector < self.sectors());
        let chunk = u64::from(self.chunk);
        let (number, within) = match self.shift {
            Some(shift) => (sector >> shift, sector & (chunk - 1)),
            None => (sector / chunk, sector % chunk),
        };
        let (row, data) = (number / u64::from(self.data), number % u64::from(self.data));
        let member = match self.layout {
            // What nearly all have, without the rest of the row: data go round behind P and Q.
            Layout::P(Rotation::LeftSymmetric) | Layout::Pq(Rotation::LeftSymmetric) => {
                let (members, turn) = (u32::from(self.members), (row % u64::from(self.members)) as u32);
                let member = members * 2 - 1 - turn - u32::from(self.data) + data as u32;
                // Below the number of members.
                (if member >= members { member - members } else { member }) as u16
            }
            _ => self.member_of(row, data as u16),
        };
        Place {
            member,
            sector: row * chunk + within,
        }
    }

    /// Apart, so that [`place`](Self::place) is short.
    #[inline(never)]
    fn member_of(&self, row: u64, data: u16) -> u16 {
        self.row(row).member(data)
    }

    /// Which sector of the array is there, or which parity; nothing past the last row.
    #[inline]
    pub fn find(&self, place: Place) -> Option<(Role, Option<u64>)> {
        let chunk = u64::from(self.chunk);
        let (row, within) = (place.sector / chunk, place.sector % chunk);
        if row >= self.rows || place.member >= self.members {
            return None;
        }
        let role = self.row(row).role(place.member);
        let sector = match role {
            Role::Data(data) => Some((row * u64::from(self.data()) + u64::from(data)) * chunk + within),
            Role::P | Role::Q => None,
        };
        Some((role, sector))
    }
}
