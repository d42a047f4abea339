//! The partial parity log of RAID-5, in MD's format ([`spec::md::ppl`]): before rows are written, the sum of the data in them that stay goes to the member that
//! has their parity.
//!
//! ```text
//!   writes of rows ──► wait for the member's log ──► all that wait go into it as one unit ──► data and parity ──► all of the unit done, caches emptied ──► next unit
//!   after a crash  ──► the newest unit of each member ──► parity = what was logged + the data that were to be written, as they are now
//! ```
//!
//! Only the newest unit counts, so one begins when the one before it is durable. Where there is room for several they lie one behind the other, and then from the start again; each life begins
//! at the start, above all generations of those before it. Where a member is missing, its chunk is written by itself, with nothing but parity: a
//! block of it is the old one or the new one then, and what the others of the row hold stays what the log says.
use super::{Member, array::State, bands::Band, log::Held as Logged};
use crate::{Disk, Io, IoError, IoResult};
use reactor::{Buf, Notify, parity as sums};
use spec::{
    BlockRange,
    md::{
        SECTOR,
        parity::{Parity, Row},
        ppl::{self, ENTRIES_MAX, Entry, Header},
    },
};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
};
use uuid::Uuid;

/// See the [module](self).
pub(crate) struct Partial {
    array: Uuid,
    logs: Box<[MemberLog]>,
    /// Bytes of a unit at most: a header and sums.
    length: u64,
    /// Units lie one behind the other.
    several: bool,
    block_size: u32,
}

/// The log of one member.
#[derive(Default)]
struct MemberLog {
    /// Where it is, in blocks of the member.
    at: RefCell<Option<Range<u64>>>,
    /// Of the unit that was written last.
    generation: Cell<u64>,
    /// Where it ends, in blocks from the start of the log.
    end: Cell<u64>,
    waiting: RefCell<Vec<Waiting>>,
    next: Cell<u64>,
    writing: Cell<bool>,
    /// Writes of the last unit that are not done.
    open: Cell<u32>,
    changed: Notify,
}

struct Waiting {
    ticket: u64,
    /// What each is about, and its sum; none if all data of the rows are written.
    entries: Vec<(Entry, Buf)>,
    logged: Option<IoResult>,
}

/// Rows whose write is logged.
pub(crate) struct Held<'a>(&'a MemberLog);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.changed.notify_all()
        }
    }
}

impl Partial {
    /// Of the array with this identity whose members have their logs there, in blocks; of `several` units they lie one behind the other. Units are numbered from `generation` on, which is above all
    /// that are there. Says in words what does not fit.
    pub fn new(
        array: Uuid,
        at: Vec<Option<Range<u64>>>,
        several: bool,
        generation: u64,
        block_size: u32,
    ) -> Result<Self, String> {
        let bytes = |range: &Range<u64>| (range.end - range.start) * u64::from(block_size);
        let shortest = at.iter().flatten().map(bytes).min().unwrap_or(ppl::LOG);
        let length = if several { shortest.min(ppl::LOG) } else { shortest };
        if length < ppl::LEN as u64 + 4096 {
            return Err(format!("a partial parity log of {length} bytes has no room for a sum"));
        }
        let log = |at| MemberLog {
            at: RefCell::new(at),
            generation: Cell::new(generation),
            ..MemberLog::default()
        };
        Ok(Self {
            array,
            logs: at.into_iter().map(log).collect(),
            length,
            several,
            block_size,
        })
    }

    pub fn seat(&self, place: u16, at: Option<Range<u64>>) {
        let log = &self.logs[usize::from(place)];
        *log.at.borrow_mut() = at;
        log.end.set(0)
    }

    /// How many rows a step may have, in blocks.
    pub fn rows(&self) -> u32 {
        let room = self.length - ppl::LEN as u64;
        // A chunk is a u32, and so is a log.
        (room / u64::from(self.block_size)).min(u32::MAX.into()) as u32
    }

    /// Where the next unit goes, in blocks of the member, if it is so long; nothing if it has no log. It is the last one from then on.
    fn next(&self, log: &MemberLog, bytes: u64) -> Option<BlockRange> {
        let at = log.at.borrow().clone()?;
        // At most a unit.
        let count = bytes / u64::from(self.block_size);
        let behind = at.start + log.end.get();
        let start = match self.several && behind + count <= at.end {
            true => behind,
            false => at.start,
        };
        log.end.set(start + count - at.start);
        Some(BlockRange::new(start, count as u32))
    }

