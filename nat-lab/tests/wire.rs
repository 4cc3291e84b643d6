//! Tests wires between real interfaces: what one host sends and another receives.
//!
//! Most tests create their own network namespaces. Times are only asserted to be long enough, as a busy machine
//! prolongs them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use handover_nat_lab::wire::{Conditions, Laid, Tally, Wire, WireError, offloads_off};
use handover_test_needs::{ETHTOOL, Need, Tests, tests};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

fn main() -> ExitCode {
    let with_a_wire = tests![
        a_round_trip_takes_both_delays,
        bytes_over_tcp_arrive_as_they_were_sent,
        bytes_over_tcp_survive_delay_jitter_and_loss,
        a_rate_makes_a_transfer_take_its_time,
        nothing_passes_where_all_is_lost,
        the_share_asked_for_is_lost,
        jitter_keeps_the_order_and_no_frame_comes_twice,
        no_frame_goes_round,
        frames_for_other_hardware_pass,
        a_wire_ends_when_an_interface_is_gone,
        a_wire_ends_with_a_word_about_offloads_when_frames_are_too_large,
    ];
    let without = tests![wires_that_cannot_be_are_refused, wires_are_written_as_json,];
    Tests::default()
        .needing(
            &[Need::Namespaces, Need::Buffers(4 << 20), ETHTOOL],
            with_a_wire,
        )
        .needing(&[], without)
        .run()
}

const MS: Duration = Duration::from_millis(1);
/// Timeout of a receiver for data that should arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a receiver waits for data that should not arrive.
const SILENCE: Duration = Duration::from_millis(400);
/// Number of datagrams that a may send ahead of b's reading.
const AHEAD: u32 = 100;

const A: &str = "10.9.0.1";
const B: &str = "10.9.0.2";

/// Two hosts and the wire between them: `a ── [a-end ══ b-end] ── b`. The wire has its own namespace.
struct Lab {
    /// The namespaces of a, of b and of the wire.
    names: [String; 3],
    wire: Option<JoinHandle<WireError>>,
    tallies: Arc<[[Tally; 2]]>,
}

impl Lab {
    fn new(there: Conditions, back: Conditions) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let names =
            ["a", "b", "wire"].map(|role| format!("wire-{}-{number}-{role}", std::process::id()));
        // From here on `drop` removes what was created.
        let mut lab = Self {
            names,
            wire: None,
            tallies: Arc::new([]),
        };
        for name in &lab.names {
            run(&["ip", "netns", "add", name]);
        }
        let [a, b, between] = &lab.names;
        join(a, A, between, "a-end");
        join(b, B, between, "b-end");
        let wire = Wire {
            ends: ["a-end".into(), "b-end".into()],
            there,
            back,
        };
        let laid = within(between, move || {
            Laid::new(&[wire], 7).expect("the ends are there")
        });
        lab.tallies = laid.tallies();
        lab.wire = Some(thread::spawn(move || {
            laid.run().expect_err("wires end with errors only")
        }));
        lab
    }

    /// Uses the same conditions in both directions.
    fn both_ways(conditions: Conditions) -> Self {
        Self::new(conditions, conditions)
    }

    fn in_a<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        within(&self.names[0], work)
    }

    fn in_b<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        within(&self.names[1], work)
    }

    /// Returns a socket on each host, connected to each other.
    fn udp(&self) -> [UdpSocket; 2] {
        let (a, b) = (self.in_a(|| udp(A)), self.in_b(|| udp(B)));
        a.connect(address(&b)).unwrap();
        b.connect(address(&a)).unwrap();
        [a, b]
    }

    /// Returns both ends of a connection from a to b.
    fn tcp(&self) -> [TcpStream; 2] {
        let listener = self.in_b(|| TcpListener::bind((B, 0)).unwrap());
        let to = listener.local_addr().unwrap();
        let a = self.in_a(move || TcpStream::connect_timeout(&to, PATIENCE).unwrap());
        [a, listener.accept().unwrap().0]
    }

    /// Waits until the wire ends, and returns its error.
    fn ended(&mut self) -> WireError {
        self.wire
            .take()
            .expect("it was started")
            .join()
            .expect("no panic")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The removal of its interfaces ends the wire too.
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// Creates the interface `eth` with `address` on `host`, and its peer `end` in `between`.
fn join(host: &str, address: &str, between: &str, end: &str) {
    run(&[
        "ip", "link", "add", "name", "eth", "netns", host, "type", "veth", "peer", "name", end,
        "netns", between,
    ]);
    for (name, interface) in [(host, "eth"), (between, end)] {
        let command = offloads_off(interface);
        // Makes the receiver verify checksums. A veth trusts them otherwise, and a wrong one would go unnoticed.
        let command = command.iter().map(String::as_str).chain(["rx", "off"]);
        run(&["ip", "netns", "exec", name]
            .into_iter()
            .chain(command)
            .collect::<Vec<_>>());
        run(&[
            "ip",
            "-n",
            name,
            "link",
            "set",
            "dev",
            interface,
            "addrgenmode",
            "none",
            "up",
        ]);
    }
    run(&[
        "ip",
        "-n",
        host,
        "addr",
        "add",
        &format!("{address}/24"),
        "dev",
        "eth",
    ]);
}

fn run(command: &[&str]) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .expect("it starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs `work` in the namespace `name`. Sockets created by it stay in that namespace.
fn within<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{name}")).expect("the namespace is there");
    let there = thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may");
        work()
    });
    there.join().expect("no panic")
}

