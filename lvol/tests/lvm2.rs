//! Volume groups made by the real LVM2 on loop devices, without a device-mapper (`--driverloaded n`), and found by us. What LVM2 itself reports
//! (`lvs -o +seg_pe_ranges`, `vgs`, `pvs`) is what we are compared with; every byte of the volumes is read through the graph. Needs root
//! for the loop devices; skipped by name where a tool is missing.
#[allow(dead_code)]
#[path = "lvm2/tool.rs"]
mod tool;

use bdev::{Graph, NodeSpec, NodeState, Table};
use lvol::{Create, DiskInfo, Engine, GroupState, Origin, Verdict};
use reactor::{Config, Reactors};
use spec::{
    BlockRange,
    lvm2::{
        label::Label,
        mda::Header,
        text::{Data, Section},
    },
};
use std::{
    fs,
    future::Future,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::Instant,
};
use tool::{Lvm, MIB, content, have};

struct House {
    engine: Engine,
}

impl House {
    fn graph(&self) -> &Graph {
        self.engine.runtime().graph().unwrap()
    }

    async fn add(&self, name: &str, path: &Path) {
        self.add_with(name, path, None).await
    }

    async fn add_with(&self, name: &str, path: &Path, block_size: Option<u32>) {
        let table = Table::File {
            path: path.into(),
            block_size,
            read_only: false,
            create_size: None,
            direct: Default::default(),
        };
        let wish = Create {
            spec: NodeSpec::new(name, table),
            origin: Origin::Config,
            examine: true,
        };
        self.engine.create_or_wait(wish).await.unwrap();
    }

    fn disk(&self, name: &str) -> DiskInfo {
        let found = self.engine.disk(name);
        found.unwrap_or_else(|| panic!("no disk {name:?}; there are {:?}", self.names()))
    }

    fn said(&self, name: &str) -> (Verdict, String) {
        let disk = self.disk(name);
        (disk.verdict, disk.reason)
    }

    fn names(&self) -> Vec<String> {
        self.engine.disks().into_iter().map(|disk| disk.name).collect()
    }

    /// All blocks of a disk.
    async fn read(&self, name: &str) -> Vec<u8> {
        let geometry = self.graph().info(name).unwrap().geometry;
        let (step, mut bytes) = ((MIB / u64::from(geometry.block_size)) as u32, Vec::new());
        let mut at = 0;
        while at < geometry.blocks {
            let count = u32::try_from(geometry.blocks - at).unwrap_or(u32::MAX).min(step);
            bytes.extend(self.graph().read(name, BlockRange::new(at, count)).await.unwrap());
            at += u64::from(count);
        }
        bytes
    }
}

