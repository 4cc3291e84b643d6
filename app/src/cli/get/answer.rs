//! The answer to an offer: from the command line where it decides, otherwise from the user.

use std::sync::Arc;

use handover::landing::Landing;
use handover_core::engine::{KeptSummary, ManifestSummary, OnConflict};
use handover_core::manifest::Manifest;
use handover_core::path::SafePath;

use crate::cli::args::Get;
use crate::cli::failure::Failure;
use crate::cli::screen::offer::{self, View};
use crate::cli::screen::{Screen, Tone};
use crate::cli::select::Selection;

/// The question that the user is being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    Nothing,
    /// Whether to accept the offer.
    Accept,
    /// Whether files may be put where the system reads them automatically.
    Landing {
        executables: bool,
    },
    /// What to do with files that exist already.
    Conflict {
        executables: bool,
    },
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing yet, because a question is open.
    Later,
    Decline,
    Accept {
        select: Option<Vec<u32>>,
        on_conflict: OnConflict,
        executables: bool,
    },
}

/// An offer and the state of its answer.
pub(super) struct Answer<'a> {
    args: &'a Get,
    screen: &'a Screen,
    selection: Option<Selection>,
    offered: Option<Offered>,
    pub(super) asking: Asking,
    /// Why the offer is declined without a decision of the user.
    pub(super) refused: Option<Failure>,
}

pub(super) struct Offered {
    pub(super) manifest: Arc<Manifest>,
    /// The share's own folder, in which the files are put.
    pub(super) folder: Option<SafePath>,
    select: Option<Vec<u32>>,
    taken: Vec<u32>,
    free: Option<u64>,
    kept: KeptSummary,
    /// Indexes, in order, of the files that would be put where the system reads them automatically.
    read_by_itself: Vec<u32>,
}

impl Offered {
    /// `taken`: indexes of entries that exist already. `free`: free space in bytes, if known.
    pub(super) fn new(
        manifest: Arc<Manifest>,
        folder: Option<SafePath>,
        (taken, free): (Vec<u32>, Option<u64>),
        kept: KeptSummary,
    ) -> Self {
        Self {
            manifest,
            folder,
            select: None,
            taken,
            free,
            kept,
            read_by_itself: Vec::new(),
        }
    }

    fn view(&self) -> View<'_> {
        View::new(
            &self.manifest,
            self.select.as_deref(),
            &self.taken,
            self.free,
        )
        .keeping(self.kept)
        .landing_in(self.folder.as_ref())
    }
}

impl<'a> Answer<'a> {
    pub(super) fn new(args: &'a Get, screen: &'a Screen, selection: Option<Selection>) -> Self {
        Self {
            args,
            screen,
            selection,
            offered: None,
            asking: Asking::Nothing,
            refused: None,
        }
    }

    /// Summary of the selected part of the offer.
    pub(super) fn summary(&self) -> Option<ManifestSummary> {
        self.offered.as_ref().map(|offered| offered.view().summary)
    }

    /// Handles an offer, whose files would be put in `landing`. It may come again, with other files, if the sender was
    /// restarted before the answer.
    pub(super) fn offered(&mut self, mut offered: Offered, landing: Option<&Landing>) -> Decision {
        offered.select = match &self.selection {
            None => None,
            Some(selection) => match selection.choose(&offered.manifest) {
                Ok(select) => Some(select),
                Err(failure) => return self.refuse(failure),
            },
        };
        if let Some(landing) = landing {
            offered.read_by_itself = offered.view().read_by_itself(landing);
        }
        let kept = offered.kept;
        let ask = !(self.args.yes || self.args.to_stdout() || self.was_accepted(kept));
        if ask && !self.screen.can_ask() {
            return self.refuse(Failure::usage(
                "what is offered now is not what was accepted when this began",
                "Run `handover get` again to see it.",
            ));
        }
        let text = offer::offer(&offered.view(), ask, self.screen.width());
        self.offered = Some(offered);
        if ask {
            self.screen.need(Tone::Plain, &text);
            self.ask(Asking::Accept)
        } else {
            self.screen.say(Tone::Plain, &text);
            self.accepted(self.args.exec)
        }
    }

    /// True if the user accepted these files when the download began. Nothing is kept of other files.
    fn was_accepted(&self, kept: KeptSummary) -> bool {
        self.args.accepted && kept.bytes > 0
    }

    /// Handles a typed line; `None` is the end of standard input.
    pub(super) fn line(&mut self, line: Option<&str>) -> Decision {
        let answer = line.map(|line| line.trim().to_lowercase());
        match self.asking {
            Asking::Nothing => Decision::Later,
            Asking::Accept => self.accept_line(answer.as_deref()),
            Asking::Landing { executables } => self.landing_line(answer.as_deref(), executables),
            Asking::Conflict { executables } => self.conflict_line(answer.as_deref(), executables),
        }
    }

