//! What an array does with its members, and where that puts each block.
use serde::{Deserialize, Serialize};
use spec::md::{Level, parity, parity::Parity, raid10, raid10::Raid10};

/// The level of an array with what belongs to it. Numbers of layouts are Linux MD's ([`spec::md`]); chunks are in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "level", rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// Every member holds everything.
    Raid1,
    /// Chunks in turn over all members but the last, which has their sum.
    Raid4 {
        /// Blocks in a chunk.
        chunk: u32,
    },
    /// The sum goes round.
    Raid5 {
        /// How: 2 is left-symmetric, what everybody has.
        layout: u32,
        /// Blocks in a chunk.
        chunk: u32,
    },
    /// Two sums go round.
    Raid6 {
        /// How: 2 is left-symmetric.
        layout: u32,
        /// Blocks in a chunk.
        chunk: u32,
    },
    /// Chunks in turn, each several times.
    Raid10 {
        /// How: 258 (0x102) is near with two copies.
        layout: u32,
        /// Blocks in a chunk.
        chunk: u32,
    },
}

impl Shape {
    /// The word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Shape::Raid1 => "raid1",
            Shape::Raid4 { .. } => "raid4",
            Shape::Raid5 { .. } => "raid5",
            Shape::Raid6 { .. } => "raid6",
            Shape::Raid10 { .. } => "raid10",
        }
    }

    /// Blocks in a chunk; mirrors have none.
    pub const fn chunk(&self) -> Option<u32> {
        match self {
            Shape::Raid1 => None,
            Shape::Raid4 { chunk }
            | Shape::Raid5 { chunk, .. }
            | Shape::Raid6 { chunk, .. }
            | Shape::Raid10 { chunk, .. } => Some(*chunk),
        }
    }

    /// Where everything is on so many members that give `used` blocks each. Says in words what does not fit together.
    pub fn places(&self, members: usize, used: u64) -> Result<Places, String> {
        let count = u16::try_from(members).map_err(|_| format!("{members} members are more than 65535"))?;
        let parity = |level, layout, chunk| {
            let layout = parity::Layout::from_number(level, layout)?;
            Parity::new(layout, count, chunk, used)
        };
        let places = match *self {
            Shape::Raid1 if members == 0 => return Err("a mirror of nothing".into()),
            Shape::Raid1 => Ok(Places::Mirror {
                blocks: used,
                members: count,
            }),
            Shape::Raid4 { chunk } => parity(Level::Raid4, 0, chunk).map(|parity| Places::Parity { parity, used }),
            Shape::Raid5 { layout, chunk } => {
                parity(Level::Raid5, layout, chunk).map(|parity| Places::Parity { parity, used })
            }
            Shape::Raid6 { layout, chunk } => {
                parity(Level::Raid6, layout, chunk).map(|parity| Places::Parity { parity, used })
            }
            Shape::Raid10 { layout, chunk } => raid10::Layout::from_number(layout)
                .and_then(|layout| Raid10::new(layout, count, chunk, used))
                .map(Places::Raid10),
        };
        let places = places.map_err(|error| error.to_string())?;
        match places.blocks() {
            0 => Err(format!("members of {used} blocks have no room for a chunk")),
            _ => Ok(places),
        }
    }
}

/// Where everything is. Addresses are in blocks; those of members count from where their data begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// At the same place on each member.
    Mirror {
        /// So many.
        blocks: u64,
        /// On so many members.
        members: u16,
    },
    /// See [`spec::md::raid10`].
    Raid10(Raid10),
    /// See [`spec::md::parity`].
    Parity {
        /// Rows of chunks.
        parity: Parity,
        /// Blocks that each member gives, of which whole chunks count.
        used: u64,
    },
}

impl Places {
    /// Length of the array.
    pub fn blocks(&self) -> u64 {
        match self {
            Places::Mirror { blocks, .. } => *blocks,
            Places::Raid10(raid10) => raid10.sectors(),
            Places::Parity { parity, .. } => parity.sectors(),
        }
    }

