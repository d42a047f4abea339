//! Spares that arrays of one `spare_group` share, as mdadm's monitor has it: one that lacks a member and has no spare gets that of another, which is whole.
//!
//! The spare is taken out (`raid-remove`) and given (`raid-add`), two changes of the engine. Between them it is in the book: after a crash it is blank and in no array, and goes on from there.
use super::{
    Tended,
    book::{Moving, Rest},
};
use crate::{audit::Call, context::Context, error::RpcResult, methods::plan::failed};
use bdev::{Table, table::Seat};
use config::arrays::policy;
use lvol::{Extra, ExtraKind, Request, Stamp};
use serde_json::{Value, json};
use spec::md::{SECTOR, v1::Minor};
use std::{collections::BTreeMap, time::Duration};

/// How often somebody who lacks a member and gets no spare is looked at.
const AGAIN: Duration = Duration::from_secs(5);
/// How long after a start a spare that was on its way is waited for, and the arrays that it was between.
const HOPE: Duration = Duration::from_secs(600);
/// Superblocks of this version are given to spares, and to no others.
const VERSION: &str = "1.2";

/// What an array of a group has to give, or needs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sharer {
    array: String,
    group: String,
    /// Places without a member.
    lacks: usize,
    /// All its members are there and hold what they should.
    whole: bool,
    /// Its members have superblocks as spares get them.
    takes: bool,
    /// Bytes that it needs of a member, and bytes in a block.
    needs: (u64, u32),
}

/// True if the members of an array have superblocks of version 1.2, by where they are.
fn takes_spares(seats: &[Option<Seat>], block: u32) -> bool {
    let here = |seat: &Seat| {
        let at = seat.superblock.as_ref().map(|(at, _)| at * u64::from(block));
        at == Minor::V2.sector(u64::MAX).map(|sector| sector * SECTOR)
    };
    seats.iter().flatten().all(here)
}

/// A spare that goes from one array to another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    disk: String,
    from: String,
    to: String,
}

/// Who gets which spare: for each array that lacks a member and has no spare the smallest that is long enough, of the array that has most.
fn moves(sharers: &[Sharer], extras: &[Extra], refused: impl Fn(&str, &str) -> bool) -> Vec<Move> {
    let mut spares: BTreeMap<&str, Vec<&Extra>> = BTreeMap::new();
    for extra in extras.iter().filter(|extra| extra.kind == ExtraKind::Spare) {
        spares.entry(&extra.array).or_default().push(extra)
    }
    let mut plan = Vec::new();
    for needy in sharers.iter().filter(|one| one.lacks > 0 && one.takes) {
        let (bytes, block) = needy.needs;
        let fits = |extra: &&&Extra| extra.block_size == block && extra.room_bytes >= bytes;
        let own = spares.get(needy.array.as_str());
        if own.is_some_and(|own| own.iter().any(|extra| fits(&extra))) {
            continue;
        }
        let moves = |extra: &&&Extra| extra.version == VERSION && !refused(&needy.array, &extra.disk);
        let gives = |one: &&Sharer| one.whole && one.group == needy.group && one.array != needy.array;
        let best = sharers
            .iter()
            .filter(gives)
            .filter_map(|one| {
                let all = spares.get(one.array.as_str())?;
                let spare = all
                    .iter()
                    .filter(fits)
                    .filter(moves)
                    .min_by_key(|extra| extra.room_bytes)?;
                Some((all.len(), *spare))
            })
            // The first of those that have as many.
            .rev()
            .max_by_key(|(many, _)| *many);
        let Some((_, spare)) = best else { continue };
        plan.push(Move {
            disk: spare.disk.clone(),
            from: spare.array.clone(),
            to: needy.array.clone(),
        });
        if let Some(left) = spares.get_mut(spare.array.as_str()) {
            left.retain(|extra| extra.disk != spare.disk)
        }
    }
    plan
}

