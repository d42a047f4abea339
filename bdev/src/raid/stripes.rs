//! RAID-4, 5 and 6: rows of chunks, of which one or two are sums of the others.
//!
//! ```text
//!   read     ──► the member that has the chunk ── lost or error ──► the others of its row ──► their sum
//!   write    ──► its stripe's lock, with all that wait for it
//!            ──► for each stretch of rows in which the same chunks are written, whichever reads less:
//!                  modify       old data and old sums       sums += old + new
//!                  rebuild      the data that stay          sums anew            (all of them: no read at all)
//!                  recover      everything that is left     what is lost, then sums anew
//!            ──► note the region ──► data and sums at once
//! ```
//!
//! A read takes no lock unless something is missing: it looks at one chunk, and beside a write to the same blocks it may be either, as on any disk.
use super::{array::State, each::each, shape::Places};
use crate::{Io, IoError, IoResult, Op};
use reactor::{
    Buf,
    parity::{self, Lost},
};
use spec::{
    BlockRange, Lba,
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

/// All strips of a stretch of rows, with what was lost made anew. Data in the order of their coefficients.
struct Strips {
    data: Vec<Buf>,
    p: Buf,
    q: Buf,
}

impl Strips {
    fn stripe(&self) -> parity::Stripe<'_> {
        let there = |buf: &'_ Buf| !buf.is_empty();
        parity::Stripe {
            data: &self.data,
            p: there(&self.p).then_some(&self.p),
            q: there(&self.q).then_some(&self.q),
        }
    }
}

impl State {
    /// The shape of an array that has parity.
    pub(crate) fn parity(&self) -> Option<&Parity> {
        match &self.places {
            Places::Parity { parity, .. } => Some(parity),
            _ => None,
        }
    }

    /// How many strips a stripe has for its sums: coefficients that are nobody's count as zeros.
    fn slots(&self, parity: &Parity) -> usize {
        match parity.layout.parities() == 2 && !parity.layout.counts_all() {
            true => parity.data().into(),
            false => parity.members().into(),
        }
    }

    /// A read that lies within a chunk.
    pub(crate) async fn read_chunk(&self, parity: &Parity, io: Io) -> IoResult {
        let place = parity.place(io.range.start.0);
        let here = BlockRange::new(place.sector, io.range.count);
        if let Some(disk) = self.data(place.member).filter(|_| self.reads(place.member, here)) {
            match disk.submit(io.clone().at(here.start)).await {
                Err(error) if error.is_mendable() => (),
                done => return done,
            }
        }
        let stripe = place.sector / u64::from(parity.chunk());
        let _guard = self.locks.lock(stripe..stripe + 1).await;
        self.fetch(parity, stripe, place.member, here, &io.data).await
    }

    /// Reads a member's part of a stripe that the caller has locked; from the others if it cannot be had there, and mends it then.
    async fn fetch(&self, parity: &Parity, stripe: u64, member: u16, range: BlockRange, into: &Buf) -> IoResult {
        let mut bad = Vec::new();
        if let Some(disk) = self.data(member).filter(|_| self.reads(member, range)) {
            match disk.submit(Io::read(range, into.clone()).careful()).await {
                Err(error) if error.is_mendable() => bad.push((member, error)),
                done => return done,
            }
        }
        let row = parity.row(stripe);
        let strips = self.reconstruct(parity, &row, range, &mut bad).await?;
        let found = strips
            .data
            .get(usize::from(row.coefficient(member)))
            .filter(|found| !found.is_empty());
        into.adopt(found.ok_or(IoError::Medium)?);
        self.mend_all(&row, range, &strips, bad).await
    }

    /// Writes over what could not be read.
    async fn mend_all(&self, row: &Row, range: BlockRange, strips: &Strips, bad: Vec<(u16, IoError)>) -> IoResult {
        for (member, error) in bad {
            let data = match member {
                p if p == row.p => &strips.p,
                q if Some(q) == row.q => &strips.q,
                data => &strips.data[usize::from(row.coefficient(data))],
            };
            if data.len() == self.bytes(range.count) {
                self.mend(member, range, data.clone(), error).await?
            }
        }
        Ok(())
    }