    fn accept_line(&mut self, answer: Option<&str>) -> Decision {
        let Some(view) = self.offered.as_ref().map(Offered::view) else {
            return Decision::Later;
        };
        match answer {
            Some("") if view.fits() => self.accepted(true),
            Some("y" | "yes") => self.accepted(true),
            Some("x") if view.summary.executables > 0 => self.accepted(false),
            None | Some("" | "n" | "no" | "q") => self.decline(),
            Some("l") => {
                self.screen
                    .need(Tone::Plain, &offer::list(&view, self.screen.width()));
                self.ask(Asking::Accept)
            }
            Some(_) => {
                self.screen.need(Tone::Plain, &offer::help(&view));
                self.ask(Asking::Accept)
            }
        }
    }

    fn landing_line(&mut self, answer: Option<&str>, executables: bool) -> Decision {
        match answer {
            Some("y" | "yes") => self.landed(executables),
            None | Some("" | "n" | "no" | "q") => self.decline(),
            Some(_) => self.ask(Asking::Landing { executables }),
        }
    }

    fn conflict_line(&mut self, answer: Option<&str>, executables: bool) -> Decision {
        match answer {
            Some("" | "s" | "skip") => self.settled(OnConflict::Skip, executables),
            Some("r" | "rename") => self.settled(OnConflict::Rename, executables),
            Some("o" | "overwrite") => self.settled(OnConflict::Overwrite, executables),
            None | Some("c" | "cancel" | "n" | "q") => self.decline(),
            Some(_) => self.ask(Asking::Conflict { executables }),
        }
    }

    /// Continues after acceptance. Asks about the places of the files if necessary.
    fn accepted(&mut self, executables: bool) -> Decision {
        let Some(offered) = &self.offered else {
            return Decision::Later;
        };
        let agreed = self.args.dotfiles || self.was_accepted(offered.kept);
        if offered.read_by_itself.is_empty() || agreed {
            return self.landed(executables);
        }
        let read = &offered.read_by_itself;
        let text = offer::read_by_itself(&offered.view(), read, self.screen.width());
        if self.args.yes || !self.screen.can_ask() {
            self.screen.need(Tone::Bad, &text);
            return self.refuse(Failure::usage(
                "some of this would land where a shell, a session or a scheduler reads it by itself",
                "Receive it into a folder of its own with --to. If these files are what you want, add --dotfiles.",
            ));
        }
        self.screen.need(Tone::Plain, &text);
        self.ask(Asking::Landing { executables })
    }

    /// Continues once the places are agreed. Asks about existing files if necessary.
    fn landed(&mut self, executables: bool) -> Decision {
        if let Some(on_conflict) = self.args.on_conflict.decided() {
            return self.settled(on_conflict, executables);
        }
        let Some(view) = self.offered.as_ref().map(Offered::view) else {
            return Decision::Later;
        };
        // A file created there in the meantime must not be overwritten.
        if view.taken.is_empty() || self.args.to_stdout() {
            return self.settled(OnConflict::Rename, executables);
        }
        let conflicts = offer::conflicts(&view, self.screen.width());
        if !self.screen.can_ask() {
            self.screen.need(Tone::Bad, &conflicts);
            return self.refuse(Failure::usage(
                "files of these names exist here, and nobody can be asked what to do with them",
                "Say it with --on-conflict skip, rename or overwrite, or receive into another folder with --to.",
            ));
        }
        self.screen.need(Tone::Plain, &conflicts);
        self.ask(Asking::Conflict { executables })
    }

    fn settled(&mut self, on_conflict: OnConflict, executables: bool) -> Decision {
        self.asking = Asking::Nothing;
        Decision::Accept {
            select: self
                .offered
                .as_ref()
                .and_then(|offered| offered.select.clone()),
            on_conflict,
            executables,
        }
    }

    fn ask(&mut self, asking: Asking) -> Decision {
        let question = match (asking, &self.offered) {
            (Asking::Accept, Some(offered)) => offer::question(&offered.view()),
            (Asking::Landing { .. }, _) => offer::landing_question().to_string(),
            _ => offer::conflict_question().to_string(),
        };
        self.screen.ask(&question);
        self.asking = asking;
        Decision::Later
    }

    fn decline(&mut self) -> Decision {
        self.asking = Asking::Nothing;
        Decision::Decline
    }

    fn refuse(&mut self, failure: Failure) -> Decision {
        self.refused = Some(failure);
        self.decline()
    }
}
