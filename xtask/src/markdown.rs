//! As much of Markdown as the checks of the documents need.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Folders that hold no documents of ours.
const PASSED_OVER: [&str; 3] = ["target", ".git", "node_modules"];

/// A link, with the line that it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
}

/// Every `*.md` under `root`, sorted.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("{}", folder.display()))?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let name = entry.file_name();
            let passed_over = PASSED_OVER.iter().any(|one| name == *one);
            if kind.is_dir() && !passed_over {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The lines that are text, with their numbers from 1: what stands in fences is not.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number, line))
    })
}

/// Inline links and images, `[text](target)`. What stands in code spans is none.
pub(crate) fn links(text: &str) -> Vec<Link> {
    prose(text)
        .flat_map(|(line, content)| {
            let content = without_code(content);
            let targets: Vec<String> = content
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split_once(')'))
                .map(|(target, _)| target.split(' ').next().unwrap_or_default().to_owned())
                .collect();
            targets.into_iter().map(move |target| Link { line, target })
        })
        .collect()
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchors that headings make, as GitHub makes them: lower case, blanks to hyphens, other
/// punctuation gone, and a number behind the second of two alike.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    prose(text)
        .filter_map(|(_, line)| {
            let title = line.trim_start_matches('#');
            let depth = line.len() - title.len();
            ((1..=6).contains(&depth) && title.starts_with(' ')).then_some(title)
        })
        .map(|title| {
            let slug = slug(title);
            let count = seen.entry(slug.clone()).or_default();
            *count += 1;
            if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
        })
        .collect()
}

fn slug(title: &str) -> String {
    title
        .trim()
        .chars()
        .filter_map(|char| match char {
            ' ' => Some('-'),
            '-' | '_' => Some(char),
            other if other.is_alphanumeric() => Some(other),
            _ => None,
        })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code_and_fences() {
        let text = "See [a](b.md) and ![c](d.png \"title\").\n```\n[no](x.md)\n```\n`[no](y.md)` [e](#f)\n[one](1.md)[two](2.md)\n";
        let found: Vec<(usize, String)> =
            links(text).into_iter().map(|link| (link.line, link.target)).collect();
        let expected = [(1, "b.md"), (1, "d.png"), (5, "#f"), (6, "1.md"), (6, "2.md")];
        assert_eq!(found, expected.map(|(line, target)| (line, target.to_owned())));
    }

    #[test]
    fn anchors_are_those_of_the_headings() {
        let text = "# The `wire`, version 2\n## 5. A/B & C\n```\n# no heading\n```\n#none\n## 5. A/B & C\n####### seven\n";
        assert_eq!(anchors(text), ["the-wire-version-2", "5-ab--c", "5-ab--c-1"]);
    }
}
