//! Members that give more than before: because all of them are larger than those that were there when the array was made, or have grown.
//!
//! ```text
//!   bits of what is new, or a log that says so ──► superblocks with the new length, which say that members may differ there ──► compare it ──► hosts are told
//! ```
//!
//! A crash leaves the old length or the new one. What lies where does not change, so hosts go on meanwhile.
use super::array::State;
use crate::raid::{Parts, Work};
use spec::md::SECTOR;

impl State {
    /// Lets each member give so many blocks, or as many as all have. Says in words why not.
    pub(super) async fn grow(&self, used: Option<u64>) -> Result<(), String> {
        let places = self.places();
        let now = self.used.get();
        let Some(record) = self.record.as_ref().filter(|_| !self.read_only) else {
            return Err("an array without superblocks is as long as it was made".into());
        };
        if !self.is_ready() || !self.is_whole() || self.members.iter().any(|member| member.state().to().is_some()) {
            return Err("it lacks a member, or one is not up to date: wait for the rebuild, or give it another".into());
        }
        let per = u64::from(self.block_size()) / SECTOR;
        let mut rooms = Vec::new();
        for (member, place) in self.seats().iter().zip(0..) {
            let (start, end) = record
                .room(place)
                .ok_or("metadata 0.90 is left as long as it was made: use mdadm to make it 1.0")?;
            let whole = member.whole().map_or(0, |disk| disk.blocks() * per);
            rooms.push(end.unwrap_or(whole).min(whole).saturating_sub(start))
        }
        let (place, least) = (0..).zip(&rooms).min_by_key(|(_, room)| **room).unwrap_or((0, &0));
        let chunk = u64::from(places.chunk().unwrap_or(1));
        let used = used.unwrap_or(least / per) / chunk * chunk;
        if used > least / per {
            return Err(format!(
                "the member in place {place} has room for {} bytes, and {} are asked for",
                least * SECTOR,
                used * per * SECTOR
            ));
        }
        if used <= now / chunk * chunk {
            return Err(format!(
                "each member gives {} bytes already, and the one in place {place} has room for {}: arrays only grow",
                now * per * SECTOR,
                least * SECTOR
            ));
        }
        let grown = places.with_used(used)?;
        self.intent.grow(places.span(), grown.span(), per)?;
        // At once: whoever compares what may differ from now on must see where it is.
        self.used.set(used);
        self.set_places(grown);
        self.lengthen();
        let failed = |_| "no member took it: its metadata could not be written".to_owned();
        self.intent.write_whole(self).await.map_err(failed)?;
        self.log.begin_anew(self).await.map_err(failed)?;
        record.grow(used * per, &rooms);
        record.update(self).await.map_err(failed)?;
        tracing::info!(array = self.name, blocks = grown.blocks(), "is longer from now on");
        self.ask(Work::Resync);
        self.tell();
        Ok(())
    }

    /// Members as they were built may be as short as the array was.
    pub(super) fn lengthen(&self) {
        let (used, per) = (self.used.get(), u64::from(self.block_size()) / SECTOR);
        for (member, at) in self.members.iter().zip(0..) {
            let (Some(data), Some(whole)) = (member.data(), member.whole()) else {
                continue;
            };
            if data.blocks() >= used {
                continue;
            }
            let start = self.record.as_ref().and_then(|record| record.room(at));
            if let Some(data) = start.and_then(|(start, _)| whole.view(start / per, used)) {
                member.set_parts(Some(Parts { data, whole }))
            }
        }
    }
}
