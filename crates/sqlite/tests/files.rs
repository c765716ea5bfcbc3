//! The file: who may read it, who may open it, and what happens when it is not what it should be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use edgeward_core::time::WallMs;
use edgeward_sqlite::SqliteStore;
use edgeward_store::StoreError;
use edgeward_store::conformance::Seeds;
use edgeward_store::durable::{Agents, Continuity, Enrollments, Events, LastRun, Sealed};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

async fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, "node-1").await
}

/// A closed database with some rows in it.
async fn filled(path: &Path) {
    let store = open(path).await.unwrap();
    for number in 1..=200 {
        let row = Seeds::enrollment(number, "owner");
        store.start_enrollment(row, Seeds::started(number)).await.unwrap();
    }
    store.close().await;
}

async fn run(path: &Path, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

fn corrupt(answer: Result<SqliteStore, StoreError>) -> String {
    match answer {
        Err(StoreError::Corrupt(text)) => text,
        other => panic!("{other:?} instead of a refusal of a corrupt file"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn nobody_else_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("data/edge");
    let path = made.join("edge.db");
    let store = open(&path).await.unwrap();
    store.write_mark(WallMs(1)).await.unwrap();
    assert_eq!(mode(&made), 0o700);
    let mut files: Vec<_> =
        fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["edge.db", "edge.db-shm", "edge.db-wal", "edge.db.lock"]);
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    store.close().await;
    drop(store);
    // One that somebody has opened up is closed again.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&path).await.unwrap();
    store.write_mark(WallMs(2)).await.unwrap();
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    let store = open(&path).await.unwrap();
    assert_eq!(store.begin_run().await, Ok(LastRun::None));
    store.write_mark(WallMs(7)).await.unwrap();
    store.record(&[Seeds::started(1)]).await.unwrap();
    store.end_run(Sealed(vec![1, 2])).await.unwrap();
    store.close().await;
    drop(store);
    let store = open(&path).await.unwrap();
    assert_eq!(store.newest_events(9).await, Ok(vec![Seeds::started(1)]));
    let (snapshot, mark) = (Sealed(vec![1, 2]), Some(WallMs(7)));
    assert_eq!(store.begin_run().await, Ok(LastRun::Clean { snapshot, mark }));
    // Dropped without a word: the snapshot was consumed for good.
    drop(store);
    let store = open(&path).await.unwrap();
    assert_eq!(store.begin_run().await, Ok(LastRun::Unclean { mark: WallMs(7) }));
}

#[tokio::test]
async fn a_consumed_snapshot_is_gone_from_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    let store = open(&path).await.unwrap();
    let secret = b"a snapshot that must not be found";
    store.end_run(Sealed(secret.repeat(300))).await.unwrap();
    let holds_it = || {
        let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        files
            .into_iter()
            .any(|file| fs::read(file).unwrap().windows(secret.len()).any(|bytes| bytes == secret))
    };
    assert!(holds_it(), "otherwise this test shows nothing");
    assert!(matches!(store.begin_run().await, Ok(LastRun::Clean { .. })));
    assert!(!holds_it());
}

#[tokio::test]
async fn a_second_one_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    let store = open(&path).await.unwrap();
    let Err(StoreError::Unavailable(text)) = open(&path).await else { panic!("it opened") };
    assert!(text.contains("edge.db is open in another process"), "{text}");
    assert!(text.contains("edge.db.lock"), "{text}");
    assert!(store.write_mark(WallMs(1)).await.is_ok(), "the first one is not concerned");
    drop(store);
    assert!(open(&path).await.is_ok());
}