fn house<F: Future<Output = ()>>(story: impl FnOnce(House) -> F) {
    let reactors = Reactors::start(Config {
        count: 2,
        ..Config::default()
    })
    .unwrap();
    let engine = Engine::new(Graph::new(reactors.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(story(House { engine }));
    drop(runtime);
    reactors.stop();
}

#[test]
fn linear_and_striped_volumes_hold_what_lvm2_says() {
    let Some(mut lvm) = Lvm::new("linear and striped volumes", &[64 * MIB, 64 * MIB, 96 * MIB], 512) else {
        return;
    };
    lvm.run("pvcreate", &["--metadatacopies", "2", "@0"]);
    lvm.run("pvcreate", &["--metadatacopies", "0", "@1"]);
    lvm.run("pvcreate", &["@2"]);
    lvm.run(
        "vgcreate",
        &["-s", "1m", "--addtag", "fast", "v.g+1_a-b", "@0", "@1", "@2"],
    );
    let vg = "v.g+1_a-b";
    lvm.lvcreate(
        vg,
        &["-n", "lin", "-l", "10", "--addtag", "t1", "--addtag", "t/2"],
        &["@1"],
    );
    lvm.lvcreate(vg, &["-n", "str", "-l", "12", "-i", "3", "-I", "64k"], &[]);
    lvm.lvcreate(
        vg,
        &["-n", "odd.name+x_y-z", "-l", "5", "-i", "2", "-I", "4k"],
        &["@2", "@0"],
    );
    lvm.run("lvextend", &["-l", "+20", &format!("{vg}/lin"), "@2"]);
    lvm.run("lvextend", &["-l", "+6", "-i", "3", "-I", "128k", &format!("{vg}/str")]);
    lvm.run("lvextend", &["-l", "+3", &format!("{vg}/lin"), "@0"]);
    lvm.lvcreate(vg, &["-n", "ro", "-l", "2", "-pr"], &[]);
    let wanted = lvm.segments();
    let pes = lvm.data_starts();
    let seqno = lvm.report("vgs", "vg_seqno,vg_free_count", &[])[0].clone();
    lvm.detach();
    lvm.fill();
    let before: Vec<_> = lvm
        .images
        .iter()
        .map(|path| fs::metadata(path).unwrap().mtime_nsec())
        .collect();
    house(async |h| {
        for (at, path) in lvm.images.iter().enumerate() {
            h.add(&format!("d{at}"), path).await;
        }
        let group = &h.engine.groups()[0];
        assert_eq!(
            (group.name.as_str(), group.state, group.reason.as_str()),
            (vg, GroupState::Complete, "has all its 3 physical volumes")
        );
        assert_eq!(group.seqno.to_string(), seqno["vg_seqno"]);
        let free: u64 = group.members.iter().map(|seat| seat.extents - seat.used).sum();
        assert_eq!(free.to_string(), seqno["vg_free_count"]);
        assert_eq!(
            (group.tags.as_slice(), group.extent_bytes),
            (&["fast".to_owned()][..], MIB)
        );
        assert_eq!(
            h.said("d1"),
            (Verdict::Claimed, format!("LVM2 physical volume pv1 of group {vg:?}"))
        );
        for lv in ["lin", "str", "odd.name+x_y-z", "ro"] {
            let name = format!("{vg}/{lv}");
            let expected = content(&wanted, lv, &pes, MIB);
            assert!(h.read(&name).await == expected, "{name} reads as something else");
            let disk = h.disk(&name);
            let node = disk.node.unwrap();
            assert_eq!(node.product, "LVM2 Logical Volume");
            assert_eq!(node.geometry.read_only, lv == "ro");
            assert_eq!(disk.volume.unwrap().bytes, expected.len() as u64);
        }
        assert_eq!(h.disk(&format!("{vg}/lin")).volume.unwrap().tags, ["t1", "t/2"]);
        let kinds = h.disk(&format!("{vg}/str")).volume.unwrap().kinds.clone();
        assert_eq!(kinds, ["striped"]);
        // Written through the volume it is where LVM2 will look for it.
        let name = format!("{vg}/str");
        h.graph().write(&name, 130, vec![0xa5; 512], false).await.unwrap();
        assert_eq!(
            h.graph().read(&name, BlockRange::new(130, 1)).await.unwrap(),
            [0xa5; 512]
        );
        let at = tool::place(&wanted, "str", &pes, MIB, 130 * 512);
        let mut there = [0; 512];
        fs::File::open(&lvm.images[at.0])
            .unwrap()
            .read_exact_at(&mut there, at.1)
            .unwrap();
        assert_eq!(there, [0xa5; 512]);
        let refused = h
            .graph()
            .write(&format!("{vg}/ro"), 0, vec![0; 512], false)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("read"), "{refused}");

        // The members are claimed, the volumes go with their group only.
        let refused = h.graph().claim("d0", "somebody").unwrap_err();
        assert!(refused.to_string().contains("lvm2"), "{refused}");
        let refused = h.engine.delete(&format!("{vg}/lin"), false).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("\"{vg}/lin\" is a volume of the group {vg:?} and goes when the group's metadata says so")
        );
        // Without its second disk the group is partial, and what needs it is shown with the reason.
        let pin = h.graph().pin(&format!("{vg}/lin"), "a target").unwrap();
        let refused = h.engine.delete("d1", false).await.unwrap_err();
        assert!(refused.to_string().contains("a target"), "{refused}");
        let refused = h.engine.take_whole("d1").await.unwrap_err();
        assert!(refused.to_string().contains("member of a volume group"), "{refused}");
        drop(pin);
        h.engine.delete("d1", false).await.unwrap();
        let group = &h.engine.groups()[0];
        assert_eq!(
            (group.state, group.reason.as_str()),
            (GroupState::Partial, "lacks 1 of its 3 physical volumes")
        );
        let (verdict, why) = h.said(&format!("{vg}/lin"));
        assert_eq!(verdict, Verdict::Inactive);
        assert!(
            why.starts_with("needs pv1 (") && why.contains("which is missing; it was last seen as /dev/loop"),
            "{why}"
        );
        assert!(h.disk(&format!("{vg}/odd.name+x_y-z")).node.is_some());
        // And with it again it is whole.
        h.add("again", &lvm.images[1]).await;
        assert_eq!(h.engine.groups()[0].state, GroupState::Complete);
        let expected = content(&wanted, "lin", &pes, MIB);
        assert!(h.read(&format!("{vg}/lin")).await == expected);
    });
    // Only our own write has changed anything.
    let after: Vec<_> = lvm
        .images
        .iter()
        .map(|path| fs::metadata(path).unwrap().mtime_nsec())
        .collect();
    assert_eq!(before.iter().zip(&after).filter(|(a, b)| a != b).count(), 1);
}