impl Context {
    /// Gives spares to those that need them. In how long the next look is.
    pub(super) async fn share_spares(&self, arrays: &[Tended]) -> Duration {
        let sharer = |array: &Tended| {
            let name = &array.node.name;
            let group = policy(&self.base().arrays, name).spare_group?.to_owned();
            let Table::Raid { used, on, .. } = &array.node.table else {
                return None;
            };
            let block = array.node.geometry.block_size;
            Some(Sharer {
                array: name.clone(),
                group,
                lacks: super::lacks(&array.report),
                whole: array.is_whole(),
                takes: takes_spares(on, block),
                needs: (used * u64::from(block), block),
            })
        };
        let sharers: Vec<Sharer> = arrays.iter().filter_map(sharer).collect();
        if !sharers.iter().any(|one| one.lacks > 0 && one.takes) {
            return super::SLEEP;
        }
        // Its own spare goes first, and the engine sees to that by itself.
        let extras = match self.engine.wait_for_examine().await {
            Ok(()) => self.engine.extras().await,
            Err(why) => Err(why),
        };
        let extras = match extras {
            Ok(extras) => extras,
            Err(why) => {
                tracing::warn!(%why, "which spares there are is not known; it is asked again");
                return AGAIN;
            }
        };
        let refused = self.caretaker.known().refused.clone();
        for one in moves(&sharers, &extras, |array, disk| {
            refused.contains(&(array.to_owned(), disk.to_owned()))
        }) {
            self.give(one).await
        }
        AGAIN
    }

    /// A spare goes from one array to another.
    async fn give(&self, Move { disk, from, to }: Move) {
        tracing::warn!(
            array = to,
            spare = disk,
            from,
            "lacks a member and has no spare; it gets one of its group"
        );
        let moving = Moving {
            blocks: self.graph.info(&disk).map_or(0, |node| node.geometry.blocks),
            disk,
            from,
            to,
        };
        self.note(|book| book.spares.push(moving.clone())).await;
        let Moving { disk, from, to, .. } = &moving;
        let why = format!("{to} lacks a member and has no spare");
        match self.change_for("raid-remove", from, disk, &why).await {
            Ok(()) => self.arrive(&moving, &why).await,
            Err(error) => {
                tracing::error!(array = from, spare = disk, %error, "cannot be taken out; it stays");
                self.refuse(to, disk)
            }
        }
        self.moved(&moving).await
    }

    /// A blank disk that was a spare of one array is taken by another, or back by the first.
    async fn arrive(&self, moving: &Moving, why: &str) {
        let Moving { disk, from, to, .. } = moving;
        let Err(error) = self.change_for("raid-add", to, disk, why).await else {
            tracing::info!(array = to, spare = disk, from, "has its spare");
            return;
        };
        tracing::error!(array = to, spare = disk, %error, "does not take it; it goes back");
        self.refuse(to, disk);
        self.give_back(moving, &format!("{to} does not take it")).await
    }

    async fn give_back(&self, moving: &Moving, why: &str) {
        let Moving { disk, from, .. } = moving;
        if let Err(error) = self.change_for("raid-add", from, disk, why).await {
            tracing::error!(
                array = from,
                spare = disk,
                %error,
                "cannot be given back; the disk is blank and in no array. `ashlar do raid-add {from} disks={disk}` gives it back"
            )
        }
    }

    /// It is on its way no more.
    async fn moved(&self, moving: &Moving) {
        self.note(|book| book.spares.retain(|known| known != moving)).await
    }

    /// Spares that were on their way when an earlier life ended go on. True if one of them has: then arrays are others than they were.
    pub(super) async fn go_on_moving(&self) -> bool {
        let left = self.caretaker.known().book.spares.clone();
        if left.is_empty() || self.engine.wait_for_examine().await.is_err() {
            return false;
        }
        let late = self.ticks() > HOPE.as_nanos() as u64;
        let mut moved = false;
        for moving in &left {
            let Ok(known) = self.engine.disk(&moving.disk).await else {
                continue;
            };
            let disk = known.map(|disk| (disk.verdict, disk.node.map_or(0, |node| node.geometry.blocks)));
            let Moving {
                disk: spare, from, to, ..
            } = moving;
            match moving.rest(disk, self.lacks(to).await, self.lacks(from).await, late) {
                Rest::Wait => continue,
                Rest::Over => (),
                Rest::LeftAlone => tracing::warn!(
                    spare,
                    from,
                    to,
                    "was on its way when the target ended, and is not there as the blank disk that it was: whatever it is now, it is left alone"
                ),
                Rest::Give => {
                    tracing::warn!(array = to, spare, from, "was to get this spare when the target ended");
                    let why = format!("{to} lacks a member and was to get it when the target ended");
                    self.arrive(moving, &why).await;
                    moved = true
                }
                Rest::GiveBack => {
                    tracing::warn!(
                        array = from,
                        spare,
                        to,
                        "gets its spare back, which was on its way when the target ended"
                    );
                    let why = format!("it was on its way to {to} when the target ended, which does not need it now");
                    self.give_back(moving, &why).await;
                    moved = true
                }
            }
            self.moved(moving).await
        }
        moved
    }

