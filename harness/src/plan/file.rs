//! Plans in files: JSON that people can read, edit and keep.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;

use super::{Plan, VERSION};

/// Maximum size of a plan's file, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Why a file is not a runnable plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be read.
    #[error("{path} can't be read: {error}")]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The file is far too long.
    #[error("{path} is {bytes} bytes long; no plan is longer than {MOST_BYTES}")]
    TooLong {
        /// Path of the file.
        path: PathBuf,
        /// Size of the file, in bytes.
        bytes: u64,
    },
    /// The file is truncated.
    #[error(
        "{path} is cut short: it ends in line {line} before the plan does. Save it again, or draw it anew from its seed"
    )]
    CutShort {
        /// Path of the file.
        path: PathBuf,
        /// Line in which it ends.
        line: usize,
    },
    /// Not JSON, or not the JSON of a plan.
    #[error("{path} is no plan: {words}")]
    NoPlan {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong, and where.
        words: String,
    },
    /// Made by another version of the simulator.
    #[error(
        "{path} is a plan of version {version}, and this simulator reads version {VERSION}: replay it with the commit that made it"
    )]
    OtherVersion {
        /// Path of the file.
        path: PathBuf,
        /// Version named in the file.
        version: u32,
    },
    /// A plan that makes no sense.
    #[error("{path} can't be run: {words}")]
    Nonsense {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        words: String,
    },
}

/// The version alone, which is read before the rest of a plan.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Reads a plan from a file.
pub fn read(path: &Path) -> Result<Plan, PlanError> {
    let unreadable = |error| PlanError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MOST_BYTES {
        let path = path.to_owned();
        return Err(PlanError::TooLong { path, bytes });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    parse(&text, path)
}

/// Parses a plan's text; `path` is used in errors only.
pub fn parse(text: &str, path: &Path) -> Result<Plan, PlanError> {
    let path = path.to_owned();
    let versioned: Versioned = match serde_json::from_str(text) {
        Ok(versioned) => versioned,
        Err(error) => return Err(explain(&error, path)),
    };
    if versioned.version != VERSION {
        let version = versioned.version;
        return Err(PlanError::OtherVersion { path, version });
    }
    let plan: Plan = match serde_json::from_str(text) {
        Ok(plan) => plan,
        Err(error) => return Err(explain(&error, path)),
    };
    match plan.fault() {
        Some(words) => Err(PlanError::Nonsense { path, words }),
        None => Ok(plan),
    }
}

fn explain(error: &serde_json::Error, path: PathBuf) -> PlanError {
    if error.is_eof() {
        let line = error.line();
        return PlanError::CutShort { path, line };
    }
    let words = error.to_string();
    PlanError::NoPlan { path, words }
}

/// A plan's text with one item per line, so that plans can be compared.
///
/// # Panics
/// Never: a plan can always be serialised.
pub fn text(plan: &Plan) -> String {
    let value = serde_json::to_value(plan).expect("a plan is plain data");
    let mut text = String::from("{\n");
    let fields = value.as_object().expect("a plan is a map");
    for (at, (name, value)) in fields.iter().enumerate() {
        let comma = if at + 1 < fields.len() { "," } else { "" };
        match value.as_array() {
            Some(list) if !list.is_empty() => {
                let lines: Vec<_> = list.iter().map(|item| format!("    {item}")).collect();
                let lines = lines.join(",\n");
                let _ = writeln!(text, "  \"{name}\": [\n{lines}\n  ]{comma}");
            }
            _ => {
                let _ = writeln!(text, "  \"{name}\": {value}{comma}");
            }
        }
    }
    text.push_str("}\n");
    text
}

/// Writes a plan to a file.
pub fn write(plan: &Plan, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text(plan))
}
