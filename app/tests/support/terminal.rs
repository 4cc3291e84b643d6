//! A user at a terminal, which is the program's standard input and standard error.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{PATIENCE, end_of, put_down};

/// The program, as the user sees it.
pub struct Terminal {
    child: Child,
    keyboard: File,
    shown: Receiver<Vec<u8>>,
    /// Everything shown so far, and how far it was read.
    screen: String,
    read: usize,
}

impl Terminal {
    pub fn start(mut command: Command) -> Self {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap().into_string().unwrap();
        let far = File::options().read(true).write(true).open(name).unwrap();
        command
            .env("TERM", "xterm")
            .stdin(Stdio::from(far.try_clone().unwrap()))
            .stderr(Stdio::from(far))
            .stdout(Stdio::null());
        let child = command.spawn().unwrap();
        // The command holds the far end, and the near end sees no end of file until all such handles are closed.
        drop(command);
        let keyboard = File::from(near);
        let mut display = keyboard.try_clone().unwrap();
        let (told, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = display.read(&mut bytes) {
                if told.send(bytes[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keyboard,
            shown,
            screen: String::new(),
            read: 0,
        }
    }

    /// Waits until `text` is shown, after the text waited for before.
    #[track_caller]
    pub fn sees(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.screen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("{text:?} was not shown ({error}):\n{}", self.screen),
            }
        }
    }

    pub fn types(&mut self, line: &str) {
        self.keyboard
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    /// Waits for its end. Returns its exit code and everything that it has shown.
    #[track_caller]
    pub fn ends(mut self) -> (Option<i32>, String) {
        let exit = end_of(&mut self.child, PATIENCE)
            .unwrap_or_else(|| panic!("it did not end:\n{}", self.screen));
        while let Ok(bytes) = self.shown.recv() {
            self.screen.push_str(&String::from_utf8_lossy(&bytes));
        }
        (exit, std::mem::take(&mut self.screen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        put_down(&mut self.child);
    }
}
