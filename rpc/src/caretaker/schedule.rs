//! When members of an array are compared. It takes the time as an argument, in milliseconds since 1970, and knows no clock.
//!
//! ```text
//!   since ── every ──► due ─ whole, ─► begins ─ ends ─► done ── every, from where it began ──► due …
//!                            free?
//!                       ▲                  │
//!                       └── cut off ◄──────┤  a member failed: that one does not count
//!                                          └  the process ended: it goes on where it was
//! ```
use config::schema::Scrub;
use serde::{Deserialize, Serialize};

/// A day.
const DAY: u64 = 86_400_000;
/// How long a scrub that was asked for may take until it is seen.
const UNSEEN: u64 = 2_000;
/// How often one that runs is looked at.
pub(super) const RUNNING: u64 = 1_000;
/// How often it is written down how far one is.
pub(super) const NOTED: u64 = 5_000;
/// How often an array is looked at that is to be scrubbed as soon as it is whole.
const OVERDUE: u64 = 5_000;

/// A scrub that has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scrubbed {
    /// When it began.
    pub began: u64,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// Members were made alike.
    pub repair: bool,
    /// Bytes that differed.
    pub mismatched_bytes: u64,
    /// Bytes that nobody could read.
    #[serde(default)]
    pub unreadable_bytes: u64,
    /// Somebody has ended it: it has not seen everything, and counts all the same.
    pub cancelled: bool,
}

/// What is known of an array's scrubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    /// When it was first seen.
    pub since: u64,
    /// The last scrub.
    pub last: Option<Scrubbed>,
    /// One that was under way when this was written.
    #[serde(default)]
    pub under_way: Option<UnderWay>,
}

/// How far a scrub was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnderWay {
    /// When it began.
    pub began: u64,
    /// Members are made alike.
    pub repair: bool,
    /// Blocks that were done.
    pub at: u64,
    /// Bytes that differed there.
    pub mismatched_bytes: u64,
    /// Bytes that nobody could read there.
    #[serde(default)]
    pub unreadable_bytes: u64,
}

/// A scrub that runs, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub began: u64,
    /// When the array was told to: later, if it goes on from an earlier life.
    pub asked: u64,
    /// Bytes that differed in what an earlier life has done, and bytes that nobody could read.
    pub found: u64,
    pub unreadable: u64,
    /// When it was written down how far it is.
    pub noted: u64,
    pub repair: bool,
    /// The array has said that it runs.
    pub seen: bool,
    /// Somebody has asked for its end.
    pub cancelled: bool,
}

impl Running {
    /// One that begins.
    pub fn new(now: u64, repair: bool) -> Self {
        Self {
            began: now,
            asked: now,
            found: 0,
            unreadable: 0,
            noted: now,
            repair,
            seen: false,
            cancelled: false,
        }
    }

    /// One that an earlier life had begun.
    pub fn going_on(under_way: &UnderWay, now: u64) -> Self {
        Self {
            began: under_way.began,
            found: under_way.mismatched_bytes,
            unreadable: under_way.unreadable_bytes,
            ..Self::new(now, under_way.repair)
        }
    }
}

/// An array at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// All members are there, hold what they should, and nothing else is done to it.
    pub whole: bool,
    /// No other array on the same disks is scrubbed or rebuilt.
    pub free: bool,
    /// It is being scrubbed.
    pub scrubbing: bool,
    /// Bytes that the last scrub found different, and those that it could read from nobody.
    pub mismatched_bytes: u64,
    pub unreadable_bytes: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing before this time.
    Wait(u64),
    /// A scrub begins.
    Begin,
    /// One goes on that an earlier life had begun.
    GoOn(UnderWay),
    /// One has ended.
    End(Scrubbed),
    /// One has ended and does not count: the array is not whole any more.
    CutOff,
}

/// When the next one is due.
pub(crate) fn next(scrub: &Scrub, past: &Past) -> u64 {
    let from = past.last.map_or(past.since, |last| last.began);
    let every = u64::try_from(scrub.every.0.as_millis()).unwrap_or(u64::MAX);
    let due = from.saturating_add(every);
    match scrub.at {
        None => due,
        // The nearest: one that began late, or a second late, does not move those after it.
        Some(at) => {
            let at = u64::from(at.0) * 60_000;
            (due.saturating_add(DAY / 2).saturating_sub(at) / DAY)
                .saturating_mul(DAY)
                .saturating_add(at)
        }
    }
}

