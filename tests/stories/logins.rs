//! Ten thousand logins and logouts while a session works: memory stays flat, and nothing that was lent stays away.
use blackbox::config::Config;
use blackbox::iscsi::{Iscsi, Pdu, login_request};
use blackbox::pattern;
use blackbox::soak::{VISITS, soak};
use blackbox::{Ports, Result, Server, rpc};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Sessions at once, of the 128 there may be.
const AT_ONCE: usize = 120;

/// A session without commands.
struct Visit {
    stream: TcpStream,
    /// Commands the target would take now.
    window: u32,
    stat_sn: u32,
}

fn number(bhs: &[u8; 48], at: usize) -> u32 {
    u32::from_be_bytes([bhs[at], bhs[at + 1], bhs[at + 2], bhs[at + 3]])
}

fn receive(stream: &mut TcpStream) -> Result<[u8; 48]> {
    let mut bhs = [0; 48];
    stream.read_exact(&mut bhs)?;
    let len = number(&bhs, 4) as usize & 0xff_ffff;
    stream.read_exact(&mut vec![0; len.next_multiple_of(4)])?;
    Ok(bhs)
}

impl Visit {
    fn begin(port: u16, iqn: &str) -> Result<Visit> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(&login_request(iqn).bytes())?;
        let bhs = receive(&mut stream)?;
        if (bhs[0] & 0x3f, bhs[1], bhs[36], bhs[37]) != (0x23, 0x87, 0, 0) {
            return Err(format!(
                "login answered by {:02x?}, status {:02x}{:02x}",
                &bhs[..4],
                bhs[36],
                bhs[37]
            )
            .into());
        }
        let window = number(&bhs, 32).wrapping_sub(number(&bhs, 28)).wrapping_add(1);
        Ok(Visit {
            stream,
            window,
            stat_sn: number(&bhs, 24),
        })
    }

    fn end(mut self) -> Result<()> {
        // Logout (11.14), marked immediate: close the session.
        let mut logout = Pdu::new(0x46, 0x80);
        logout.bhs[16..20].copy_from_slice(&7u32.to_be_bytes());
        logout.bhs[24..28].copy_from_slice(&1u32.to_be_bytes());
        logout.bhs[28..32].copy_from_slice(&self.stat_sn.wrapping_add(1).to_be_bytes());
        self.stream.write_all(&logout.bytes())?;
        let bhs = receive(&mut self.stream)?;
        if (bhs[0] & 0x3f, bhs[2]) != (0x26, 0) {
            return Err(format!("logout answered by {:02x?}", &bhs[..4]).into());
        }
        // The target closes.
        match self.stream.read(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err("something after the logout response".into()),
        }
    }
}

#[test]
fn ten_thousand_logins_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let config = Config::new(dir.path(), ports).memory("disk", 16).volumes(&["disk"]);
    let server = Server::start(dir.path(), &config.yaml());
    let socket = dir.path().join("rpc.sock");
    let (iqn, lun) = {
        let volume = rpc::volume(&socket, "disk");
        (volume.iqn().0.to_string(), volume.iqn().1)
    };
    let ask = |method| rpc::call(&socket, method, json!({})).unwrap_or_else(|e| panic!("{e}"));
    // The whole disk is touched first: its memory is not growth.
    let mut host = Iscsi::login(ports.iscsi, &iqn, lun).expect("log in");
    (0..16).for_each(|n| host.write(n * 2048, &vec![0x5a; 1 << 20]).expect("fill"));
    drop(host);
    let first = Visit::begin(ports.iscsi, &iqn).expect("log in");
    let window = first.window;
    first.end().expect("log out");
    assert!(window > 0, "no window");

    let mut worker = Iscsi::login(ports.iscsi, &iqn, lun).expect("log in");
    soak(
        &server,
        |round| {
            let (lba, data) = (round % 1024 * 16, pattern::block(round, round, 8192));
            worker.write(lba, &data).expect("write meanwhile");
            assert!(
                worker.read(lba, 16).expect("read meanwhile") == data,
                "block {lba} came back different"
            );
        },
        |_| Visit::begin(ports.iscsi, &iqn)?.end(),
    );
    drop(worker);

    // Nobody is left, and as many as may come at once get what the very first one got.
    let until = Instant::now() + Duration::from_secs(10);
    while ask("iscsi_get_connections") != json!([]) {
        assert!(Instant::now() < until, "left over: {}", ask("iscsi_get_connections"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let stats = ask("iscsi_get_stats");
    assert_eq!(
        (&stats["running"], &stats["invalid"], &stats["exiting"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert!(stats["exited"].as_u64() >= Some(VISITS), "{stats}");
    let all: Vec<_> = (0..AT_ONCE)
        .map(|n| Visit::begin(ports.iscsi, &iqn).unwrap_or_else(|e| panic!("session {n} at once: {e}")))
        .collect();
    for (n, visit) in all.iter().enumerate() {
        assert_eq!(
            visit.window, window,
            "session {n} of {AT_ONCE} has another window than the first had"
        );
    }
    all.into_iter().for_each(|visit| visit.end().expect("log out"));
    server.assert_no_panic();
    server.stop();
}