/// Receives the next datagram. Repeats interrupted reads: a read with a timeout is not restarted automatically after
/// the process was stopped (signal(7)).
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

fn udp(host: &str) -> UdpSocket {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

/// Sends one datagram each way, so that the hosts learn each other's MAC addresses.
fn greet([a, b]: &[UdpSocket; 2]) {
    for (from, to) in [(a, b), (b, a)] {
        from.send(b"hello").unwrap();
        assert_eq!(receive(to, &mut [0; 16]).unwrap(), 5);
    }
}

/// Sends numbered datagrams, slowly enough for a slow machine.
fn send_numbers(socket: &UdpSocket, numbers: Range<u32>) {
    for number in numbers {
        socket.send(&number.to_be_bytes()).unwrap();
        if number % 10 == 9 {
            thread::sleep(MS);
        }
    }
}

/// Returns the numbers of the arriving datagrams, until none arrives for a while.
fn numbers(socket: &UdpSocket) -> Vec<u32> {
    numbers_noted(socket, &AtomicU32::new(0))
}

/// Sends `count` numbers from a to b and returns those that arrive. They are read as they arrive: a socket buffers only
/// about 250 datagrams, so a sends only about [`AHEAD`] datagrams ahead of b's reading.
fn numbers_across([a, b]: [UdpSocket; 2], count: u32) -> Vec<u32> {
    let next = AtomicU32::new(0);
    let is_sent = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut all = Vec::new();
            loop {
                let last = is_sent.load(Ordering::Acquire);
                let some = numbers_noted(&b, &next);
                if last && some.is_empty() {
                    return all;
                }
                all.extend(some);
            }
        });
        for first in (0..count).step_by(10) {
            wait_until_read(&next, first.saturating_sub(AHEAD));
            send_numbers(&a, first..count.min(first + 10));
        }
        is_sent.store(true, Ordering::Release);
        reading.join().unwrap()
    })
}

/// As [`numbers`]. `next` is set to the number after the last one read.
fn numbers_noted(socket: &UdpSocket, next: &AtomicU32) -> Vec<u32> {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let mut number = [0; 4];
    std::iter::from_fn(|| {
        receive(socket, &mut number).ok()?;
        let number = u32::from_be_bytes(number);
        next.store(number + 1, Ordering::Relaxed);
        Some(number)
    })
    .collect()
}

/// Waits until all numbers below `number` are read. Stops if none is read for a while, as the last ones may be lost.
fn wait_until_read(next: &AtomicU32, number: u32) {
    let (mut last, mut since) = (0, Instant::now());
    while last < number && since.elapsed() < SILENCE / 2 {
        let now = next.load(Ordering::Relaxed);
        if now > last {
            (last, since) = (now, Instant::now());
        } else {
            thread::sleep(MS);
        }
    }
}