#[test]
fn blocks_of_4096_bytes() {
    let Some(mut lvm) = Lvm::new("LVM2 on 4096-byte blocks", &[64 * MIB, 64 * MIB], 4096) else {
        return;
    };
    lvm.run("vgcreate", &["-s", "2m", "big", "@0", "@1"]);
    lvm.lvcreate("big", &["-n", "s", "-l", "8", "-i", "2", "-I", "16k"], &[]);
    let (wanted, pes) = (lvm.segments(), lvm.data_starts());
    lvm.detach();
    lvm.fill();
    house(async |h| {
        for (at, path) in lvm.images.iter().enumerate() {
            h.add_with(&format!("d{at}"), path, Some(4096)).await;
        }
        assert!(h.read("big/s").await == content(&wanted, "s", &pes, 2 * MIB));
        assert_eq!(h.graph().info("big/s").unwrap().geometry.block_size, 4096);
    });
}

#[test]
fn a_ring_that_has_wrapped_many_times() {
    let Some(lvm) = Lvm::new("LVM2's ring buffer", &[32 * MIB], 512) else {
        return;
    };
    lvm.run(
        "pvcreate",
        &[
            "--metadatasize",
            "32k",
            "--dataalignment",
            "32k",
            "--metadatacopies",
            "2",
            "@0",
        ],
    );
    lvm.run("vgcreate", &["-s", "1m", "ring", "@0"]);
    lvm.lvcreate("ring", &["-n", "n0", "-l", "1"], &[]);
    for n in 0..4 {
        let tags: Vec<String> = (0..20).map(|t| format!("{n}.{t:x>120}")).collect();
        let tags: Vec<&str> = tags.iter().flat_map(|tag| ["--addtag", tag.as_str()]).collect();
        lvm.run("vgchange", &[&tags[..], &["ring"]].concat());
    }
    let mut wrapped = 0;
    for n in 1..14 {
        lvm.run("lvrename", &["ring", &format!("n{}", n - 1), &format!("n{n}")]);
        let image = fs::read(&lvm.images[0]).unwrap();
        let label = Label::find(&image[..2048]).unwrap().unwrap();
        assert_eq!(label.to_bytes().unwrap()[..], image[512..1024]);
        assert_eq!(label.metadata.len(), 2);
        for area in &label.metadata {
            let at = area.offset as usize;
            let header = Header::parse(&image[at..], area.offset).unwrap();
            assert_eq!(header.to_bytes()[..], image[at..at + 512]);
            let [first, rest] = header.pieces(header.committed).unwrap().unwrap();
            wrapped += u32::from(rest.size > 0);
            let piece = |a: spec::lvm2::Area| &image[a.offset as usize..][..a.size as usize];
            let text = [piece(first), piece(rest)].concat();
            Header::check(header.committed, &text).unwrap();
            let tree = Section::parse(&text).unwrap();
            assert!(tree.to_bytes() == text, "the text is not given back as it was");
            let group = spec::lvm2::vg::VolumeGroup::of(&tree).unwrap();
            assert_eq!(group.logical[0].name, format!("n{n}"));
        }
    }
    assert!(wrapped > 1, "the ring has never wrapped");
    house(async |h| {
        h.add("d", &lvm.images[0]).await;
        assert_eq!(h.names(), ["d", "ring/n13"]);
    });
}

