//! `handover peers`: the known peers, their records, and which of them need no code.

use handover::store::Store;

use super::args::{Global, Peers};
use super::data_dir;
use super::exit::Exit;
use super::failure::Failure;
use super::json;
use super::known::{called_here, one, read};
use super::record::{now, tell_moved};
use super::screen::{Screen, Tone, peers};

/// Shows the peers, or forgets some of them.
pub(crate) fn run(args: &Peers, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let store = Store::in_folder(&data_dir::choose(global.data_dir.as_deref())?);
    if args.forget_all {
        let count = store.forget_all_peers().map_err(Failure::of_store)?;
        screen.event(&json::peers_forgotten(count));
        screen.say(Tone::Plain, &peers::forgotten_all(count));
    } else if let Some(called) = &args.forget {
        let all = read(&store)?;
        let (peer, record) = one(&all, called)?;
        store.forget_peer(*peer).map_err(Failure::of_store)?;
        screen.event(&json::peers_forgotten(1));
        let name = called_here(*peer, record);
        screen.say(Tone::Plain, &peers::forgotten(&name, record.pair.is_some()));
    } else {
        show(&store, screen)?;
    }
    tell_moved(&store, screen);
    Ok(Exit::Done)
}

fn show(store: &Store, screen: &Screen) -> Result<(), Failure> {
    let mut all = read(store)?;
    if all.is_empty() {
        screen.say(Tone::Plain, peers::none());
    }
    // The newest comes last, as in the history.
    all.reverse();
    let now = now();
    for (peer, record) in &all {
        if screen.is_json() {
            screen.event(&json::peer(*peer, record));
        } else {
            screen.data(&peers::peer(*peer, record, now, screen.width()));
        }
    }
    Ok(())
}
