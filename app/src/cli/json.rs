//! `--json`: one JSON object a line on standard output.
//!
//! Every object has an `event`. Released names never change; fields may be added. Sizes are in bytes, times in
//! milliseconds. The `path` of a connection is `loopback`, `lan`, `direct` or `relayed`. Text from peers is unchanged,
//! except that characters that could act on a terminal are written as `\u` escapes.
//!
//! | `event` | fields |
//! |---|---|
//! | `share_open` | `share`, `code` (the long code), `short` (the short code, if there is one), `addresses`, `legacy` (the code in its old form, if requested); sent again when the addresses change. For a share with one peer alone: `share` and `to`, the peer's id |
//! | `share_changed` | `share`, `files`: those that differ from what an earlier run listed |
//! | `announced` | `share`, `reached` (whether the share can be found in the DHT now), `findable` |
//! | `wrong_words` | `share`, `left` (number of tries until the short code becomes invalid) |
//! | `code_burnt` | `share` |
//! | `share_scanned` | `share`, `files`, `folders`, `bytes`, `executables`, `stream`, `skipped`: [{`name`, `reason`}] |
//! | `share_hashed` | `share`, `done`, `total` |
//! | `share_ended` | `share`, `reason`: `stopped`, `used_up`, `expired` or `failed`, `message` |
//! | `share_file_failed` | `share`, `file`, `message` |
//! | `receiver_joined` | `share`, `receiver`, `peer`, `name`, `path` |
//! | `receiver_progress` | `share`, `receiver`, `path`, `rtt`, `done`, `total` |
//! | `receiver_left` | `share`, `receiver`, `outcome`: `completed`, `declined`, `cancelled`, `lost` or `violation`, `sent` |
//! | `connecting` | `download`, `attempt`, `reason` (why the previous attempt failed) |
//! | `not_found` | `download`, `reached` (whether any node of the DHT has answered), `date` (of this computer, in UTC, if a wrong date may be the reason: short codes are found only while the clocks are no more than a week apart; otherwise null) |
//! | `other_date` | `download`, `days`: minimum number of days by which the sender's date is ahead, negative if it is behind; one of the two clocks is wrong |
//! | `relays_in_question` | `download`, `relays`: [{`peer`, `address`}]: relays named only by the other side; the operator of a relay sees the address of a computer that hides it; `--any-relay` uses them without asking |
//! | `connected` | `download`, `peer`, `path` |
//! | `sharer_preparing` | `download` |
//! | `offer` | `download`, `name`, `description`, `author`, `files`, `folders`, `bytes`, `executables`, `stream`, `free`, `kept` (bytes that an earlier run has received), `folder` (the share's own folder below the target folder, for all of its files; or null), `entries`: [{`file`, `kind`, `size`, `executable`, `target`, `exists`, `read_by_itself` (whether a shell, a session or a scheduler would read it automatically)}] |
//! | `sharer_paused` | `download`, `paused` (whether the sharer currently answers no requests) |
//! | `progress` | `download`, `done`, `total`, `files_done`, `files_total`, `rate`, `rtt`, `path`, `sources`, `checking`, `paused` |
//! | `path_changed` | `download`, `path` |
//! | `circuits` | `download`, `relays` (number of relays used), `bytes` and `seconds` (what each of them lets one circuit carry; or null) |
//! | `relays_spared` | `download`, `bytes_an_hour` (what may go through each relay from now on) |
//! | `connection_lost` | `download`, `path`, `reason` |
//! | `deputy` | `download`, `peer`, `path`: the sharer is unreachable, and this seeder supplies the manifest |
//! | `source_joined` | `download`, `peer`, `path` (of a peer that serves some of the files, beside the sharer) |
//! | `source_left` | `download`, `peer` |
//! | `delivered` | `download`, `peer`, `bytes`, `bad` (pieces that failed the check), `took`; one for each source |
//! | `carried` | `download`, `relay`, `bytes`, `cuts` (connections through it that ended while in use); one for each relay |
//! | `seeding` | `download`, `time`, and the fields of a completed `download_ended`, which follows later |
//! | `file_done` | `download`, `file`, `size` |
//! | `file_skipped` | `download`, `file` |
//! | `file_failed` | `download`, `file`, `reason` |
//! | `peer_blamed` | `peer`, `violation` |
//! | `paired` | `peer`, `name`: both sides have agreed on the pairing |
//! | `not_remembered` | `message`: why a pairing could not be stored |
//! | `download_ended` | `download`, `outcome`: `completed`, `declined`, `cancelled`, `suspended` (it can be resumed) or `failed`; if completed `files`, `bytes`, `skipped`, `failed`, `executables_stripped`, `spared` (bytes that were here already), `untouched` (files that were in place already), `took`, `path`; if failed `message` |
//! | `unfinished` | `number`, `kind`: `download` or `share`, `name`, `begun` (seconds since 1970), `bytes`, `folder`: an item of `resume --list` |
//! | `limits` | `up`, `down` (bytes a second, null for no limit): at the start if there are any, and when they change |
//! | `node_address` | `address` (in the form for `--bootstrap`) |
//! | `node_state` | `dht_nodes`, `dht_keys`, `reservations`, `circuits`, `circuits_total` |
//! | `doctor` | `expect`: `direct`, `reachable_peers`, `relays`, `unknown` or `local_network`; `ipv4`, `ipv6`: `none`, `loopback`, `private` or `public`; `bootstrap_reached`, `bootstrap_nodes`; `bootstrap`: [{`peer`, `reached`, `addresses`: [{`address`, `outcome` (`connected`, `other_node`, null if the dial has not ended, or why it failed: `refused`, `timed_out`, `name`, …), `other` (the node that answered)}]}]; `obstacle`: null, `portal`, `other_protocols`, `other_nodes`, `cut`, `silence`, `refused`, `names`, `no_network` or `no_answer`; `names`: `off`, `unknown`, `fail` or `work`; `dht`: `off`, `late`, `silent`, `hangs` or `answers`; `dht_millis`; `nat`: `none`, `port_kept`, `one_port`, `unknown` or `symmetric`; `tcp`: `unknown`, `web_only` or `works`; `udp`: `off`, `unknown`, `blocked` or `works`; `reachable`: `off`, `assumed`, `unknown`, `nobody`, `acquaintances` or `strangers`; `hints` (from nodes that were asked to dial back; no proof): [{`address`, `reached_by`, `not_reached_by` (nodes), `denied` (by several nodes, so the address is not announced)}]; `port_mapping`: `off`, `asked`, `mapped`, `lost`, `no_router` or `router_not_public`; `relays`, `relays_needed`, `refusals`: [{`relay`, `status` (its name in the relay protocol)}]; `time` (seconds since 1970 by this computer's clock), `clock`: `unknown` or `behind` (files here are newer) |
//! | `transfer` | one of `handover history`: `at` (milliseconds since 1970), `direction`: `sent` or `received`, `name`, `files`, `bytes`, `peer`, `peer_name`, `ended`: `completed`, `incomplete`, `declined`, `cancelled`, `failed` or `violation`, `reason`, `took`, `path`, `folder` |
//! | `history_cleared` | `transfers` |
//! | `peer` | one of `handover peers`: `peer`, `name`, `names`, `needs_code`, `first_met`, `last_met` (milliseconds since 1970), `delivered`, `rate`, `taken`, `completed`, `failed`, `bad`, `violations`, `carried` and `cuts` (as a relay), `standing` (reputation: peers with a higher one are tried first) |
//! | `peers_forgotten` | `peers` |
//! | `failed` | `exit` (the exit code that follows), `message`, `advice` |
//! | `demo_finished` | `files`, `bytes` |

