//! The rulebook (`docs/semantics.md`): the tests that it lists exist, and the sources name rules that it has. The design
//! (`docs/design.md`): the files and names that it refers to exist, and its map has every file.

use std::fs;
use std::path::{Path, PathBuf};

/// A rule, or another section of a document.
struct Section {
    heading: String,
    /// The code of a rule (`D7`), else empty.
    code: String,
    /// The heading as a link names it.
    anchor: String,
    body: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn document(name: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in read(&root().join("docs").join(name)).lines() {
        if line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim();
            let code = heading.split_once(": ").map(|(code, _)| code).filter(|code| is_code(code));
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
            let anchor = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
            let (heading, code) = (heading.to_owned(), code.unwrap_or_default().to_owned());
            sections.push(Section { heading, code, anchor, body: String::new() });
        } else if let Some(section) = sections.last_mut() {
            section.body.push_str(line);
            section.body.push('\n');
        }
    }
    sections
}

fn rules() -> Vec<Section> {
    document("semantics.md").into_iter().filter(|s| !s.code.is_empty()).collect()
}

/// `D7`, `T1a`.
fn is_code(word: &str) -> bool {
    let number = word.strip_prefix(['D', 'T', 'W', 'J']).map(|rest| rest.strip_suffix('a').unwrap_or(rest));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-')))
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

impl Section {
    /// The test files that it lists, each with its tests.
    fn listed(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        let lists = self.body.split("\n- `").skip(1).filter_map(|item| item.split_once("`: "));
        let files = lists.filter(|(file, _)| Path::new(file).extension().is_some_and(|e| e == "rs"));
        files.map(|(file, tests)| (file, quoted(tests.split("\n\n").next().unwrap_or(tests)).collect()))
    }
}

/// What stands for a path: a file with an extension of ours, or a folder.
fn is_path(word: &str) -> bool {
    let is_file =
        Path::new(word).extension().is_some_and(|e| ["rs", "md", "toml", "sh", "yml"].iter().any(|of| e == *of));
    let is_folder = word.contains('/') && word != "/";
    (is_file || is_folder) && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'))
}

/// The file or folder that the design means by a path.
fn find(path: &str) -> Option<PathBuf> {
    let roots = ["src", "src/processor", "", ".."].map(|of| root().join(of));
    roots.into_iter().map(|of| of.join(path)).find(|path| path.exists())
}

/// Whether a source declares something of this name.
fn declares(source: &str, name: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
    let words: Vec<&str> = words(source).filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| kinds.contains(&pair[0]) && pair[1] == name)
}

/// The folder of the library that a section of the design maps.
fn mapped(section: &Section) -> Option<PathBuf> {
    let folder = quoted(&section.heading).next()?;
    Some(if folder == "src/" { root().join("src") } else { root().join("src").join(folder) })
}

/// All files below a folder of the library with this extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(folder)]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn each_test_that_it_lists_exists() {
    for rule in rules() {
        let mut listed = 0;
        for (file, tests) in rule.listed() {
            let source = read(&root().join("tests").join(file));
            for test in tests {
                assert!(words(&source).any(|word| word == test), "{}: {file} has no {test}", rule.code);
                listed += 1;
            }
        }
        assert!(listed > 0, "{} lists no test", rule.code);
    }
}

#[test]
fn each_code_in_a_comment_is_a_rule_of_it() {
    let rules = rules();
    let mut named = 0;
    for file in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let source = read(&file);
        let comments = source.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
        for code in comments.flat_map(words).filter(|word| is_code(word)) {
            assert!(rules.iter().any(|rule| rule.code == code), "{}: there is no rule {code}", file.display());
            named += 1;
        }
    }
    assert!(named > 100, "{named} codes were found");
}

#[test]
fn each_link_to_it_and_in_it_leads_to_a_heading() {
    let mut links = 0;
    let names = ["semantics", "guarantees", "design", "coming-from-goka", "coming-from-kafka-streams"];
    for (name, document) in names.map(|name| (name, document(&format!("{name}.md")))) {
        for file in files("src", "rs").into_iter().chain(files("docs", "md")) {
            let link = format!("crate::{}#", name.replace('-', "_"));
            let (text, own) = (read(&file), format!("{name}.md"));
            let from_elsewhere = text.split(&link).skip(1);
            let in_itself = text.split("](#").skip(1).filter(|_| file.ends_with(&own));
            for link in from_elsewhere.chain(in_itself) {
                let anchor = words(link).next().unwrap_or_default();
                let is_there = document.iter().any(|section| section.anchor == anchor);
                assert!(is_there, "{}: {name} has no heading #{anchor}", file.display());
                links += 1;
            }
        }
    }
    assert!(links > 10, "{links} links were found");
}

#[test]
fn each_test_file_that_is_named_for_a_rule_is_listed_there() {
    let rules = rules();
    for file in files("tests/library", "rs") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let stem = name.trim_end_matches(".rs");
        for rule in rules.iter().filter(|rule| stem.split('_').skip(1).any(|part| part == rule.code.to_lowercase())) {
            let listed = rule.listed().any(|(file, _)| file == format!("library/{name}"));
            assert!(listed, "{} does not list {name}", rule.code);
        }
    }
}

#[test]
fn each_file_and_name_that_the_design_refers_to_exists() {
    let mut names = 0;
    for section in document("design.md") {
        let folder = mapped(&section);
        // A block of code has its backticks, too.
        let prose = section.body.split("```").step_by(2);
        for word in prose.flat_map(quoted) {
            let (path, name) = word.split_once("::").map_or((word, None), |(path, name)| (path, Some(name)));
            if !is_path(path) {
                continue;
            }
            let here = folder.as_ref().map(|folder| folder.join(path)).filter(|path| path.exists());
            let found =
                here.or_else(|| find(path)).unwrap_or_else(|| panic!("{}: there is no {path}", section.heading));
            if let Some(name) = name {
                assert!(declares(&read(&found), name), "{}: {path} has no {name}", section.heading);
                names += 1;
            }
        }
    }
    assert!(names > 100, "{names} names were found");
}

#[test]
fn the_map_of_the_design_has_every_file() {
    let sections = document("design.md");
    let listed = sections.iter().filter_map(|section| Some((mapped(section)?, &section.body)));
    let listed: Vec<PathBuf> =
        listed.flat_map(|(folder, body)| quoted(body).map(move |file| folder.join(file))).collect();
    let missing: Vec<_> = files("src", "rs").into_iter().filter(|file| !listed.contains(file)).collect();
    assert!(missing.is_empty(), "the map of docs/design.md lacks {missing:?}");
}
