//! Text that is compared with a file under `tests/golden/`.

use std::path::PathBuf;

/// Compares `actual` with `tests/golden/{name}`; with `EDGEWARD_BLESS=1` in the environment it
/// writes the file instead.
#[track_caller]
pub fn compare(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("EDGEWARD_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected == actual {
        return;
    }
    let mut differing = String::new();
    let (mut old, mut new) = (expected.lines(), actual.lines());
    for line in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (was, is) if was != is => {
                differing += &format!(
                    "line {line}\n  - {}\n  + {}\n",
                    was.unwrap_or("(none)"),
                    is.unwrap_or("(none)")
                );
            }
            (_, _) => {}
        }
    }
    panic!(
        "{} is not what the code does now:\n{differing}\nread each line; where the change is meant, \
         run the test again with EDGEWARD_BLESS=1 and commit the file",
        path.display()
    );
}
