//! LOG SENSE and LOG SELECT (SPC-4 6.7, 6.8): what a unit has counted.
//!
//! Bytes are counted where every I/O of the volume is counted anyway ([`bdev::iostat`]), errors where a command fails, so
//! that nothing is counted twice and nothing costs a command that succeeds. LOG SELECT can only start the counting anew.
use super::{
    nexus::Open,
    unit::{Happening, Unit},
};
use spec::scsi::{
    Command, Sense, SenseKey,
    log::{self, Counters},
};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What a unit keeps for its log pages.
#[derive(Debug, Default)]
pub(super) struct Log {
    write_errors: AtomicU64,
    read_errors: AtomicU64,
    other_errors: AtomicU64,
    /// The counters at the last reset.
    base: Mutex<Counters>,
}

impl Log {
    /// A command has failed.
    #[cold]
    pub(super) fn failed(&self, sense: &Sense) {
        let counter = match sense.key {
            SenseKey::MediumError if sense.asc == Sense::WRITE_ERROR.asc => &self.write_errors,
            SenseKey::MediumError => &self.read_errors,
            SenseKey::HardwareError => &self.other_errors,
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn since_reset(&self, all: &Counters) -> Counters {
        all.since(&self.base.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reset(&self, page: u8, all: &Counters) {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        base.take_page(page, all);
    }
}

/// Everything counted since the volume came to be.
async fn counted(open: &Open) -> Result<Counters, Sense> {
    let figures = open.graph.iostat(Some(&open.unit.volume)).await;
    let (_, moved) = figures
        .ok()
        .and_then(|all| all.into_iter().next())
        .ok_or(Sense::NOT_READY)?;
    let log = &open.unit.log;
    Ok(Counters {
        written: moved.bytes_written,
        read: moved.bytes_read,
        write_errors: log.write_errors.load(Relaxed),
        read_errors: log.read_errors.load(Relaxed),
        other_errors: log.other_errors.load(Relaxed),
    })
}

pub(super) async fn sense(open: &Open, command: &Command) -> Result<Vec<u8>, Sense> {
    let Command::LogSense {
        page,
        subpage,
        control,
        pointer,
        ..
    } = *command
    else {
        return Err(Sense::INTERNAL);
    };
    let counters = open.unit.log.since_reset(&counted(open).await?);
    log::sense(&counters, page, subpage, control, pointer)
}

pub(super) async fn select(open: &Open, reset: bool, page: u8, subpage: u8, list: &[u8]) -> Result<(), Sense> {
    if !reset {
        return log::select(list);
    }
    log::can_reset(page, subpage)?;
    let all = counted(open).await?;
    open.unit.log.reset(page, &all);
    open.caused(Happening::Log);
    Ok(())
}

impl Unit {
    /// What there is to read of it in numbers, for people: errors of writes, of reads, and others.
    pub fn errors(&self) -> [u64; 3] {
        let log = &self.log;
        [&log.write_errors, &log.read_errors, &log.other_errors].map(|count| count.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_whose_they_are_and_from_the_last_reset_on() {
        let log = Log::default();
        for sense in [
            Sense::WRITE_ERROR,
            Sense::READ_ERROR,
            Sense::READ_ERROR,
            Sense::INTERNAL,
            Sense::OUT_OF_RANGE,
        ] {
            log.failed(&sense);
        }
        let all = Counters {
            written: 4096,
            read: 512,
            write_errors: log.write_errors.load(Relaxed),
            read_errors: log.read_errors.load(Relaxed),
            other_errors: log.other_errors.load(Relaxed),
        };
        assert_eq!((all.write_errors, all.read_errors, all.other_errors), (1, 2, 1));
        log.reset(0x03, &all);
        let now = log.since_reset(&all);
        assert_eq!(
            (now.read, now.read_errors, now.written, now.other_errors),
            (0, 0, 4096, 1)
        );
        log.reset(0x00, &all);
        assert_eq!(log.since_reset(&all), Counters::default());
    }
}
