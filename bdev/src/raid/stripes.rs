//! RAID-4, 5 and 6: rows of chunks, of which one or two are sums of the others.
//!
//! ```text
//!   read     ──► the member that has the chunk ── lost or error ──► the others of its row ──► their sum
//!   write    ──► see [`bands`](super::bands)
//! ```
//!
//! A read takes no lock unless something is missing: it looks at one chunk, and beside a write to the same blocks it may be either, as on any disk.
use super::{Member, array::State, bands::Band, each::each, shape::Places};
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

/// All strips of a stretch of rows, with what was lost made anew. Data in the order of their coefficients.
pub(super) struct Strips {
    pub data: Vec<Buf>,
    pub p: Buf,
    pub q: Buf,
}

impl Strips {
    pub fn stripe(&self) -> parity::Stripe<'_> {
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
    pub(crate) fn parity(&self) -> Option<Parity> {
        match self.places() {
            Places::Parity { parity, .. } => Some(parity),
            _ => None,
        }
    }

    /// How many strips a stripe has for its sums: coefficients that are nobody's count as zeros.
    pub(super) fn slots(&self, parity: &Parity) -> usize {
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
    pub(super) async fn mend_all(
        &self,
        row: &Row,
        range: BlockRange,
        strips: &Strips,
        bad: Vec<(u16, IoError)>,
    ) -> IoResult {
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
    pub(super) async fn reconstruct(
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

    /// Zeroes or unmaps whole stripes: sums of zeros are zeros. False if there has to be a log of it: then zeros have to be written.
    pub(crate) async fn whole_stripes(&self, parity: &Parity, stripes: Range<u64>, io: &Io) -> Result<bool, IoError> {
        self.ready().await?;
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
        let done = match self.log.enter_plain(self) {
            None => Ok(false),
            Some(held) => {
                let parts = all.into_iter().map(|member| (member, part.clone()));
                self.to_members_held(parts, held).await.map(|()| true)
            }
        };
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
        let lacks = |member: &Member| member.in_sync() && member.lacks(super::intent::range(range));
        if range.count > 1 && self.members.iter().any(lacks) {
            // Perhaps not all of it: it is compared block by block.
            return Err(IoError::Medium);
        }
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
                let (read, disk) = (Buf::alloc(len), self.data(*member).ok_or(IoError::Gone)?);
                match disk.submit(Io::read(range, read.clone()).careful()).await {
                    Ok(()) => *known = read,
                    // There is nothing to compare with.
                    Err(error) => bad.push((*member, error)),
                }
            }
        }
        let mut differ = 0;
        // What a member lacks, though it belongs to the array, it is given.
        let lacks = |member: u16| repair && self.members[usize::from(member)].in_sync() && !self.reads(member, range);
        let is_bad = |member: u16| lacks(member) || bad.iter().any(|(other, _)| *other == member);
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
            let data = (0..parity.data()).map(|n| strips.data[usize::from(row.coefficient(row.member(n)))].clone());
            let band = Band::of_sums(range, data.collect(), made.p.clone());
            let held = self.log.enter_sums(self, parity, &row, band).await?;
            let write = |member: u16, buf: &Buf| (member, Io::write(range, buf.clone()));
            let p = (repair && differ > 0 || is_bad(row.p)).then(|| write(row.p, &made.p));
            let q = row
                .q
                .filter(|q| repair && differ > 0 || is_bad(*q))
                .map(|q| write(q, &made.q));
            self.to_members_held(p.into_iter().chain(q), held).await?
        }
        let is_sum = |(member, _): &(u16, IoError)| *member == row.p || Some(*member) == row.q;
        for (member, error) in bad.extract_if(.., |known| is_sum(known)) {
            self.mended(member, range, Ok(()), error).await?
        }
        self.mend_all(&row, range, &strips, bad).await?;
        let again = (0..parity.data())
            .map(|n| row.member(n))
            .filter(|member| lacks(*member));
        let again: Vec<_> = again
            .map(|member| (member, strips.data[usize::from(row.coefficient(member))].clone()))
            .map(|(member, data)| (member, Io::write(range, data)))
            .collect();
        if !again.is_empty() {
            self.to_members(again).await?
        }
        Ok(differ)
    }

    /// Makes what a member should hold in rows of a stripe that the caller has locked, and writes it there.
    pub(crate) async fn rebuild_rows(&self, parity: &Parity, stripe: u64, target: u16, range: BlockRange) -> IoResult {
        let row = parity.row(stripe);
        // It is not to be asked, and is no reason why nothing comes of it.
        let mut bad = vec![(target, IoError::Medium)];
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
