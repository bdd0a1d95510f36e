//! What the documentation says is shown by a test is shown by a test that exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;

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
