//! Putting groups together: ask each format that spans disks what its members add up to, then make the graph agree. Runs when everything has
//! been examined that was to be, and again whenever a member has come, changed or gone. The caller holds the engine's line of work.
//!
//! Claims come first, so that nobody takes a member while its volumes are built; then what no group wants any more goes; then what is
//! wanted comes; then members that nothing stands on and no group has are free again.
use crate::{
    Engine, Origin,
    engine::{Known, State},
    events::ChangeKind,
    examine,
    group::{Enrolled, Given, Group, GroupState, Member, Shared, Standing, Volume},
    judge::Verdict,
    plugin::Registry,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

/// A disk that contributes something, taken out of the state.
struct Candidate {
    disk: String,
    blocks: u64,
    block_size: u32,
    member: Member,
    carries: bool,
    gone: bool,
    /// It is a volume itself, or a partition of one.
    on_volume: bool,
}

/// What groups have that they had not, as long as all else is there as they say.
struct News {
    /// Volumes that are not the very same as before, by their places in each group.
    places: Vec<Vec<usize>>,
    /// Disks of volumes that were active and are not the very same any more.
    gone: Vec<String>,
}

impl News {
    fn of(before: &[Group], groups: &[Group]) -> Self {
        let active = |volume: &&Shared<Volume>| volume.node.is_some() && volume.inactive.is_none();
        let all = before.iter().flat_map(|group| &group.volumes).filter(active);
        let mut left: HashMap<*const Volume, &str> = all.map(|volume| (&raw const **volume, &*volume.disk)).collect();
        let new = |group: &Group| -> Vec<usize> {
            let each = group.volumes.iter().enumerate();
            each.filter(|(_, volume)| left.remove(&(&raw const ***volume)).is_none())
                .map(|(place, _)| place)
                .collect()
        };
        Self {
            places: groups.iter().map(new).collect(),
            gone: left.into_values().map(str::to_owned).collect(),
        }
    }
}

/// The places of a group's volumes that are to be looked at.
fn places(group: &Group, new: Option<&[usize]>) -> Vec<usize> {
    new.map_or_else(|| (0..group.volumes.len()).collect(), <[usize]>::to_vec)
}

/// Puts all groups together anew.
pub(crate) async fn assemble(engine: &Engine) {
    let (agreed, members) = {
        let mut state = engine.state();
        let concerned = |(disk, known): (&String, &Known)| {
            (known.findings.member.is_some() || known.standing.is_some()).then(|| disk.clone())
        };
        let members: Vec<String> = state.known.iter().filter_map(concerned).collect();
        // Until something happens that nobody here has done.
        (std::mem::replace(&mut state.agree, true), members)
    };
    let mut groups = Vec::new();
    for format in engine.registry().formats() {
        let (before, lvm2, desires, patient) = {
            let state = engine.state();
            (
                state.groups.clone(),
                state.lvm2.clone(),
                state.desires.clone(),
                state.patient.clone(),
            )
        };
        let had = before.iter().any(|group| group.format == format.name());
        let (outer, inner): (Vec<_>, Vec<_>) = candidates(engine, format.name(), &members)
            .into_iter()
            .partition(|c| format.takes_volumes() || !c.on_volume);
        if outer.is_empty() && inner.is_empty() && !had {
            continue;
        }
        let enrolled: Vec<Enrolled<'_>> = outer
            .iter()
            .map(|one| Enrolled {
                disk: &one.disk,
                blocks: one.blocks,
                block_size: one.block_size,
                member: &one.member,
                carries: one.carries,
                gone: one.gone,
            })
            .collect();
        let mut assembly = format.assemble(
            &enrolled,
            Given {
                before: &before,
                patient: &patient,
                lvm2: &lvm2,
                desires: &desires,
            },
        );
        // As LVM2 without `scan_lvs`: what is on a volume is the business of whoever uses it, a virtual machine as a rule.
        assembly.standings.extend(inner.into_iter().map(|one| {
            let standing = Standing {
                verdict: Verdict::Unclaimed,
                reason:
                    "holds a physical volume, but is itself on a volume of a group: it belongs to whoever uses that"
                        .into(),
                notes: Vec::new(),
            };
            (one.disk, standing)
        }));
        for (disk, standing) in assembly.standings {
            stand(engine, format.name(), &disk, standing);
        }
        groups.extend(assembly.groups);
    }
    wait(engine, &groups);
    let news = agreed.then(|| News::of(&engine.state().groups, &groups));
    let mut agree = remove(engine, &mut groups, news.as_ref()).await;
    for (number, group) in groups.iter_mut().enumerate() {
        agree &= build(engine, group, news.as_ref().map(|news| &*news.places[number])).await;
    }
    finish(engine, groups, &members);
    engine.state().agree &= agree;
}

/// Notes which groups wait for members, and since when.
fn wait(engine: &Engine, groups: &[Group]) {
    let mut state = engine.state();
    let waiting: BTreeSet<&String> = groups
        .iter()
        .filter(|group| group.state == GroupState::Waiting)
        .map(|group| &group.id)
        .collect();
    state.waiting.retain(|id, _| waiting.contains(id));
    let now = Instant::now();
    for id in waiting {
        state.waiting.entry(id.clone()).or_insert(now);
    }
    // Whoever is whole again waits the next time.
    let complete = groups.iter().filter(|group| group.state == GroupState::Complete);
    let whole: Vec<&String> = complete.map(|group| &group.id).collect();
    state.patient.retain(|id| !whole.contains(&id))
}

fn candidates(engine: &Engine, format: &str, members: &[String]) -> Vec<Candidate> {
    let state = engine.state();
    // From what is known, not from the graph: there a disk knows the name of each of the ten thousand volumes on it.
    let candidate = |disk: &String| {
        let known = state.known.get(disk)?;
        let of_it = known.findings.format == Some(format) || known.findings.format.is_none();
        let member = known.findings.member.as_ref().filter(|_| of_it)?;
        Some(Candidate {
            disk: disk.clone(),
            blocks: known.blocks,
            block_size: known.block_size,
            member: member.clone(),
            carries: !known.volumes.is_empty(),
            // What it contributes was read before it was gone.
            gone: known.findings.verdict == Verdict::Unreadable,
            on_volume: on_volume(engine.registry(), &state, disk),
        })
    };
    members.iter().filter_map(candidate).collect()
}

/// True if it is, or lies on, a volume that belongs to whoever uses it.
pub(crate) fn on_volume(registry: &Registry, state: &State, name: &str) -> bool {
    let mut todo = vec![name];
    // Each step goes to nodes that were there before.
    while let Some(at) = todo.pop() {
        match state.known.get(at).map(|known| (&known.origin, known)) {
            Some((Origin::Group { format, .. }, known)) => {
                let disks = registry.format(format).is_some_and(|format| format.volumes_are_disks());
                if !disks {
                    return true;
                }
                todo.extend(known.spec.table.below());
            }
            Some((Origin::Discovery { disk, .. }, _)) => todo.push(disk),
            _ => {}
        }
    }
    false
}

/// Writes down what a disk is, and claims it if it is a member.
fn stand(engine: &Engine, format: &'static str, disk: &str, mut standing: Standing) {
    let had = engine.state().known.get(disk).is_none_or(|known| known.claim.is_some());
    if standing.verdict == Verdict::Claimed && !had {
        match engine.runtime().claim(disk, format) {
            Ok(claim) => {
                if let Some(known) = engine.state().known.get_mut(disk) {
                    known.claim = Some(claim);
                }
            }
            Err(why) => {
                standing.verdict = Verdict::Unclaimed;
                standing.reason = format!("has {}, but {why}", standing.reason);
            }
        }
    }
    let changed = match engine.state().known.get_mut(disk) {
        Some(known) if known.standing.as_ref() != Some(&standing) => {
            tracing::info!(disk, verdict = ?standing.verdict, notes = ?standing.notes, "{disk} {}", standing.reason);
            known.standing = Some(standing);
            true
        }
        _ => false,
    };
    if changed {
        engine.tell(disk, ChangeKind::Examined);
    }
}

/// Removes volumes that no group wants. One that is in use stays, with a note; so do those of a group nobody can tell the truth about. True if
/// nothing stays that no group has as active.
async fn remove(engine: &Engine, groups: &mut [Group], news: Option<&News>) -> bool {
    let mut clean = true;
    // One that is there stays with a group nobody can tell the truth about, whatever that says of it.
    for group in groups.iter_mut().filter(|group| group.state == GroupState::Ambiguous) {
        clean = false;
        let state = engine.state();
        for volume in group.volumes.iter_mut().filter(|volume| volume.node.is_none()) {
            let there = state.known.get(&volume.disk).and_then(|known| known.volume.as_ref());
            if there.is_some_and(|there| there.id == volume.what.id) {
                volume.make_mut().inactive = None;
            }
        }
    }
    let unwanted: Vec<String> = {
        let mut wanted: HashSet<&str> = HashSet::new();
        for (number, group) in groups.iter().enumerate() {
            let stays = |volume: &&Shared<Volume>| volume.node.is_some() || group.state == GroupState::Ambiguous;
            let places = places(group, news.map(|news| &*news.places[number]));
            let volumes = places.into_iter().map(|place| &group.volumes[place]);
            wanted.extend(volumes.filter(stays).map(|volume| volume.disk.as_str()));
        }
        let unwanted = |name: &&String| !wanted.contains(name.as_str());
        match news {
            Some(news) => news.gone.iter().filter(unwanted).cloned().collect(),
            None => {
                let state = engine.state();
                let volumes = state.known.iter().filter(|(_, known)| known.volume.is_some());
                volumes.map(|(name, _)| name).filter(unwanted).cloned().collect()
            }
        }
    };
    for name in unwanted {
        let Err(why) = examine::remove_tree(engine, &name).await else {
            continue;
        };
        clean = false;
        let volume = groups.iter_mut().flat_map(|group| {
            let notes = &mut group.notes;
            group
                .volumes
                .iter_mut()
                .find(|volume| volume.disk == name)
                .map(|volume| (volume, notes))
        });
        match volume.into_iter().next() {
            Some((volume, notes)) => {
                let reason = volume.make_mut().inactive.take().unwrap_or_default();
                notes.push(format!("{name} {reason}; it stays because {why}"));
            }
            None => tracing::warn!(volume = name, %why, "no group has this volume any more; it stays"),
        }
    }
    clean
}

/// Builds what a group wants; of its volumes those at these places, if all others are as they were. True if it has all that it wants.
async fn build(engine: &Engine, group: &mut Group, new: Option<&[usize]>) -> bool {
    let mut all = true;
    let origin = Origin::Group {
        group: group.name.clone(),
        format: group.format.clone(),
    };
    for place in places(group, new) {
        let volume = &mut group.volumes[place];
        let Some(node) = volume.node.clone() else { continue };
        // Most volumes are as they were.
        {
            let mut state = engine.state();
            if let Some(known) = state.known.get_mut(&node.name)
                && known.origin == origin
                && known.spec.table.suits(&node.table)
            {
                if known.volume.as_ref() != Some(&volume.what) {
                    known.volume = Some(volume.what.clone());
                }
                continue;
            }
        }
        let (name, below) = (
            node.name.clone(),
            node.table.below().into_iter().map(str::to_owned).collect::<Vec<_>>(),
        );
        // Renamed while somebody uses it: the same extents must not be there twice.
        if let Some(twin) = engine
            .runtime()
            .find(&node.uuid.to_string())
            .filter(|twin| *twin != name)
        {
            volume.make_mut().inactive = Some(format!("is still in use as {twin:?}"));
            continue;
        }
        let old: Vec<String> = {
            let state = engine.state();
            let there = state.known.get(&name).filter(|known| known.origin == origin);
            let on = there.map(|known| known.spec.table.below()).unwrap_or_default();
            on.into_iter().map(str::to_owned).collect()
        };
        match examine::place(engine, origin.clone(), node.uuid, (*node).clone(), &mut group.notes).await {
            Ok(()) => {
                let mut state = engine.state();
                for on in old.iter().filter(|on| !below.contains(on)) {
                    if let Some(known) = state.known.get_mut(on) {
                        Arc::make_mut(&mut known.volumes).remove(&name);
                    }
                }
                for on in below {
                    if let Some(known) = state.known.get_mut(&on) {
                        Arc::make_mut(&mut known.volumes).insert(name.clone());
                    }
                }
                if let Some(known) = state.known.get_mut(&name) {
                    known.volume = Some(volume.what.clone());
                }
            }
            Err(why) => {
                volume.make_mut().inactive = Some(format!("cannot be activated: {why}"));
                all = false;
            }
        }
    }
    all
}

/// Keeps the groups for questions, and lets go of disks that are in none.
fn finish(engine: &Engine, groups: Vec<Group>, members: &[String]) {
    let mut state = engine.state();
    for disk in members {
        let Some(known) = state.known.get_mut(disk) else {
            continue;
        };
        let member = known.standing.as_ref().is_some_and(|s| s.verdict == Verdict::Claimed);
        if known.standing.is_some() && !member && known.volumes.is_empty() && known.parts.is_empty() {
            known.claim = None;
        }
    }
    let known = &state.known;
    let inactive = |(g, group): (usize, &Group)| -> Vec<(String, (usize, usize))> {
        let idle = |volume: &Volume| volume.inactive.is_some() && !volume.hidden && !known.contains_key(&volume.disk);
        let volumes = group.volumes.iter().enumerate().filter(|(_, volume)| idle(volume));
        volumes.map(|(v, volume)| (volume.disk.clone(), (g, v))).collect()
    };
    state.inactive = groups.iter().enumerate().flat_map(inactive).collect();
    let old = std::mem::replace(&mut state.groups, Arc::new(groups));
    for group in state.groups.iter() {
        if !old.contains(group) {
            let idle = group
                .volumes
                .iter()
                .filter(|v| v.inactive.is_some() && !v.hidden)
                .count();
            let active = group.volumes.iter().filter(|v| v.inactive.is_none()).count();
            tracing::info!(
                group = group.name,
                format = group.format,
                active,
                idle,
                notes = ?group.notes,
                "group {} {}",
                group.name,
                group.reason
            );
        }
    }
}