/// A text with `n` volumes of an extent each, for `vgcfgrestore`.
fn with_volumes(text: &[u8], n: u64) -> Vec<u8> {
    let mut tree = Section::parse(text).unwrap();
    let named = tree.items().iter().find(|item| item.section().is_some());
    let name = named.unwrap().name().into_owned();
    let group = tree.get_mut(&name).unwrap().section_mut().unwrap();
    let text = |word: &str| Data::Text(word.into());
    let mut volumes = Section::default();
    for i in 0..n {
        let mut segment = Section::default();
        segment.set("start_extent", Data::Integer(0));
        segment.set("extent_count", Data::Integer(1));
        segment.set("type", text("striped"));
        segment.set("stripe_count", Data::Integer(1));
        // Back to front, so that neighbours do not lie side by side.
        segment.set(
            "stripes",
            Data::List(vec![text("pv0"), Data::Integer((n - 1 - i) as i64)]),
        );
        let mut volume = Section::default();
        volume.set("id", text(&format!("abcdef-0000-0000-0000-0000-0000-{i:06}")));
        let status = ["READ", "WRITE", "VISIBLE"].map(text);
        volume.set("status", Data::List(status.to_vec()));
        volume.set("segment_count", Data::Integer(1));
        volume.add("segment1", segment);
        volumes.add(&format!("v{i}"), volume);
    }
    group.remove("logical_volumes");
    group.add("logical_volumes", volumes);
    tree.to_bytes()
}

#[test]
fn a_thousand_volumes_that_we_wrote_and_lvm2_took() {
    const N: u64 = 1000;
    let Some(mut lvm) = Lvm::new("a thousand volumes", &[80 * MIB], 512) else {
        return;
    };
    lvm.run("pvcreate", &["--metadatasize", "4m", "@0"]);
    lvm.run("vgcreate", &["-s", "64k", "many", "@0"]);
    let backup = lvm.dir().join("many.txt");
    let file = backup.to_str().unwrap();
    lvm.run("vgcfgbackup", &["-f", file, "many"]);
    fs::write(&backup, with_volumes(&fs::read(&backup).unwrap(), N)).unwrap();
    lvm.run("vgcfgrestore", &["-f", file, "many"]);
    lvm.run("vgck", &["many"]);
    let wanted = lvm.segments();
    assert_eq!(wanted.len() as u64, N, "LVM2 has read all that we have written");
    let pes = lvm.data_starts();
    lvm.detach();
    lvm.fill();
    house(async |h| {
        let began = Instant::now();
        h.add("d", &lvm.images[0]).await;
        let took = began.elapsed();
        eprintln!("{N} volumes found in {took:?}");
        assert_eq!(h.engine.volumes_of("many").len() as u64, N);
        for lv in [0, 1, 499, 999] {
            let lv = format!("v{lv}");
            assert!(h.read(&format!("many/{lv}")).await == content(&wanted, &lv, &pes, 64 << 10));
        }
        let began = Instant::now();
        h.engine.examine("d").await.unwrap();
        eprintln!("examined again in {:?}", began.elapsed());
        h.engine.delete("d", false).await.unwrap();
        assert_eq!(h.names(), [""; 0]);
    });
}

