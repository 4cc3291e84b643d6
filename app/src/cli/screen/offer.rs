//! The offer: what the other side wants to send, shown before any of it is accepted.

use handover::landing::Landing;
use handover_core::engine::{KeptSummary, ManifestSummary};
use handover_core::manifest::{Entry, EntryKind, Manifest};
use handover_core::path::SafePath;

use super::escape::{fit, fit_lines};
use super::units::{count, size, summary};

/// Maximum number of entries shown unless the user asks for all.
const SHOWN: usize = 8;
/// Maximum number of programs named in the warning about them.
const PROGRAMS: usize = 3;
/// Maximum number of lines of a description.
const DESCRIPTION: usize = 6;

/// The selected part of an offer.
#[derive(Debug)]
pub(crate) struct View<'a> {
    manifest: &'a Manifest,
    /// Indexes of the selected entries, in order.
    wanted: Vec<u32>,
    /// Indexes of the selected entries that exist here already, in order.
    pub(crate) taken: Vec<u32>,
    /// Free space at the target in bytes, if known.
    free: Option<u64>,
    /// Totals of the selected part.
    pub(crate) summary: ManifestSummary,
    /// What an earlier run has received of it.
    kept: KeptSummary,
    /// The share's own folder, in which the files are put.
    folder: Option<&'a SafePath>,
    selected: bool,
}

impl<'a> View<'a> {
    /// `select` (in order) and `taken` are indexes into the manifest. Without a selection, everything is selected.
    pub(crate) fn new(
        manifest: &'a Manifest,
        select: Option<&[u32]>,
        taken: &[u32],
        free: Option<u64>,
    ) -> Self {
        let wanted: Vec<u32> = match select {
            Some(select) => select.to_vec(),
            None => (0..)
                .zip(manifest.entries())
                .map(|(index, _)| index)
                .collect(),
        };
        let mut taken: Vec<u32> = taken.to_vec();
        taken.retain(|index| wanted.binary_search(index).is_ok());
        taken.sort_unstable();
        Self {
            summary: sum(manifest, &wanted),
            manifest,
            wanted,
            taken,
            free,
            kept: KeptSummary::default(),
            folder: None,
            selected: select.is_some(),
        }
    }

    /// True if there is enough space, or if the free space is unknown.
    pub(crate) fn fits(&self) -> bool {
        let needed = self.summary.bytes.saturating_sub(self.kept.bytes);
        self.free.is_none_or(|free| free >= needed)
    }

    /// Adds what an earlier run has received.
    pub(crate) fn keeping(self, kept: KeptSummary) -> Self {
        Self { kept, ..self }
    }

    /// Adds the share's own folder.
    pub(crate) fn landing_in(self, folder: Option<&'a SafePath>) -> Self {
        Self { folder, ..self }
    }

    /// Indexes, in order, of the files that the system would read automatically if they were put there.
    pub(crate) fn read_by_itself(&self, landing: &Landing) -> Vec<u32> {
        let read = self
            .entries()
            .filter(|(_, entry)| landing.reads_by_itself(entry));
        read.map(|(index, _)| index).collect()
    }

    fn entries(&self) -> impl Iterator<Item = (u32, &'a Entry)> + Clone {
        let entry = |index: &u32| self.manifest.entry(*index).map(|entry| (*index, entry));
        self.wanted.iter().filter_map(entry)
    }
}

/// Totals of these entries of a manifest.
fn sum(manifest: &Manifest, indexes: &[u32]) -> ManifestSummary {
    let mut sum = ManifestSummary::default();
    for entry in indexes.iter().filter_map(|index| manifest.entry(*index)) {
        match entry.kind {
            EntryKind::Folder { .. } => sum.folders += 1,
            _ => sum.files += 1,
        }
        sum.bytes = sum.bytes.saturating_add(entry.size().unwrap_or(0));
        sum.executables += u64::from(is_program(entry));
        sum.stream |= entry.kind == EntryKind::Stream;
    }
    sum
}

