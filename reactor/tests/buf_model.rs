//! `Buf` against a plain model: a list is a `Vec<u8>`, a handle is a range of one.
use reactor::{Buf, IoFuture, PAGE, Page, Parcel, PinList, counters, crc32c, testing::*};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

struct Handle {
    buf: Buf,
    list: usize,
    at: usize,
}

/// Every step does the same to both sides; at the end, and at each step for what it touched, bytes are compared.
fn run(seed: u64, steps: usize) {
    let mut rng = Rng::new(seed);
    let mut lists: Vec<Vec<u8>> = Vec::new();
    let mut live: Vec<Handle> = Vec::new();
    for step in 0..steps {
        if live.len() < 2 || rng.below(8) == 0 {
            let len = [
                1 + rng.below(100),
                4096,
                512 * (1 + rng.below(40)),
                1 + rng.below(30_000),
            ][rng.below(4) as usize] as usize;
            let (buf, bytes) = match rng.below(3) {
                0 => (Buf::zeroed(len), vec![0; len]),
                1 => {
                    let bytes = rng.bytes(len);
                    (Buf::from_slice(&bytes), bytes)
                }
                _ => {
                    let buf = Buf::alloc(len);
                    let bytes = buf.to_vec(); // unspecified, but something
                    (buf, bytes)
                }
            };
            lists.push(bytes);
            live.push(Handle {
                buf,
                list: lists.len() - 1,
                at: 0,
            });
            continue;
        }
        let pick = |rng: &mut Rng, live: &Vec<Handle>| rng.below(live.len() as u64) as usize;
        let (i, j) = (pick(&mut rng, &live), pick(&mut rng, &live));
        let len = live[i].buf.len();
        let from = rng.below(len as u64 + 1) as usize;
        let to = from + rng.below((len - from) as u64 + 1) as usize;
        let (list, at) = (live[i].list, live[i].at);
        let model = |lists: &Vec<Vec<u8>>, h: &Handle| lists[h.list][h.at..h.at + h.buf.len()].to_vec();
        match rng.below(13) {
            0 => {
                let buf = live[i].buf.slice(from..to);
                live.push(Handle {
                    buf,
                    list,
                    at: at + from,
                });
            }
            1 => {
                let buf = live[i].buf.fork();
                lists.push(model(&lists, &live[i]));
                live.push(Handle {
                    buf,
                    list: lists.len() - 1,
                    at: 0,
                });
            }
            2 => {
                let parcel = live[i].buf.export();
                lists.push(model(&lists, &live[i]));
                live.push(Handle {
                    buf: parcel.into_buf(),
                    list: lists.len() - 1,
                    at: 0,
                });
            }
            3 | 4 => {
                let bytes = rng.bytes(to - from);
                live[i].buf.write_at(from, &bytes);
                lists[list][at + from..at + to].copy_from_slice(&bytes);
            }
            5 => {
                let byte = [0, 0, 9][rng.below(3) as usize];
                live[i].buf.slice(from..to).fill(byte);
                lists[list][at + from..at + to].fill(byte);
            }
            6 => {
                let n = len.min(live[j].buf.len());
                let (a, b) = (
                    rng.below((len - n) as u64 + 1) as usize,
                    rng.below((live[j].buf.len() - n) as u64 + 1) as usize,
                );
                let src = live[j].buf.slice(b..b + n);
                let bytes = lists[live[j].list][live[j].at + b..][..n].to_vec();
                live[i].buf.slice(a..a + n).adopt(&src);
                lists[list][at + a..at + a + n].copy_from_slice(&bytes);
            }
            7 => {
                // A read by another core: pages go, come back filled.
                let part = live[i].buf.slice(from..to);
                let bytes = rng.bytes(to - from);
                let parcel = part.take_pages();
                let parcel = std::thread::scope(|s| {
                    s.spawn(|| {
                        let there = parcel.into_buf();
                        there.make_writable();
                        there.write_at(0, &bytes);
                        Parcel::from_buf(there)
                    })
                    .join()
                    .unwrap()
                });
                part.put_pages(parcel);
                lists[list][at + from..at + to].copy_from_slice(&bytes);
            }
            8 => {
                // A read by the kernel, of two halves at once.
                let cut = from + rng.below((to - from) as u64 + 1) as usize;
                let (mut a, mut b) = (PinList::new(), PinList::new());
                live[i].buf.slice(from..cut).pin_for_kernel_write(&mut a);
                live[i].buf.slice(cut..to).pin_for_kernel_write(&mut b);
                let bytes = rng.bytes(to - from);
                kernel_fills(&b, &bytes[cut - from..]);
                kernel_fills(&a, &bytes[..cut - from]);
                lists[list][at + from..at + to].copy_from_slice(&bytes);
            }
            9 => {
                // A write by the kernel sees what was there when it began.
                let mut pins = PinList::new();
                live[i].buf.pin_for_kernel_read(&mut pins);
                let before = model(&lists, &live[i]);
                let bytes = rng.bytes(to - from);
                live[i].buf.write_at(from, &bytes);
                lists[list][at + from..at + to].copy_from_slice(&bytes);
                assert!(kernel_sees(&pins) == before, "seed {seed} step {step}");
            }
            10 => {
                let old = live.swap_remove(i);
                assert!(old.buf.to_vec() == model(&lists, &old), "seed {seed} step {step}");
                continue;
            }
            11 if live[i].buf.page_aligned()
                && len >= PAGE
                && j != i
                && live[j].buf.page_aligned()
                && live[j].buf.len() >= PAGE =>
            {
                let page = live[j].buf.page(0);
                live[i].buf.set_page(0, page);
                let bytes = lists[live[j].list][live[j].at..][..PAGE].to_vec();
                lists[list][at..at + PAGE].copy_from_slice(&bytes);
            }
            _ => {
                let (a, b) = (model(&lists, &live[i]), model(&lists, &live[j]));
                assert_eq!(live[i].buf.eq_bytes(&live[j].buf), a == b, "seed {seed} step {step}");
                assert_eq!(
                    live[i].buf.is_zero(),
                    a.iter().all(|x| *x == 0),
                    "seed {seed} step {step}"
                );
                assert_eq!(
                    live[i].buf.crc32c(7),
                    reactor::crc32c_append(7, &a),
                    "seed {seed} step {step}"
                );
            }
        }
        assert!(
            live[i].buf.to_vec() == model(&lists, &live[i]),
            "seed {seed} step {step}"
        );
        if live.len() > 40 {
            live.swap_remove(j);
        }
    }
    for h in &live {
        assert!(
            h.buf.to_vec() == lists[h.list][h.at..h.at + h.buf.len()],
            "seed {seed}: at the end"
        );
        let mut seen = Vec::new();
        h.buf.for_each_chunk(|part| seen.extend_from_slice(part));
        assert!(seen == h.buf.to_vec(), "seed {seed}");
    }
}