#[test]
fn whatever_we_cannot_run_is_shown_with_the_reason() {
    let Some(mut lvm) = Lvm::new("other segment types", &[64 * MIB, 64 * MIB], 512) else {
        return;
    };
    lvm.mixed();
    assert!(lvm.report("lvs", "lv_name", &["-a"]).len() >= 13, "LVM2 shows them");
    lvm.detach();
    house(async |h| {
        for (at, path) in lvm.images.iter().enumerate() {
            h.add(&format!("d{at}"), path).await;
        }
        let why = |lv: &str| {
            let (verdict, why) = h.said(&format!("mix/{lv}"));
            assert_eq!(verdict, Verdict::Inactive, "{lv}");
            why
        };
        assert!(h.disk("mix/plain").node.is_some());
        assert_eq!(
            why("r1"),
            "has segments of type raid1 (RAID-1), which cannot be run here"
        );
        assert_eq!(
            why("origin"),
            "is a part of \"snapshot0\" (snapshot), which cannot be run here"
        );
        assert_eq!(
            why("cow"),
            "is a part of \"snapshot0\" (snapshot), which cannot be run here"
        );
        assert_eq!(
            why("skipped"),
            "is marked to be left out (`lvchange --setactivationskip n` changes that, `-ay -K` does not ask)"
        );
        assert_eq!(
            why("thin"),
            "has segments of type thin (thin volume), which cannot be run here"
        );
        // Parts of others are in the group and not among the disks.
        assert!(h.engine.disk("mix/r1_rimage_0").is_none());
        let group = &h.engine.groups()[0];
        assert_eq!(group.volumes.len(), 14);
        assert_eq!(group.volumes.iter().filter(|v| v.inactive.is_none()).count(), 1);
    });
}

#[test]
fn groups_that_are_not_ours_are_not_touched() {
    let Some(mut lvm) = Lvm::new("foreign and exported groups", &[32 * MIB, 32 * MIB], 512) else {
        return;
    };
    lvm.run("vgcreate", &["-s", "1m", "away", "@0"]);
    lvm.lvcreate("away", &["-n", "a", "-l", "2"], &[]);
    lvm.run("vgexport", &["away"]);
    lvm.run("vgcreate", &["-s", "1m", "theirs", "@1"]);
    lvm.lvcreate("theirs", &["-n", "t", "-l", "2"], &[]);
    lvm.run("vgchange", &["-y", "--systemid", "otherhost", "theirs"]);
    lvm.detach();
    house(async |h| {
        for (at, path) in lvm.images.iter().enumerate() {
            h.add(&format!("d{at}"), path).await;
        }
        let groups = h.engine.groups();
        let state: Vec<_> = groups
            .iter()
            .map(|g| (g.name.as_str(), g.state, g.reason.as_str()))
            .collect();
        assert_eq!(
            state,
            [
                ("away", GroupState::Foreign, "is exported; `vg-import` makes it usable"),
                (
                    "theirs",
                    GroupState::Foreign,
                    "belongs to the host \"otherhost\" (its system id); `vgchange --systemid ''` there sets it free, `vg-adopt` takes it"
                )
            ]
        );
        assert_eq!(
            h.said("away/a"),
            (
                Verdict::Inactive,
                "belongs to a group that is exported; `vg-import` makes it usable".into()
            )
        );
        assert_eq!(h.said("theirs/t").0, Verdict::Inactive);
    });
}

