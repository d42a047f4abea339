//! Writes of RAID-4, 5 and 6.
//!
//! ```text
//!   write    ──► its stripe's lock, with all that wait for it
//!            ──► for each stretch of rows in which the same chunks are written, whichever reads less:
//!                  modify       old data and old sums       sums += old + new
//!                  rebuild      the data that stay          sums anew            (all of them: no read at all)
//!                  recover      everything that is left     what is lost, then sums anew
//!            ──► note the region ──► the [log](super::log), if there is one ──► data and sums at once
//! ```
use super::{array::State, each::each, log::Bound, member::MemberState, pool::Pool};
use crate::{Io, IoError, IoResult};
use reactor::{Buf, parity};
use spec::{
    BlockRange,
    md::parity::{Parity, Row},
};
use std::ops::{Deref, DerefMut, Range};

/// Bands of a step at most.
const STEP: usize = 64;

/// A stretch of the rows of one stripe in which the same chunks are written.
#[derive(Clone)]
pub(crate) struct Band {
    /// Where it is on each member.
    pub range: BlockRange,
    /// For each data chunk of the row what is written there; empty if nothing is.
    pub new: Vec<Buf>,
    /// For each what is there, as far as it was read.
    old: Vec<Buf>,
    pub p: Buf,
    q: Buf,
    way: Way,
}

impl Band {
    /// What is written to which members.
    pub fn strips<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (u16, &'a Buf)> {
        let data = self.new.iter().enumerate().filter(|(_, new)| !new.is_empty());
        let data = data.map(|(n, new)| (row.member(n as u16), new));
        let p = (!self.p.is_empty()).then_some((row.p, &self.p));
        let q = row.q.filter(|_| !self.q.is_empty()).map(|q| (q, &self.q));
        data.chain(p).chain(q)
    }

    /// Rows of which only the sums are written, made of data that are there.
    pub fn of_sums(range: BlockRange, data: Vec<Buf>, p: Buf) -> Band {
        Band {
            range,
            old: vec![Buf::empty(); data.len()],
            new: data,
            p,
            q: Buf::empty(),
            way: Way::Rebuild,
        }
    }

    /// Some of its rows and chunks.
    fn part(&self, run: &Range<usize>, at: u32, count: u32, block: usize) -> Band {
        let rows = at as usize * block..(at + count) as usize * block;
        let new = self
            .new
            .iter()
            .enumerate()
            .map(|(n, new)| match run.contains(&n) && !new.is_empty() {
                true => new.slice(rows.clone()),
                false => Buf::empty(),
            });
        Band {
            range: BlockRange::new(self.range.start.0 + u64::from(at), count),
            new: new.collect(),
            old: self.old.clone(),
            p: Buf::empty(),
            q: Buf::empty(),
            way: self.way,
        }
    }
}

/// What writes need for a moment, kept for the next ones.
#[derive(Default)]
pub(crate) struct Scratch {
    batch: Pool<(u64, Io)>,
    pieces: Pool<Piece>,
    cuts: Pool<u32>,
    bands: Pool<Band>,
    bufs: Pool<Buf>,
    asked: Pool<Asked>,
}

/// Bands whose vectors go back when this is dropped.
struct Bands<'a> {
    scratch: &'a Scratch,
    all: Vec<Band>,
}

impl Deref for Bands<'_> {
    type Target = [Band];
    fn deref(&self) -> &[Band] {
        &self.all
    }
}

impl DerefMut for Bands<'_> {
    fn deref_mut(&mut self) -> &mut [Band] {
        &mut self.all
    }
}

impl Drop for Bands<'_> {
    fn drop(&mut self) {
        for band in self.all.drain(..) {
            self.scratch.bufs.back(band.new);
            self.scratch.bufs.back(band.old)
        }
        self.scratch.bands.back(std::mem::take(&mut self.all))
    }
}

