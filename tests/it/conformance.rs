//! The page that says what shows each statement of the documents: what it names exists, and it misses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const SUITES: [&str; 4] = [
    "seed_ingest_enabled_flow",
    "seed_per_asset_pause",
    "seed_job_pause_resume",
    "seed_agent_pause_operations",
];

/// A statement's number, and what is said to show it.
struct Row {
    number: String,
    shown_by: String,
}

fn page() -> String {
    std::fs::read_to_string(format!("{ROOT}/docs/conformance.md")).unwrap()
}

fn rows(page: &str) -> Vec<Row> {
    let cells =
        |line: &str| line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    let is_row = |line: &&str| {
        let letter = line.strip_prefix("| ").and_then(|rest| rest.split_once('-'));
        letter.is_some_and(|(letter, _)| ["I", "A", "J", "P"].contains(&letter))
    };
    let row = |line: &str| {
        let cells = cells(line);
        let [number, statement, shown_by] = &cells[..] else { panic!("three cells: {line}") };
        assert!(!statement.is_empty(), "{line}");
        Row { number: number.clone(), shown_by: shown_by.clone() }
    };
    page.lines().filter(is_row).map(row).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Targets of the links `[…](target)`.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// Names of the test functions in a Rust source.
fn tests_in(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if marked && !line.starts_with('#') && !line.starts_with("//") {
            let name = line.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
            names.extend(name.map(|(name, _)| name.to_owned()));
            marked = false;
        }
    }
    names
}

fn sources_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// By module of the black-box tests or by crate: the names of its tests.
fn all_tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    let mut add = |name: &str, sources: Vec<PathBuf>| {
        let names = sources.iter().flat_map(|path| tests_in(&std::fs::read_to_string(path).unwrap()));
        all.entry(name.to_owned()).or_default().extend(names);
    };
    for entry in std::fs::read_dir(format!("{ROOT}/tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_string_lossy().strip_suffix(".rs").map(str::to_owned)
        else {
            continue;
        };
        let mut sources = vec![path.clone()];
        let folder = path.with_extension("");
        if folder.is_dir() {
            sources_below(&folder, &mut sources);
        }
        add(&name, sources);
    }
    for entry in std::fs::read_dir(format!("{ROOT}/crates")).unwrap() {
        let folder = entry.unwrap().path();
        let mut sources = Vec::new();
        sources_below(&folder, &mut sources);
        add(&folder.file_name().unwrap().to_string_lossy(), sources);
    }
    all
}

/// The anchors of a page: its headings, and those set by hand.
fn anchors(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let by_hand =
        text.split("<a id=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(id, _)| id.to_owned());
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    });
    by_hand.chain(headings).collect()
}

#[test]
fn every_statement_is_shown_by_a_test_that_exists_or_a_deviation() {
    let all = all_tests();
    for row in rows(&page()) {
        let named: Vec<_> = quoted(&row.shown_by).into_iter().filter(|word| word.contains("::")).collect();
        let deviates = links(&row.shown_by).iter().any(|link| link.starts_with("deviations.md#"));
        assert!(!named.is_empty() || deviates, "{}: neither a test nor a deviation", row.number);
        for path in named {
            let (module, test) = path.split_once("::").unwrap();
            let exists = all.get(module).is_some_and(|tests| tests.contains(test));
            assert!(exists, "{}: there is no test {path}", row.number);
        }
    }
}

#[test]
fn every_test_of_the_four_suites_shows_a_statement() {
    let all = all_tests();
    let page = page();
    let named: BTreeSet<_> = quoted(&page).into_iter().collect();
    for suite in SUITES {
        assert!(all[suite].len() >= 5, "{suite}: {:?}", all[suite]);
        for test in &all[suite] {
            assert!(named.contains(&*format!("{suite}::{test}")), "{suite}::{test} is in no row");
        }
    }
}

#[test]
fn the_numbers_have_no_holes_and_no_doubles() {
    let rows = rows(&page());
    for (letter, at_least) in [("I", 20), ("A", 25), ("J", 50), ("P", 45)] {
        let numbers: Vec<_> = rows.iter().filter_map(|row| row.number.strip_prefix(letter)).collect();
        let expected: Vec<_> = (1..=numbers.len()).map(|n| format!("-{n:02}")).collect();
        assert_eq!(numbers, expected, "{letter}");
        assert!(numbers.len() >= at_least, "{letter}: {}", numbers.len());
    }
}

#[test]
fn every_link_of_the_page_and_of_the_deviations_leads_somewhere() {
    let docs = PathBuf::from(ROOT).join("docs");
    for name in ["conformance.md", "deviations.md"] {
        let text = std::fs::read_to_string(docs.join(name)).unwrap();
        for link in links(&text) {
            let (file, anchor) =
                link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { docs.join(name) } else { docs.join(file) };
            assert!(target.exists(), "{name}: {link}");
            assert!(
                anchor.is_none_or(|anchor| anchors(&target).contains(anchor)),
                "{name}: no anchor {link}"
            );
        }
    }
}