mod doctor;

use std::collections::BTreeSet;
use std::time::Duration;

use handover::landing::Landing;
use handover::store::{PeerRecord, StoreError, Transfer, standing};
use handover_core::code::Ticket;
use handover_core::engine::{
    DownloadId, DownloadOutcome, Event, KeptSummary, ManifestSummary, ShareEnd, ShareId,
};
use handover_core::manifest::{Entry, EntryKind, Manifest};
use handover_core::{Multiaddr, PeerId};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::resume::Item;
use super::screen::units;
use handover_transports::libp2p::NetworkState;

pub(crate) use self::doctor::doctor;

/// The rate limits in force, in bytes a second.
pub(crate) fn limits(up: Option<u64>, down: Option<u64>) -> Value {
    named("limits", json!({ "up": up, "down": down }))
}

/// Converts an event of the engine. `None` for events that only the command itself acts on.
/// `landing`: where the files of an offer are put.
pub(crate) fn event<'a>(event: &'a Event, landing: Option<&'a Landing>) -> Option<EngineEvent<'a>> {
    if let Event::Offer {
        download,
        manifest,
        folder,
        taken,
        free,
        kept,
    } = event
    {
        let mut fields = offer(*download, manifest, *free, kept);
        fields.insert("folder".to_owned(), json!(folder));
        return Some(EngineEvent::Offer {
            fields,
            entries: Entries {
                manifest,
                taken,
                landing,
            },
        });
    }
    let event = share_event(event).or_else(|| download_event(event))?;
    Some(EngineEvent::Object(event))
}

