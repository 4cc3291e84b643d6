//! `handover history`: the finished transfers.

use handover::store::Store;

use super::args::{Global, History};
use super::data_dir;
use super::exit::Exit;
use super::failure::Failure;
use super::json;
use super::record::{now, tell_moved};
use super::screen::{Screen, Tone, history};

/// Shows or clears the history.
pub(crate) fn run(args: &History, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let store = Store::in_folder(&data_dir::choose(global.data_dir.as_deref())?);
    if args.clear {
        let count = store.clear_history().map_err(Failure::of_store)?;
        screen.event(&json::history_cleared(count));
        screen.say(Tone::Plain, &history::cleared(count));
    } else {
        show(&store, args.limit, screen)?;
    }
    tell_moved(&store, screen);
    Ok(Exit::Done)
}

fn show(store: &Store, limit: usize, screen: &Screen) -> Result<(), Failure> {
    let transfers = store.history(limit).map_err(Failure::of_store)?;
    if transfers.is_empty() {
        screen.say(Tone::Plain, history::none());
    }
    let now = now();
    for transfer in &transfers {
        if screen.is_json() {
            screen.event(&json::transfer(transfer));
        } else {
            screen.data(&history::transfer(transfer, now, screen.width()));
        }
    }
    Ok(())
}