#[test]
fn copies_stale_and_removed_members() {
    let Some(mut lvm) = Lvm::new(
        "copies, stale and removed members",
        &[32 * MIB, 32 * MIB, 32 * MIB],
        512,
    ) else {
        return;
    };
    lvm.run("vgcreate", &["-s", "1m", "vg", "@0", "@1", "@2"]);
    lvm.lvcreate("vg", &["-n", "a", "-l", "2"], &["@0"]);
    lvm.lvcreate("vg", &["-n", "b", "-l", "2"], &["@1"]);
    let old: Vec<_> = (0..3).map(|at| fs::read(&lvm.images[at]).unwrap()).collect();
    lvm.lvcreate("vg", &["-n", "c", "-l", "2"], &["@0"]);
    lvm.run("vgreduce", &["vg", "@2"]);
    lvm.detach();
    let copy = |at: usize, bytes: &[u8]| {
        let path = lvm.dir().join(format!("copy{at}.img"));
        fs::write(&path, bytes).unwrap();
        path
    };
    house(async |h| {
        // Disk 1 with yesterday's metadata, disk 2 as it was before it was taken out.
        h.add("d0", &lvm.images[0]).await;
        h.add("stale", &copy(1, &old[1])).await;
        h.add("gone", &copy(2, &old[2])).await;
        let disk = h.disk("stale");
        assert_eq!(
            (disk.verdict, disk.reason.as_str()),
            (Verdict::Claimed, "LVM2 physical volume pv1 of group \"vg\"")
        );
        assert!(
            disk.notes[0].starts_with("its own metadata is out of date (change "),
            "{:?}",
            disk.notes
        );
        assert_eq!(h.names(), ["d0", "gone", "stale", "vg/a", "vg/b", "vg/c"]);
        let (verdict, why) = h.said("gone");
        assert_eq!(verdict, Verdict::Unclaimed);
        assert!(
            why.starts_with("was removed from the LVM2 group \"vg\" while it was away"),
            "{why}"
        );
        // A copy of a disk that is in use: what is active stays, and nothing changes under it.
        let before = h.graph().info("vg/a").unwrap();
        h.add("copy", &copy(0, &fs::read(&lvm.images[0]).unwrap())).await;
        let group = &h.engine.groups()[0];
        assert_eq!(group.state, GroupState::Ambiguous);
        assert_eq!(h.said("copy").0, Verdict::Ambiguous);
        assert!(
            h.said("copy")
                .1
                .starts_with("is the same LVM2 physical volume as \"d0\""),
            "{}",
            h.said("copy").1
        );
        assert_eq!(h.graph().info("vg/a").unwrap(), before);
        // With the copy gone all is well.
        h.engine.delete("copy", false).await.unwrap();
        assert_eq!(h.engine.groups()[0].state, GroupState::Complete);
        assert_eq!(h.graph().info("vg/a").unwrap(), before);
    });
    house(async |h| {
        // Both there from the start: nothing of the group becomes active until one goes.
        let (one, two) = (lvm.dir().join("copy0.img"), &lvm.images[0]);
        let late = lvm.dir().join("late.img");
        h.add("d1", &lvm.images[1]).await;
        h.add("late", &late).await;
        assert_eq!(h.said("late").0, Verdict::Missing);
        assert_eq!(h.names(), ["d1", "late", "vg/a", "vg/b", "vg/c"]);
        assert_eq!(h.disk("vg/b").node.map(|n| n.state), Some(NodeState::Active));
        assert_eq!(h.said("vg/a").0, Verdict::Inactive);
        // A disk that comes late makes the group whole.
        fs::copy(two, &late).unwrap();
        h.engine.rescan().await;
        assert_eq!(h.engine.groups()[0].state, GroupState::Complete);
        assert_eq!(h.disk("vg/a").node.map(|n| n.state), Some(NodeState::Active));
        h.engine.delete("late", false).await.unwrap();
        assert_eq!(h.said("vg/a").0, Verdict::Inactive);
        // One that is there twice makes it ambiguous: what is not active does not become so.
        h.engine.delete("d1", false).await.unwrap();
        assert_eq!(h.names(), [""; 0]);
        h.add("x", &one).await;
        assert!(h.disk("vg/a").node.is_some());
        h.engine.take_whole("x").await.unwrap();
        assert_eq!(h.names(), ["x"]);
        drop(one);
    });
    house(async |h| {
        // The same disk under two names, both before anything is active: assembly waits for neither.
        let copies = [lvm.dir().join("copy0.img"), lvm.images[0].clone()];
        h.add("raw", &lvm.images[1]).await;
        let pin = h.graph().pin("vg/b", "a target").unwrap();
        h.add("x", &copies[0]).await;
        h.add("y", &copies[1]).await;
        assert_eq!(h.engine.groups()[0].state, GroupState::Ambiguous);
        assert!(h.disk("vg/b").node.is_some());
        drop(pin);
    });
}

