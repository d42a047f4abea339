//! Writes of RAID-4, 5 and 6.
//!
//! ```text
//!   write    ──► its stripe's lock, with all that wait for it
//!            ──► for each stretch of rows in which the same chunks are written, whichever reads less:
//!                  modify       old data and old sums       sums += old + new
//!                  rebuild      the data that stay          sums anew            (all of them: no read at all)
//!                  recover      everything that is left     what is lost, then sums anew
//!            ──► note the region ──► data and sums at once
//! ```
use super::{array::State, each::each};
use crate::{Io, IoError, IoResult};
use reactor::{Buf, parity};
use spec::{
    BlockRange,
    md::parity::{Parity, Row},
};
use std::ops::Range;

/// A stretch of the rows of one stripe in which the same chunks are written.
struct Band {
    /// Where it is on each member.
    range: BlockRange,
    /// For each data chunk of the row what is written there; empty if nothing is.
    new: Vec<Buf>,
    /// For each what is there, as far as it was read.
    old: Vec<Buf>,
    p: Buf,
    q: Buf,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Only data: there are no sums to keep.
    Plain,
    Modify,
    Rebuild,
    Recover,
}

/// What a read of a write's first half is for.
enum What {
    Data(usize),
    P,
    Q,
}

impl State {
    /// A write that lies within a stripe.
    pub(crate) async fn write_stripe(&self, parity: &Parity, io: Io) -> IoResult {
        let wide = u64::from(parity.chunk()) * u64::from(parity.data());
        let (stripe, range) = (io.range.start.0 / wide, io.range);
        let ticket = self.gather.add(stripe, io);
        self.care.sequel.wait(self, stripe, wide, range).await;
        let _guard = self.locks.lock(stripe..stripe + 1).await;
        if let Some(done) = self.gather.result(ticket) {
            return done;
        }
        let mut batch = Vec::new();
        self.gather.take(stripe, &mut batch);
        let done = self.write_batch(parity, stripe, &batch).await;
        for (ticket, _) in &batch {
            self.gather.finish(*ticket, done)
        }
        self.gather.result(ticket).unwrap_or(done)
    }

