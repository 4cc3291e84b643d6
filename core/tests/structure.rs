//! The shape of the engine: no circle of imports, no type whose methods are spread over many files, none with too many.

#![allow(clippy::disallowed_methods, reason = "it reads the sources")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Files that may have methods of one type, and methods that it may have.
const FILES: usize = 3;
const METHODS: usize = 100;

/// A module's path below the crate, such as `["engine", "download"]`.
type Module = Vec<String>;

/// A source file without its tests.
struct Source {
    text: String,
    /// The names that it defines for others.
    defines: BTreeSet<String>,
    /// The imports, as paths from the crate's root.
    imports: Vec<Module>,
}

fn sources() -> BTreeMap<Module, Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    collect(&root, &[], &mut files);
    let sources = files.into_iter().map(|(module, text)| {
        let defines = definitions(&text);
        let imports = imports(&module, &text);
        (
            module,
            Source {
                text,
                defines,
                imports,
            },
        )
    });
    sources.collect()
}

fn collect(folder: &Path, module: &[String], files: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.expect("a plain name").to_owned();
        let inner: Module = match name.as_str() {
            "mod" | "lib" => module.to_vec(),
            _ => module.iter().cloned().chain([name.clone()]).collect(),
        };
        if path.is_dir() {
            collect(&path, &inner, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            let text = fs::read_to_string(&path).expect("a source");
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            files.insert(inner, text.to_owned());
        }
    }
}

/// What stands behind `pub`, and behind what kind of item.
fn definitions(text: &str) -> BTreeSet<String> {
    let kinds = ["struct", "enum", "fn", "const", "type", "trait"];
    let lines = text.lines().filter(|line| line.starts_with("pub"));
    let names = lines.filter_map(|line| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.find(|word| kinds.contains(word))?;
        words.find(|word| !word.is_empty()).map(str::to_owned)
    });
    names.collect()
}

fn imports(module: &[String], text: &str) -> Vec<Module> {
    let mut paths = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let is_statement = rest[..at].is_empty()
            || rest[..at].ends_with('\n')
            || rest[..at].ends_with(") ")
            || rest[..at].ends_with("pub ");
        rest = &rest[at + 4..];
        let Some(end) = rest.find(';').filter(|_| is_statement) else {
            continue;
        };
        flatten("", &rest[..end], &mut paths);
        rest = &rest[end..];
    }
    paths
        .into_iter()
        .map(|path| absolute(module, &path))
        .collect()
}

/// Takes `a::{b, c::d}` apart.
fn flatten(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let (mut depth, mut start) = (0, 0);
    let mut parts = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    for part in parts
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match (part.find('{'), part.rfind('}')) {
            (Some(open), Some(close)) => {
                flatten(
                    &format!("{prefix}{}", &part[..open]),
                    &part[open + 1..close],
                    paths,
                );
            }
            _ => paths.push(format!("{prefix}{part}")),
        }
    }
}

fn absolute(module: &[String], path: &str) -> Module {
    let mut at = module.to_vec();
    let mut words = path.split("::").map(str::trim).peekable();
    match words.peek() {
        Some(&"crate") => {
            words.next();
            at.clear();
        }
        Some(&"super") => {
            while words.next_if_eq(&"super").is_some() {
                at.pop();
            }
        }
        _ => {}
    }
    at.extend(words.filter(|word| *word != "self").map(str::to_owned));
    at
}

/// The file that an import leads to: the module that is named, or the one whose item is taken from there.
fn leads_to(path: &[String], sources: &BTreeMap<Module, Source>) -> Option<Module> {
    if sources.contains_key(path) {
        return Some(path.to_vec());
    }
    let (name, above) = path.split_last()?;
    let module = sources.get(above)?;
    if module.defines.contains(name) {
        return Some(above.to_vec());
    }
    // It is passed on from a module below.
    let below = |(other, source): &(&Module, &Source)| {
        other.len() == above.len() + 1 && other.starts_with(above) && source.defines.contains(name)
    };
    sources.iter().find(below).map(|(other, _)| other.clone())
}

fn arrows(sources: &BTreeMap<Module, Source>) -> BTreeMap<Module, BTreeSet<Module>> {
    let engine = |module: &Module| module.first().is_some_and(|first| first == "engine");
    let of = |(module, source): (&Module, &Source)| {
        let to = source.imports.iter();
        let to = to.filter_map(|path| leads_to(path, sources));
        let to = to
            .filter(|other| engine(other) && other != module)
            .collect();
        (module.clone(), to)
    };
    let inside = sources.iter().filter(|(module, _)| engine(module));
    inside.map(of).collect()
}

/// The modules that are left when those that import nothing of what is left are taken away, one after the other.
fn in_circles(
    mut arrows: BTreeMap<Module, BTreeSet<Module>>,
) -> BTreeMap<Module, BTreeSet<Module>> {
    loop {
        let free: Vec<Module> = arrows
            .iter()
            .filter(|(_, to)| to.is_empty())
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            return arrows;
        }
        arrows.retain(|module, _| !free.contains(module));
        for to in arrows.values_mut() {
            to.retain(|module| !free.contains(module));
        }
    }
}

#[test]
fn no_circle_of_imports_is_in_the_engine() {
    let sources = sources();
    let arrows = arrows(&sources);
    assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > 100);
    let circles = in_circles(arrows);
    let words: Vec<String> = circles
        .iter()
        .map(|(from, to)| {
            let to: Vec<String> = to.iter().map(|to| to.join("/")).collect();
            format!("{} -> {}", from.join("/"), to.join(", "))
        })
        .collect();
    assert!(words.is_empty(), "in circles:\n{}", words.join("\n"));
}

#[test]
fn no_type_is_spread_over_many_files_or_has_too_many_methods() {
    let mut types: BTreeMap<String, (BTreeSet<Module>, usize)> = BTreeMap::new();
    for (module, source) in sources() {
        let mut of = None;
        for line in source.text.lines() {
            if let Some(header) = line.strip_prefix("impl") {
                of = inherent(header);
            } else if line == "}" {
                of = None;
            } else if let Some(name) = &of {
                let counted = types.entry(name.clone()).or_default();
                counted.0.insert(module.clone());
                counted.1 += usize::from(is_method(line));
            }
        }
    }
    assert!(types.len() > 100, "only {} types were found", types.len());
    for (name, (files, methods)) in types {
        assert!(
            files.len() <= FILES,
            "{name} is spread over {} files",
            files.len()
        );
        assert!(methods <= METHODS, "{name} has {methods} methods");
    }
}

/// The type that has the methods of an `impl`, unless they are a trait's.
fn inherent(header: &str) -> Option<String> {
    let header = header.strip_suffix(" {")?;
    if header.contains(" for ") {
        return None;
    }
    let of = header.rsplit_once("> ").map_or(header, |(_, of)| of).trim();
    of.split('<').next().map(str::to_owned)
}

fn is_method(line: &str) -> bool {
    let indented = line
        .strip_prefix("    ")
        .filter(|line| !line.starts_with(' '));
    indented.is_some_and(|line| line.starts_with("fn ") || line.contains(" fn "))
        && !line.trim_start().starts_with("//")
}
