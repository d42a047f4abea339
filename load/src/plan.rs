//! What a run does, whatever the protocol: places and kinds of commands, as a fixed pseudo-random walk, so that runs are
//! alike.
use std::time::Duration;

/// The load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Commands under way.
    pub depth: u16,
    /// Bytes of a command.
    pub size: u32,
    /// Percent of commands that read; the rest write.
    pub reads: u32,
    /// One after the other instead of at random places.
    pub sequential: bool,
    /// How long.
    pub time: Duration,
}

/// The walk over a disk.
#[derive(Debug)]
pub struct Plan {
    state: u64,
    next: u64,
    places: u64,
    blocks: u32,
    reads: u32,
    sequential: bool,
}

impl Plan {
    /// Over a disk of `blocks` blocks of `block` bytes; `None` if the commands do not fit it.
    pub fn new(load: &Load, blocks: u64, block: u32) -> Option<Self> {
        let per_command = load
            .size
            .checked_div(block)
            .filter(|&n| n > 0 && n * block == load.size)?;
        let places = blocks / u64::from(per_command);
        (places > 0).then_some(Self {
            state: 0x9e37_79b9_7f4a_7c15,
            next: 0,
            places,
            blocks: per_command,
            reads: load.reads,
            sequential: load.sequential,
        })
    }

    /// Blocks of a command.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// The next command: its first block, and whether it reads.
    pub fn step(&mut self) -> (u64, bool) {
        let place = if self.sequential {
            self.next % self.places
        } else {
            self.random() % self.places
        };
        self.next += 1;
        let read = self.reads >= 100 || (self.reads > 0 && self.random() % 100 < u64::from(self.reads));
        (place * u64::from(self.blocks), read)
    }
}

/// The bytes that writes carry.
pub fn payload(size: u32) -> Vec<u8> {
    (0..size)
        .map(|i| (i.wrapping_mul(31).wrapping_add(i / 256)) as u8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stay_on_the_disk_and_mix_as_asked() {
        let load = Load {
            depth: 1,
            size: 4096,
            reads: 70,
            sequential: false,
            time: Duration::ZERO,
        };
        let mut plan = Plan::new(&load, 1001, 512).unwrap();
        let mut reads = 0;
        for _ in 0..10_000 {
            let (lba, read) = plan.step();
            assert!(lba % 8 == 0 && lba + 8 <= 1001);
            reads += u32::from(read);
        }
        assert!((6_700..7_300).contains(&reads), "{reads}");
        let mut walk = Plan::new(
            &Load {
                sequential: true,
                ..load.clone()
            },
            24,
            512,
        )
        .unwrap();
        assert_eq!([0, 1, 2, 3].map(|_| walk.step().0), [0, 8, 16, 0]);
        assert!(Plan::new(&load, 7, 512).is_none() && Plan::new(&load, 99, 8192).is_none());
    }
}