/// An event of the engine as JSON.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum EngineEvent<'a> {
    Object(Value),
    Offer {
        #[serde(flatten)]
        fields: Map<String, Value>,
        entries: Entries<'a>,
    },
}

/// The entries of an offer, serialised one by one: all at once would take more memory than the transfer.
pub(crate) struct Entries<'a> {
    manifest: &'a Manifest,
    taken: &'a [u32],
    landing: Option<&'a Landing>,
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let taken: BTreeSet<u32> = self.taken.iter().copied().collect();
        let entries = (0..).zip(self.manifest.entries());
        let entry = |(index, listed)| {
            let mut entry = entry(listed, taken.contains(&index));
            let read = self
                .landing
                .is_some_and(|landing| landing.reads_by_itself(listed));
            entry["read_by_itself"] = read.into();
            entry
        };
        serializer.collect_seq(entries.map(entry))
    }
}

/// The share can be reached by this code. `legacy` is the code in its old form, if requested and possible.
pub(crate) fn share_open(
    share: ShareId,
    ticket: &Ticket,
    legacy: Option<&str>,
    short: Option<&str>,
) -> Value {
    json!({
        "event": "share_open",
        "share": share,
        "code": ticket.encode(),
        "addresses": ticket.addresses.len(),
        "legacy": legacy,
        "short": short,
    })
}

/// A share for one peer alone is open.
pub(crate) fn share_open_to(share: ShareId, to: PeerId) -> Value {
    json!({ "event": "share_open", "share": share, "to": to.to_string() })
}

/// Files of a share have changed since an earlier run listed them.
pub(crate) fn share_changed(share: ShareId, files: &[String]) -> Value {
    json!({ "event": "share_changed", "share": share, "files": files })
}

/// A download or share that can be continued.
pub(crate) fn unfinished(number: usize, item: &Item) -> Value {
    match item {
        Item::Download(of) => json!({
            "event": "unfinished",
            "number": number,
            "kind": "download",
            "name": of.name,
            "bytes": of.bytes,
            "folder": of.folder,
            "begun": of.begun.at,
        }),
        Item::Share(_, of) => json!({
            "event": "unfinished",
            "number": number,
            "kind": "share",
            "name": of.name,
            "begun": of.begun.at,
        }),
    }
}

/// A finished transfer.
pub(crate) fn transfer(of: &Transfer) -> Value {
    json!({
        "event": "transfer",
        "at": of.at.saturating_mul(1000),
        "direction": of.direction,
        "name": of.name,
        "files": of.files,
        "bytes": of.bytes,
        "peer": of.peer,
        "peer_name": of.peer_name,
        "ended": of.ended,
        "reason": of.reason,
        "took": millis(of.took),
        "path": of.path,
        "folder": of.folder,
    })
}