/// What the kernel would do.
fn kernel_fills(pins: &PinList, bytes: &[u8]) {
    let mut bytes = bytes;
    assert_eq!(pins.bytes(), bytes.len());
    for vec in pins.iovecs() {
        let (now, later) = bytes.split_at(vec.iov_len);
        // SAFETY: the pins hold the memory.
        unsafe { vec.iov_base.cast::<u8>().copy_from(now.as_ptr(), now.len()) };
        bytes = later;
    }
}
fn kernel_sees(pins: &PinList) -> Vec<u8> {
    // SAFETY: the pins hold the memory.
    let parts = pins
        .iovecs()
        .iter()
        .map(|vec| unsafe { std::slice::from_raw_parts(vec.iov_base.cast::<u8>(), vec.iov_len) });
    parts.collect::<Vec<_>>().concat()
}

#[test]
fn a_buffer_behaves_as_bytes_whatever_shares_pages_with_it() {
    let before = counters::pages_taken_here();
    let (runs, steps) = if cfg!(miri) { (2, 120) } else { (200, 400) };
    for seed in 1..=runs {
        run(seed, steps);
    }
    // Other threads took pages for take_pages/put_pages and they ended here, or the other way round; each list came and went.
    let threads = counters::pages_taken_here() - before;
    assert!(threads <= 0, "{threads} pages leaked (seeds 1..={runs})");
}

#[test]
fn whole_pages_move_without_a_copy() {
    let disk = Buf::from_slice(&pattern(0, 8 * PAGE));
    let slot = Buf::alloc(4 * PAGE);
    let copied = counters::bytes_copied();
    slot.adopt(&disk.slice(2 * PAGE..6 * PAGE)); // a read of a memory disk
    for i in 0..4 {
        disk.set_page(i, slot.page(i)); // a write
    }
    let short = Buf::alloc(PAGE + 512);
    short.adopt(&disk.slice(0..PAGE + 512)); // the end of a list is a whole page, too
    slot.make_writable();
    let there = disk.export();
    assert_eq!(counters::bytes_copied(), copied, "nothing was copied");
    assert_eq!(disk.to_vec()[..2 * PAGE], pattern(2 * PAGE as u64, 2 * PAGE));
    assert_eq!(there.into_buf().crc32c(0), crc32c(&disk.to_vec()));
    assert!(short.eq_bytes(&disk.slice(0..PAGE + 512)));
}

#[test]
fn a_write_to_shared_bytes_copies_the_touched_page_only() {
    let a = Buf::from_slice(&pattern(0, 4 * PAGE));
    let b = a.fork();
    let copied = counters::bytes_copied();
    b.write_at(PAGE + 10, b"mine");
    assert_eq!(counters::bytes_copied() - copied, PAGE as u64 + 4);
    assert_eq!(a.to_vec(), pattern(0, 4 * PAGE));
    for i in 0..4 {
        assert_eq!(a.page(i).same(&b.page(i)), i != 1, "page {i}");
    }
    b.write_at(PAGE + 20, b"again");
    a.slice(PAGE..2 * PAGE).write_at(0, b"ours"); // both sides own their page by now
    assert_eq!(b.to_vec()[PAGE + 10..PAGE + 14], *b"mine");
    assert_eq!(a.to_vec()[PAGE..PAGE + 4], *b"ours");
}

