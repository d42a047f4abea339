//! One more volume in a group of ten thousand, on a running engine with its journal. What is asserted leaves room for a busy machine and for code that
//! is not optimised; what it takes is printed (`cargo test --release -p lvol --test lvm2_scale -- --nocapture`).
use bdev::{Graph, NodeSpec, Table};
use lvol::{Create, Engine, Origin, Request, Stamp};
use reactor::{Config, Reactors};
use spec::{
    BlockRange,
    lvm2::{
        self, Area,
        mda::{self, Header, Location},
        text::{Data, Section},
    },
};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Volumes that are there before.
const N: u64 = 10_000;
/// What the median may take on the slowest machine that runs this.
const LIMIT: Duration = Duration::from_secs(2);

/// How long this thread has had a processor: what counts where others are at work on the machine too.
fn computed() -> Duration {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = figures
        .split(' ')
        .next()
        .and_then(|nanoseconds| nanoseconds.parse().ok());
    Duration::from_nanos(first.unwrap_or_default())
}

/// Bytes of the disk, past the engine.
async fn read(graph: &Graph, at: u64, len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for from in (at..at + len).step_by(MIB as usize) {
        let count = MIB.min(at + len - from) / 512;
        let range = BlockRange::new(from / 512, count as u32);
        bytes.extend(graph.read("d", range).await.unwrap());
    }
    bytes
}

/// Gives the group as many volumes of an extent as there are to be, as its next change: what ten thousand times `lvcreate` would have left.
async fn fill(engine: &Engine, area: Area) {
    let graph = engine.runtime().graph().unwrap();
    let mut header = Header::parse(&read(graph, area.offset, mda::HEADER).await, area.offset).unwrap();
    let [at, _] = header.pieces(header.committed).unwrap().unwrap();
    let sectors = read(graph, at.offset, at.size.next_multiple_of(512)).await;
    let mut tree = Section::parse(&sectors[..at.size as usize]).unwrap();
    let group = tree.get_mut("many").unwrap().section_mut().unwrap();
    group.set("seqno", Data::Integer(2));
    let word = |word: &str| Data::Text(word.into());
    let mut volumes = Section::default();
    for number in 0..N {
        let mut segment = Section::default();
        for (field, n) in [("start_extent", 0), ("extent_count", 1), ("stripe_count", 1)] {
            segment.set(field, Data::Integer(n));
        }
        segment.set("type", word("striped"));
        segment.set("stripes", Data::List(vec![word("pv0"), Data::Integer(number as i64)]));
        let mut volume = Section::default();
        volume.set("id", word(&format!("{number:0>6}-0000-0000-0000-0000-0000-aaaaaa")));
        volume.set("status", Data::List(["READ", "WRITE", "VISIBLE"].map(word).to_vec()));
        volume.set("flags", Data::List(Vec::new()));
        volume.set("creation_time", Data::Integer(1_800_000_000));
        volume.set("creation_host", word("here"));
        volume.set("segment_count", Data::Integer(1));
        volume.add("segment1", segment);
        volumes.add(&format!("v{number}"), volume);
    }
    group.add("logical_volumes", volumes);
    let mut text = tree.to_bytes();
    let size = text.len() as u64;
    let offset = header.next(size).unwrap();
    header.committed = Location {
        offset,
        size,
        checksum: lvm2::crc(lvm2::CRC_SEED, &text),
        flags: 0,
    };
    assert!(offset + size <= area.size, "the text does not wrap");
    text.resize(text.len().next_multiple_of(512), 0);
    for (at, piece) in text.chunks(MIB as usize).enumerate() {
        let block = (area.offset + offset) / 512 + at as u64 * (MIB / 512);
        graph.write("d", block, piece.to_vec(), false).await.unwrap();
    }
    let sector = header.to_bytes().to_vec();
    graph.write("d", area.offset / 512, sector, false).await.unwrap();
}

#[test]
fn one_more_volume_in_a_group_of_ten_thousand() {
    let reactors = Reactors::start(Config {
        count: 1,
        ..Config::default()
    })
    .unwrap();
    let state = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let engine = Engine::new(Graph::new(reactors.clone()));
        engine.keep_in(state.path()).unwrap();
        let table = Table::Memory {
            blocks: 128 * MIB / 512,
            block_size: 512,
            physical_block_size: None,
            optimal_io: 0,
        };
        let wish = Create {
            spec: NodeSpec::new("d", table),
            origin: Origin::Rpc,
            examine: true,
        };
        engine.create(wish).await.unwrap();
        let change = async |verb: &str, object: &str, options: serde_json::Value| {
            let request = Request {
                verb: verb.into(),
                object: object.into(),
                options: options.as_object().cloned().unwrap(),
            };
            engine.change(&request, &Stamp::now()).await.unwrap()
        };
        let size = serde_json::json!({"metadata_size": "31m"});
        change("pv-create", "d", size).await;
        let group = serde_json::json!({"disks": ["d"], "extent_size": "4k"});
        change("vg-create", "many", group).await;
        let area = Area {
            offset: 4096,
            size: 32 * MIB - 4096,
        };
        fill(&engine, area).await;
        let began = Instant::now();
        engine.examine("d").await.unwrap();
        println!("{N} volumes found in {:?}", began.elapsed());
        assert_eq!(engine.volumes_of("many").len() as u64, N);

        let (mut times, computed_before) = (Vec::new(), computed());
        for number in 0..5 {
            let began = Instant::now();
            let options = serde_json::json!({"name": format!("more{number}"), "extents": 3});
            change("lv-create", "many", options).await;
            times.push(began.elapsed());
            assert_eq!(engine.volumes_of("many").len() as u64, N + number + 1);
        }
        times.sort();
        let each = (computed() - computed_before) / 5;
        println!("one more volume took {times:?}, {each:?} of it a processor's on average");
        assert!(times[2] < LIMIT, "{times:?}");

        // What others do to the text is seen all the same: the volume that comes back is the archived text's.
        let began = Instant::now();
        let options = serde_json::json!({"change": 2});
        change("vg-restore", "many", options).await;
        println!("five less took {:?}", began.elapsed());
        assert_eq!(engine.volumes_of("many").len() as u64, N);
    });
    reactors.stop();
}