fn is_program(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File { mode, .. } if mode & 0o111 != 0)
}

/// The whole offer. `ask` is true if a question follows.
pub(crate) fn offer(view: &View, ask: bool, width: usize) -> String {
    let mut lines = vec![title(view)];
    let description = fit_lines(view.manifest.description(), width - 4, DESCRIPTION);
    lines.extend(description.iter().map(|line| format!("  “{line}”")));
    let many = view.wanted.len() > SHOWN;
    let mut shown: Vec<(u32, &Entry)> = if many {
        view.entries()
            .filter(|(_, entry)| !is_folder(entry))
            .collect()
    } else {
        view.entries().collect()
    };
    let all = shown.len();
    if many {
        // The largest files say most about the content.
        shown.sort_by_key(|(index, entry)| (std::cmp::Reverse(entry.size()), *index));
        shown.truncate(SHOWN);
    }
    lines.extend(
        shown
            .iter()
            .map(|(index, entry)| line(view, *index, entry, width)),
    );
    let more = all - shown.len();
    if more > 0 {
        let how = if ask { " (l to list)" } else { "" };
        lines.push(format!("    … and {more} more{how}"));
    }
    lines.extend(folder(view));
    lines.extend(kept(view));
    lines.extend(cautions(view));
    lines.join("\n")
}

/// Message about the share's own folder.
fn folder(view: &View) -> Option<String> {
    let name = fit(view.folder?.as_str(), 60);
    Some(format!(
        "  all of it goes into a folder of its own, \"{name}\""
    ))
}

/// Message about what need not be fetched again.
fn kept(view: &View) -> Option<String> {
    let bytes = view.kept.bytes.min(view.summary.bytes);
    (bytes > 0).then(|| {
        let (here, all) = (size(bytes), size(view.summary.bytes));
        format!("  {here} of {all} are here from before; only the rest is fetched")
    })
}

/// All selected entries, one a line.
pub(crate) fn list(view: &View, width: usize) -> String {
    let lines: Vec<String> = view
        .entries()
        .map(|(index, entry)| line(view, index, entry, width))
        .collect();
    lines.join("\n")
}

/// The question after an offer. The capital letter is the default for Enter.
pub(crate) fn question(view: &View) -> String {
    let yes_no = if view.fits() { "Y/n" } else { "y/N" };
    let without_programs = if view.summary.executables > 0 {
        "/x"
    } else {
        ""
    };
    format!("accept? [{yes_no}/l{without_programs}]")
}

/// Explains the letters to a user who typed another one.
pub(crate) fn help(view: &View) -> String {
    let mut help = "y accepts, n declines, l lists everything".to_string();
    if view.summary.executables > 0 {
        help.push_str(", x accepts programs without letting them be executable");
    }
    help
}

/// The single question about all files that exist already.
pub(crate) fn conflict_question() -> &'static str {
    "what exists already: [S]kip, [r]ename the new, [o]verwrite, [c]ancel?"
}

/// Lists the files that exist already.
pub(crate) fn conflicts(view: &View, width: usize) -> String {
    let names = names(view, &view.taken, width);
    format!("{} here already:\n{names}", exist(view.taken.len() as u64))
}

/// The single question about all files that the system reads automatically.
pub(crate) fn landing_question() -> &'static str {
    "let them land there? [y/N]"
}

/// Lists these entries, which would be put where the system reads them automatically.
pub(crate) fn read_by_itself(view: &View, indexes: &[u32], width: usize) -> String {
    let names = names(view, indexes, width);
    let files = count(indexes.len() as u64, "file would land", "files would land");
    format!(
        "{files} where a shell, a session or a scheduler reads it by itself, and so could do anything here:\n{names}"
    )
}

