use super::{
    child::Rights,
    ledger::{Ledger, PoolConfig, Share},
    sync::Arc,
};

/// A base pool without objects.
#[derive(Clone)]
pub struct Base(Arc<Ledger>);

/// A child which is open already and waits for its core.
pub struct Seat(Arc<Ledger>, (u64, Arc<Share>), PoolConfig);

impl Base {
    pub fn new(order: u64, total: u32) -> Base {
        Base(Arc::new(Ledger::new("model", order, total)))
    }
    pub fn child(&self, deadlock: u32, bottleneck: u32, quota: u32) -> Seat {
        let config = PoolConfig {
            deadlock,
            bottleneck,
            quota: Some(quota),
        };
        Seat(self.0.clone(), self.0.open("child", config).unwrap(), config)
    }
    pub fn check(&self) {
        self.0.check()
    }
    pub fn free(&self) -> u32 {
        self.0.stats().free
    }
}
impl Seat {
    pub fn take(self) -> Rights {
        Rights::of(&self.0, self.1, self.2)
    }
}