#[test]
fn damage_is_told_and_leaves_the_disk_alone() {
    let Some(mut lvm) = Lvm::new("damaged metadata", &[32 * MIB, 32 * MIB], 512) else {
        return;
    };
    lvm.run("vgcreate", &["-s", "1m", "vg", "@0"]);
    lvm.lvcreate("vg", &["-n", "a", "-l", "2"], &["@0"]);
    lvm.run("pvcreate", &["@1"]);
    lvm.detach();
    let good = fs::read(&lvm.images[0]).unwrap();
    let label = Label::find(&good[..2048]).unwrap().unwrap();
    let area = label.metadata[0];
    let header = Header::parse(&good[area.offset as usize..], area.offset).unwrap();
    let text = (area.offset + header.committed.offset) as usize;
    let cases: [(usize, Verdict, &str); 3] = [
        (
            512 + 40,
            Verdict::Unclaimed,
            "has an LVM2 label that cannot be used: the label's checksum is",
        ),
        (
            area.offset as usize + 100,
            Verdict::Unclaimed,
            "has an LVM2 label, but no usable metadata: the metadata area at byte 4096 is unusable: the header's checksum",
        ),
        (
            text + 30,
            Verdict::Unclaimed,
            "has an LVM2 label, but no usable metadata: the metadata area at byte 4096 is unusable: the text's checksum",
        ),
    ];
    house(async |h| {
        for (at, (byte, verdict, reason)) in cases.into_iter().enumerate() {
            let (name, path) = (format!("bad{at}"), lvm.dir().join(format!("bad{at}.img")));
            let mut bytes = good.clone();
            bytes[byte] ^= 0x40;
            fs::write(&path, &bytes).unwrap();
            h.add(&name, &path).await;
            let said = h.said(&name);
            assert_eq!(said.0, verdict, "{said:?}");
            assert!(said.1.starts_with(reason), "{said:?}");
            assert_eq!(h.disk(&name).node.unwrap().claimed_by, None);
            assert_eq!(fs::read(&path).unwrap(), bytes);
            h.engine.delete(&name, false).await.unwrap();
        }
        h.add("free", &lvm.images[1]).await;
        assert_eq!(
            h.said("free"),
            (Verdict::Claimed, "LVM2 physical volume in no group".into())
        );
    });
}

