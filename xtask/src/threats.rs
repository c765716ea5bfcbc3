//! Every page of `docs/threats/` names the tests that prove it, and every test that any page names is
//! there.

use std::path::Path;

use anyhow::Context as _;

use crate::markdown;

/// The folder of the pages.
const PAGES: &str = "docs/threats";
/// What a line that names a test begins with.
const LABEL: &str = "Test:";

/// Everything that a page promises and does not keep, as a line.
pub(crate) fn unproven(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let folder = root.join(PAGES);
    let index = std::fs::read_to_string(folder.join("README.md"))
        .with_context(|| format!("{PAGES}/README.md"))?;
    for page in markdown::files(&folder)? {
        let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        let text = std::fs::read_to_string(&page).with_context(|| format!("{}", page.display()))?;
        let mut complain = |what: String| lines.push(format!("{PAGES}/{name}: {what}"));
        if !markdown::links(&index).iter().any(|link| link.target == name) {
            complain("README.md of the folder does not list it".to_owned());
        }
        let named = tests(&text);
        if named.is_empty() {
            complain(format!("names no test ({LABEL} `path::name`)"));
        }
        for (line, test) in named {
            if let Some(why) = fault(root, test) {
                complain(format!("line {line}: {test} {why}"));
            }
        }
    }
    lines.extend(gone(root)?);
    Ok(lines)
}

/// Tests that other pages name, as `path.rs::name` between backticks, and that are not there.
fn gone(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for page in markdown::files(root)? {
        let shown = page.strip_prefix(root).unwrap_or(&page);
        if shown.starts_with(PAGES) {
            continue;
        }
        let text = std::fs::read_to_string(&page).with_context(|| format!("{}", page.display()))?;
        for (line, content) in markdown::prose(&text) {
            let named = content.split('`').skip(1).step_by(2).filter(|name| name.contains(".rs::"));
            for test in named {
                if let Some(why) = fault(root, test) {
                    lines.push(format!("{}: line {line}: {test} {why}", shown.display()));
                }
            }
        }
    }
    Ok(lines)
}

/// What the lines that begin with [`LABEL`] name between backticks, with their numbers.
fn tests(text: &str) -> Vec<(usize, &str)> {
    markdown::prose(text)
        .filter(|(_, line)| line.starts_with(LABEL))
        .flat_map(|(number, line)| {
            line.split('`').skip(1).step_by(2).map(move |test| (number, test))
        })
        .collect()
}

/// Why `path::name` is no test, if it is none: the file is there, and holds a function of this name
/// that is marked as a test or stands in a block of property tests.
fn fault(root: &Path, test: &str) -> Option<&'static str> {
    let Some((path, name)) = test.rsplit_once("::") else {
        return Some("is not path::name");
    };
    let Ok(source) = std::fs::read_to_string(root.join(path)) else {
        return Some("names a file that is not there");
    };
    if !is_test(&source, name) {
        return Some("names no test of that file");
    }
    None
}

fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let declared = line
            .trim_start_matches("async ")
            .strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('));
        // Attributes and comments stand between the mark and the function.
        let mut above = lines
            .iter()
            .take(at)
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        declared
            && above.any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
        #[test]
        fn plain() {}

        #[tokio::test(flavor = \"multi_thread\")]
        // A word on it.
        async fn with_a_runtime() {}

        fn helper() {}

        #[test]
        fn plain_and_more() {}
        #[allow(dead_code)]
        fn other() {}
    ";

    #[test]
    fn only_tests_are_tests() {
        for name in ["plain", "with_a_runtime", "plain_and_more"] {
            assert!(is_test(SOURCE, name), "{name}");
        }
        for name in ["helper", "other", "plai", "plain_and", "missing"] {
            assert!(!is_test(SOURCE, name), "{name}");
        }
    }

    #[test]
    fn tests_are_read_from_their_lines_only() {
        let text =
            "`no::no`\nTest: `a.rs::x`, `b.rs::y`\n```\nTest: `c.rs::z`\n```\nTest: `d.rs::w`\n";
        assert_eq!(tests(text), [(2, "a.rs::x"), (2, "b.rs::y"), (6, "d.rs::w")]);
    }

    #[test]
    fn a_page_without_a_test_or_with_one_that_is_gone_is_found() {
        let folder = std::env::temp_dir().join(format!("edgeward-threats-{}", std::process::id()));
        let pages = folder.join(PAGES);
        std::fs::create_dir_all(&pages).unwrap();
        std::fs::write(folder.join("a.rs"), SOURCE).unwrap();
        for (name, text) in [
            ("README.md", "[good](good.md) [none](none.md) [bad](bad.md)\n"),
            ("good.md", "# Good\nTest: `a.rs::plain`\n"),
            ("none.md", "# None\n"),
            ("bad.md", "Test: `a.rs::helper`\nTest: `b.rs::plain`\nTest: `plain`\n"),
            ("unlisted.md", "Test: `a.rs::plain`\n"),
        ] {
            std::fs::write(pages.join(name), text).unwrap();
        }
        std::fs::write(folder.join("OTHER.md"), "By `a.rs::plain`, `a.rs::gone` and `a::b`.\n")
            .unwrap();
        let found = unproven(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            found.unwrap(),
            [
                "docs/threats/bad.md: line 1: a.rs::helper names no test of that file",
                "docs/threats/bad.md: line 2: b.rs::plain names a file that is not there",
                "docs/threats/bad.md: line 3: plain is not path::name",
                "docs/threats/none.md: names no test (Test: `path::name`)",
                "docs/threats/unlisted.md: README.md of the folder does not list it",
                "OTHER.md: line 1: a.rs::gone names no test of that file",
            ]
        );
    }

    #[test]
    fn every_threat_of_this_project_names_its_tests() {
        assert_eq!(unproven(&crate::root()).unwrap(), Vec::<String>::new());
    }
}