/// A part of a write: for which data chunk of the row, in which of its rows, what.
type Piece = (usize, Range<u32>, Buf);
/// A read of a write's first half: for which band, of which member, what for.
type Asked = (usize, u16, What);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Only data: there are no sums to keep.
    Plain,
    Modify,
    Rebuild,
    Recover,
}

/// What came of bands that were to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    All,
    /// Members are others than when they were planned.
    Otherwise,
    /// Something of their rows cannot be read: not all of it, perhaps.
    Narrower,
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
        let mut batch = self.scratch.batch.lend();
        self.gather.take(stripe, &mut batch);
        let done = self.write_batch(parity, stripe, &batch).await;
        for (ticket, _) in batch.iter() {
            self.gather.finish(*ticket, done)
        }
        self.gather.result(ticket).unwrap_or(done)
    }

    /// Stretches of rows in which the same chunks are written; `narrow` ones, of a block, where something cannot be read.
    fn bands(&self, parity: &Parity, stripe: u64, batch: &[(u64, Io)], narrow: bool) -> Bands<'_> {
        let (chunk, data) = (parity.chunk(), usize::from(parity.data()));
        let first = stripe * u64::from(chunk) * u64::from(parity.data());
        let scratch = &self.scratch;
        let (mut pieces, mut cuts) = (scratch.pieces.lend(), scratch.cuts.lend());
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
        if narrow {
            cuts.extend(0..chunk)
        }
        cuts.sort_unstable();
        cuts.dedup();
        let base = stripe * u64::from(chunk);
        let mut bands = Bands {
            scratch,
            all: scratch.bands.take(),
        };
        for cut in cuts.windows(2) {
            let [from, to] = *cut else { continue };
            let mut new = scratch.bufs.take();
            new.resize(data, Buf::empty());
            // The later of two that overlap counts.
            for (n, rows, buf) in pieces.iter() {
                if rows.start <= from && to <= rows.end {
                    new[*n] = buf.slice(self.bytes(from - rows.start)..self.bytes(to - rows.start))
                }
            }
            if new.iter().all(Buf::is_empty) {
                scratch.bufs.back(new);
                continue;
            }
            let mut old = scratch.bufs.take();
            old.resize(data, Buf::empty());
            bands.all.push(Band {
                range: BlockRange::new(base + u64::from(from), to - from),
                new,
                old,
                p: Buf::empty(),
                q: Buf::empty(),
                way: Way::Plain,
            })
        }
        bands
    }

    /// Which way reads less.
    fn way(&self, parity: &Parity, row: &Row, band: &Band) -> Way {
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
            return Way::Recover;
        }
        let data = usize::from(parity.data());
        let writes = self.writes_sums(row);
        // Sums that may be wrong are not to be built upon.
        let doubtful = self.intent.is_needed(&super::intent::range(band.range));
        // A sum that is written and cannot be read is made of everything: its member is on its way, and may have passed here already.
        let blind = |sum: u16| self.members[usize::from(sum)].writes() && !reads(sum);
        modifies &= !blind(row.p) && !row.q.is_some_and(blind);
        match (modifies, rebuilds) {
            _ if !writes => Way::Plain,
            // Where two sums are kept, everything may be less than the old of a few and both.
            (true, false) if sums > 0 && written + sums <= data => Way::Modify,
            (true, true) if written + sums < data - written && sums > 0 && !doubtful => Way::Modify,
            (_, true) => Way::Rebuild,
            (_, false) => Way::Recover,
        }
    }

    fn writes_sums(&self, row: &Row) -> bool {
        let writes = |member: u16| self.members[usize::from(member)].writes();
        writes(row.p) || row.q.is_some_and(writes)
    }

    /// Does all these writes, of a stripe that the caller has locked.
    async fn write_batch(&self, parity: &Parity, stripe: u64, batch: &[(u64, Io)]) -> IoResult {
        let row = parity.row(stripe);
        self.stripes.set(self.stripes.get() + 1);
        let fua = batch.iter().any(|(_, io)| io.fua);
        let (mut read, mut narrow) = (false, false);
        // Once more if a member was lost meanwhile: then others have to be logged, or in other steps. Or if something cannot be read: then no more is given up than has to be.
        loop {
            let mut bands = self.bands(parity, stripe, batch, narrow);
            let bound = self.log.bound(self, parity, &row);
            let mut written = Written::All;
            match bound {
                None => {
                    written = self
                        .write_bands(parity, &row, &mut bands, bound, fua, &mut read)
                        .await?
                }
                Some(limit) => {
                    for mut step in self.bounded(&row, &bands, limit) {
                        written = self.write_bands(parity, &row, &mut step, bound, fua, &mut read).await?;
                        if written != Written::All {
                            break;
                        }
                    }
                }
            }
            match written {
                Written::All => break,
                Written::Otherwise => (),
                Written::Narrower => narrow = true,
            }
        }
        if !read {
            self.full_stripes.set(self.full_stripes.get() + 1)
        }
        Ok(())
    }

    /// Writes bands of one row, or says that they have to be planned anew.
    async fn write_bands(
        &self,
        parity: &Parity,
        row: &Row,
        bands: &mut [Band],
        bound: Option<Bound>,
        fua: bool,
        read: &mut bool,
    ) -> Result<Written, IoError> {
        let lost = self.lost();
        for band in bands.iter_mut() {
            band.way = self.way(parity, row, band)
        }
        match self.read_old(parity, row, bands).await? {
            Some(some) => *read |= some,
            None => {
                *read = true;
                return Ok(Written::Narrower);
            }
        }
        bands.iter_mut().for_each(|band| self.sum(parity, row, band));
        let each = || bands.iter().map(|band| super::intent::range(band.range));
        let (Some(first), Some(last)) = (each().map(|rows| rows.start).min(), each().map(|rows| rows.end).max()) else {
            return Ok(Written::All);
        };
        let rows = first..last;
        self.intent.begin(self, rows.clone()).await?;
        let done = match self.log.enter(self, parity, row, bands, bound).await {
            Ok(None) => Ok(Written::Otherwise),
            Ok(Some(held)) => {
                let writes = bands.iter().flat_map(|band| {
                    band.strips(row).map(|(member, buf)| {
                        let io = Io::write(band.range, buf.clone());
                        (member, Io { fua, ..io })
                    })
                });
                // Where somebody lacks something, a member that is lost meanwhile may have been the only one to get what was written.
                let lacks = |rows: &Range<u64>| self.members.iter().any(|member| member.lacks(rows.clone()));
                let done = self.to_members_held(writes, held).await;
                done.map(|()| match self.lost() != lost && lacks(&rows) {
                    true => Written::Otherwise,
                    false => Written::All,
                })
            }
            Err(error) => Err(error),
        };
        self.intent.end(&rows);
        done
    }

    /// What is written in which order: steps that are no larger than the log allows.
    fn bounded(&self, row: &Row, bands: &[Band], bound: Bound) -> Vec<Vec<Band>> {
        let mut steps: Vec<(u32, Vec<Band>)> = Vec::new();
        for band in bands {
            let all = 0..band.new.len();
            let runs = if bound.runs {
                self.runs(row, band)
            } else {
                Vec::from([all])
            };
            // Runs of the same rows one after the other: the sum of each is made from what the one before left.
            let mut from = 0;
            for run in runs {
                // There is nothing to log of rows that are written as a whole but that they are.
                let whole = bound.runs && run.len() == band.new.len();
                let (mut at, mut last) = (0, from);
                while at < band.range.count {
                    let left = band.range.count - at;
                    let count = if whole { left } else { bound.rows.min(left) };
                    let weighs = if whole { 0 } else { count };
                    let fits = |(rows, bands): &(u32, Vec<Band>)| rows + weighs <= bound.rows && bands.len() < STEP;
                    let step = match steps.get(from..).and_then(|later| later.iter().position(fits)) {
                        Some(step) => from + step,
                        None => {
                            steps.push((0, Vec::new()));
                            steps.len() - 1
                        }
                    };
                    steps[step].0 += weighs;
                    steps[step].1.push(band.part(&run, at, count, self.bytes(1)));
                    last = last.max(step);
                    at += count
                }
                from = last + 1
            }
        }
        steps.into_iter().map(|(_, bands)| bands).collect()
    }

    /// Chunks of a band that are written beside each other, and one whose member is missing behind them by itself.
    fn runs(&self, row: &Row, band: &Band) -> Vec<Range<usize>> {
        // As it would be after a power cut.
        let there = |n: usize| {
            let member = &self.members[usize::from(row.member(n as u16))];
            let rows = super::intent::range(band.range);
            match member.durable_state() {
                MemberState::Rebuilding { to } | MemberState::Returning { to } => rows.end <= to,
                _ => member.reads(rows.start, rows.end),
            }
        };
        let (mut runs, mut alone): (Vec<Range<usize>>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
        for (n, new) in band.new.iter().enumerate() {
            match (new.is_empty(), there(n)) {
                (true, _) => (),
                (false, false) => alone.push(n..n + 1),
                (false, true) => match runs.last_mut() {
                    Some(run) if run.end == n => run.end += 1,
                    _ => runs.push(n..n + 1),
                },
            }
        }
        runs.append(&mut alone);
        runs
    }

    /// Reads what the new sums are made of. True if anything was read; nothing if something of a band cannot be, that is not as small as can be.
    async fn read_old(&self, parity: &Parity, row: &Row, bands: &mut [Band]) -> Result<Option<bool>, IoError> {
        let mut asked = self.scratch.asked.lend();
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
        let send = |(number, (at, member, what)): (usize, &Asked)| {
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
        for (at, member, _) in asked.iter() {
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
            let strips = match self.reconstruct(parity, row, range, &mut bad).await {
                Err(IoError::Medium) if range.count > 1 => return Ok(None),
                Err(IoError::Medium) if self.does_without_sums(row, band).await? => {
                    band.way = Way::Plain;
                    continue;
                }
                strips => strips?,
            };
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
        Ok(Some(
            !asked.is_empty() || bands.iter().any(|band| band.way == Way::Recover),
        ))
    }

    /// The sums of a band cannot be made, because nobody can read something of its rows. Those who have sums lack them from now on; false if that does not do, for
    /// there is nobody else who gets what is written and will have it after a power cut as well.
    async fn does_without_sums(&self, row: &Row, band: &Band) -> Result<bool, IoError> {
        let mut written = band.new.iter().enumerate().filter(|(_, new)| !new.is_empty());
        let end = band.range.start.0 + u64::from(band.range.count);
        let keeps = |n: usize| {
            let member = &self.members[usize::from(row.member(n as u16))];
            // A rebuild that comes there finds that it cannot be made.
            member.writes() && member.durable_state().to().is_none_or(|to| end <= to)
        };
        if !written.all(|(n, _)| keeps(n)) {
            return Ok(false);
        }
        let mut new = false;
        let sums = [Some(row.p), row.q].into_iter().flatten();
        // Who is about to have the place of a sum must not take the old one for it.
        for sum in sums.flat_map(|sum| [sum, self.behind(sum)]) {
            if !self.members[usize::from(sum)].writes() || self.lacks_all(sum, band.range) {
                continue;
            }
            match (self.lack(sum, band.range).await, self.replaces(sum)) {
                (Err(error), Some(_)) => _ = self.fault(sum, error),
                (done, _) => done?,
            }
            new = true
        }
        if let (true, Some(record)) = (new, &self.record) {
            record.update(self).await?
        }
        Ok(true)
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
        let mut data = self.scratch.bufs.lend();
        data.resize(self.slots(parity), Buf::empty());
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
