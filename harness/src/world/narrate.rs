//! Prints a run line by line, for replaying and debugging it.

use std::fmt::Write;

use handover_core::engine::{DiskDone, DiskWork, Input, LinkId, Output};
use handover_core::message::{Message, Served};
use handover_transports::memory::HostId;

use super::World;
use crate::disk::JobKind;

/// Receives each line.
pub(crate) type Listener = Box<dyn FnMut(&str)>;

impl World {
    /// From now on, reports everything that goes into engines and comes out of them.
    pub fn narrate_to(&mut self, listener: impl FnMut(&str) + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// Reports something that happened at a host.
    pub(crate) fn tell_of(&mut self, id: HostId, what: impl FnOnce() -> String) {
        self.tell(&format_args!("host {}", id.0), what);
    }

    /// Reports something that happened in the world.
    pub(crate) fn tell(&mut self, whose: &dyn std::fmt::Display, what: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(listener) = &mut self.listener {
            let millis = now.as_nanos() / 1000;
            let (seconds, micros) = (millis / 1_000_000, millis % 1_000_000);
            listener(&format!("{seconds:>5}.{micros:06} {whose}: {}", what()));
        }
    }

    pub(super) fn narrate_input(&mut self, id: HostId, input: &Input) {
        if self.listener.is_some() {
            self.tell_of(id, || format!("← {}", words_of_input(input)));
        }
    }

    pub(super) fn narrate_output(&mut self, id: HostId, output: &Output) {
        // Events are reported where they are checked.
        if self.listener.is_some() && !matches!(output, Output::Event(_) | Output::Timeout(_)) {
            self.tell_of(id, || format!("→ {}", words_of_output(output)));
        }
    }
}

fn words_of_input(input: &Input) -> String {
    match input {
        Input::Command(command) => format!("command {command:?}"),
        Input::Listening { addresses } => format!("listening at {addresses:?}"),
        Input::LinkUp {
            link, path, dial, ..
        } => format!("link {link} up, {path:?}, {dial:?}"),
        Input::LinkDown { link, reason } => format!("link {link} down: {reason}"),
        Input::DialFailed { dial, reason } => format!("dial {dial} failed: {reason}"),
        Input::Plain { link, bytes } => format!("link {link}: {} plain bytes", bytes.len()),
        Input::Frame { link, frame } => {
            words_of_message(*link, &frame.message, frame.payload.len())
        }
        Input::BadFrame { link, reason } => format!("link {link}: a bad frame: {reason}"),
        Input::Activity { link } => format!("link {link} is active"),
        Input::Sent { link, seq } => format!("link {link}: frame {seq} is gone"),
        Input::Disk { job, done } => format!("job {job} ended: {}", words_of_done(done)),
        Input::Nearby { addresses, .. } => format!("somebody is near, at {addresses:?}"),
        Input::NearbyGone { .. } => "somebody is near no more".to_owned(),
        Input::Announced { report, .. } => format!("announced: {report:?}"),
        Input::Found {
            lookup,
            peer,
            addresses,
            ..
        } => format!("look-up {lookup} finds {peer} at {addresses:?}"),
        Input::LookedUp { lookup, reached } => format!("look-up {lookup} ended: {reached}"),
        Input::Path { peer, path } => format!("a path to {peer}: {path:?}"),
        Input::Date { day } => format!("it is day {day}"),
        Input::Standing { peer, standing } => format!("the standing of {peer} is {standing}"),
        Input::Tick => "tick".to_owned(),
    }
}

fn words_of_output(output: &Output) -> String {
    match output {
        Output::Dial {
            dial, addresses, ..
        } => format!("dial {dial}: {addresses:?}"),
        Output::Close { link } => format!("close link {link}"),
        Output::SendPlain { link, bytes } => format!("link {link}: {} plain bytes", bytes.len()),
        Output::AwaitPlain { link } => format!("link {link}: a plain frame is awaited"),
        Output::Keys { link, .. } => format!("link {link}: keys"),
        Output::Send {
            link,
            seq,
            message,
            payload,
        } => {
            let words = words_of_message(*link, message, payload.len());
            format!("{words} as frame {seq}")
        }
        Output::Disk { job, work } => format!("job {job}: {}", words_of_work(work)),
        Output::Announce { place } => format!("announce at {place:?}"),
        Output::Withdraw { place } => format!("withdraw from {place:?}"),
        Output::LookUp { lookup, place } => format!("look-up {lookup} at {place:?}"),
        Output::EndLookUp { lookup } => format!("no more look-up {lookup}"),
        Output::Reach { peer, addresses } => format!("reach {peer} at {addresses:?}"),
        Output::Event(event) => format!("{event:?}"),
        Output::Timeout(at) => format!("wake at {at:?}"),
    }
}

fn words_of_message(link: LinkId, message: &Message, payload: usize) -> String {
    let mut words = format!("link {link}: ");
    let _ = match message {
        Message::Request { id, segments } => {
            let asked = segments.iter().map(|s| (s.entry, s.offset, s.len));
            write!(words, "request {id} {:?}", asked.collect::<Vec<_>>())
        }
        Message::Data {
            id,
            segments,
            roots,
        } => {
            let served = segments.iter().map(words_of_served).collect::<Vec<_>>();
            let roots = if roots.is_some() { " with roots" } else { "" };
            write!(words, "data {id} {}{roots}", served.join(", "))
        }
        Message::Manifest { offset, total } => write!(words, "manifest from {offset} of {total}"),
        Message::Roots(_) => write!(words, "roots"),
        other => write!(words, "{other:?}"),
    };
    if payload > 0 {
        let _ = write!(words, " ({payload} bytes)");
    }
    words
}

fn words_of_served(served: &Served) -> String {
    match served {
        Served::Bytes { len, proof } => {
            let proof = if proof.is_some() { "" } else { " unproved" };
            format!("{len}{proof}")
        }
        other => format!("{other:?}"),
    }
}

fn words_of_work(work: &DiskWork) -> String {
    match work {
        DiskWork::Read { segments, hash, .. } => {
            let read = segments.iter().map(|s| (s.entry, s.offset, s.len));
            let hash = if *hash { " and hash" } else { "" };
            format!("read{hash} {:?}", read.collect::<Vec<_>>())
        }
        DiskWork::Write { pieces, .. } => {
            let written = pieces.iter().map(|p| (p.entry, p.offset, p.data.len()));
            format!("write {:?}", written.collect::<Vec<_>>())
        }
        DiskWork::Publish { files, .. } => {
            let paths = files.iter().map(|file| file.path.as_str());
            format!("publish {:?}", paths.collect::<Vec<_>>())
        }
        DiskWork::Adopt { files, .. } => {
            let paths = files.iter().map(|adopt| adopt.file.path.as_str());
            format!("adopt {:?}", paths.collect::<Vec<_>>())
        }
        DiskWork::Reuse { file, chunks, .. } => {
            format!("reuse {} chunks of {}", chunks.len(), file.path)
        }
        other => format!("{:?}", JobKind::of(other)),
    }
}

fn words_of_done(done: &DiskDone) -> String {
    match done {
        DiskDone::Failed(error) => format!("failed: {error}"),
        DiskDone::Read { payload, segments } => {
            let bad = segments.iter().filter(|segment| segment.is_err()).count();
            format!("{} bytes read, {bad} failed", payload.len())
        }
        DiskDone::PipeRead { payload, end, .. } => {
            format!("{} bytes read, end: {end}", payload.len())
        }
        DiskDone::Published(results) => format!("{results:?}"),
        DiskDone::Hashed { hashes } => format!("{} groups hashed", hashes.len()),
        DiskDone::Scanned(scanned) => format!("{} entries", scanned.entries.len()),
        DiskDone::Inspected { taken, .. } => format!("{} names taken", taken.len()),
        DiskDone::Finished { failed } => format!("finished, {} failed", failed.len()),
        DiskDone::Chunked(chunks) => format!("{} chunks", chunks.len()),
        DiskDone::Candidates(found) => format!("{found:?}"),
        DiskDone::Adopted(outcomes) => format!("{outcomes:?}"),
        DiskDone::Reused(parts) => {
            let leaves: usize = parts.iter().map(|(_, range)| range.leaves().len()).sum();
            format!("{leaves} leaves in {} ranges", parts.len())
        }
        DiskDone::ProofCounted { sent } => format!("{sent} proofs sent"),
        DiskDone::Ok => "done".to_owned(),
    }
}