    /// Stretches of rows in which the same chunks are written.
    fn bands(&self, parity: &Parity, stripe: u64, batch: &[(u64, Io)]) -> Vec<Band> {
        let (chunk, data) = (parity.chunk(), usize::from(parity.data()));
        let first = stripe * u64::from(chunk) * u64::from(parity.data());
        let mut pieces: Vec<(usize, Range<u32>, Buf)> = Vec::with_capacity(data);
        let mut cuts: Vec<u32> = Vec::with_capacity(4);
        for (_, io) in batch {
            for piece in io.range.chunks(chunk) {
                // Within a stripe: below the number of its blocks.
                let at = piece.start.0 - first;
                let (n, from) = ((at / u64::from(chunk)) as usize, (at % u64::from(chunk)) as u32);
                let rows = from..from + piece.count;
                cuts.extend([rows.start, rows.end]);
                pieces.push((n, rows, io.part(piece).data))
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        let base = stripe * u64::from(chunk);
        let band = |cut: &[u32]| {
            let [from, to] = *cut else { return None };
            let mut new = vec![Buf::empty(); data];
            // The later of two that overlap counts.
            for (n, rows, buf) in &pieces {
                if rows.start <= from && to <= rows.end {
                    new[*n] = buf.slice(self.bytes(from - rows.start)..self.bytes(to - rows.start))
                }
            }
            new.iter().any(|buf| !buf.is_empty()).then(|| Band {
                range: BlockRange::new(base + u64::from(from), to - from),
                new,
                old: vec![Buf::empty(); data],
                p: Buf::empty(),
                q: Buf::empty(),
                way: Way::Plain,
            })
        };
        cuts.windows(2).filter_map(band).collect()
    }

    /// Which way reads less.
    fn way(&self, parity: &Parity, row: &Row, band: &Band) -> Result<Way, IoError> {
        let reads = |member: u16| self.reads(member, band.range);
        let member = |n: usize| row.member(n as u16);
        let sums = usize::from(reads(row.p)) + usize::from(row.q.is_some_and(reads));
        let (mut written, mut modifies, mut rebuilds, mut lost) = (0, true, true, 0);
        for (n, new) in band.new.iter().enumerate() {
            let there = reads(member(n));
            lost += usize::from(!there);
            match new.is_empty() {
                true => rebuilds &= there,
                false => {
                    written += 1;
                    modifies &= there
                }
            }
        }
        if lost > sums {
            return Err(IoError::Medium);
        }
        let data = usize::from(parity.data());
        let writes = self.writes_sums(row);
        // Sums that may be wrong are not to be built upon.
        let doubtful = self.intent.is_needed(&super::intent::range(band.range));
        Ok(match (modifies, rebuilds) {
            _ if !writes => Way::Plain,
            // Where two sums are kept, everything may be less than the old of a few and both.
            (true, false) if sums > 0 && written + sums <= data => Way::Modify,
            (true, true) if written + sums < data - written && sums > 0 && !doubtful => Way::Modify,
            (_, true) => Way::Rebuild,
            (_, false) => Way::Recover,
        })
    }

    fn writes_sums(&self, row: &Row) -> bool {
        let writes = |member: u16| self.members[usize::from(member)].writes();
        writes(row.p) || row.q.is_some_and(writes)
    }

    /// Does all these writes, of a stripe that the caller has locked.
    async fn write_batch(&self, parity: &Parity, stripe: u64, batch: &[(u64, Io)]) -> IoResult {
        let row = parity.row(stripe);
        let mut bands = self.bands(parity, stripe, batch);
        self.stripes.set(self.stripes.get() + 1);
        let mut read = false;
        for band in &mut bands {
            band.way = self.way(parity, &row, band)?
        }
        read |= self.read_old(parity, &row, &mut bands).await?;
        if !read {
            self.full_stripes.set(self.full_stripes.get() + 1)
        }
        bands.iter_mut().for_each(|band| self.sum(parity, &row, band));
        let fua = batch.iter().any(|(_, io)| io.fua);
        let each = || bands.iter().map(|band| super::intent::range(band.range));
        let (Some(first), Some(last)) = (each().map(|rows| rows.start).min(), each().map(|rows| rows.end).max()) else {
            return Ok(());
        };
        let rows = first..last;
        self.intent.begin(self, rows.clone()).await?;
        let writes = bands.iter().flat_map(|band| {
            let data = band.new.iter().enumerate().filter(|(_, new)| !new.is_empty());
            let data = data.map(|(n, new)| (row.member(n as u16), new));
            let p = (!band.p.is_empty()).then_some((row.p, &band.p));
            let q = row.q.filter(|_| !band.q.is_empty()).map(|q| (q, &band.q));
            data.chain(p).chain(q).map(|(member, buf)| {
                let io = Io::write(band.range, buf.clone());
                (member, Io { fua, ..io })
            })
        });
        let done = self.to_members(writes).await;
        self.intent.end(&rows);
        done
    }

    /// Reads what the new sums are made of. True if anything was read.
    async fn read_old(&self, parity: &Parity, row: &Row, bands: &mut [Band]) -> Result<bool, IoError> {
        let mut asked: Vec<(usize, u16, What)> = Vec::new();
        for (at, band) in bands.iter_mut().enumerate() {
            let len = self.bytes(band.range.count);
            let keeps = match band.way {
                Way::Plain | Way::Recover => continue,
                Way::Modify => false,
                Way::Rebuild => true,
            };
            for n in 0..band.new.len() {
                if band.new[n].is_empty() == keeps {
                    band.old[n] = Buf::alloc(len);
                    asked.push((at, row.member(n as u16), What::Data(n)))
                }
            }
            if band.way == Way::Modify {
                if self.reads(row.p, band.range) {
                    band.p = Buf::alloc(len);
                    asked.push((at, row.p, What::P))
                }
                if let Some(q) = row.q.filter(|q| self.reads(*q, band.range)) {
                    band.q = Buf::alloc(len);
                    asked.push((at, q, What::Q))
                }
            }
        }
        let send = |(number, (at, member, what)): (usize, &(usize, u16, What))| {
            let band = &bands[*at];
            let into = match what {
                What::Data(n) => &band.old[*n],
                What::P => &band.p,
                What::Q => &band.q,
            };
            let disk = self.data(*member)?;
            Some((number, disk.submit(Io::read(band.range, into.clone()).careful())))
        };
        let mut failed: Vec<(usize, u16, IoError)> = Vec::new();
        each(asked.iter().enumerate().filter_map(send), |number, error| {
            let (at, member, _) = &asked[number];
            failed.push((*at, *member, error))
        })
        .await;
        for (at, member, _) in &asked {
            // Given up while we read: nothing may have come of it.
            if !self.reads(*member, bands[*at].range) {
                failed.push((*at, *member, IoError::Gone))
            }
        }
        for (at, band) in bands.iter_mut().enumerate() {
            let bad = failed.iter().filter(|(of, ..)| *of == at);
            let mut bad: Vec<(u16, IoError)> = bad.map(|(_, member, error)| (*member, *error)).collect();
            if bad.is_empty() && band.way != Way::Recover {
                continue;
            }
            let range = band.range;
            let strips = self.reconstruct(parity, row, range, &mut bad).await?;
            // Data that are written anyway are mended by that, and sums are made anew.
            bad.retain(|(member, _)| {
                (0..band.new.len()).any(|n| row.member(n as u16) == *member && band.new[n].is_empty())
            });
            self.mend_all(row, range, &strips, bad).await?;
            band.way = Way::Recover;
            for (n, old) in band.old.iter_mut().enumerate() {
                *old = strips.data[usize::from(row.coefficient(row.member(n as u16)))].clone()
            }
        }
        Ok(!asked.is_empty() || bands.iter().any(|band| band.way == Way::Recover))
    }

    /// The sums of a band, once everything they are made of is there.
    fn sum(&self, parity: &Parity, row: &Row, band: &mut Band) {
        if band.way == Way::Plain || !self.writes_sums(row) {
            band.p = Buf::empty();
            band.q = Buf::empty();
            return;
        }
        let coefficient = |n: usize| usize::from(row.coefficient(row.member(n as u16)));
        if band.way == Way::Modify {
            for (n, (old, new)) in band.old.iter().zip(&band.new).enumerate() {
                if new.is_empty() {
                    continue;
                }
                let p = (!band.p.is_empty()).then_some(&band.p);
                match (p, band.q.is_empty()) {
                    (p, false) => parity::update(p, &band.q, coefficient(n), old, new),
                    (Some(p), true) => parity::xor_in(p, &[old.clone(), new.clone()]),
                    (None, true) => (),
                }
            }
            return;
        }
        let mut data = vec![Buf::empty(); self.slots(parity)];
        for (n, new) in band.new.iter().enumerate() {
            data[coefficient(n)] = if new.is_empty() {
                band.old[n].clone()
            } else {
                new.clone()
            }
        }
        let len = self.bytes(band.range.count);
        band.p = Buf::alloc(len);
        band.q = row.q.map_or_else(Buf::empty, |_| Buf::alloc(len));
        let stripe = parity::Stripe {
            data: &data,
            p: Some(&band.p),
            q: row.q.map(|_| &band.q),
        };
        stripe.generate()
    }
}