    /// Reads all data of some rows of a stripe that the caller has locked, and makes what cannot be had. Members whose reads fail are added to `bad`. What P and Q
    /// are is known only as far as they were needed.
    async fn reconstruct(
        &self,
        parity: &Parity,
        row: &Row,
        range: BlockRange,
        bad: &mut Vec<(u16, IoError)>,
    ) -> Result<Strips, IoError> {
        let len = self.bytes(range.count);
        loop {
            let here = |member: u16| self.reads(member, range) && !bad.iter().any(|(other, _)| *other == member);
            let mut lost: Vec<u16> = (0..parity.data())
                .map(|n| row.member(n))
                .filter(|member| !here(*member))
                .collect();
            let p = here(row.p);
            let q = row.q.filter(|q| here(*q));
            let (use_p, use_q) = match lost.len() {
                0 => (false, None),
                1 if p => (true, None),
                1 if q.is_some() => (false, q),
                2 if p && q.is_some() => (true, q),
                _ => return Err(bad.last().map_or(IoError::Medium, |(_, error)| *error)),
            };
            let mut strips = Strips {
                data: vec![Buf::empty(); self.slots(parity)],
                p: if use_p { Buf::alloc(len) } else { Buf::empty() },
                q: if use_q.is_some() { Buf::alloc(len) } else { Buf::empty() },
            };
            let mut asked: Vec<(u16, Buf)> = Vec::with_capacity(usize::from(parity.members()));
            for member in (0..parity.data()).map(|n| row.member(n)) {
                let buf = Buf::alloc(len);
                strips.data[usize::from(row.coefficient(member))] = buf.clone();
                if !lost.contains(&member) {
                    asked.push((member, buf))
                }
            }
            asked.extend(use_p.then(|| (row.p, strips.p.clone())));
            asked.extend(use_q.map(|q| (q, strips.q.clone())));
            let mut failed = Vec::new();
            let send = |(at, (member, buf)): (usize, &(u16, Buf))| {
                let disk = self.data(*member)?;
                Some((at, disk.submit(Io::read(range, buf.clone()).careful())))
            };
            each(asked.iter().enumerate().filter_map(send), |at, error| {
                failed.push((asked[at].0, error))
            })
            .await;
            // A member may have been given up meanwhile: nothing was read then.
            failed.extend(
                asked
                    .iter()
                    .filter(|(member, _)| !self.reads(*member, range))
                    .map(|(member, _)| (*member, IoError::Gone)),
            );
            if !failed.is_empty() {
                for (member, error) in failed {
                    if !bad.iter().any(|(other, _)| *other == member) {
                        bad.push((member, error))
                    }
                }
                continue;
            }
            let mut coefficients = lost.drain(..).map(|member| usize::from(row.coefficient(member)));
            match (coefficients.next(), coefficients.next()) {
                (Some(one), Some(two)) => strips.stripe().recover(Lost::Two(one, two)),
                (Some(one), None) => strips.stripe().recover(Lost::Data(one)),
                _ => (),
            }
            return Ok(strips);
        }
    }

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
            (true, false) if sums > 0 => Way::Modify,
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

    /// Zeroes or unmaps whole stripes: sums of zeros are zeros.
    pub(crate) async fn whole_stripes(&self, parity: &Parity, stripes: Range<u64>, io: &Io) -> IoResult {
        let chunk = u64::from(parity.chunk());
        let _guard = self.locks.lock(stripes.clone()).await;
        let rows = stripes.start * chunk..stripes.end * chunk;
        self.intent.begin(self, rows.clone()).await?;
        // The caller took so many stripes that their rows are a u32.
        let range = BlockRange::new(rows.start, (rows.end - rows.start) as u32);
        let part = Io {
            range,
            data: Buf::empty(),
            ..io.clone()
        };
        let all: Vec<u16> = self.writable().collect();
        let done = self
            .to_members(all.into_iter().map(|member| (member, part.clone())))
            .await;
        self.intent.end(&rows);
        done
    }