#[test]
fn what_a_visitor_is_shown_does_not_change_under_it() {
    let buf = Buf::from_slice(&[1; 2 * PAGE]);
    let mut seen = Vec::new();
    buf.for_each_chunk(|part| {
        buf.fill(2);
        buf.write_at(0, &part[..100]);
        seen.push(part[200]);
    });
    assert_eq!(seen, [1, 2]);
}

#[test]
fn two_reads_may_fill_two_halves_of_one_page() {
    let buf = Buf::from_slice(&[1; PAGE]);
    let shared = buf.fork();
    let (mut first, mut second) = (PinList::new(), PinList::new());
    buf.slice(0..1024).pin_for_kernel_write(&mut first);
    buf.slice(1024..2048).pin_for_kernel_write(&mut second);
    buf.write_at(2048, &[9; 10]); // and the CPU writes beside them
    kernel_fills(&second, &[3; 1024]);
    kernel_fills(&first, &[2; 1024]);
    drop((first, second));
    let want: Vec<u8> = [[2u8; 1024].as_slice(), &[3; 1024], &[9; 10], &[1; 2038]].concat();
    assert!(buf.to_vec() == want);
    assert!(shared.to_vec() == [1; PAGE]);
}

#[test]
fn an_operation_outlives_its_buffer() {
    let before = counters::pages_taken_here();
    let buf = Buf::alloc(3 * PAGE);
    let mut pins = PinList::new();
    buf.pin_for_kernel_write(&mut pins);
    drop(buf);
    assert_eq!(counters::pages_taken_here() - before, 3);
    let others: Vec<_> = (0..100).map(|_| Page::alloc()).collect();
    kernel_fills(&pins, &[7; 3 * PAGE]);
    pins.advance(PAGE + 5);
    assert_eq!(
        (pins.bytes(), kernel_sees(&pins)),
        (2 * PAGE - 5, vec![7; 2 * PAGE - 5])
    );
    drop((others, pins));
    assert_eq!(counters::pages_taken_here() - before, 0);
}

#[test]
fn a_warm_core_allocates_nothing() {
    let disk = Buf::zeroed(64 * PAGE);
    let mut pins = PinList::with_capacity(64);
    let mut warm = || {
        for blocks in [1, 2, 8, 32] {
            let slot = Buf::alloc(blocks * PAGE);
            slot.slice(0..PAGE).write_at(0, b"some");
            for i in 0..blocks {
                disk.set_page(i, slot.page(i));
            }
            slot.adopt(&disk.slice(0..blocks * PAGE));
            slot.pin_for_kernel_write(&mut pins);
            pins.clear();
            let there = slot.take_pages();
            slot.put_pages(there);
            let fork = slot.fork();
            fork.fill(1);
            let future = IoFuture::new(async move { fork.crc32c(0) });
            drop((future, slot.export().into_buf(), Buf::zeroed(PAGE)));
        }
    };
    (0..3).for_each(|_| warm());
    let before = allocations();
    (0..1000).for_each(|_| warm());
    assert_eq!(allocations() - before, 0);
}

#[test]
fn a_one_way_flow_of_parcels_allocates_nothing_when_warm() {
    let (send, receive) = std::sync::mpsc::sync_channel::<Parcel>(64);
    let there = std::thread::spawn(move || {
        let mut sum = 0u64;
        for parcel in receive {
            sum += u64::from(parcel.into_buf().to_vec()[0]);
        }
        sum
    });
    let mut grew = 0;
    for i in 0..20_000u64 {
        let before = allocations();
        let buf = Buf::alloc(2 * PAGE);
        buf.write_at(0, &[i as u8]);
        let parcel = buf.export();
        drop(buf);
        if i > 10_000 {
            grew += allocations() - before;
        }
        send.send(parcel).unwrap();
    }
    drop(send);
    assert_eq!(there.join().unwrap(), (0..20_000u64).map(|i| i % 256).sum());
    // A chain of nodes may be under way at the worst moment; a thousandth is not one for each.
    assert!(grew < 200, "{grew} allocations for 10,000 parcels");
}

#[test]
fn ranges_outside_are_refused() {
    let buf = Buf::from_slice(&[1; 100]);
    assert!(buf.get(50..101).is_none() && buf.get(101..101).is_none());
    #[expect(clippy::reversed_empty_ranges)]
    let reversed = buf.get(3..2);
    assert!(reversed.is_none());
    assert_eq!(buf.get(100..100).unwrap().len(), 0);
    assert!(std::panic::catch_unwind(|| Buf::from_slice(&[0; 10]).write_at(5, &[0; 6])).is_err());
    assert!(std::panic::catch_unwind(|| Buf::from_slice(&[0; 10]).read_at(11, &mut [])).is_err());
    assert!(Buf::try_alloc(1 << 40).is_none());
}
