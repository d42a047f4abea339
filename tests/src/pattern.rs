//! Data that can be computed again: every byte follows from a seed, a generation and its place.

/// A small generator (SplitMix64); good enough to spread I/O and to fill blocks.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream that only depends on `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A fresh seed, printed so that a failure can be told again: `ASHLAR_SEED` replays it.
    pub fn from_environment() -> Self {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as u64);
        let seed = std::env::var("ASHLAR_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(now);
        eprintln!("ASHLAR_SEED={seed}");
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// Random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

/// One block of `len` bytes as generation `generation` of block `number` would be written. The first eight bytes are the
/// generation itself; generation 0 is a block of zeroes, never written.
pub fn block(number: u64, generation: u64, len: usize) -> Vec<u8> {
    if generation == 0 {
        return vec![0; len];
    }
    let mut data = generation.to_le_bytes().to_vec();
    data.extend(Random::new(number.wrapping_mul(0x1_0000_0001) ^ generation.rotate_left(40)).bytes(len - 8));
    data
}

/// The generation that `data` is, if it is one of block `number`, whole and unmixed.
pub fn generation(number: u64, data: &[u8]) -> Option<u64> {
    let found = u64::from_le_bytes(data.get(..8)?.try_into().ok()?);
    (block(number, found, data.len()) == data).then_some(found)
}