/// What is to be done with an array at a time.
pub(crate) fn step(scrub: Option<&Scrub>, past: &Past, running: Option<&Running>, array: &Now, time: u64) -> Step {
    if let Some(running) = running {
        if array.scrubbing || (!running.seen && time < running.asked.saturating_add(UNSEEN)) {
            return Step::Wait(time + RUNNING);
        }
        if !array.whole && !running.cancelled {
            return Step::CutOff;
        }
        return Step::End(Scrubbed {
            began: running.began,
            took: time.saturating_sub(running.began),
            repair: running.repair,
            mismatched_bytes: running.found + array.mismatched_bytes,
            unreadable_bytes: running.unreadable + array.unreadable_bytes,
            cancelled: running.cancelled,
        });
    }
    if let Some(under_way) = past.under_way {
        return match array.whole && array.free {
            true => Step::GoOn(under_way),
            false => Step::Wait(time + OVERDUE),
        };
    }
    let Some(scrub) = scrub else {
        return Step::Wait(u64::MAX);
    };
    match next(scrub, past) {
        due if due > time => Step::Wait(due),
        _ if array.whole && array.free => Step::Begin,
        _ => Step::Wait(time + OVERDUE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::units::{Span, TimeOfDay};
    use std::time::Duration;

    const HOUR: u64 = 3_600_000;

    fn every(seconds: u64, at: Option<&str>) -> Scrub {
        let at = at.map(|text| text.parse::<TimeOfDay>().expect("a time of day").into());
        Scrub {
            every: Span(Duration::from_secs(seconds)).into(),
            at,
            repair: false,
        }
    }

    fn since(time: u64) -> Past {
        Past {
            since: time,
            last: None,
            under_way: None,
        }
    }

    fn ended(began: u64) -> Past {
        let last = Scrubbed {
            began,
            took: HOUR,
            repair: false,
            mismatched_bytes: 0,
            unreadable_bytes: 0,
            cancelled: false,
        };
        Past {
            since: 0,
            last: Some(last),
            under_way: None,
        }
    }

    const WHOLE: Now = Now {
        whole: true,
        free: true,
        scrubbing: false,
        mismatched_bytes: 4096,
        unreadable_bytes: 512,
    };
    const DEGRADED: Now = Now { whole: false, ..WHOLE };
    const BUSY: Now = Now { free: false, ..WHOLE };
    const SCRUBBED: Now = Now {
        whole: false,
        scrubbing: true,
        ..WHOLE
    };

    /// An array under a clock that somebody turns.
    struct Watched {
        scrub: Scrub,
        past: Past,
        running: Option<Running>,
        time: u64,
    }

    impl Watched {
        /// Turns the clock so far, and does what is to be done then.
        fn turn(&mut self, to: u64, array: Now) -> Step {
            self.time = to;
            if let Some(running) = &mut self.running {
                running.seen |= array.scrubbing
            }
            let step = step(Some(&self.scrub), &self.past, self.running.as_ref(), &array, to);
            match step {
                Step::Begin => self.running = Some(Running::new(to, false)),
                Step::GoOn(under_way) => self.running = Some(Running::going_on(&under_way, to)),
                Step::End(done) => (self.running, self.past.last) = (None, Some(done)),
                Step::CutOff => self.running = None,
                Step::Wait(_) => (),
            }
            step
        }
    }

    #[test]
    fn the_first_is_due_so_long_after_the_array_was_seen_and_the_next_so_long_after_the_last_began() {
        let mut array = Watched {
            scrub: every(3600, None),
            past: since(1_000),
            running: None,
            time: 0,
        };
        assert_eq!(array.turn(2_000, WHOLE), Step::Wait(1_000 + HOUR));
        assert_eq!(array.turn(1_000 + HOUR, WHOLE), Step::Begin);
        // It is not there at once.
        assert_eq!(array.turn(1_500 + HOUR, WHOLE), Step::Wait(2_500 + HOUR));
        assert_eq!(array.turn(2_500 + HOUR, SCRUBBED), Step::Wait(3_500 + HOUR));
        let Step::End(done) = array.turn(9_000 + HOUR, WHOLE) else {
            panic!("it has ended")
        };
        assert_eq!(
            (done.began, done.took, done.mismatched_bytes, done.cancelled),
            (1_000 + HOUR, 8_000, 4096, false)
        );
        assert_eq!(array.turn(10_000 + HOUR, WHOLE), Step::Wait(1_000 + 2 * HOUR));
    }

    #[test]
    fn an_array_that_is_not_whole_waits_and_one_that_was_cut_off_is_due_at_once() {
        let mut array = Watched {
            scrub: every(3600, None),
            past: since(0),
            running: None,
            time: 0,
        };
        assert_eq!(array.turn(2 * HOUR, DEGRADED), Step::Wait(2 * HOUR + 5_000));
        // Another array has its disks.
        assert_eq!(array.turn(2 * HOUR, BUSY), Step::Wait(2 * HOUR + 5_000));
        assert_eq!(array.turn(3 * HOUR, WHOLE), Step::Begin);
        assert_eq!(array.turn(3 * HOUR + 10, SCRUBBED), Step::Wait(3 * HOUR + 1_010));
        // A member fails meanwhile.
        assert_eq!(array.turn(3 * HOUR + 2_000, DEGRADED), Step::CutOff);
        assert_eq!(array.turn(3 * HOUR + 3_000, DEGRADED), Step::Wait(3 * HOUR + 8_000));
        assert_eq!(array.turn(4 * HOUR, WHOLE), Step::Begin);
        // A restart: what was written down of it goes on when all members are there, and counts from its start.
        let under_way = UnderWay {
            began: 4 * HOUR,
            repair: false,
            at: 77,
            mismatched_bytes: 512,
            unreadable_bytes: 1024,
        };
        (array.running, array.past.under_way) = (None, Some(under_way));
        assert_eq!(array.turn(5 * HOUR, DEGRADED), Step::Wait(5 * HOUR + 5_000));
        assert_eq!(array.turn(5 * HOUR, BUSY), Step::Wait(5 * HOUR + 5_000));
        assert_eq!(array.turn(5 * HOUR + 10, WHOLE), Step::GoOn(under_way));
        assert_eq!(array.turn(5 * HOUR + 20, WHOLE), Step::Wait(5 * HOUR + 1_020));
        array.turn(5 * HOUR + 30, SCRUBBED);
        let Step::End(done) = array.turn(6 * HOUR, WHOLE) else {
            panic!("it has ended")
        };
        assert_eq!((done.began, done.mismatched_bytes), (4 * HOUR, 512 + 4096));
        assert_eq!(done.unreadable_bytes, 1024 + 512)
    }

    #[test]
    fn one_that_somebody_ends_is_not_begun_again_before_the_next_is_due() {
        let mut array = Watched {
            scrub: every(3600, None),
            past: since(0),
            running: None,
            time: 0,
        };
        assert_eq!(array.turn(HOUR, WHOLE), Step::Begin);
        array.turn(HOUR + 100, SCRUBBED);
        array.running.as_mut().expect("it runs").cancelled = true;
        assert!(matches!(array.turn(HOUR + 2_000, WHOLE), Step::End(done) if done.cancelled));
        assert_eq!(array.turn(HOUR + 3_000, WHOLE), Step::Wait(2 * HOUR));
    }

    #[test]
    fn a_time_of_day_is_that_of_the_nearest_day_and_does_not_drift() {
        let week = every(7 * 86_400, Some("02:00"));
        // At 13:00, at 02:00:05, at 01:59.
        for began in [13 * HOUR, 2 * HOUR + 5_000, 2 * HOUR - 60_000] {
            assert_eq!(next(&week, &ended(began)), 7 * DAY + 2 * HOUR, "{began}");
        }
        // After a night in which it was degraded until 15:00: the next but one.
        assert_eq!(next(&week, &ended(15 * HOUR)), 8 * DAY + 2 * HOUR);
        assert_eq!(next(&every(86_400, Some("00:00")), &since(0)), DAY);
        assert_eq!(next(&every(u64::MAX / 1000, Some("00:00")), &since(DAY)) % DAY, 0);
    }

    #[test]
    fn nothing_is_due_where_nothing_is_said() {
        assert_eq!(step(None, &since(0), None, &WHOLE, DAY), Step::Wait(u64::MAX));
    }
}
