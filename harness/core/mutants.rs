// What `build.rs` changes in its copy of core. Included there and in `src/mutant.rs`.

/// One place of core that is different for the simulator, always.
pub struct Small {
    /// Below core's `src`.
    pub file: &'static str,
    /// What stands there, once.
    pub stands: &'static str,
    /// What stands there instead.
    pub instead: &'static str,
}

/// One place of core that is different while the mutant is awake.
#[derive(Debug)]
pub struct Mutant {
    /// What it is called.
    pub name: &'static str,
    /// What is wrong with it.
    pub mistake: &'static str,
    /// Below core's `src`.
    pub file: &'static str,
    /// What stands there, once.
    pub stands: &'static str,
    /// What stands there while it is awake.
    pub instead: &'static str,
    /// Seeds, counted from 0, within which the simulator must notice, if no plan of `regressions` does.
    pub within: u64,
}

/// The small constants.
pub const SMALL: &[Small] = &[Small {
    file: "limits.rs",
    stands: "pub const LEAF: u32 = 16 * 1024;",
    instead: "pub const LEAF: u32 = 256;",
}];

/// All mutants.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "bad-leaves-pass",
        mistake: "a leaf that does not match its root is taken",
        file: "engine/download/files.rs",
        stands: "verify_range(root, size, segment.offset, range, proof).is_none()",
        instead: "false",
        within: 100,
    },
    Mutant {
        name: "roots-unchecked",
        mistake: "a file is published whatever its root",
        file: "engine/download/files.rs",
        stands: "found == *root",
        instead: "true",
        within: 1500,
    },
    Mutant {
        name: "liars-forgiven",
        mistake: "who sends bad pieces is never dropped",
        file: "engine/download/transfer.rs",
        stands: "self.bad += bad;",
        instead: "let _ = bad;",
        within: 100,
    },
    Mutant {
        name: "numbers-twice",
        mistake: "every eighth frame of a link has the number of the one before",
        file: "engine/links.rs",
        stands: "link.next_seq += 1;",
        instead: "link.next_seq += u64::from(!link.next_seq.is_multiple_of(8));",
        within: 20,
    },
    Mutant {
        name: "lost-ranges-forgotten",
        mistake: "what was asked for on a link that is lost is not asked for again",
        file: "engine/download/mod.rs",
        stands: "transfer.lost(fetching.flow);",
        instead: "drop(fetching.flow);",
        within: 100,
    },
    Mutant {
        name: "asks-without-end",
        mistake: "the window is no limit to what is asked for",
        file: "engine/download/asking.rs",
        stands: "room < u64::from(size.range) && !is_stuck",
        instead: "false",
        within: 200,
    },
    Mutant {
        name: "relays-overrun",
        mistake: "a relay is asked to carry as much as it lets through",
        file: "engine/download/circuits.rs",
        stands: "fits && self.opens_at(cx) <= cx.now",
        instead: "fits",
        within: 1500,
    },
    Mutant {
        name: "cancel-goes-on",
        mistake: "a cancelled download says that it has ended, and goes on",
        file: "engine/download/ending.rs",
        stands: "self.end(cx, DownloadOutcome::Cancelled);",
        instead: "cx.event(Event::DownloadEnded { download: self.id, outcome: DownloadOutcome::Cancelled });",
        within: 100,
    },
    Mutant {
        name: "cancel-in-silence",
        mistake: "a cancelled download never says that it has ended",
        file: "engine/download/mod.rs",
        stands: "(&job, self.ending.is_some())",
        instead: "(&job, false)",
        within: 100,
    },
    Mutant {
        name: "published-early",
        mistake: "a file is published before all of it is on the disk",
        file: "engine/download/arrival.rs",
        stands: "self.written >= tree.size()",
        instead: "true",
        within: 500,
    },
    Mutant {
        name: "signatures-unchecked",
        mistake: "a manifest's signature is not looked at",
        file: "manifest/signed.rs",
        stands: "!key.verify(&[SIGNED, &envelope.body].concat(), &envelope.signature)",
        instead: "false",
        within: 500,
    },
    Mutant {
        name: "symlinks-lead-out",
        mistake: "a symlink may point out of the share",
        file: "path.rs",
        stands: "folders_above = folders_above.checked_sub(1).ok_or(PathError::LeavesRoot)?;",
        instead: "folders_above = folders_above.saturating_sub(1);",
        within: 2500,
    },
    Mutant {
        name: "files-below-files",
        mistake: "what stands below a symlink or file is taken",
        file: "manifest/validate.rs",
        stands: r#"rest.starts_with('\0') && !matches!(above.kind, EntryKind::Folder { .. })"#,
        instead: "false",
        within: 2500,
    },
    Mutant {
        name: "floods-are-welcome",
        mistake: "messages without progress cost nothing",
        file: "engine/links.rs",
        stands: "self.budget = self.budget.saturating_sub(1);",
        instead: "let _ = now;",
        within: 200,
    },
    Mutant {
        name: "silence-is-life",
        mistake: "a link that went silent is never given up",
        file: "engine/links.rs",
        stands: "now >= dead && !link.is_excused(now.since(dead))",
        instead: "false",
        within: 2000,
    },
    Mutant {
        name: "mute-is-polite",
        mistake: "a link may take for ever to prove a key",
        file: "engine/links.rs",
        stands: "return Some(Care::HandshakeOver);",
        instead: "return None;",
        within: 200,
    },
    Mutant {
        name: "buffers-never-drain",
        mistake: "what a link has sent still counts as waiting",
        file: "engine/serving.rs",
        stands: "self.buffered = self.buffered.saturating_sub(first.bytes);",
        instead: "let _ = first;",
        within: 100,
    },
    Mutant {
        name: "buffers-without-end",
        mistake: "reads go on however much waits for the link",
        file: "engine/serving.rs",
        stands: "self.buffered > 0 && full",
        instead: "false",
        within: 600,
    },
    Mutant {
        name: "links-closed-too-soon",
        mistake: "the slower link goes while answers are still to come over it",
        file: "engine/download/mod.rs",
        stands: "fetching.manifest.is_some() && fetching.flow.is_idle()",
        instead: "fetching.manifest.is_some()",
        within: 500,
    },
    Mutant {
        name: "requests-must-skip",
        mistake: "a sharer takes it ill that request numbers follow each other",
        file: "engine/serving.rs",
        stands: "self.last_id.is_some_and(|last| id <= last)",
        instead: "self.last_id.is_some_and(|last| id <= last + 1)",
        within: 20,
    },
    Mutant {
        name: "pings-in-the-past",
        mistake: "a ping is due at once after a ping",
        file: "engine/links.rs",
        stands: "link.ping_due = now + limits.ping_after;",
        instead: "link.ping_due = now; link.ping = None;",
        within: 20,
    },
    Mutant {
        name: "searches-for-ever",
        mistake: "a peer that is gone is never given up",
        file: "engine/download/search.rs",
        stands: "cx.now >= self.ends",
        instead: "false",
        within: 100,
    },
    Mutant {
        name: "dials-in-anger",
        mistake: "a peer that only hangs up is dialled again at once",
        file: "engine/download/search.rs",
        stands: "now + self.pause",
        instead: "now",
        within: 100,
    },
    Mutant {
        name: "guesses-are-free",
        mistake: "wrong guesses of a short code are not counted",
        file: "engine/share/mod.rs",
        stands: "self.guesses = self.guesses.saturating_add(1);",
        instead: "let _ = &cx;",
        within: 2500,
    },
    Mutant {
        name: "dead-codes-open",
        mistake: "a short code that is dead still lets in",
        file: "engine/share/mod.rs",
        stands: "self.short = None;",
        instead: "let _ = &cx;",
        within: 2500,
    },
    Mutant {
        name: "failures-count-twice",
        mistake: "a sharer may fail a file that is being published",
        file: "engine/download/transfer.rs",
        stands: "transfer.files.is_whole(entry)",
        instead: "false",
        within: 100,
    },
    Mutant {
        name: "streams-in-any-order",
        mistake: "a stream's reader may be a step ahead of nobody",
        file: "engine/share/request.rs",
        stands: "stream.taken_by.is_none() || stream.taken_by == peer",
        instead: "stream.taken_by == peer",
        within: 1500,
    },
    Mutant {
        name: "other-files-unnoticed",
        mistake: "a sharer that came back with other files is taken for the same",
        file: "engine/download/offering.rs",
        stands: "transfer.signed.id() == announced.id",
        instead: "true",
        within: 6000,
    },
    Mutant {
        name: "syncs-skipped",
        mistake: "what is noted in the journal was not synced before",
        file: "engine/download/journal.rs",
        stands: "entries.is_empty()",
        instead: "true",
        within: 2500,
    },
    Mutant {
        name: "journal-before-data",
        mistake: "what has come is noted before it is written",
        file: "engine/download/transfer.rs",
        stands: "transfer.queue(pieces);",
        instead: "for piece in &pieces {
            let len = u32::try_from(piece.data.len()).unwrap_or(crate::limits::GROUP);
            let range = crate::engine::Segment { entry: piece.entry, offset: piece.offset, len };
            if let Some((group, node)) = transfer.files.written(&range) {
                transfer.journal.wrote(&transfer.files, piece.entry, group, node);
            }
        }
        transfer.queue(pieces);",
        within: 2500,
    },
    Mutant {
        name: "kept-and-asked-for",
        mistake: "what an earlier run has left is fetched again",
        file: "engine/download/arrival.rs",
        stands: "self.written += bytes;",
        instead: "self.next = 0; self.written += bytes; *tree = PartialTree::new(tree.size());",
        within: 2500,
    },
    Mutant {
        name: "common-bucket-unseen",
        mistake: "a limit on all together is not looked at",
        file: "engine/gate.rs",
        stands: "common.is_none_or(|common| common.is_open(now))",
        instead: "true",
        within: 200,
    },
    Mutant {
        name: "saved-tokens-burst",
        mistake: "who let nothing go for long may let all of it go at once",
        file: "engine/pace.rs",
        stands: "self.level.saturating_add(came).min(most)",
        instead: "self.level.saturating_add(came)",
        within: 200,
    },
    Mutant {
        name: "pauses-mean-nothing",
        mistake: "a share that is paused says so, and goes on",
        file: "engine/share/serve.rs",
        stands: "(self.paused || !cx.up.may(of, cx.now))",
        instead: "!cx.up.may(of, cx.now)",
        within: 500,
    },
    Mutant {
        name: "memory-without-end",
        mistake: "each download asks for a window, however many there are",
        file: "engine/room.rs",
        stands: "(with(own) <= self.part(total) && with(all) <= total)",
        instead: "true",
        within: 4000,
    },
    Mutant {
        name: "turns-do-not-skip",
        mistake: "what was asked for out of its turn is asked for again in its turn",
        file: "engine/download/arrival.rs",
        stands: "self.ahead.remove(&(self.next / u64::from(GROUP)))",
        instead: "false",
        within: 900,
    },
    Mutant {
        name: "turns-are-lost",
        mistake: "a file that was being asked for in order is forgotten when others come to serve",
        file: "engine/download/files/pick.rs",
        stands: "self.again.extend(arrival.leave_group(entry));",
        instead: "let _ = arrival.leave_group(entry);",
        within: 300,
    },
    Mutant {
        name: "proves-the-neighbour",
        mistake: "a receiver that serves proves another group than it sends",
        file: "engine/download/holdings.rs",
        stands: "tree.proof(group)",
        instead: "tree.proof(group ^ 1)",
        within: 300,
    },
    Mutant {
        name: "adopted-blindly",
        mistake: "a file that is not what its root says is taken for one that is here",
        file: "engine/download/known.rs",
        stands: "self.not_here(*entry)",
        instead: "self.staged_whole(*entry)",
        within: 300,
    },
    Mutant {
        name: "twins-left-waiting",
        mistake: "files that wait for one with the same root are not copied from it",
        file: "engine/download/known.rs",
        stands: "waiting.unwrap_or_default()",
        instead: "{ drop(waiting); Vec::new() }",
        within: 300,
    },
    Mutant {
        name: "reused-groups-whole",
        mistake: "a group of which some leaves were reused is not asked for",
        file: "engine/download/files/apart.rs",
        stands: "*leaves |= mask(&segment);",
        instead: "*leaves = u32::MAX;",
        within: 1000,
    },
    Mutant {
        name: "set-apart-for-good",
        mistake: "a file that was set apart and is asked for after all stays crossed off where several serve",
        file: "engine/download/swarm.rs",
        stands: "self.open.insert_all(self.parts.of_entry(entry));",
        instead: "let _ = entry;",
        within: 100,
    },
];