#[test]
fn members_on_partitions_and_a_group_on_a_volume() {
    if !have("LVM2 on partitions", &["sfdisk"]) {
        return;
    }
    let Some(mut lvm) = Lvm::new("LVM2 on partitions", &[32 * MIB, 32 * MIB], 512) else {
        return;
    };
    lvm.run("vgcreate", &["-s", "1m", "vg", "@0", "@1"]);
    lvm.lvcreate("vg", &["-n", "a", "-l", "40"], &[]);
    let (wanted, pes) = (lvm.segments(), lvm.data_starts());
    lvm.detach();
    lvm.fill();
    // Both members as partitions of one disk.
    let whole = lvm.dir().join("whole.img");
    fs::File::create(&whole).unwrap().set_len(80 * MIB).unwrap();
    tool::sfdisk(
        &whole,
        "label: gpt\nstart=2048, size=65536, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\nstart=69632, size=65536, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n",
    );
    let file = fs::File::options().write(true).open(&whole).unwrap();
    for (image, start) in lvm.images.iter().zip([2048u64, 69632]) {
        file.write_all_at(&fs::read(image).unwrap(), start * 512).unwrap();
    }
    house(async |h| {
        h.add("w", &whole).await;
        assert_eq!(h.names(), ["vg/a", "w", "wp1", "wp2"]);
        assert!(h.read("vg/a").await == content(&wanted, "a", &pes, MIB));
        // The whole goes, and all on it, in an order in which nothing stands on what is gone.
        h.engine.delete("w", false).await.unwrap();
        assert_eq!(h.names(), [""; 0]);

        // A physical volume inside of a volume belongs to whoever uses that.
        h.add("w", &whole).await;
        let inner = fs::read(&lvm.images[0]).unwrap();
        for (at, chunk) in inner.chunks(MIB as usize).enumerate() {
            h.graph()
                .write("vg/a", at as u64 * 2048, chunk.to_vec(), false)
                .await
                .unwrap();
        }
        h.engine.examine("vg/a").await.unwrap();
        let (verdict, why) = h.said("vg/a");
        assert_eq!(verdict, Verdict::Unclaimed);
        assert!(why.contains("it belongs to whoever uses that"), "{why}");
        assert_eq!(h.engine.groups()[0].state, GroupState::Complete);
    });
}

#[test]
fn a_volume_that_goes_by_itself_comes_back_and_one_that_is_taken_away_does_not() {
    let Some(mut lvm) = Lvm::new("volumes that go", &[32 * MIB, 32 * MIB], 512) else {
        return;
    };
    lvm.run("vgcreate", &["-s", "1m", "vg", "@0", "@1"]);
    for name in ["a", "b", "c"] {
        lvm.lvcreate("vg", &["-n", name, "-l", "2"], &["@0"]);
    }
    let with_b = lvm
        .images
        .iter()
        .map(|image| fs::read(image).unwrap())
        .collect::<Vec<_>>();
    lvm.run("lvremove", &["-y", "vg/b"]);
    lvm.detach();
    let without_b = fs::read(&lvm.images[1]).unwrap();
    let disk = lvm.images[1].clone();
    for (image, bytes) in lvm.images.iter().zip(&with_b) {
        fs::write(image, bytes).unwrap();
    }
    house(async |h| {
        h.add("d0", &lvm.images[0]).await;
        h.add("d1", &disk).await;
        let all = ["d0", "d1", "vg/a", "vg/b", "vg/c"];
        assert_eq!(h.names(), all);
        let there = |name: &str| h.graph().info(name).is_some();
        // Behind the engine's back. Its group still wants it; whatever makes it look puts it back, and what was there is what it was.
        let before = h.graph().info("vg/a").unwrap().id;
        h.graph().remove("vg/c").await.unwrap();
        h.engine.rescan().await;
        assert!(there("vg/c"), "{:?}", h.names());
        assert_eq!(h.graph().info("vg/a").unwrap().id, before);
        // Twice, and two at once.
        for name in ["vg/a", "vg/b"] {
            h.graph().remove(name).await.unwrap();
        }
        h.engine.rescan().await;
        assert_eq!(h.names(), all);
        assert!(all.into_iter().all(there));
        // The disk says by itself that the group has one volume less.
        fs::write(&disk, &without_b).unwrap();
        h.engine.examine("d1").await.unwrap();
        assert_eq!(h.names(), ["d0", "d1", "vg/a", "vg/c"]);
        h.engine.examine("d1").await.unwrap();
        assert!(!there("vg/b") && there("vg/a") && there("vg/c"));
    });
}
