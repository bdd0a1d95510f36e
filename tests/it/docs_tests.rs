//! What the documentation says is shown by a test is shown by a test that exists; what it quotes is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;

use crate::packaging::sample_names;
use crate::support::root;

/// Names of tests as the pages write them: modules from `src` or `tests/it`, then the function.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["src", "tests/it"] {
        collect(&root().join(folder), "", &mut names);
    }
    names
}

fn collect(folder: &Path, module: &str, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, stem) = (entry.path(), entry.path().file_stem().unwrap_or_default().to_string_lossy().into_owned());
        // A file of tests belongs to the module that it tests.
        let inner = if ["mod", "tests"].contains(&stem.as_str()) { module.to_owned() } else { joined(module, &stem) };
        if path.is_dir() {
            collect(&path, &inner, names);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            names.extend(functions(&text).into_iter().map(|name| joined(&inner, &name)));
        }
    }
}

fn joined(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

/// The functions right below an attribute of a test, and those inside `proptest!`.
fn functions(text: &str) -> Vec<String> {
    let test =
        Regex::new(r"#\[(?:tokio::)?test[^\n]*\n(?:\s*(?:#|//)[^\n]*\n)*\s*(?:async )?fn (\w+)").expect("a pattern");
    test.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_test_that_a_page_names_exists() {
    let (known, named) = (tests(), Regex::new(r"`((?:[a-z][a-z0-9_]*::)+[a-z][a-z0-9_]*)`").expect("a pattern"));
    let mut missing = Vec::new();
    let mut count = 0;
    for page in ["docs/compatibility.md", "docs/migration.md"] {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        for found in named.captures_iter(&text) {
            count += 1;
            if !known.contains(&found[1]) {
                missing.push(format!("{page}: {}", &found[1]));
            }
        }
    }
    assert!(count > 40, "the pages name tests: {count}");
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

/// Every defect of the original has its line, in order.
#[test]
fn every_defect_has_its_line() {
    let page = fs::read_to_string(root().join("docs/compatibility.md")).expect("a page");
    let line = Regex::new(r"(?m)^\| D(\d+) \|").expect("a pattern");
    let numbers: Vec<u32> = line.captures_iter(&page).map(|found| found[1].parse().expect("a number")).collect();
    assert_eq!(numbers, (1..=29).collect::<Vec<_>>());
}

/// The table of faults quotes the log, names metrics and leads to the page for on-call: all of it is there.
#[test]
fn the_table_of_faults_quotes_the_log_as_it_is() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a page");
    let (page, on_call, metrics) = (read("docs/faults.md"), read("docs/on-call.md"), sample_names());
    let (mut sources, mut missing) = (String::new(), Vec::new());
    texts(&root().join("src"), &mut sources);
    let all = |pattern: &str| {
        let pattern = Regex::new(pattern).expect("a pattern");
        pattern.captures_iter(&page).map(|found| found[1].to_owned()).collect::<BTreeSet<_>>()
    };
    let (quoted, named, linked) = (all(r#""([^"]+)""#), all(r"`(pusher_[a-z_]+)`"), all(r"on-call\.md#(\w+)\)"));
    assert!(quoted.len() > 40 && named.len() > 25 && linked.len() > 10, "{} {}", quoted.len(), named.len());
    missing.extend(quoted.iter().filter(|words| !sources.contains(*words)).map(|words| format!("log line: {words}")));
    missing.extend(named.iter().filter(|name| !metrics.contains(*name)).map(|name| format!("metric: {name}")));
    let sections = on_call.to_lowercase();
    let has = |section: &String| sections.contains(&format!("\n## {section}\n"));
    missing.extend(linked.iter().filter(|section| !has(section)).map(|section| format!("section: {section}")));
    assert!(missing.is_empty(), "docs/faults.md names what is not there:\n{}", missing.join("\n"));
}

/// The texts of all sources below a folder.
fn texts(folder: &Path, into: &mut String) {
    for path in fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            texts(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}