#[tokio::test]
async fn a_second_name_does_not_open_it_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (folder.path().join("edge.db"), folder.path().join("elsewhere"));
    let (link, linked) = (folder.path().join("link.db"), folder.path().join("linked"));
    fs::create_dir(&elsewhere).unwrap();
    // One link leads to what is not there yet, one to the folder.
    std::os::unix::fs::symlink(&path, &link).unwrap();
    std::os::unix::fs::symlink(folder.path(), &linked).unwrap();
    let names = [path.clone(), link, linked.join("edge.db"), elsewhere.join("../edge.db")];
    for first in names.iter().rev() {
        let store = open(first).await.unwrap();
        for second in &names {
            let Err(StoreError::Unavailable(text)) = open(second).await else {
                panic!("{} beside {}", second.display(), first.display())
            };
            assert!(text.contains("is open in another process"), "{text}");
        }
        drop(store);
    }
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    let letter = "Dear reader,\n".repeat(1_000);
    fs::write(&path, &letter).unwrap();
    let text = corrupt(open(&path).await);
    assert!(text.contains("edge.db") && text.contains("not a database"), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), letter);

    let path = folder.path().join("other.db");
    fs::write(&path, "").unwrap();
    run(&path, "CREATE TABLE theirs (n)").await;
    let text = corrupt(open(&path).await);
    assert!(text.contains("other.db: a database of another program"), "{text}");

    let Err(StoreError::Unavailable(text)) = open(folder.path()).await else { panic!("it opened") };
    assert!(text.contains(&*folder.path().to_string_lossy()), "{text}");
    let Err(StoreError::Unavailable(_)) = open(&path.join("beneath/edge.db")).await else {
        panic!("it opened")
    };
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    filled(&path).await;
    run(&path, "PRAGMA user_version = 99").await;
    let text = corrupt(open(&path).await);
    assert!(text.contains("newer version") && text.contains("99"), "{text}");
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    filled(&whole).await;
    let whole = fs::read(whole).unwrap();
    assert!(whole.len() > 20 * 4_096, "{}", whole.len());
    for length in [100, 1_000, 4_096, 10_000, whole.len() / 2, whole.len() - 4_096] {
        let path = folder.path().join(format!("{length}.db"));
        fs::write(&path, &whole[..length]).unwrap();
        corrupt(open(&path).await);
    }
}

#[tokio::test]
async fn a_page_that_was_overwritten_is_an_error_and_never_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    filled(&whole).await;
    let whole = fs::read(whole).unwrap();
    let pages = whole.len() / 4_096;
    let mut refused = 0;
    for page in 1..pages {
        let path = folder.path().join(format!("{page}.db"));
        let mut damaged = whole.clone();
        damaged[page * 4_096..(page + 1) * 4_096].fill(0xa5);
        fs::write(&path, &damaged).unwrap();
        let store = match open(&path).await {
            Ok(store) => store,
            Err(StoreError::Corrupt(_)) => {
                refused += 1;
                continue;
            }
            Err(other) => panic!("page {page}: {other:?}"),
        };
        for number in 1..=200 {
            match store.live_enrollment(&Seeds::code(number), Seeds::now()).await {
                Ok(Some(found)) => assert_eq!(found.code_hash, Seeds::code(number)),
                Ok(None) => panic!("page {page}: a code is denied"),
                Err(StoreError::Corrupt(_)) => {
                    refused += 1;
                    break;
                }
                Err(other) => panic!("page {page}: {other:?}"),
            }
        }
    }
    assert!(refused > pages / 4, "{refused} of {pages}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_that_names_the_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    let store = open(&path).await.unwrap();
    store.start_enrollment(Seeds::enrollment(1, "owner"), Seeds::started(1)).await.unwrap();
    let event = Seeds::completed(1);
    let agent = Seeds::agent(1, 1);
    let id = agent.id;
    store.redeem_code(&Seeds::code(1), agent, None, event, Seeds::now()).await.unwrap();
    let cases = [
        ("UPDATE agent_devices SET scopes = '[\"a b\"]'", "scopes"),
        ("UPDATE agent_devices SET scopes = '[]', public_key = '{}'", "public_key"),
        ("UPDATE agent_devices SET public_key = NULL, allowed_cidrs = 'x'", "allowed_cidrs"),
        ("UPDATE agent_devices SET allowed_cidrs = '[]', rate = '3'", "rate"),
        ("UPDATE agent_devices SET rate = NULL, created_at = -1", "created_at"),
    ];
    for (change, column) in cases {
        run(&path, change).await;
        let Err(StoreError::Corrupt(text)) = store.agent(id).await else { panic!("{change}") };
        assert!(text.contains(column), "{text}");
    }
    run(&path, "UPDATE agent_devices SET created_at = 0").await;
    assert!(matches!(store.agent(id).await, Ok(Some(_))));
}

#[tokio::test]
async fn after_closing_it_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("edge.db")).await.unwrap();
    store.close().await;
    assert!(matches!(store.write_mark(WallMs(1)).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.newest_events(1).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.begin_run().await, Err(StoreError::Unavailable(_))));
}