    /// How many members an array lacks, if it runs.
    async fn lacks(&self, array: &str) -> Option<usize> {
        let report = self.graph.array(array).await.ok()?;
        Some(super::lacks(&report))
    }

    fn refuse(&self, array: &str, disk: &str) {
        let pair = (array.to_owned(), disk.to_owned());
        self.caretaker.known().refused.insert(pair);
    }

    /// A change of disks that nobody has called for; the audit log says why it was made.
    async fn change_for(&self, verb: &str, array: &str, disk: &str, why: &str) -> RpcResult<()> {
        let request = Request::new(verb, array).with("disks", json!([disk]));
        let params = json!({"verb": verb, "object": array, "options": {"disks": [disk]}, "reason": why});
        let call = Call::new("ashlar_change", &params);
        let changed = self.engine.change(&request, &Stamp::now()).await;
        let outcome: RpcResult<Value> = changed.map(|_| Value::Bool(true)).map_err(failed);
        self.audit.note(&call, None, &outcome);
        outcome?;
        self.settle().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharer(array: &str, group: &str, lacks: usize) -> Sharer {
        Sharer {
            array: array.into(),
            group: group.into(),
            lacks,
            whole: lacks == 0,
            takes: true,
            needs: (1 << 20, 512),
        }
    }

    fn spare(array: &str, disk: &str, room: u64) -> Extra {
        Extra {
            array: array.into(),
            disk: disk.into(),
            kind: ExtraKind::Spare,
            version: VERSION.into(),
            room_bytes: room,
            block_size: 512,
        }
    }

    fn told(sharers: &[Sharer], extras: &[Extra]) -> Vec<String> {
        let all = moves(sharers, extras, |_, disk| disk == "refused");
        all.into_iter()
            .map(|one| format!("{} {}>{}", one.disk, one.from, one.to))
            .collect()
    }

    #[test]
    fn the_smallest_that_fits_comes_from_the_array_of_the_group_that_has_most() {
        let sharers = [
            sharer("a", "g", 1),
            sharer("b", "g", 0),
            sharer("c", "g", 0),
            sharer("d", "h", 0),
        ];
        let extras = [
            spare("b", "b1", 1 << 20),
            spare("c", "small", 1 << 19),
            spare("c", "large", 1 << 30),
            spare("c", "right", 1 << 21),
            spare("d", "others", 1 << 20),
        ];
        assert_eq!(told(&sharers, &extras), ["right c>a"]);
        assert_eq!(told(&sharers, &extras[..2]), ["b1 b>a"]);
        assert!(told(&sharers, &extras[4..]).is_empty());
    }

    #[test]
    fn who_has_a_spare_or_lacks_a_member_itself_neither_gets_nor_gives() {
        let sharers = [sharer("a", "g", 1), sharer("b", "g", 1)];
        assert!(told(&sharers, &[spare("a", "own", 1 << 20)]).is_empty());
        let sharers = [sharer("a", "g", 1), sharer("b", "g", 0)];
        let extras = [spare("a", "own", 1 << 20), spare("b", "b1", 1 << 20)];
        assert!(told(&sharers, &extras).is_empty());
        let extras = [spare("a", "too-short", 1 << 19), spare("b", "b1", 1 << 20)];
        assert_eq!(told(&sharers, &extras), ["b1 b>a"]);
        let failed = Extra {
            kind: ExtraKind::Failed,
            ..spare("c", "old", 1 << 20)
        };
        let sharers = [sharer("a", "g", 2), sharer("b", "g", 1), sharer("c", "g", 0)];
        assert!(told(&sharers, &[failed, spare("c", "refused", 1 << 20)]).is_empty());
        // One for each, as long as there are some.
        let extras = [spare("c", "c1", 1 << 20), spare("c", "c2", 1 << 20)];
        assert_eq!(told(&sharers, &extras), ["c1 c>a", "c2 c>b"]);
        assert_eq!(told(&sharers, &extras[..1]), ["c1 c>a"]);
    }

    #[test]
    fn a_spare_of_another_kind_does_not_fit() {
        let sharers = [sharer("a", "g", 1), sharer("b", "g", 0)];
        let large = Extra {
            block_size: 4096,
            ..spare("b", "large-blocks", 1 << 30)
        };
        let old = Extra {
            version: "1.0".into(),
            ..spare("b", "old", 1 << 30)
        };
        assert!(told(&sharers, &[large, old]).is_empty());
        let plain = Sharer {
            takes: false,
            ..sharer("a", "g", 1)
        };
        assert!(told(&[plain, sharer("b", "g", 0)], &[spare("b", "b1", 1 << 20)]).is_empty());
    }
}