/// The history was cleared of this number of transfers.
pub(crate) fn history_cleared(transfers: u64) -> Value {
    json!({ "event": "history_cleared", "transfers": transfers })
}

/// A known peer.
pub(crate) fn peer(peer: PeerId, record: &PeerRecord) -> Value {
    json!({
        "event": "peer",
        "peer": peer.to_string(),
        "name": record.name(),
        "names": record.names,
        "needs_code": record.pair.is_none(),
        "first_met": record.first_met.saturating_mul(1000),
        "last_met": record.last_met.saturating_mul(1000),
        "delivered": record.delivered,
        "rate": record.speed(),
        "taken": record.taken,
        "completed": record.completed,
        "failed": record.failed,
        "bad": record.bad,
        "violations": record.violations,
        "carried": record.carried,
        "cuts": record.cuts,
        "standing": standing(record),
    })
}

/// A pairing could not be stored.
pub(crate) fn not_remembered(error: &StoreError) -> Value {
    json!({ "event": "not_remembered", "message": error.to_string() })
}

/// The number of peers that were forgotten.
pub(crate) fn peers_forgotten(peers: u64) -> Value {
    json!({ "event": "peers_forgotten", "peers": peers })
}

/// The run failed.
pub(crate) fn failed(failure: &Failure) -> Value {
    json!({
        "event": "failed",
        "exit": failure.exit.code(),
        "message": failure.what,
        "advice": failure.advice,
    })
}

/// An address at which a node can be reached.
pub(crate) fn node_address(address: &Multiaddr) -> Value {
    json!({ "event": "node_address", "address": address })
}

/// State of a node.
pub(crate) fn node_state(network: &NetworkState) -> Value {
    json!({
        "event": "node_state",
        "dht_nodes": network.dht_nodes,
        "dht_keys": network.served.dht_keys,
        "reservations": network.served.reservations,
        "circuits": network.served.circuits,
        "circuits_total": network.served.circuits_total,
    })
}

/// The demo succeeded.
pub(crate) fn demo_finished(files: u64, bytes: u64) -> Value {
    json!({ "event": "demo_finished", "files": files, "bytes": bytes })
}

fn share_event(event: &Event) -> Option<Value> {
    Some(match event {
        Event::ShareScanned {
            share,
            summary,
            skipped,
            ..
        } => {
            let skipped = skipped
                .iter()
                .map(|(name, reason)| json!({ "name": name, "reason": reason }));
            let mut object = named("share_scanned", json!({ "share": share }));
            amounts(&mut object, summary);
            object["skipped"] = skipped.collect();
            object
        }
        Event::ShareHashed { share, done, total } => named(
            "share_hashed",
            json!({ "share": share, "done": done, "total": total }),
        ),
        Event::ShareEnded { share, reason } => {
            let (reason, message) = match reason {
                ShareEnd::Stopped => ("stopped", None),
                ShareEnd::UsedUp => ("used_up", None),
                ShareEnd::Expired => ("expired", None),
                ShareEnd::Failed(message) => ("failed", Some(message)),
            };
            named(
                "share_ended",
                json!({ "share": share, "reason": reason, "message": message }),
            )
        }
        Event::Announced { share, findable } => {
            let reached = findable.is_found();
            let fields = json!({ "share": share, "reached": reached, "findable": findable });
            named("announced", fields)
        }
        Event::WrongWords { share, left } => {
            named("wrong_words", json!({ "share": share, "left": left }))
        }
        Event::CodeBurnt { share } => named("code_burnt", json!({ "share": share })),
        Event::ShareFileFailed { share, path, error } => {
            let fields = json!({ "share": share, "file": path, "message": error.to_string() });
            named("share_file_failed", fields)
        }
        Event::ReceiverJoined {
            share,
            session,
            peer,
            name,
            path,
        } => {
            let peer = peer.to_string();
            let fields = json!({ "share": share, "receiver": session, "peer": peer, "name": name, "path": path });
            named("receiver_joined", fields)
        }
        Event::ReceiverProgress {
            share,
            session,
            path,
            rtt,
            done,
            total,
        } => {
            let rtt = rtt.map(millis);
            let fields = json!({
                "share": share, "receiver": session, "path": path, "rtt": rtt, "done": done, "total": total,
            });
            named("receiver_progress", fields)
        }
        Event::Paired { peer, name, .. } => {
            named("paired", json!({ "peer": peer.to_string(), "name": name }))
        }
        Event::ReceiverLeft {
            share,
            session,
            outcome,
            sent,
        } => {
            let fields =
                json!({ "share": share, "receiver": session, "outcome": outcome, "sent": sent });
            named("receiver_left", fields)
        }
        _ => return None,
    })
}

