//! The layers of the sources (`docs/design.md`, "Layers"): what each file imports is what its layer may name, and files of one
//! layer stand in no circle but for those that are listed with a reason.
//!
//! An import is any path that begins with `crate`, `super`, `self`, or a name that the file imports. It counts for the folder
//! that it names, and for the file that declares the item, which is found through re-exports. Tests and comments import nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A word or a sign of a source, with its line.
#[derive(Clone)]
struct Token(String, usize);

/// A path that a source names.
struct Import {
    line: usize,
    path: Vec<String>,
    /// Its name in the source.
    name: String,
    /// A re-export that the file itself does not use.
    is_for_others: bool,
}

struct Source {
    /// Below `src`, such as `log/kafka/mod.rs`.
    file: String,
    module: Vec<String>,
    imports: Vec<Import>,
}

/// What `docs/design.md` says.
struct Rules {
    /// The layers of a row, and what they name.
    layers: Vec<(Vec<String>, Vec<String>)>,
    /// Files, or a folder, that may stand in a circle.
    circles: Vec<Vec<String>>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tokens(text: &str) -> Vec<Token> {
    let (text, mut found, mut at, mut line): (Vec<char>, Vec<Token>, _, _) = (text.chars().collect(), Vec::new(), 0, 1);
    let get = |at: usize| text.get(at).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while at < text.len() {
        let begin = at;
        match (get(at), get(at + 1)) {
            ('/', '/') => at += text[at..].iter().take_while(|c| **c != '\n').count(),
            ('/', '*') => {
                at += 2;
                while at < text.len() && (get(at), get(at + 1)) != ('*', '/') {
                    at += 1;
                }
                at += 2;
            }
            ('r', '"' | '#') if !is_word(get(at.wrapping_sub(1))) => {
                let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
                let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                let rest: String = text[at + 2 + hashes..].iter().collect();
                let len = rest.find(&end).map_or(rest.len(), |byte| rest[..byte].chars().count());
                at += 2 + hashes + len + end.len();
            }
            ('"', _) => {
                at += 1;
                while at < text.len() && get(at) != '"' {
                    at += if get(at) == '\\' { 2 } else { 1 };
                }
                at += 1;
            }
            ('\'', '\\') => at += 3 + text[at + 3..].iter().take_while(|c| **c != '\'').count(),
            ('\'', _) if get(at + 2) == '\'' => at += 3,
            (':', ':') => {
                found.push(Token("::".to_owned(), line));
                at += 2;
            }
            (c, _) if is_word(c) => {
                at += text[at..].iter().take_while(|c| is_word(**c)).count();
                found.push(Token(text[begin..at].iter().collect(), line));
            }
            (c, _) => {
                if !c.is_whitespace() {
                    found.push(Token(c.to_string(), line));
                }
                at += 1;
            }
        }
        line += text[begin..at.min(text.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

fn begins(tokens: &[Token], with: &str) -> bool {
    let with: Vec<&str> = with.split(' ').collect();
    tokens.len() >= with.len() && tokens.iter().zip(with).all(|(token, with)| token.0 == with)
}

/// The length of what begins here, up to the bracket that closes the first one, or a semicolon before it.
fn item_len(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (n, Token(word, _)) in tokens.iter().enumerate() {
        match &**word {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(&**word, "}" | ";") {
            return n + 1;
        }
    }
    tokens.len()
}

/// Leaves out what is compiled for tests only.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if begins(&tokens[at..], "# [ cfg ( test ) ]") {
            at += item_len(&tokens[at..]);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The paths of a `use`, from behind that word on to its semicolon.
fn use_tree(tokens: &[Token], at: &mut usize, before: &[String], found: &mut Vec<(usize, Vec<String>, String)>) {
    let (mut path, line) = (before.to_vec(), tokens[*at].1);
    while let Some(Token(word, _)) = tokens.get(*at) {
        *at += 1;
        match &**word {
            "::" => {}
            "{" => {
                while tokens[*at].0 != "}" {
                    use_tree(tokens, at, &path, found);
                    if tokens[*at].0 == "," {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "," | "}" | ";" => {
                *at -= 1;
                break;
            }
            "as" => {
                let name = tokens[*at].0.clone();
                *at += 1;
                found.push((line, path, name));
                return;
            }
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
    }
    let name = path.last().cloned().unwrap_or_default();
    found.push((line, path, name));
}

impl Source {
    fn new(file: &str, text: &str) -> Self {
        let mut module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        module.pop_if(|last| matches!(&**last, "mod" | "lib"));
        let (tokens, mut imports, mut at) = (without_tests(&tokens(text)), Vec::new(), 0);
        while at < tokens.len() {
            if tokens[at].0 == "use" && tokens.get(at + 1).is_some_and(|next| next.0 != "<") {
                let is_pub = at > 0 && matches!(&*tokens[at - 1].0, "pub" | ")");
                let mut found = Vec::new();
                at += 1;
                use_tree(&tokens, &mut at, &[], &mut found);
                imports.extend(found.into_iter().map(|(line, path, name)| {
                    let is_used = || tokens.iter().filter(|token| token.0 == name).count() > 1;
                    Import { is_for_others: is_pub && !is_used(), line, path, name }
                }));
            } else if tokens.get(at + 1).is_some_and(|next| next.0 == "::") && !(at > 0 && tokens[at - 1].0 == ".") {
                let (line, mut path) = (tokens[at].1, vec![tokens[at].0.clone()]);
                while begins(&tokens[at + 1..], "::")
                    && tokens[at + 2].0.chars().all(|c| c.is_alphanumeric() || c == '_')
                {
                    path.push(tokens[at + 2].0.clone());
                    at += 2;
                }
                imports.push(Import { line, path, name: String::new(), is_for_others: false });
                at += 1;
            } else {
                at += 1;
            }
        }
        Self { file: file.to_owned(), module, imports }
    }

    /// `log/`, or `clock.rs`.
    fn layer(&self) -> String {
        self.file.split_once('/').map_or(self.file.clone(), |(folder, _)| format!("{folder}/"))
    }
}

struct Sources(BTreeMap<Vec<String>, Source>);

impl Sources {
    fn read() -> Self {
        let (src, mut sources, mut open) = (root().join("src"), Vec::new(), vec![root().join("src")]);
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let file = path.strip_prefix(&src).unwrap().iter().map(|part| part.to_string_lossy());
                let file = file.collect::<Vec<_>>().join("/");
                sources.push(Source::new(&file, &fs::read_to_string(&path).unwrap()));
            }
        }
        Self(sources.into_iter().map(|source| (source.module.clone(), source)).collect())
    }

    /// The same, with a line more in a file.
    fn plant(mut self, file: &str, line: &str) -> Self {
        let path: PathBuf = root().join("src").join(file);
        let source = Source::new(file, &format!("{line}\n{}", fs::read_to_string(path).unwrap()));
        assert!(self.0.insert(source.module.clone(), source).is_some(), "there is no {file}");
        self
    }

    /// A path from the root of the library on; `None` for one of something else.
    fn absolute(&self, of: &Source, path: &[String]) -> Option<Vec<String>> {
        let up = path.iter().take_while(|part| *part == "super").count();
        let below = |up: usize, rest: &[String]| [&of.module[..of.module.len() - up], rest].concat();
        match &*path[0] {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some(below(0, &path[1..])),
            "super" => Some(below(up, &path[up..])),
            first if self.0.contains_key(&below(0, &path[..1])) && first != "crate" => Some(below(0, path)),
            first => {
                let named = of.imports.iter().find(|import| import.name == first && import.path[0] != first)?;
                Some([self.absolute(of, &named.path)?, path[1..].to_vec()].concat())
            }
        }
    }

    /// The file that declares what a path leads to; `None` if it leads to a module.
    fn declared(&self, path: &[String]) -> Option<&Source> {
        let (at, source) = (0..=path.len()).rev().find_map(|n| Some((n, self.0.get(&path[..n])?)))?;
        let name = path.get(at)?;
        let re_export = source.imports.iter().find(|import| import.name == *name);
        let behind = re_export.and_then(|import| self.absolute(source, &import.path));
        match behind.filter(|behind| *behind != path[..=at]) {
            Some(behind) => self.declared(&[behind, path[at + 1..].to_vec()].concat()),
            None => Some(source),
        }
    }

    /// What a file imports of others: where, and the file that declares it, unless that is left open.
    fn imports<'s>(
        &'s self,
        of: &'s Source,
    ) -> impl Iterator<Item = (&'s Import, Vec<String>, Option<&'s Source>)> + 's {
        let own = of.imports.iter().filter(|import| !import.is_for_others);
        own.filter_map(|import| {
            let path = self.absolute(of, &import.path)?;
            let declared = self.declared(&path);
            Some((import, path, declared))
        })
    }

    /// What breaks the rules.
    fn faults(&self, rules: &Rules) -> Vec<String> {
        let (mut faults, mut used) = (Vec::new(), BTreeSet::new());
        for source in self.0.values().filter(|source| source.file != "lib.rs") {
            let layer = source.layer();
            let Some((_, may)) = rules.layers.iter().find(|(layers, _)| layers.contains(&layer)) else {
                faults.push(format!("{}: no row of the layers has {layer}", source.file));
                continue;
            };
            for import in &source.imports {
                if import.path[0].starts_with("rdkafka") && !source.file.starts_with("log/kafka/") {
                    let shown = import.path.join("::");
                    faults.push(format!("{}:{}: {shown}: only log/kafka/ names rdkafka", source.file, import.line));
                }
            }
            for (import, path, declared) in self.imports(source) {
                let named = path.first().and_then(|first| Some(self.0.get(&vec![first.clone()])?.layer()));
                let targets: BTreeSet<_> = [named, declared.map(Source::layer)].into_iter().flatten().collect();
                for target in targets {
                    if target != layer && target != "lib.rs" && !may.contains(&target) {
                        let (file, line, shown) = (&source.file, import.line, import.path.join("::"));
                        faults.push(format!("{file}:{line}: {shown}: {layer} may not name {target}"));
                    }
                    used.insert((layer.clone(), target));
                }
            }
        }
        for (layers, may) in &rules.layers {
            let unused = may.iter().filter(|may| !layers.iter().any(|of| used.contains(&(of.clone(), (*may).clone()))));
            faults
                .extend(unused.map(|may| format!("{} does not name {may}: the row can do without", layers.join(", "))));
        }
        faults
    }

    /// Files that name each other, directly or by others.
    fn circles(&self) -> Vec<BTreeSet<&str>> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for source in self.0.values().filter(|source| source.file != "lib.rs") {
            let declared = self.imports(source).filter_map(|(_, _, declared)| Some(&*declared?.file));
            edges.entry(&source.file).or_default().extend(declared.filter(|file| *file != source.file));
        }
        let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for file in edges.keys() {
            let (found, mut open) = (reached.entry(file).or_default(), vec![*file]);
            while let Some(file) = open.pop() {
                open.extend(edges.get(file).into_iter().flatten().filter(|next| found.insert(**next)));
            }
        }
        let circle = |file: &&str| -> BTreeSet<&str> {
            reached[file].iter().copied().filter(|other| reached.get(other).is_some_and(|r| r.contains(file))).collect()
        };
        let mut circles: Vec<_> = edges.keys().map(circle).filter(|circle| circle.len() > 1).collect();
        circles.sort_unstable();
        circles.dedup();
        circles
    }

    /// Circles that are not listed, and what is listed and is none.
    fn unlisted_circles(&self, rules: &Rules) -> Vec<String> {
        let is_in = |file: &str, row: &[String]| {
            row.iter().any(|of| file == of || (of.ends_with('/') && file.starts_with(&**of)))
        };
        let circles = self.circles();
        let unlisted =
            circles.iter().filter(|circle| !rules.circles.iter().any(|row| circle.iter().all(|f| is_in(f, row))));
        let mut faults: Vec<String> = unlisted.map(|circle| format!("a circle of files: {circle:?}")).collect();
        for of in rules.circles.iter().flatten() {
            if !circles.iter().flatten().any(|file| is_in(file, std::slice::from_ref(of))) {
                faults.push(format!("{of} stands in no circle any more"));
            }
        }
        faults
    }
}

impl Rules {
    fn read() -> Self {
        let design = fs::read_to_string(root().join("docs/design.md")).unwrap();
        let section = design.split("\n# ").find(|section| section.starts_with("Layers\n")).unwrap();
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let rows = |heading: &str| -> Vec<Vec<&str>> {
            let table = section.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
            let rows = table.take_while(|line| line.starts_with('|'));
            rows.map(|row| row.split('|').skip(1).take(2).collect()).collect()
        };
        let layers: Vec<_> = rows("| layer |").iter().map(|row| (quoted(row[0]), quoted(row[1]))).collect();
        let circles = rows("| circle |").iter().map(|row| quoted(row[0])).collect();
        assert!(layers.len() > 5, "the table of the layers was not found");
        Self { layers, circles }
    }
}

#[test]
fn each_row_of_the_layers_names_rows_above_it() {
    let rules = Rules::read();
    let mut above = BTreeSet::new();
    for (layers, may) in rules.layers {
        let below: Vec<_> = may.iter().filter(|may| !above.contains(*may)).collect();
        assert!(below.is_empty(), "{} names {below:?}, which no row above it has", layers.join(", "));
        above.extend(layers);
    }
}

#[test]
fn each_import_is_one_that_its_layer_may_name() {
    let faults = Sources::read().faults(&Rules::read());
    assert!(faults.is_empty(), "docs/design.md, \"Layers\":\n{}", faults.join("\n"));
}

#[test]
fn no_files_stand_in_a_circle_but_those_that_are_listed() {
    let faults = Sources::read().unlisted_circles(&Rules::read());
    assert!(faults.is_empty(), "docs/design.md, \"Layers\":\n{}", faults.join("\n"));
}

#[test]
fn an_import_that_goes_up_is_found_however_it_is_written() {
    let rules = Rules::read();
    let faults = |file, line| Sources::read().plant(file, line).faults(&rules);
    for (file, line, fault) in [
        (
            "table/mod.rs",
            "use crate::processor::Handle;",
            "table/mod.rs:1: crate::processor::Handle: table/ may not name processor/",
        ),
        (
            "context/core.rs",
            "use super::super::group::{Group, Input as I};",
            "context/core.rs:1: super::super::group::Group: context/ may not name group/",
        ),
        (
            "replica/table.rs",
            "fn f(_: crate::view::View<()>) {}",
            "replica/table.rs:1: crate::view::View: replica/ may not name view/",
        ),
        // Through a re-export that is allowed.
        ("context/mod.rs", "pub use crate::group::Side;", "context/ may not name"),
        (
            "topics/mod.rs",
            "use rdkafka::config::ClientConfig;",
            "topics/mod.rs:1: rdkafka::config::ClientConfig: only log/kafka/ names rdkafka",
        ),
    ] {
        let faults = faults(file, line);
        let expected = !line.starts_with("pub use");
        assert_eq!(faults.iter().any(|found| found.contains(fault)), expected, "{line}: {faults:?}");
    }
    // What a comment or a test names is no import.
    let planted = "// use crate::processor::Handle;\n#[cfg(test)]\nmod planted { use crate::processor::Handle; }";
    assert_eq!(faults("table/mod.rs", planted), Vec::<String>::new());
}

#[test]
fn a_circle_of_files_is_found() {
    let planted = Sources::read().plant("table/follow.rs", "use super::TablePartition;");
    let planted = planted.plant("table/mod.rs", "use super::table::follow::Follower;");
    let faults = planted.unlisted_circles(&Rules::read());
    assert!(faults.iter().any(|fault| fault.contains("table/follow.rs")), "{faults:?}");
}
