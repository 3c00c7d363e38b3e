//! The README and the book: links lead somewhere, every program is whole and run, every page is in a table of contents.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` that end in `.md`, but for what is built.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(pages(&path));
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The pages of a book: what lies beside its table of contents.
fn book(folder: &str) -> Vec<PathBuf> {
    let mut found = pages(&root().join("docs/book"));
    found.retain(|page| page.parent() == Some(&root().join(folder)) && !page.ends_with("SUMMARY.md"));
    assert!(found.len() > 5, "{folder}");
    found
}

fn name(page: &Path) -> String {
    page.strip_prefix(root()).unwrap_or(page).display().to_string()
}

/// The text outside of code blocks and code spans, and the blocks with their languages.
fn parts(text: &str) -> (String, Vec<(String, Vec<String>)>) {
    let (mut prose, mut blocks, mut inside) = (String::new(), vec![], false);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(language), false) => blocks.push((language.to_string(), vec![])),
            (None, true) => blocks.last_mut().unwrap().1.push(line.to_string()),
            (None, false) => {
                prose.extend(line.split('`').step_by(2).flat_map(|part| [part, "`"]));
                prose.push('\n');
            }
            (Some(_), true) => {}
        }
        inside ^= line.trim_start().starts_with("```");
    }
    (prose, blocks)
}

/// Where the links of a page lead to.
fn links(prose: &str) -> Vec<String> {
    let after = prose.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(link, _)| link.to_string()).collect()
}

/// What a heading is called in a link.
fn anchors(text: &str) -> HashSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_to_what_is_there() {
    let mut checked = 0;
    for page in pages(root()) {
        let (prose, _) = parts(&fs::read_to_string(&page).unwrap());
        for link in links(&prose) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: there is no {link}", name(&page));
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(there.contains(anchor), "{}: {link}: that page has {there:?}", name(&page));
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} links were found");
}

/// What is not there when the book is rendered.
#[test]
fn links_of_the_book_stay_in_it() {
    let inside = root().join("docs/book").canonicalize().unwrap();
    for page in book("docs/book").into_iter().chain(book("docs/book/zh")) {
        let (prose, _) = parts(&fs::read_to_string(&page).unwrap());
        for link in links(&prose).iter().filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = page.parent().unwrap().join(link.split('#').next().unwrap()).canonicalize().unwrap();
            assert!(target.starts_with(&inside), "{}: {link} leads out of the book", name(&page));
        }
    }
}

#[test]
fn every_page_is_in_its_table_of_contents() {
    for folder in ["docs/book", "docs/book/zh"] {
        let contents = fs::read_to_string(root().join(folder).join("SUMMARY.md")).unwrap();
        for page in book(folder) {
            let file = page.file_name().unwrap().to_string_lossy();
            assert!(contents.contains(&format!("({file})")), "{folder}/SUMMARY.md lacks {file}");
        }
    }
}

/// Nothing that a reader does not see, and nothing that does not run when it is copied.
#[test]
fn programs_are_whole() {
    let readme = root().join("README.md");
    for page in book("docs/book").into_iter().chain(book("docs/book/zh")).chain([readme]) {
        let (_, blocks) = parts(&fs::read_to_string(&page).unwrap());
        for (language, lines) in blocks {
            assert!(!language.is_empty(), "{}: a block without a language: {lines:?}", name(&page));
            if language != "rust" && language != "rust,no_run" {
                continue;
            }
            let hidden = lines.iter().find(|line| *line == "#" || line.starts_with("# "));
            assert_eq!(hidden, None, "{}: a hidden line", name(&page));
            assert!(lines.iter().any(|line| line.starts_with("fn main()")), "{}: no main: {lines:?}", name(&page));
        }
    }
}

/// The list of `src/lib.rs`, from which `cargo test` takes the programs.
#[test]
fn programs_are_run() {
    let list = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let readme = root().join("README.md");
    for page in book("docs/book").into_iter().chain(book("docs/book/zh")).chain([readme]) {
        let (_, blocks) = parts(&fs::read_to_string(&page).unwrap());
        let runs = blocks.iter().any(|(language, _)| language == "rust");
        let listed = list.contains(&format!("\"../{}\"", name(&page)));
        assert!(listed || !runs, "src/lib.rs lacks {}", name(&page));
    }
}