fn download_event(event: &Event) -> Option<Value> {
    Some(match event {
        Event::Connecting {
            download,
            attempt,
            reason,
        } => named(
            "connecting",
            json!({ "download": download, "attempt": attempt, "reason": reason }),
        ),
        Event::Connected {
            download,
            peer,
            path,
        } => named(
            "connected",
            json!({ "download": download, "peer": peer.to_string(), "path": path }),
        ),
        Event::SharerPreparing { download } => {
            named("sharer_preparing", json!({ "download": download }))
        }
        Event::SharerPaused { download, paused } => named(
            "sharer_paused",
            json!({ "download": download, "paused": paused }),
        ),
        Event::Progress { download, progress } => {
            let fields = json!({
                "download": download,
                "done": progress.done,
                "total": progress.total,
                "files_done": progress.files_done,
                "files_total": progress.files_total,
                "rate": progress.rate,
                "rtt": progress.rtt.map(millis),
                "path": progress.path,
                "sources": progress.sources,
                "checking": progress.checking,
                "paused": progress.paused,
            });
            named("progress", fields)
        }
        Event::PathChanged { download, path } => named(
            "path_changed",
            json!({ "download": download, "path": path }),
        ),
        Event::Circuits {
            download,
            relays,
            allowance,
        } => named(
            "circuits",
            json!({
                "download": download,
                "relays": relays,
                "bytes": allowance.bytes,
                "seconds": allowance.time.map(|time| time.as_secs()),
            }),
        ),
        Event::RelaysSpared { download, an_hour } => named(
            "relays_spared",
            json!({ "download": download, "bytes_an_hour": an_hour }),
        ),
        Event::RelaysInQuestion { download, relays } => {
            let relay = |(peer, address): &(PeerId, Multiaddr)| json!({ "peer": peer.to_string(), "address": address.to_string() });
            let relays: Vec<_> = relays.iter().map(relay).collect();
            named(
                "relays_in_question",
                json!({ "download": download, "relays": relays }),
            )
        }
        Event::ConnectionLost {
            download,
            path,
            reason,
        } => named(
            "connection_lost",
            json!({ "download": download, "path": path, "reason": reason }),
        ),
        Event::NotFound {
            download,
            reached,
            day,
        } => named(
            "not_found",
            json!({ "download": download, "reached": reached, "date": day.map(units::date) }),
        ),
        Event::OtherDate { download, days } => {
            named("other_date", json!({ "download": download, "days": days }))
        }
        Event::PeerBlamed { peer, violation } => {
            let fields = json!({ "peer": peer.to_string(), "violation": violation });
            named("peer_blamed", fields)
        }
        Event::DownloadEnded { download, outcome } => ended(*download, outcome),
        event => return file_event(event),
    })
}

fn file_event(event: &Event) -> Option<Value> {
    Some(match event {
        Event::FileDone {
            download,
            path,
            size,
        } => named(
            "file_done",
            json!({ "download": download, "file": path, "size": size }),
        ),
        Event::FileSkipped { download, path } => {
            let fields = json!({ "download": download, "file": path });
            named("file_skipped", fields)
        }
        Event::FileFailed {
            download,
            path,
            reason,
        } => named(
            "file_failed",
            json!({ "download": download, "file": path, "reason": reason }),
        ),
        event => return source_event(event),
    })
}