/// The first of these entries, one a line.
fn names(view: &View, indexes: &[u32], width: usize) -> String {
    let entries = indexes
        .iter()
        .filter_map(|index| view.manifest.entry(*index));
    let mut lines: Vec<String> = entries
        .take(SHOWN)
        .map(|entry| format!("    {}", fit(entry.path.as_str(), width - 4)))
        .collect();
    if indexes.len() > SHOWN {
        lines.push(format!("    … and {} more", indexes.len() - SHOWN));
    }
    lines.join("\n")
}

fn exist(number: u64) -> String {
    count(number, "file exists", "files exist")
}

fn title(view: &View) -> String {
    let author = match view.manifest.author() {
        "" => "the other side".to_string(),
        author => fit(author, 40),
    };
    let name = match view.manifest.name() {
        "" => String::new(),
        name => format!(" \"{}\",", fit(name, 60)),
    };
    let all = summary(&view.manifest.summary(), ", ");
    if view.selected {
        let wanted = summary(&view.summary, ", ");
        format!("{author} wants to send{name} {all}. You selected {wanted}:")
    } else {
        format!("{author} wants to send{name} {all}:")
    }
}

fn line(view: &View, index: u32, entry: &Entry, width: usize) -> String {
    let mut notes = match &entry.kind {
        EntryKind::File { size: bytes, .. } => vec![size(*bytes)],
        EntryKind::Folder { .. } => vec!["folder".to_string()],
        EntryKind::Symlink { target } => vec![format!("→ {}", fit(target, 40))],
        EntryKind::Stream => vec!["of unknown size".to_string()],
    };
    if is_program(entry) {
        notes.push("program".to_string());
    }
    if view.taken.binary_search(&index).is_ok() {
        notes.push("exists".to_string());
    }
    let notes = notes.join(", ");
    let room = width
        .saturating_sub(6 + console::measure_text_width(&notes))
        .max(20);
    let slash = if is_folder(entry) { "/" } else { "" };
    format!("    {}{slash}  {notes}", fit(entry.path.as_str(), room))
}

fn is_folder(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Folder { .. })
}

/// True for files that file managers hide by default.
fn is_hidden(entry: &Entry) -> bool {
    let mut parts = entry.path.as_str().split('/');
    !is_folder(entry) && parts.any(|part| part.starts_with('.'))
}

