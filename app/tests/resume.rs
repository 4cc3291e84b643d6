//! Whichever side is killed, and whenever: the transfer resumes at once where it was, and fetches next to nothing
//! again.
//!
//! `HANDOVER_KILLS` sets the number of kills, `HANDOVER_KILLED_MIB` the size of the transfer; the measured cost is
//! printed.

#![allow(clippy::print_stdout)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use handover::store::Store;
use handover_core::limits::GROUP;
use rustix::process::Signal;
use support::{Process, Scene, Sender, eventually, noise, run, tree};

const MIB: usize = 1024 * 1024;
/// Maximum number of bytes that a download has requested, or received and not yet recorded: a window, plus one request
/// if nothing else is in flight while a slow disk syncs.
const WINDOW: u64 = 12 * MIB as u64 + GROUP as u64;

fn number(variable: &str, otherwise: usize) -> usize {
    let set = std::env::var(variable).ok();
    set.map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A transfer whose two sides are killed and restarted.
struct Transfer {
    scene: Scene,
    listen: String,
    /// State of the random number generator.
    random: u64,
    lost: Vec<u64>,
    pauses: Vec<Duration>,
}

impl Transfer {
    fn new(mib: usize) -> Self {
        let scene = Scene::new();
        scene.file("sent/large", &noise(mib * MIB + 1, 1));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let random = u64::from(std::process::id()) << 20;
        Self {
            scene,
            listen: format!("/ip4/127.0.0.1/tcp/{}", port.unwrap().port()),
            random,
            lost: Vec::new(),
            pauses: Vec::new(),
        }
    }

    fn send(&self) -> Sender {
        let options = ["--ticket", "--listen", &self.listen];
        self.scene.send(&[&self.scene.path("sent")], &options)
    }

    fn get(&self, code: &str) -> Sender {
        Sender::start_unopened(self.scene.get(code, "here", &[]))
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % below
    }

    fn staged(&self) -> Option<PathBuf> {
        let here = fs::read_dir(self.scene.path("here")).ok()?;
        let mut folders = here.map(|entry| entry.unwrap().path());
        let folder = folders.find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(".handover-partial-")
        });
        Some(folder?.join("0/1"))
    }

    fn staged_bytes(&self) -> u64 {
        let staged = self.staged().and_then(|file| file.metadata().ok());
        staged.map_or(0, |metadata| metadata.len())
    }

    /// Bytes on the disk, without holes in the file: data that was requested but had not arrived is no loss.
    fn bytes_on_disk(&self) -> u64 {
        let staged = self.staged().and_then(|file| file.metadata().ok());
        staged.map_or(0, |metadata| metadata.len().min(metadata.blocks() * 512))
    }

    /// Waits until `more` bytes have arrived, or the download has ended. Returns false in the latter case.
    fn comes(&self, get: &mut Sender, more: u64) -> bool {
        let from = self.staged_bytes();
        let until = Instant::now() + support::PATIENCE;
        while self.staged_bytes() < from + more {
            if get.has_ended() {
                return false;
            }
            assert!(Instant::now() < until, "nothing comes");
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

#[test]
fn kills_of_either_side_cost_little_and_nothing_is_wrong_in_the_end() {
    let kills = number("HANDOVER_KILLS", 12);
    let mib = number("HANDOVER_KILLED_MIB", 192);
    let mut transfer = Transfer::new(mib);
    let mut sender = transfer.send();
    let code = sender.code.clone();
    let (mut killed, mut rounds) = (0, 0);
    while killed < kills {
        rounds += 1;
        let mut get = transfer.get(&code);
        get.await_event("offer");
        // Bytes lost by the last kill are still on the disk until they have been fetched again.
        let mut lost_before = 0;
        loop {
            let more = transfer.draw(24) * MIB as u64;
            if killed == kills || !transfer.comes(&mut get, more) {
                break;
            }
            killed += 1;
            if transfer.draw(2) == 0 {
                get.kill();
                let before = transfer.bytes_on_disk();
                let again = Instant::now();
                get = transfer.get(&code);
                let kept = get.await_event("offer")["kept"].as_u64().unwrap();
                let lost = before.saturating_sub(kept);
                assert!(
                    lost <= WINDOW + lost_before,
                    "{lost} bytes are fetched again"
                );
                transfer.lost.push(lost);
                lost_before = lost;
                get.await_event("progress");
                transfer.pauses.push(again.elapsed());
            } else {
                sender.kill();
                std::thread::sleep(Duration::from_millis(transfer.draw(300)));
                sender = transfer.send();
                assert_eq!(sender.code, code, "it is served under the same code");
                let again = Instant::now();
                if transfer.comes(&mut get, 1) {
                    transfer.pauses.push(again.elapsed());
                }
            }
        }
        let (exit, stderr) = get.wait();
        assert_eq!(exit, Some(0), "{stderr}");
        let (sent, here) = ("sent/large", "here/sent/large");
        let [sent, here] = [sent, here].map(|name| fs::read(transfer.scene.path(name)).unwrap());
        assert!(sent == here, "what has come is not what was sent");
        fs::remove_dir_all(transfer.scene.path("here")).unwrap();
    }
    transfer.lost.sort_unstable();
    transfer.pauses.sort_unstable();
    let (lost, pauses) = (&transfer.lost, &transfer.pauses);
    println!("{killed} kills in {rounds} transfers of {mib} MiB");
    if let (Some(most), Some(median)) = (lost.last(), lost.get(lost.len() / 2)) {
        println!(
            "a receiver's kill: {median} bytes on the disk were fetched again (median), {most} at the most"
        );
    }
    if let (Some(most), Some(median)) = (pauses.last(), pauses.get(pauses.len() / 2)) {
        println!("it went on {median:?} after the side was back (median), {most:?} at the most");
    }
}

#[test]
fn resume_lists_and_goes_on_and_forgets() {
    let transfer = Transfer::new(64);
    let sender = transfer.send();
    let receiver = "receiver of here";
    let resume = |arguments: &[&str]| {
        let mut all = vec!["resume"];
        all.extend(arguments);
        run(transfer.scene.handover(receiver, &all))
    };
    assert!(resume(&["--list", "--json"]).expect(0).events().is_empty());
    let mut get = transfer.get(&sender.code);
    assert!(transfer.comes(&mut get, 24 * MIB as u64));
    let busy = resume(&["--list", "--json"]).expect(0);
    assert!(busy.events().is_empty(), "it runs");
    get.signal(Signal::INT);
    assert_eq!(get.await_event("download_ended")["outcome"], "suspended");
    assert_eq!(get.wait().0, Some(130));
    let listed = resume(&["--list", "--json"]).expect(0).event("unfinished");
    assert_eq!(
        (&listed["kind"], &listed["name"]),
        (&"download".into(), &"sent".into())
    );
    resume(&["7"]).expect(2);
    let done = resume(&["--json", "1"]).expect(0);
    assert!(done.event("offer")["kept"].as_u64().unwrap() >= 8 * MIB as u64);
    assert_eq!(
        tree::names(&transfer.scene.path("here")),
        ["sent", "sent/large"]
    );
    assert!(resume(&["--list", "--json"]).expect(0).events().is_empty());

    fs::remove_dir_all(transfer.scene.path("here")).unwrap();
    let mut get = transfer.get(&sender.code);
    assert!(transfer.comes(&mut get, 24 * MIB as u64));
    get.kill();
    resume(&["--discard", "1"]).expect(0);
    assert_eq!(tree::names(&transfer.scene.path("here")), [""; 0]);
    assert!(resume(&["--list", "--json"]).expect(0).events().is_empty());
    resume(&["1"]).expect(2);
    resume(&[]).expect(0);
}

#[test]
fn a_sharer_that_was_killed_serves_the_same_code_and_names_what_has_changed() {
    let scene = Scene::new();
    scene.file("sent/same", b"same");
    scene.file("sent/other", b"before");
    let sender = scene.send(&[&scene.path("sent")], &["--ticket"]);
    let code = sender.code.clone();
    let store = Store::in_folder(&scene.path("sender"));
    eventually("the share is remembered", || {
        let open = store.open_shares().unwrap();
        open.iter().any(|(_, share)| !share.listing.is_empty())
    });
    sender.kill();
    scene.file("sent/other", b"after");
    let mut command = scene.handover("sender", &["send", "--json", "--ticket"]);
    command.arg(scene.path("sent"));
    let mut again = Sender::start_unopened(command);
    let changed = again.await_event("share_changed");
    assert_eq!(changed["files"], serde_json::json!(["sent/other"]));
    let open = again.await_event("share_open");
    again.code = open["code"].as_str().unwrap().to_owned();
    let secret = |code: &str| {
        let ticket = data_encoding::BASE64URL_NOPAD
            .decode(code.as_bytes())
            .unwrap();
        let ticket: serde_json::Value = serde_json::from_slice(&ticket).unwrap();
        (ticket["peer_id"].clone(), ticket["encryption_key"].clone())
    };
    assert_eq!(secret(&again.code), secret(&code));
    run(scene.get(&again.code, "here", &[])).expect(0);
    again.signal(Signal::INT);
    again.wait();
    let fresh = scene.send(&[&scene.path("sent")], &["--ticket"]);
    assert_ne!(secret(&fresh.code), secret(&code), "it was ended in order");
}

#[test]
fn a_bit_that_turned_over_between_two_runs_is_never_published() {
    let transfer = Transfer::new(64);
    let sender = transfer.send();
    for at in [0, 3 * MIB as u64 + 77, 8 * MIB as u64 - 1] {
        let _ = fs::remove_dir_all(transfer.scene.path("here"));
        let mut get = transfer.get(&sender.code);
        // Up to one window of that may be holes, and another one not recorded.
        assert!(transfer.comes(&mut get, 36 * MIB as u64));
        get.kill();
        let staged = transfer.staged().unwrap();
        let staged = fs::File::options().read(true).write(true).open(staged);
        let staged = staged.unwrap();
        let mut byte = [0];
        staged.read_exact_at(&mut byte, at).unwrap();
        staged.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let again = run(transfer.scene.get(&sender.code, "here", &[])).expect(0);
        assert!(again.event("offer")["kept"].as_u64().unwrap() >= 8 * MIB as u64);
        let events = again.events();
        assert!(events.iter().all(|event| event["event"] != "peer_blamed"));
        let [sent, here] = ["sent/large", "here/sent/large"].map(|name| transfer.scene.path(name));
        assert!(fs::read(sent).unwrap() == fs::read(here).unwrap());
    }
}

#[test]
fn what_is_staged_is_not_fetched_again_when_its_journal_is_damaged_or_lost() {
    let transfer = Transfer::new(48);
    let sender = transfer.send();
    for is_lost in [false, true] {
        let _ = fs::remove_dir_all(transfer.scene.path("here"));
        let mut get = transfer.get(&sender.code);
        assert!(transfer.comes(&mut get, 24 * MIB as u64));
        get.kill();
        let staged = transfer.staged_bytes();
        let journal = transfer.staged().unwrap().with_file_name("../journal");
        if is_lost {
            let _ = fs::remove_file(journal);
        } else {
            fs::write(journal, b"this is no journal").unwrap();
        }
        let got = Process::start(transfer.scene.get(&sender.code, "here", &["--no-seed"]))
            .wait()
            .expect(0);
        assert_eq!(got.event("offer")["kept"], 0);
        let spared = got.event("download_ended")["spared"].as_u64().unwrap();
        println!("{spared} of {staged} staged bytes were made use of");
        assert!(spared >= staged / 2, "{spared} of {staged} bytes");
        assert_eq!(
            tree::read(&transfer.scene.path("here/sent")),
            tree::read(&transfer.scene.path("sent"))
        );
    }
}
