//! Two peers that agree to a pairing: the next transfer needs no code. What both have done is in the history, and in
//! the peers' records.

mod support;

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use support::{Node, Outcome, PATIENCE, Process, Scene, Sender, noise, run, tree};

/// The receiver of this test. Its data folder is named after its target folder.
const RECEIVER: &str = "receiver of got";

struct World {
    scene: Scene,
    node: Node,
}

impl World {
    fn new() -> Self {
        let scene = Scene::new();
        scene.file("sent/large", &noise(300_000, 1));
        scene.file("sent/small", b"small");
        let node = Node::start(&scene, "node", &[]);
        Self { scene, node }
    }

    fn network<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let network = ["--no-mdns", "--bootstrap", &self.node.address];
        network.into_iter().chain(more.iter().copied()).collect()
    }

    fn sending(&self, options: &[&str]) -> Command {
        let mut command = self.scene.handover("sender", &["send", "--json"]);
        command
            .args(self.network(options))
            .arg(self.scene.path("sent"));
        command
    }

    /// Transfers by short code, with these options on each side. Returns the receiver's output and the sender.
    fn transfer(&self, sender: &[&str], receiver: &[&str]) -> (Outcome, Sender) {
        let options: Vec<_> = ["--once"].iter().chain(sender).copied().collect();
        let mut sender = Sender::start_unopened(self.sending(&options));
        let code = sender.await_announced_code();
        let got = run(self.scene.get(&code, "got", &self.network(receiver)));
        (got.expect(0), sender)
    }

    /// Fetches without a code.
    fn from(&self, peer: &str, more: &[&str]) -> Process {
        let mut command = self
            .scene
            .handover(RECEIVER, &["get", "--yes", "--json", "--from", peer]);
        command
            .arg("--on-conflict")
            .arg("overwrite")
            .arg("--to")
            .arg(self.scene.path("got"))
            .args(self.network(more));
        Process::start(command)
    }

    /// The output of a command that shows a peer's records.
    fn told(&self, who: &str, command: &[&str]) -> Vec<Value> {
        let mut command = self.scene.handover(who, command);
        command.arg("--json");
        run(command).expect(0).events()
    }

    /// The only peer known to `who`.
    fn known(&self, who: &str) -> Value {
        let mut peers = self.told(who, &["peers"]);
        assert_eq!(peers.len(), 1, "{peers:?}");
        peers.remove(0)
    }

    fn assert_same(&self) {
        let of = |name| tree::read(&self.scene.path(name));
        assert_eq!(of("got/sent"), of("sent"));
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

#[test]
fn who_has_agreed_needs_no_code_until_one_of_them_forgets() {
    let world = World::new();
    let (got, mut sender) = world.transfer(&["--remember"], &["--remember"]);
    let paired = got.event("paired");
    sender.await_event("paired");
    assert_eq!(sender.wait().0, Some(0));

    let (laptop, desk) = (world.known("sender"), world.known(RECEIVER));
    assert_eq!(desk["peer"], paired["peer"]);
    assert_eq!(
        (&desk["needs_code"], &laptop["needs_code"]),
        (&false.into(), &false.into())
    );
    assert_eq!(desk["delivered"], 300_005);
    assert_eq!(laptop["taken"], 300_005);

    // By name, and by id.
    std::fs::remove_dir_all(world.scene.path("got/sent")).unwrap();
    let mut sender = Sender::start_unopened(world.sending(&["--to", text(&laptop, "name")]));
    let open = sender.await_event("share_open");
    assert_eq!(open["to"], laptop["peer"]);
    assert!(open["code"].is_null() && open["short"].is_null(), "{open}");
    let second = run(world.sending(&["--to", text(&laptop, "name")])).expect(2);
    assert!(
        second.stderr.contains("another handover runs here"),
        "{}",
        second.stderr
    );
    sender.await_event("announced");
    world.from(text(&desk, "peer"), &[]).wait().expect(0);
    world.assert_same();
    assert_eq!(sender.wait().0, Some(0), "it ends when the one has it");

    // One side has forgotten the other.
    world.told("sender", &["peers", "--forget", text(&laptop, "peer")]);
    let unknown = run(world.sending(&["--to", text(&laptop, "name")])).expect(2);
    assert!(
        unknown.stderr.contains("nobody is known here by"),
        "{}",
        unknown.stderr
    );
    let nothing = world
        .from(text(&desk, "name"), &["--wait", "2"])
        .wait()
        .expect(3);
    assert!(
        nothing.stderr.contains("has nothing for you right now"),
        "{}",
        nothing.stderr
    );
    assert!(
        nothing.stderr.contains("handover send … --to "),
        "{}",
        nothing.stderr
    );
    world.told(RECEIVER, &["peers", "--forget-all"]);
    assert!(world.told(RECEIVER, &["peers"]).is_empty());
    world.from(text(&desk, "name"), &[]).wait().expect(2);
}

#[test]
fn where_one_side_has_not_agreed_nobody_is_remembered() {
    for (sender, receiver) in [
        (&["--remember"][..], &[][..]),
        (&[][..], &["--remember"][..]),
    ] {
        let world = World::new();
        let (got, sender) = world.transfer(sender, receiver);
        assert!(got.events().iter().all(|event| event["event"] != "paired"));
        assert_eq!(sender.wait().0, Some(0));
        for who in ["sender", RECEIVER] {
            let known = world.known(who);
            assert_eq!(known["needs_code"], true);
            let refused = match who {
                "sender" => run(world.sending(&["--to", text(&known, "peer")])),
                _ => world.from(text(&known, "peer"), &[]).wait(),
            };
            let told = refused.expect(2).stderr;
            assert!(told.contains("you have not agreed"), "{told}");
        }
    }
}

#[test]
fn transfers_stand_in_the_history_of_both_sides_unless_that_is_not_wanted() {
    let world = World::new();
    let (_, sender) = world.transfer(&[], &["--no-history"]);
    assert_eq!(sender.wait().0, Some(0));
    assert!(world.told(RECEIVER, &["history"]).is_empty());
    assert!(world.told(RECEIVER, &["peers"]).is_empty());
    let sent = world.told("sender", &["history"]);
    assert_eq!(sent.len(), 1, "{sent:?}");
    let expected = [
        ("direction", "sent".into()),
        ("name", "sent".into()),
        ("files", 2.into()),
        ("bytes", 300_005.into()),
        ("ended", "completed".into()),
        ("path", "loopback".into()),
        ("folder", Value::Null),
    ];
    for (field, value) in expected {
        assert_eq!(sent[0][field], value, "{field}");
    }
    // Text output: on standard output, one line per transfer.
    let told = run(world.scene.handover("sender", &["history"])).expect(0);
    let line = String::from_utf8(told.stdout).unwrap();
    assert!(
        line.contains("sent sent · 2 files · 293 KiB · to "),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);

    std::fs::create_dir_all(world.scene.path(RECEIVER)).unwrap();
    std::fs::remove_dir_all(world.scene.path("got")).unwrap();
    let (_, sender) = world.transfer(&[], &[]);
    assert_eq!(sender.wait().0, Some(0));
    let received = world.told(RECEIVER, &["history"]);
    assert_eq!(received[0]["direction"], "received");
    assert_eq!(
        text(&received[0], "folder"),
        world.scene.path("got").to_str().unwrap()
    );
    assert_eq!(world.told("sender", &["history", "--limit", "1"]).len(), 1);
    assert_eq!(world.told("sender", &["history"]).len(), 2);
    let cleared = world.told("sender", &["history", "--clear"]);
    assert_eq!(cleared[0]["transfers"], 2);
    assert!(world.told("sender", &["history"]).is_empty());

    // Turned off in the settings.
    let settings = world.scene.path(RECEIVER).join("config.toml");
    std::fs::write(settings, "history = false\n").unwrap();
    std::fs::remove_dir_all(world.scene.path("got")).unwrap();
    let (_, sender) = world.transfer(&[], &[]);
    assert_eq!(sender.wait().0, Some(0));
    assert_eq!(world.told(RECEIVER, &["history"]).len(), 1);
}

/// Unusable persistent state does not prevent a transfer.
#[test]
fn a_transfer_goes_on_where_nothing_can_be_remembered() {
    let world = World::new();
    let damaged = world
        .scene
        .file("sender/state.redb", b"no database, that is for sure");
    std::fs::create_dir_all(world.scene.path(RECEIVER).join("state.redb")).unwrap();
    let (got, sender) = world.transfer(&["--remember"], &["--remember"]);
    world.assert_same();
    let told = got.event("not_remembered");
    assert!(text(&told, "message").contains("can't be used"), "{told}");
    assert_eq!(sender.wait().0, Some(0));
    assert!(damaged.with_file_name("state.redb.damaged").is_file());
    assert_eq!(world.known("sender")["needs_code"], false);
    let failed = run(world.scene.handover(RECEIVER, &["history"])).expect(6);
    assert!(failed.stderr.contains("can't be used"), "{}", failed.stderr);
}

/// A receiver that looks for a share before it exists finds it once it does.
#[test]
fn the_receiver_may_be_there_first() {
    let world = World::new();
    let (_, sender) = world.transfer(&["--remember"], &["--remember"]);
    assert_eq!(sender.wait().0, Some(0));
    std::fs::remove_dir_all(world.scene.path("got/sent")).unwrap();
    let (laptop, desk) = (world.known("sender"), world.known(RECEIVER));
    let getting = world.from(text(&desk, "name"), &[]);
    let mut sender = Sender::start_unopened(world.sending(&["--to", text(&laptop, "name")]));
    sender.await_event("receiver_joined");
    getting.wait_for(PATIENCE).expect(0);
    world.assert_same();
    sender.signal(Signal::INT);
}