fn cautions(view: &View) -> Vec<String> {
    let mut cautions = Vec::new();
    if view.summary.executables > 0 {
        let number = count(
            view.summary.executables,
            "file is a program",
            "files are programs",
        );
        let programs = view.entries().filter(|(_, entry)| is_program(entry));
        let mut names: Vec<String> = programs
            .take(PROGRAMS + 1)
            .map(|(_, entry)| fit(entry.path.as_str(), 50))
            .collect();
        if names.len() > PROGRAMS {
            names[PROGRAMS] = "…".to_string();
        }
        cautions.push(format!(
            "! {number} that could be run: {}",
            names.join(", ")
        ));
    }
    let hidden = view.entries().filter(|(_, entry)| is_hidden(entry)).count();
    if hidden > 0 {
        let number = count(hidden as u64, "hidden file", "hidden files");
        cautions.push(format!(
            "! {number}, whose names or folders begin with a dot"
        ));
    }
    if !view.taken.is_empty() {
        cautions.push(format!("! {} here already", exist(view.taken.len() as u64)));
    }
    if let (false, Some(free)) = (view.fits(), view.free) {
        let needed = size(view.summary.bytes);
        cautions.push(format!(
            "! only {} are free on this disk, and {needed} are needed",
            size(free)
        ));
    }
    cautions
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use handover_core::Keypair;
    use handover_core::limits::Limits;
    use handover_core::manifest::{ManifestParts, SignedManifest};
    use handover_core::time::Timestamp;

    use super::*;

    fn file(path: &str, size: u64, mode: u32) -> Entry {
        let modified = Timestamp::default();
        Entry {
            path: SafePath::parse(path).unwrap(),
            kind: EntryKind::File {
                size,
                mode,
                modified,
            },
        }
    }

    fn manifest(name: &str, author: &str, description: &str, entries: Vec<Entry>) -> Arc<Manifest> {
        let parts = ManifestParts {
            name: name.to_string(),
            author: author.to_string(),
            description: description.to_string(),
            created: Timestamp::default(),
            entries,
        };
        let keys = Keypair::ed25519_from_bytes([7; 32]).unwrap();
        SignedManifest::sign(parts, &keys, &Limits::default())
            .unwrap()
            .manifest()
            .clone()
    }

    fn mods() -> Arc<Manifest> {
        let mut entries = vec![
            file("mods/textures/sky.pak", 220 << 20, 0o644),
            file("mods/textures/sea.pak", 180 << 20, 0o644),
            file("mods/install.sh", 900, 0o755),
        ];
        entries.extend((0..209).map(|n| file(&format!("mods/maps/{n:03}.map"), 4 << 20, 0o644)));
        manifest(
            "mods",
            "laptop",
            "The maps of last week.\nHave fun!",
            entries,
        )
    }

    #[test]
    fn a_large_offer() {
        let manifest = mods();
        let view = View::new(&manifest, None, &[1, 2], Some(600 << 20));
        let screen = [
            offer(&view, true, 80),
            question(&view),
            help(&view),
            conflicts(&view, 80),
        ];
        insta::assert_snapshot!(screen.join("\n"));
    }

    #[test]
    fn a_selection_of_it() {
        let manifest = mods();
        let view = View::new(&manifest, Some(&[0, 3]), &[1], None);
        let screen = [offer(&view, false, 80), question(&view), list(&view, 80)];
        insta::assert_snapshot!(screen.join("\n"));
    }

    #[test]
    fn small_offers() {
        let folder = |path| Entry {
            path: SafePath::parse(path).unwrap(),
            kind: EntryKind::Folder {
                mode: 0o755,
                modified: Timestamp::default(),
            },
        };
        let link = Entry {
            path: SafePath::parse("a/link").unwrap(),
            kind: EntryKind::Symlink {
                target: "b".to_string(),
            },
        };
        let stream = Entry {
            path: SafePath::parse("stdin").unwrap(),
            kind: EntryKind::Stream,
        };
        let screens = [
            manifest("a", "", "", vec![folder("a"), file("a/b", 1, 0o600), link]),
            manifest("", "", "", vec![folder("empty")]),
            manifest("stdin", "host", "", vec![stream]),
            manifest(
                "a and 1 more",
                "host",
                "",
                vec![file("a", 1, 0o600), file("b", 1, 0o600)],
            ),
        ]
        .map(|manifest| {
            let folder = manifest.own_folder();
            let view = View::new(&manifest, None, &[], None).landing_in(folder.as_ref());
            offer(&view, true, 80)
        });
        insta::assert_snapshot!(screens.join("\n\n"));
    }

    /// Rows 4 and 5 of the threats.
    #[test]
    fn an_offer_that_wants_to_deceive() {
        let manifest = manifest(
            "holiday\r\u{1b}[2J",
            "bob\u{202e}",
            "line one\nline two\u{1b}]52;c;aGk=\u{7}\n3\n4\n5\n6\n7\n8",
            vec![
                file("photo\u{202e}gpj.exe", 10, 0o755),
                file(&format!("{}.pdf.exe", "a".repeat(200)), 10, 0o644),
                file("zero\u{200b}width\u{feff}", 10, 0o644),
            ],
        );
        insta::assert_snapshot!(offer(&View::new(&manifest, None, &[], None), true, 80));
    }

    #[test]
    fn many_conflicts() {
        let manifest = mods();
        let taken: Vec<u32> = (0..20).collect();
        insta::assert_snapshot!(conflicts(&View::new(&manifest, None, &taken, None), 80));
    }
}