fn source_event(event: &Event) -> Option<Value> {
    Some(match event {
        Event::Deputy {
            download,
            peer,
            path,
        } => named(
            "deputy",
            json!({ "download": download, "peer": peer.to_string(), "path": path }),
        ),
        Event::SourceJoined {
            download,
            peer,
            path,
        } => named(
            "source_joined",
            json!({ "download": download, "peer": peer.to_string(), "path": path }),
        ),
        Event::SourceLeft { download, peer } => named(
            "source_left",
            json!({ "download": download, "peer": peer.to_string() }),
        ),
        Event::Delivered {
            download,
            peer,
            bytes,
            bad,
            took,
        } => named(
            "delivered",
            json!({
                "download": download, "peer": peer.to_string(), "bytes": bytes, "bad": bad, "took": millis(*took),
            }),
        ),
        Event::Carried {
            download,
            relay,
            bytes,
            cuts,
        } => named(
            "carried",
            json!({
                "download": download, "relay": relay.to_string(), "bytes": bytes, "cuts": cuts,
            }),
        ),
        Event::Seeding {
            download,
            summary,
            time,
        } => {
            let mut object = ended(*download, &DownloadOutcome::Completed(*summary));
            object["event"] = "seeding".into();
            object["time"] = millis(*time).into();
            object
        }
        _ => return None,
    })
}

/// The fields of an offer, without its entries.
fn offer(
    download: DownloadId,
    manifest: &Manifest,
    free: Option<u64>,
    kept: &KeptSummary,
) -> Map<String, Value> {
    let fields = json!({
        "download": download,
        "name": manifest.name(),
        "description": manifest.description(),
        "author": manifest.author(),
        "free": free,
        "kept": kept.bytes,
    });
    let mut object = named("offer", fields);
    amounts(&mut object, &manifest.summary());
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn entry(entry: &Entry, exists: bool) -> Value {
    let (kind, executable, target) = match &entry.kind {
        EntryKind::File { mode, .. } => ("file", mode & 0o111 != 0, None),
        EntryKind::Folder { .. } => ("folder", false, None),
        EntryKind::Symlink { target } => ("symlink", false, Some(target)),
        EntryKind::Stream => ("stream", false, None),
    };
    json!({
        "file": entry.path,
        "kind": kind,
        "size": entry.size(),
        "executable": executable,
        "target": target,
        "exists": exists,
    })
}

fn ended(download: DownloadId, outcome: &DownloadOutcome) -> Value {
    let fields = match outcome {
        DownloadOutcome::Completed(done) => json!({
            "download": download,
            "outcome": "completed",
            "files": done.files,
            "bytes": done.bytes,
            "skipped": done.skipped,
            "failed": done.failed,
            "executables_stripped": done.executables_stripped,
            "spared": done.spared,
            "untouched": done.untouched,
            "took": millis(done.took),
            "path": done.path,
        }),
        DownloadOutcome::Declined => json!({ "download": download, "outcome": "declined" }),
        DownloadOutcome::Cancelled => json!({ "download": download, "outcome": "cancelled" }),
        DownloadOutcome::Suspended => json!({ "download": download, "outcome": "suspended" }),
        DownloadOutcome::Failed(error) => {
            json!({ "download": download, "outcome": "failed", "message": error.to_string() })
        }
    };
    named("download_ended", fields)
}

fn amounts(object: &mut Value, summary: &ManifestSummary) {
    object["files"] = summary.files.into();
    object["folders"] = summary.folders.into();
    object["bytes"] = summary.bytes.into();
    object["executables"] = summary.executables.into();
    object["stream"] = summary.stream.into();
}

/// An object with the name of its event.
fn named(name: &str, fields: Value) -> Value {
    let mut object = Map::new();
    object.insert("event".to_string(), name.into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
