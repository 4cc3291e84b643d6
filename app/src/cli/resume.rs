//! `handover resume`: lists unfinished downloads and shares, and continues one.

use std::path::Path;

use clap::Parser;
use handover::disk::{self, Left};
use handover::store::{OpenShare, Unfinished};
use handover_core::engine::OnConflict;

use super::args::{Args, Command, Conflict, Global, Resume};
use super::data_dir;
use super::exit::Exit;
use super::failure::Failure;
use super::input::Lines;
use super::interrupt::Interrupts;
use super::json;
use super::record::{Memory, now, tell_moved};
use super::screen::{Screen, Tone, resume};
use super::{get, send, unfinished};

/// A download or share that can be continued.
pub(crate) enum Item {
    Download(Unfinished),
    Share(String, OpenShare),
}

/// Lists the items, or continues or discards one of them.
pub(crate) async fn run(
    args: &Resume,
    global: &Global,
    screen: &Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let memory = Memory::new(&data_dir::choose(global.data_dir.as_deref())?, false)?;
    let mut items = items(&memory)?;
    tell_moved(&memory.store, screen);
    if args.list || (screen.is_json() && args.number.is_none()) {
        list(&items, screen);
        return Ok(Exit::Done);
    }
    if items.is_empty() && args.number.is_none() {
        screen.say(Tone::Plain, resume::nothing());
        return Ok(Exit::Done);
    }
    let number = match args.number {
        Some(number) => number,
        None if items.len() == 1 => 1,
        None => match ask(&items, screen, interrupts).await? {
            Some(number) => number,
            None => return Ok(Exit::Interrupted),
        },
    };
    if number == 0 || number > items.len() {
        let can = match items.len() {
            0 => "there is nothing to go on with".to_owned(),
            many => format!("{many} can go on"),
        };
        return Err(Failure::usage(
            format!("there is no number {number}: {can}"),
            "`handover resume --list` shows them.",
        ));
    }
    let item = items.swap_remove(number - 1);
    if args.discard {
        return discard(&item, &memory, screen);
    }
    go_on(item, global, screen, interrupts).await
}

/// Returns the items that no other process is working on. Forgets downloads gone from the disk and expired shares.
fn items(memory: &Memory) -> Result<Vec<Item>, Failure> {
    let store = &memory.store;
    let mut items = Vec::new();
    for download in store.unfinished().map_err(Failure::of_store)? {
        match disk::left(Path::new(&download.folder), &download.manifest) {
            Left::Something => items.push(Item::Download(download)),
            Left::InUse => {}
            Left::Nothing => {
                let forgotten = store.end_download(&download.key());
                forgotten.map_err(Failure::of_store)?;
            }
        }
    }
    for (key, share) in store.open_shares().map_err(Failure::of_store)? {
        if share.expires.is_some_and(|at| at <= now()) {
            store.close_share(&key).map_err(Failure::of_store)?;
        } else if unfinished::lock(memory, &key).is_some() {
            items.push(Item::Share(key, share));
        }
    }
    Ok(items)
}

fn list(items: &[Item], screen: &Screen) {
    if items.is_empty() {
        screen.say(Tone::Plain, resume::nothing());
    }
    let now = now();
    for (number, item) in (1..).zip(items) {
        if screen.is_json() {
            screen.event(&json::unfinished(number, item));
        } else {
            screen.data(&resume::item(number, item, now, screen.width()));
        }
    }
}

async fn ask(
    items: &[Item],
    screen: &Screen,
    interrupts: &mut Interrupts,
) -> Result<Option<usize>, Failure> {
    let which = || {
        Failure::usage(
            "there is more than one thing to go on with",
            "Say which: `handover resume --list` shows their numbers.",
        )
    };
    if !screen.can_ask() {
        return Err(which());
    }
    let now = now();
    for (number, item) in (1..).zip(items) {
        screen.need(
            Tone::Plain,
            &resume::item(number, item, now, screen.width()),
        );
    }
    screen.ask(&resume::question(items.len()));
    let mut lines = Lines::default();
    tokio::select! {
        () = interrupts.next() => Ok(None),
        line = lines.next() => {
            let number = line.and_then(|line| line.trim().parse().ok());
            number.map(Some).ok_or_else(which)
        }
    }
}

fn discard(item: &Item, memory: &Memory, screen: &Screen) -> Result<Exit, Failure> {
    let forgotten = match item {
        Item::Download(download) => {
            disk::remove_left(Path::new(&download.folder), &download.manifest).map_err(
                |error| {
                    let folder = &download.folder;
                    Failure::new(
                        Exit::Disk,
                        format!("what is kept in {folder} can't be removed: {error}"),
                        "",
                    )
                },
            )?;
            memory.store.end_download(&download.key())
        }
        Item::Share(key, _) => memory.store.close_share(key),
    };
    forgotten.map_err(Failure::of_store)?;
    screen.say(Tone::Plain, resume::discarded());
    Ok(Exit::Done)
}

/// Runs the command line that began the item again, in the same folder.
async fn go_on(
    item: Item,
    global: &Global,
    screen: &Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let (begun, download) = match item {
        Item::Download(download) => (download.begun.clone(), Some(download)),
        Item::Share(_, share) => (share.begun.clone(), None),
    };
    let lost = |what: &str| {
        Failure::usage(
            format!("this can't go on by itself: {what}"),
            "Run the command that began it again.",
        )
    };
    let line = std::iter::once("handover").chain(begun.args.iter().map(String::as_str));
    let parsed = Args::try_parse_from(line);
    let parsed = parsed.map_err(|_| lost("its command line is not understood any more"))?;
    std::env::set_current_dir(&begun.cwd).map_err(|error| {
        lost(&format!(
            "the folder {} can't be entered: {error}",
            begun.cwd
        ))
    })?;
    match (parsed.command, download) {
        (Command::Send(args), None) => send::run(&args, global, screen, interrupts).await,
        (Command::Get(mut args), Some(download)) => {
            args.code = Some(download.ticket);
            args.from = None;
            // Acceptance covers only the same files. The user is asked about others.
            args.accepted = true;
            args.exec = download.executables;
            args.on_conflict = match download.on_conflict {
                OnConflict::Skip => Conflict::Skip,
                OnConflict::Rename => Conflict::Rename,
                OnConflict::Overwrite => Conflict::Overwrite,
            };
            get::run(&args, global, screen, interrupts).await
        }
        _ => Err(lost("it was begun by another command")),
    }
}
