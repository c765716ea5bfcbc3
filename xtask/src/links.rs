//! Every relative link of the documents leads somewhere, anchors included.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::markdown::{self, Link};

/// Every link that leads nowhere, as a line.
pub(crate) fn broken(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for file in markdown::files(root)? {
        let text = read(&file)?;
        for link in markdown::links(&text) {
            if let Some(why) = fault(&file, &text, &link)? {
                let shown = file.strip_prefix(root).unwrap_or(&file).display();
                lines.push(format!("{shown}:{}: {} {why}", link.line, link.target));
            }
        }
    }
    Ok(lines)
}

/// Why a link leads nowhere, if it does. Whether other sites still stand is not ours to check.
fn fault(file: &Path, text: &str, link: &Link) -> anyhow::Result<Option<&'static str>> {
    if link.target.contains("://") || link.target.starts_with("mailto:") {
        return Ok(None);
    }
    if link.target.starts_with('/') {
        return Ok(Some("is absolute; write it relative to the page"));
    }
    let (path, anchor) = match link.target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (link.target.as_str(), None),
    };
    let target: PathBuf = if path.is_empty() {
        file.to_owned()
    } else {
        file.parent().unwrap_or(Path::new("")).join(path)
    };
    if !target.exists() {
        return Ok(Some("does not exist"));
    }
    let Some(anchor) = anchor else {
        return Ok(None);
    };
    let there = if path.is_empty() { text.to_owned() } else { read(&target)? };
    let known = markdown::anchors(&there).iter().any(|known| known == anchor);
    Ok((!known).then_some("has no such heading"))
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found_and_good_ones_are_not() {
        let folder = std::env::temp_dir().join(format!("edgeward-links-{}", std::process::id()));
        let docs = folder.join("docs");
        std::fs::create_dir_all(&docs).unwrap();
        std::fs::write(
            folder.join("README.md"),
            "# Top\n[1](docs/a.md) [2](docs/a.md#part-one) [3](#top) [4](https://x.example/y#z) [5](docs)\n\
             [6](docs/b.md) [7](docs/a.md#part-two) [8](#bottom) [9](/docs/a.md)\n",
        )
        .unwrap();
        std::fs::write(docs.join("a.md"), "## Part one\n[up](../README.md#top)\n").unwrap();
        let found = broken(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            found.unwrap(),
            [
                "README.md:3: docs/b.md does not exist",
                "README.md:3: docs/a.md#part-two has no such heading",
                "README.md:3: #bottom has no such heading",
                "README.md:3: /docs/a.md is absolute; write it relative to the page",
            ]
        );
    }

    #[test]
    fn the_links_of_this_project_lead_somewhere() {
        assert_eq!(broken(&crate::root()).unwrap(), Vec::<String>::new());
    }
}