    /// Compares sums with data in rows of a stripe that the caller has locked. Blocks of rows that differ; with `repair` the sums are written anew.
    pub(crate) async fn compare_rows(
        &self,
        parity: &Parity,
        stripe: u64,
        range: BlockRange,
        repair: bool,
    ) -> Result<u64, IoError> {
        let row = parity.row(stripe);
        let mut bad = Vec::new();
        let mut strips = self.reconstruct(parity, &row, range, &mut bad).await?;
        let len = self.bytes(range.count);
        let sums = [(row.p, true), (row.q.unwrap_or(row.p), false)];
        let sums = sums.iter().take(if row.q.is_some() { 2 } else { 1 });
        for (member, is_p) in sums {
            let known = if *is_p { &mut strips.p } else { &mut strips.q };
            // Only what is there can be compared.
            if !self.reads(*member, range) || bad.iter().any(|(other, _)| other == member) {
                *known = Buf::empty();
                continue;
            }
            if known.is_empty() {
                *known = Buf::alloc(len);
                let (known, disk) = (known.clone(), self.data(*member).ok_or(IoError::Gone)?);
                if let Err(error) = disk.submit(Io::read(range, known).careful()).await {
                    bad.push((*member, error))
                }
            }
        }
        let mut differ = 0;
        let is_bad = |member: u16| bad.iter().any(|(other, _)| *other == member);
        if strips.stripe().check(0).is_some() {
            differ = u64::from(range.count)
        }
        if differ > 0 && repair || is_bad(row.p) || row.q.is_some_and(is_bad) {
            let made = Strips {
                data: strips.data.clone(),
                p: Buf::alloc(len),
                q: row.q.map_or_else(Buf::empty, |_| Buf::alloc(len)),
            };
            made.stripe().generate();
            let write = |member: u16, buf: &Buf| (member, Io::write(range, buf.clone()));
            let p = (repair && differ > 0 || is_bad(row.p)).then(|| write(row.p, &made.p));
            let q = row
                .q
                .filter(|q| repair && differ > 0 || is_bad(*q))
                .map(|q| write(q, &made.q));
            self.to_members(p.into_iter().chain(q)).await?
        }
        bad.retain(|(member, _)| *member != row.p && Some(*member) != row.q);
        self.mend_all(&row, range, &strips, bad).await?;
        Ok(differ)
    }

    /// Makes what a member should hold in rows of a stripe that the caller has locked, and writes it there.
    pub(crate) async fn rebuild_rows(&self, parity: &Parity, stripe: u64, target: u16, range: BlockRange) -> IoResult {
        let row = parity.row(stripe);
        let mut bad = vec![(target, IoError::Gone)];
        let strips = self.reconstruct(parity, &row, range, &mut bad).await?;
        let data = match target {
            sum if sum == row.p || Some(sum) == row.q => {
                let len = self.bytes(range.count);
                let made = Strips {
                    data: strips.data.clone(),
                    p: if sum == row.p { Buf::alloc(len) } else { Buf::empty() },
                    q: if sum == row.p { Buf::empty() } else { Buf::alloc(len) },
                };
                made.stripe().generate();
                if sum == row.p { made.p } else { made.q }
            }
            data => strips.data[usize::from(row.coefficient(data))].clone(),
        };
        bad.retain(|(member, _)| *member != target);
        self.mend_all(&row, range, &strips, bad).await?;
        self.to_members([(target, Io::write(range, data))]).await
    }
}

/// The part of a zeroing or unmapping that is whole stripes, and what is left before and behind it.
pub(crate) fn split(range: BlockRange, wide: u64) -> (Option<Range<u64>>, [BlockRange; 2]) {
    let (start, end) = (range.start.0, range.start.0 + u64::from(range.count));
    let (first, last) = (start.div_ceil(wide), end / wide);
    // Parts of a range whose count is a u32.
    let part = |from: u64, to: u64| BlockRange::new(from, (to - from) as u32);
    match first < last {
        true => (Some(first..last), [part(start, first * wide), part(last * wide, end)]),
        false => (None, [part(start, end), part(end, end)]),
    }
}

/// A write of zeros in place of a zeroing that is no whole stripe.
pub(crate) fn zeros(io: &Io, range: BlockRange, bytes: usize) -> Io {
    Io {
        op: Op::Write,
        range: BlockRange {
            start: Lba(range.start.0),
            ..range
        },
        data: Buf::zeroed(bytes),
        ..*io
    }
}