/// Sends `bytes` from a to b over TCP. Returns the time it took and the bytes that arrived.
fn transfer(lab: &Lab, bytes: Vec<u8>) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    let [mut a, mut b] = lab.tcp();
    let sending = thread::spawn(move || a.write_all(&bytes).unwrap());
    b.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut arrived = Vec::new();
    b.read_to_end(&mut arrived).unwrap();
    sending.join().unwrap();
    (start.elapsed(), arrived)
}

/// Returns bytes whose pattern does not repeat at the size of any frame.
fn noise(count: u32) -> Vec<u8> {
    (0..count)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

fn a_round_trip_takes_both_delays() {
    let delay = |delay| Conditions {
        delay,
        ..Conditions::default()
    };
    let lab = Lab::new(delay(30 * MS), delay(50 * MS));
    let sockets = lab.udp();
    greet(&sockets);
    let [a, b] = sockets;
    let echo = thread::spawn(move || {
        for _ in 0..5 {
            receive(&b, &mut [0; 16]).unwrap();
            b.send(b"pong").unwrap();
        }
    });
    for _ in 0..5 {
        let start = Instant::now();
        a.send(b"ping").unwrap();
        receive(&a, &mut [0; 16]).unwrap();
        assert!(start.elapsed() >= 80 * MS, "{:?}", start.elapsed());
    }
    echo.join().unwrap();
}

fn bytes_over_tcp_arrive_as_they_were_sent() {
    let lab = Lab::both_ways(Conditions::default());
    let bytes = noise(5_000_000);
    let (_, arrived) = transfer(&lab, bytes.clone());
    assert!(
        bytes == arrived,
        "{} bytes of {} arrived, or others",
        arrived.len(),
        bytes.len()
    );
}

fn bytes_over_tcp_survive_delay_jitter_and_loss() {
    let conditions = Conditions {
        delay: 2 * MS,
        jitter: 2 * MS,
        loss: 0.01,
        ..Conditions::default()
    };
    let lab = Lab::both_ways(conditions);
    let bytes = noise(1_000_000);
    let (_, arrived) = transfer(&lab, bytes.clone());
    assert!(
        bytes == arrived,
        "{} bytes of {} arrived, or others",
        arrived.len(),
        bytes.len()
    );
    assert!(lab.tallies[0][0].lost.get() > 0);
}

fn a_rate_makes_a_transfer_take_its_time() {
    let rate = Conditions {
        rate: Some(8_000_000),
        ..Conditions::default()
    };
    let lab = Lab::new(rate, Conditions::default());
    let (took, arrived) = transfer(&lab, noise(1_000_000));
    assert_eq!(arrived.len(), 1_000_000);
    assert!(took >= 900 * MS, "{took:?}");
}

fn nothing_passes_where_all_is_lost() {
    let lab = Lab::new(
        Conditions {
            loss: 1.0,
            ..Conditions::default()
        },
        Conditions::default(),
    );
    let [a, b] = lab.udp();
    // Both hosts send ARP requests first. The request of a is lost, and so is its reply to b.
    for _ in 0..50 {
        a.send(b"hello").unwrap();
        b.send(b"hello").unwrap();
    }
    assert!(numbers(&a).is_empty());
    assert!(numbers(&b).is_empty());
    let [there, back] = &lab.tallies[0];
    assert_eq!(there.passed.get(), 0);
    assert!(
        there.lost.get() > 0 && back.passed.get() > 0,
        "{there:?} {back:?}"
    );
}

fn the_share_asked_for_is_lost() {
    let lab = Lab::new(
        Conditions {
            loss: 0.3,
            ..Conditions::default()
        },
        Conditions::default(),
    );
    let [a, b] = lab.udp();
    // b sends ARP requests until a reply passes. From the request, a learns the address of b.
    while lab.tallies[0][0].passed.get() == 0 {
        b.send(b"hello").unwrap();
        thread::sleep(20 * MS);
    }
    let arrived = numbers_across([a, b], 2000).len();
    assert!(
        (1_200..1_600).contains(&arrived),
        "{arrived} of 2000 arrived"
    );
}

fn jitter_keeps_the_order_and_no_frame_comes_twice() {
    let conditions = Conditions {
        delay: 5 * MS,
        jitter: 20 * MS,
        ..Conditions::default()
    };
    let lab = Lab::both_ways(conditions);
    let sockets = lab.udp();
    greet(&sockets);
    assert_eq!(numbers_across(sockets, 1000), (0..1000).collect::<Vec<_>>());
}

fn no_frame_goes_round() {
    let lab = Lab::both_ways(Conditions::default());
    let sockets = lab.udp();
    greet(&sockets);
    assert_eq!(numbers_across(sockets, 500).len(), 500);
    // Besides the datagrams: the greeting, and ARP requests and replies.
    let [there, back] = &lab.tallies[0];
    assert!((501..520).contains(&there.passed.get()), "{there:?}");
    assert!(back.passed.get() < 20, "{back:?}");
}

fn frames_for_other_hardware_pass() {
    let lab = Lab::both_ways(Conditions::default());
    // Maps an address to a MAC address that no host has.
    run(&[
        "ip",
        "-n",
        &lab.names[0],
        "neigh",
        "add",
        "10.9.0.9",
        "lladdr",
        "02:00:00:00:00:99",
        "dev",
        "eth",
    ]);
    let [a, _] = lab.udp();
    a.connect("10.9.0.9:9").unwrap();
    send_numbers(&a, 0..100);
    let start = Instant::now();
    while lab.tallies[0][0].passed.get() < 100 {
        assert!(start.elapsed() < PATIENCE, "{:?}", lab.tallies);
        thread::sleep(MS);
    }
}

fn a_wire_ends_when_an_interface_is_gone() {
    for (host, end) in ["a-end", "b-end"].into_iter().enumerate() {
        let mut lab = Lab::both_ways(Conditions::default());
        // Removing one interface of a veth pair removes the other too.
        run(&["ip", "-n", &lab.names[host], "link", "del", "dev", "eth"]);
        assert_eq!(
            lab.ended().to_string(),
            format!("the interface {end} is gone or down")
        );
    }
}

fn a_wire_ends_with_a_word_about_offloads_when_frames_are_too_large() {
    let mut lab = Lab::both_ways(Conditions::default());
    let sockets = lab.udp();
    greet(&sockets);
    // Creates large frames as an offload would, without depending on whether the kernel uses one.
    run(&[
        "ip",
        "-n",
        &lab.names[2],
        "link",
        "set",
        "dev",
        "a-end",
        "mtu",
        "9000",
    ]);
    run(&[
        "ip",
        "-n",
        &lab.names[0],
        "link",
        "set",
        "dev",
        "eth",
        "mtu",
        "9000",
    ]);
    sockets[0].send(&[0; 4000]).unwrap();
    let error = lab.ended();
    assert!(
        matches!(&error, WireError::Oversized(end, _) if end == "b-end"),
        "{error}"
    );
}

fn wires_that_cannot_be_are_refused() {
    let plain = Conditions::default();
    let wire = |ends: [&str; 2]| Wire {
        ends: ends.map(str::to_owned),
        there: plain,
        back: plain,
    };
    let refusal = |wires: &[Wire]| Laid::new(wires, 7).err().map(|error| error.to_string());
    let shared = Some("the interface x is the end of more than one wire".to_owned());
    assert_eq!(refusal(&[wire(["x", "x"])]), shared);
    assert_eq!(refusal(&[wire(["x", "y"]), wire(["z", "x"])]), shared);
    let missing = Some("there is no interface no-such-end".to_owned());
    assert_eq!(refusal(&[wire(["no-such-end", "nor-this"])]), missing);
    assert!(matches!(
        Laid::new(&[], 7).map(Laid::run),
        Ok(Err(WireError::None))
    ));
}

fn wires_are_written_as_json() {
    let json =
        r#"{"ends":["a-end","b-end"],"there":{"delay":"20 ms","rate":"40 Mbit/s"},"back":{}}"#;
    let wire: Wire = serde_json::from_str(json).unwrap();
    assert_eq!(wire.there.to_string(), "20 ms, 40 Mbit/s");
    assert!(wire.back.is_plain());
    assert_eq!(serde_json::to_string(&wire).unwrap(), json);
    assert_eq!(
        serde_json::from_str::<Wire>(r#"{"ends":["a","b"]}"#)
            .unwrap()
            .there,
        Conditions::default()
    );
    let error = serde_json::from_str::<Wire>(r#"{"ends":["a","b"],"there":{"dellay":"20 ms"}}"#)
        .unwrap_err();
    assert!(error.to_string().contains("dellay"), "{error}");
}