    /// The newest unit of a member's log, and where that is: each is looked for behind the one before it, as long as they become newer (`ppl_load_distributed`).
    async fn newest(&self, log: &MemberLog, whole: &Disk) -> Result<Option<(u64, Header)>, IoError> {
        let block = u64::from(self.block_size);
        let (head, mut newest) = (ppl::LEN as u64 / block, None::<(u64, Header)>);
        let Some(at) = log.at.borrow().clone() else {
            return Ok(None);
        };
        let mut start = at.start;
        while start + head <= at.end {
            let bytes = Buf::alloc(ppl::LEN);
            let here = BlockRange::new(start, head as u32);
            whole.submit(Io::read(here, bytes.clone()).careful()).await?;
            let header = match Header::parse(&bytes.to_vec()) {
                Ok(header) if header.signature == ppl::signature(self.array) => header,
                _ => break,
            };
            if newest
                .as_ref()
                .is_some_and(|(_, best)| best.generation > header.generation)
            {
                break;
            }
            let sums: u64 = header.entries.iter().map(|entry| u64::from(entry.sums_size)).sum();
            newest = Some((start, header));
            if !sums.is_multiple_of(block) {
                break;
            }
            start += head + sums / block
        }
        Ok(newest)
    }

    /// Returns when the bands of a row, each of which writes one run of its chunks, are logged.
    pub async fn enter(
        &self,
        array: &State,
        parity: &Parity,
        row: &Row,
        bands: &[Band],
    ) -> Result<Logged<'_>, IoError> {
        let mut entries: Vec<(Entry, Buf)> = Vec::new();
        for band in bands {
            entries.extend(self.entry(array, parity, row, band))
        }
        if entries.is_empty() {
            return Ok(Logged::Nothing);
        }
        let log = &self.logs[usize::from(row.p)];
        let ticket = log.next.get() + 1;
        log.next.set(ticket);
        log.waiting.borrow_mut().push(Waiting {
            ticket,
            entries,
            logged: None,
        });
        loop {
            let done = {
                let mut waiting = log.waiting.borrow_mut();
                let at = waiting.iter().position(|one| one.ticket == ticket);
                match at.map(|at| (at, waiting[at].logged)) {
                    Some((at, Some(done))) => {
                        waiting.remove(at);
                        Some(done)
                    }
                    _ => None,
                }
            };
            match done {
                Some(Ok(())) => return Ok(Logged::Partial(Held(log))),
                Some(Err(error)) => return Err(error),
                None if log.writing.get() || log.open.get() > 0 => log.changed.wait().await,
                None => {
                    log.writing.set(true);
                    self.write_unit(array, row.p, log).await;
                    log.writing.set(false);
                    log.changed.notify_all()
                }
            }
        }
    }

    /// What is logged of a band; nothing if its parity is not written. One of which only the parity is written, because the member of its chunk is missing, is logged as well:
    /// what was logged of its rows before counts no more.
    fn entry(&self, array: &State, parity: &Parity, row: &Row, band: &Band) -> Option<(Entry, Buf)> {
        let written = |n: &usize| !band.new[*n].is_empty();
        let count = (0..band.new.len()).filter(written).count();
        let first = (0..band.new.len()).find(written).filter(|_| !band.p.is_empty())?;
        let sectors = u64::from(self.block_size) / SECTOR;
        let bytes = array.bytes(band.range.count) as u32;
        let (chunk, data) = (u64::from(parity.chunk()), u64::from(parity.data()));
        let (stripe, within) = (band.range.start.0 / chunk, band.range.start.0 % chunk);
        let stays = count < band.new.len();
        let sum = match stays {
            // The sum of all without those that are written is the sum of those that stay.
            true => {
                let sum = band.p.fork();
                let new: Vec<Buf> = band.new.iter().filter(|new| !new.is_empty()).cloned().collect();
                sums::xor_in(&sum, &new);
                sum
            }
            false => Buf::empty(),
        };
        let entry = Entry {
            data_sector: ((stripe * data + first as u64) * chunk + within) * sectors,
            data_size: bytes * count as u32,
            sums_size: if stays { bytes } else { 0 },
            parity: row.p.into(),
            checksum: sum.crc32c(0),
        };
        Some((entry, sum))
    }

    /// Logs as many of those that wait as there is room for. The one before is done; it is made durable first.
    async fn write_unit(&self, array: &State, place: u16, log: &MemberLog) {
        let member = &array.members[usize::from(place)];
        if let Err(error) = array.empty_caches().await {
            self.tell(log, usize::MAX, Err(error));
            return;
        }
        let (mut header, mut sums, mut groups) = (self.header(array, log), Vec::new(), 0);
        let mut bytes = ppl::LEN as u64;
        for one in log.waiting.borrow().iter().filter(|one| one.logged.is_none()) {
            let more: u64 = one.entries.iter().map(|(entry, _)| u64::from(entry.sums_size)).sum();
            let count = header.entries.len() + one.entries.len();
            if groups > 0 && (bytes + more > self.length || count > ENTRIES_MAX) {
                break;
            }
            bytes += more;
            groups += 1;
            for (entry, sum) in &one.entries {
                header.entries.push(*entry);
                sums.push(sum.clone())
            }
        }
        let Some(head) = header.to_bytes() else {
            return self.tell(log, groups, Err(IoError::Unsupported));
        };
        let (Some(whole), true) = (member.whole(), member.writes()) else {
            // Nobody has parity here any more, so none can be wrong.
            return self.tell(log, groups, Ok(()));
        };
        let Some(at) = self.next(log, bytes) else {
            return self.tell(log, groups, Ok(()));
        };
        let unit = Buf::alloc(bytes as usize);
        unit.write_at(0, &head[..]);
        let mut to = ppl::LEN;
        for sum in sums {
            unit.slice(to..to + sum.len()).adopt(&sum);
            to += sum.len()
        }
        log.generation.set(header.generation);
        let from = member.slot.get();
        let done = match whole.submit(Io::write(at, unit).fua()).await {
            // Lost with its parity, unless the array cannot do without it.
            Err(error) if !array.fault_of(from, error) => Err(error),
            _ => Ok(()),
        };
        self.tell(log, groups, done)
    }

    /// Of the next unit.
    fn header(&self, array: &State, log: &MemberLog) -> Header {
        let mut header = Header::new(self.array, log.generation.get() + 1);
        header.unsettled = array.intent.needed() > 0;
        header
    }

    /// The first of those that wait are logged, or not.
    fn tell(&self, log: &MemberLog, groups: usize, done: IoResult) {
        let mut waiting = log.waiting.borrow_mut();
        for one in waiting.iter_mut().filter(|one| one.logged.is_none()).take(groups) {
            one.logged = Some(done);
            if done.is_ok() {
                log.open.set(log.open.get() + 1)
            }
        }
    }

    /// Parity of what was being written is made from what is there now. Where no log says anything, and nobody is missing, all has to be compared: it may never have been.
    pub async fn replay(&self, array: &State, parity: &Parity) -> IoResult {
        let (mut entries, mut doubt) = (0, false);
        for (place, log) in (0..).zip(&self.logs) {
            let member = &array.members[usize::from(place)];
            let (Some(whole), true) = (member.whole(), member.writes() && log.at.borrow().is_some()) else {
                continue;
            };
            match self.newest(log, &whole).await? {
                Some((start, header)) => {
                    tracing::info!(
                        array = array.name,
                        member = place,
                        writes = header.entries.len(),
                        "its partial parity log is replayed"
                    );
                    self.replay_unit(array, parity, place, (start, &whole), &header).await?;
                    entries += header.entries.len();
                    doubt |= header.unsettled;
                    log.generation.set(log.generation.get().max(header.generation))
                }
                None => {
                    tracing::warn!(
                        array = array.name,
                        member = place,
                        "there is nothing in its partial parity log"
                    );
                    doubt = true
                }
            }
        }
        if array.is_whole() && (doubt || entries == 0) {
            array.intent.need(0..array.places().span())
        }
        array.flush_members().await?;
        if let (Some(record), true) = (&array.record, array.members.iter().any(Member::lacks_any)) {
            record.update(array).await?
        }
        // What was replayed must not be once more: by then data that it takes for unchanged may have changed.
        self.begin_anew(array).await
    }

    /// Each log begins anew, with what is known of the array by now.
    pub async fn begin_anew(&self, array: &State) -> IoResult {
        for (place, log) in (0..).zip(&self.logs) {
            while log.writing.get() || log.open.get() > 0 {
                log.changed.wait().await
            }
            log.writing.set(true);
            let done = match array.empty_caches().await {
                Ok(()) => self.begin(array, place, log).await,
                failed => failed,
            };
            log.writing.set(false);
            log.changed.notify_all();
            done?
        }
        Ok(())
    }

    /// A unit of nothing, newer than all others.
    async fn begin(&self, array: &State, place: u16, log: &MemberLog) -> IoResult {
        let member = &array.members[usize::from(place)];
        let header = self.header(array, log);
        let (Some(bytes), Some(whole), true) = (header.to_bytes(), member.whole(), member.writes()) else {
            return Ok(());
        };
        let Some(at) = self.next(log, ppl::LEN as u64) else {
            return Ok(());
        };
        log.generation.set(header.generation);
        let from = member.slot.get();
        match whole.submit(Io::write(at, Buf::from_slice(&bytes[..])).fua()).await {
            Err(error) if !array.fault_of(from, error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn replay_unit(
        &self,
        array: &State,
        parity: &Parity,
        place: u16,
        (start, whole): (u64, &Disk),
        header: &Header,
    ) -> IoResult {
        let ends = self.logs[usize::from(place)]
            .at
            .borrow()
            .as_ref()
            .map_or(0, |at| at.end);
        let room = ends.saturating_sub(start) * u64::from(self.block_size);
        let mut from = ppl::LEN as u64;
        for entry in &header.entries {
            let end = from + u64::from(entry.sums_size);
            if end > room || entry.sums_size % self.block_size != 0 {
                break;
            }
            let sum = Buf::alloc(entry.sums_size as usize);
            if !sum.is_empty() {
                let block = u64::from(self.block_size);
                let at = BlockRange::new(start + from / block, (u64::from(entry.sums_size) / block) as u32);
                whole.submit(Io::read(at, sum.clone()).careful()).await?
            }
            from = end;
            // If it did not get to the log whole, nothing was written behind it.
            if sum.crc32c(0) == entry.checksum {
                self.replay_entry(array, parity, place, entry, &sum).await?
            }
        }
        Ok(())
    }

    async fn replay_entry(&self, array: &State, parity: &Parity, place: u16, entry: &Entry, sum: &Buf) -> IoResult {
        let Some((first, rows, last)) = stretch(entry, parity, self.block_size) else {
            tracing::warn!(
                array = array.name,
                ?entry,
                "a partial parity log says what is not understood here"
            );
            if array.is_whole() {
                array.intent.need(0..array.places().span())
            }
            return Ok(());
        };
        let chunk = u64::from(parity.chunk());
        let block = self.block_size as usize;
        for at in 0..rows {
            let row = parity.row(parity.place(first + at).sector / chunk);
            let here = BlockRange::new(parity.place(first + at).sector, 1);
            if row.p != place {
                return Ok(());
            }
            let made = Buf::zeroed(block);
            let (mut any, mut all) = (false, true);
            let written = (0..u64::from(parity.data()))
                .map(|n| first + at + n * chunk)
                .filter(|at| *at < last);
            for one in written {
                let spot = parity.place(one);
                let data = Buf::alloc(block);
                any = true;
                let disk = array.data(spot.member).filter(|_| array.reads(spot.member, here));
                // What was to be written there is only in the parity, as it is.
                let Some(disk) = disk else {
                    all = false;
                    break;
                };
                match disk.submit(Io::read(here, data.clone()).careful()).await {
                    // The sum there is may be that of before or of after, and nobody can tell.
                    Err(IoError::Medium) => {
                        array.lack(place, here).await?;
                        all = false;
                        break;
                    }
                    done => done?,
                }
                sums::xor_in(&made, &[data])
            }
            if !any || !all {
                continue;
            }
            if !sum.is_empty() {
                // At most a log.
                let from = at as usize * block;
                match sum.get(from..from + block) {
                    Some(logged) => sums::xor_in(&made, &[logged]),
                    None => return Ok(()),
                }
            }
            array.to_members([(place, Io::write(here, made))]).await?
        }
        Ok(())
    }
}

/// What an entry is about, in blocks of the array: the first, how many rows there are, and where it ends. Nothing if it makes no sense, or is not in whole blocks.
fn stretch(entry: &Entry, parity: &Parity, block_size: u32) -> Option<(u64, u64, u64)> {
    let sectors = u64::from(block_size) / SECTOR;
    let whole = |bytes: u32| bytes.is_multiple_of(block_size).then(|| u64::from(bytes / block_size));
    if !entry.data_sector.is_multiple_of(sectors) {
        return None;
    }
    let (first, data, sums) = (
        entry.data_sector / sectors,
        whole(entry.data_size)?,
        whole(entry.sums_size)?,
    );
    let (chunk, members) = (u64::from(parity.chunk()), u64::from(parity.data()));
    let (rows, end) = match sums {
        rows if rows >= chunk => (chunk, first.checked_add(data)?),
        rows => {
            let (rows, written) = match rows {
                0 => (data / members, members),
                rows => (rows, data / rows),
            };
            (
                rows,
                first
                    .checked_add(written.checked_sub(1)?.checked_mul(chunk)?)?
                    .checked_add(rows)?,
            )
        }
    };
    let stripe = members * chunk;
    let inside = end <= parity.sectors() && first < end && rows > 0 && first / stripe == (end - 1) / stripe;
    (inside && first % chunk + rows <= chunk).then_some((first, rows, end))
}
