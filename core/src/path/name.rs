//! Rules for one component of a path, and the key under which file systems may confuse names.

use unicode_normalization::UnicodeNormalization;

use super::{MAX_COMPONENT, PathError};

/// Maximum length of a file's extensions including the dots, in bytes.
const MAX_EXTENSIONS: usize = 32;

pub(super) fn check_component(name: &str) -> Result<(), PathError> {
    if name.is_empty() {
        return Err(PathError::EmptyComponent);
    }
    if name == "." || name == ".." {
        return Err(PathError::DotComponent);
    }
    if name.len() > MAX_COMPONENT {
        return Err(PathError::ComponentTooLong { bytes: name.len() });
    }
    if matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
        return Err(PathError::DriveLetter);
    }
    if is_device_name(name) {
        return Err(PathError::DeviceName);
    }
    if name.ends_with(['.', ' ']) {
        return Err(PathError::TrailingDotOrSpace);
    }
    Ok(())
}

/// True if Windows opens a device for this name. It does so in every folder, with any extension or stream after the
/// name, even with spaces before it. The superscript digits count because the old code page mapped them to 1, 2 and 3.
fn is_device_name(name: &str) -> bool {
    let base = name.split(['.', ':']).next().unwrap_or_default();
    let base = base.trim_end_matches(' ').to_ascii_uppercase();
    let port = base
        .strip_prefix("COM")
        .or_else(|| base.strip_prefix("LPT"));
    match port.map(|digit| (digit.chars().next(), digit.chars().count())) {
        Some((Some(digit), 1)) => digit.is_ascii_digit() || matches!(digit, '¹' | '²' | '³'),
        _ => matches!(
            base.as_str(),
            "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
        ),
    }
}

/// Returns a file's name without what looks like its extensions.
pub(super) fn stem(name: &str) -> &str {
    let mut stem = name;
    while let Some((before, extension)) = stem.rsplit_once('.') {
        let all_dots = before.chars().all(|c| c == '.');
        let long = name.len() - before.len() > MAX_EXTENSIONS;
        if all_dots || long || !is_extension(extension) {
            break;
        }
        stem = before;
    }
    stem
}

fn is_extension(text: &str) -> bool {
    text.len() <= 8
        && text.chars().all(|c| c.is_ascii_alphanumeric())
        && text.chars().any(|c| c.is_ascii_alphabetic())
}

/// Returns a key that is the same for all spellings that some file system treats as one name: see
/// [`SafePath::fold_key`](super::SafePath).
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars()
        .filter(|c| !is_default_ignorable(*c))
        .nfd()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfc()
        .collect()
}

/// True for Unicode's `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`).
fn is_default_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}