    /// The same of members that give `used` blocks each. Says in words why that cannot be.
    pub(super) fn with_used(&self, used: u64) -> Result<Self, String> {
        let words = |error: spec::md::ShapeError| error.to_string();
        match self {
            Places::Mirror { members, .. } => Ok(Places::Mirror {
                blocks: used,
                members: *members,
            }),
            Places::Parity { parity, .. } => {
                let parity = Parity::new(parity.layout, parity.members(), parity.chunk(), used).map_err(words)?;
                Ok(Places::Parity { parity, used })
            }
            Places::Raid10(raid10) if raid10.layout.far > 1 && !raid10.layout.offset => {
                Err("with far copies everything would be elsewhere: a longer array has to be made anew".into())
            }
            Places::Raid10(raid10) => Raid10::new(raid10.layout, raid10.members(), raid10.chunk(), used)
                .map(Places::Raid10)
                .map_err(words),
        }
    }

    /// How many members there are.
    pub fn members(&self) -> u16 {
        match self {
            Places::Mirror { members, .. } => *members,
            Places::Raid10(raid10) => raid10.members(),
            Places::Parity { parity, .. } => parity.members(),
        }
    }

    /// What an I/O that lies within is one piece; nothing if everything is.
    pub fn chunk(&self) -> Option<u32> {
        match self {
            Places::Mirror { .. } => None,
            Places::Raid10(raid10) => Some(raid10.chunk()),
            Places::Parity { parity, .. } => Some(parity.chunk()),
        }
    }

    /// The size of I/O that the array likes best, in blocks: a whole row, or 0.
    pub fn optimal(&self) -> u32 {
        match self {
            Places::Mirror { .. } => 0,
            Places::Raid10(raid10) => {
                let wide = u32::from(raid10.members()) / u32::from(raid10.layout.near.max(1));
                raid10.chunk().saturating_mul(wide)
            }
            Places::Parity { parity, .. } => parity.chunk().saturating_mul(parity.data().into()),
        }
    }

    /// Length of the space in which it is noted what may differ between members: the array's addresses, or with parity the members'.
    pub fn span(&self) -> u64 {
        match self {
            Places::Mirror { .. } | Places::Raid10(_) => self.blocks(),
            Places::Parity { used, .. } => *used,
        }
    }

    /// Whether all blocks can still be had when these members are lost.
    pub fn survives(&self, lost: impl Fn(u16) -> bool) -> bool {
        let members = self.members();
        match self {
            Places::Mirror { .. } => (0..members).any(|member| !lost(member)),
            Places::Parity { parity, .. } => {
                let gone = (0..members).filter(|member| lost(*member)).count();
                gone <= usize::from(parity.layout.parities())
            }
            // Copies stand beside each other; where they begin follows from the near ones (`_enough` in MD's raid10.c).
            Places::Raid10(raid10) => {
                let (mut step, mut rest) = (members, u16::from(raid10.layout.near));
                while rest != 0 {
                    (step, rest) = (rest, step % rest)
                }
                let copies = raid10.layout.copies();
                let here = |first: u16| (0..copies).any(|copy| !lost((first + copy) % members));
                (0..members).step_by(step.max(1).into()).all(here)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_lost() {
        let survives = |shape: Shape, members: usize, lost: &[u16]| {
            let places = shape.places(members, 1000).unwrap();
            places.survives(|member| lost.contains(&member))
        };
        let near = Shape::Raid10 {
            layout: 0x102,
            chunk: 8,
        };
        assert!(survives(Shape::Raid1, 3, &[0, 2]) && !survives(Shape::Raid1, 2, &[0, 1]));
        assert!(survives(near, 4, &[0, 2]) && survives(near, 4, &[1, 3]));
        assert!(!survives(near, 4, &[0, 1]) && !survives(near, 4, &[2, 3]));
        assert!(survives(near, 3, &[1]) && !survives(near, 3, &[1, 2]) && !survives(near, 3, &[0, 2]));
        let six = Shape::Raid6 { layout: 2, chunk: 8 };
        assert!(survives(six, 5, &[0, 4]) && !survives(six, 5, &[0, 1, 2]));
        assert!(!survives(Shape::Raid4 { chunk: 8 }, 3, &[0, 1]));
    }

    #[test]
    fn impossible_shapes_are_refused_in_words() {
        let refused = |shape: Shape, members, used| shape.places(members, used).unwrap_err();
        assert!(refused(Shape::Raid5 { layout: 9, chunk: 8 }, 3, 100).contains("layout"));
        assert!(refused(Shape::Raid6 { layout: 2, chunk: 8 }, 2, 100).contains("2 members"));
        assert!(refused(Shape::Raid5 { layout: 2, chunk: 8 }, 3, 7).contains("no room"));
        assert!(refused(Shape::Raid1, 0, 7).contains("nothing"));
    }
}
