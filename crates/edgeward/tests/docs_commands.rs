//! The commands of `README.md` and `docs/curl.md`, run as they stand against a real edge.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const README: &str = include_str!("../../../README.md");
const CURL: &str = include_str!("../../../docs/curl.md");
const OWNER_SECRET: &str = "a secret of the tests, longer than 32 bytes";
const CLI: &str = include_str!("../../../docs/cli.md");
/// Generous: the page takes about three seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The fenced blocks of a language on a page, each with the line that it begins on.
fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, number) in page.lines().zip(1..) {
        match &mut open {
            None if line == format!("```{language}") => open = Some((number + 1, String::new())),
            None => {}
            Some(_) if line == "```" => found.extend(open.take()),
            Some((_, text)) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    found
}

/// An upstream that answers pings and streams events until nobody reads.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    address
}

async fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    if !head.starts_with(b"GET /v1/events ") {
        let pong = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npong";
        return socket.write_all(pong).await;
    }
    let begin = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    socket.write_all(begin).await?;
    for id in 0u64.. {
        socket.write_all(format!("id: {id}\ndata: tick\n\n").as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The edge, as the pages say to start it, but on free ports and in a folder of its own.
async fn edge(folder: &Path) -> (Child, String) {
    let (child, _, url) = operated_edge(folder).await;
    (child, url)
}

/// The same with the operators' URL before the edge's own.
async fn operated_edge(folder: &Path) -> (Child, String, String) {
    let settings = blocks(CURL, "toml").remove(0).1;
    let upstream = upstream().await.to_string();
    assert!(settings.contains("127.0.0.1:9000"), "{settings}");
    let file = folder.join("edgeward.toml");
    std::fs::write(&file, settings.replace("127.0.0.1:9000", &upstream)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_edgeward"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--set", "EDGE_LOG_FILTER=error", "--config"])
        .arg(&file)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .env("OWNER_JWT_SECRET", OWNER_SECRET)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let urls = timeout(PATIENCE, async {
        let mut operators = None;
        loop {
            let line = lines.next_line().await.unwrap().expect("the edge ended before it listened");
            if let Some(url) = line.strip_prefix("operators on ") {
                operators = Some(url.trim().to_owned());
            } else if let Some(url) = line.strip_prefix("listening on ") {
                return (operators.expect("the operators' URL first"), url.trim().to_owned());
            }
        }
    });
    let (operators, url) = urls.await.expect("the edge did not listen in time");
    // It goes on printing; nobody else reads.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, operators, url)
}

/// Runs a script in a folder of its own and gives what it printed.
async fn run(script: &str, folder: &Path, edge: &str) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_edgeward")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&path));
    let output = Command::new("bash")
        .args(["-c", &format!("set -euo pipefail\n{script}")])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("EDGE", edge)
        .env("OWNER_SECRET", OWNER_SECRET)
        .env("TMPDIR", folder)
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output).await.expect("the page hangs").unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// The commands of a page as one script that says where it is.
fn script(page: &str, name: &str) -> String {
    blocks(page, "sh")
        .into_iter()
        .map(|(line, text)| format!("echo '== {name}:{line}'\n{text}"))
        .collect()
}

fn assert_in_order(out: &str, expected: &[&str]) {
    let mut rest = out;
    for part in expected {
        let split = rest.split_once(part);
        rest = split.unwrap_or_else(|| panic!("no {part:?} in its place\n{out}")).1;
    }
}

#[tokio::test]
async fn the_commands_of_the_curl_page_work_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let (_edge, url) = edge(folder.path()).await;
    let out = run(&script(CURL, "docs/curl.md"), folder.path(), &url).await;
    assert_in_order(
        &out,
        &[
            "\"enroll_code\":",
            "enrolled as ",
            "\"body\":{\"hello\":\"edge\"}",
            "pong",
            "pong",
            "\"code\":\"nonce_replayed\"",
            "data: tick",
            "the stream has ended",
            "\"code\":\"session_invalid\"",
            "refused, as it should be",
        ],
    );
}

#[tokio::test]
async fn the_commands_of_the_readme_work_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let (_edge, url) = edge(folder.path()).await;
    // The owner's token is made as the other page makes it: its helpers, then the token.
    let token: String = blocks(CURL, "sh").into_iter().take(2).map(|(_, text)| text).collect();
    let script = format!("{token}\nOWNER_JWT=$owner_jwt\n{}", script(README, "README.md"));
    let out = run(&script, folder.path(), &url).await;
    assert_in_order(&out, &["pong", "tick", "tick", "tick", "The session has ended."]);
}

#[tokio::test]
async fn the_operators_listener_answers_as_the_page_of_commands_says() {
    let folder = tempfile::tempdir().unwrap();
    let (_edge, operators, url) = operated_edge(folder.path()).await;
    let commands: Vec<String> = blocks(CLI, "console")
        .into_iter()
        .flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| line.strip_prefix("$ curl ").map(|rest| format!("curl {rest}\n")))
        .map(|line| line.replace("edgeward-data/", "data/"))
        .map(|line| line.replace("http://127.0.0.1:8601", &operators))
        .collect();
    assert_eq!(commands.len(), 2);
    let out = run(&commands.concat(), folder.path(), &url).await;
    assert_in_order(&out, &["\"nonces_held\"", "\"replay_floor\""]);
}

/// What does not change from run to run: the names of the steps, and the refusals without times.
fn shown(demo: &str) -> Vec<String> {
    demo.lines()
        .filter(|line| line.starts_with("ok ") || line.contains("what was sent"))
        .map(|line| match line.get(..32) {
            Some(_) if line.contains("ended after") => {
                line.split(" ended after ").next().unwrap().trim_end().to_owned()
            }
            Some(step) if !line.starts_with("ok      ") && !line.contains("what was sent") => {
                step.trim_end().to_owned()
            }
            Some(_) | None => line.trim_end().to_owned(),
        })
        .collect()
}

#[tokio::test]
async fn the_readme_shows_what_the_demo_prints() {
    let folder = tempfile::tempdir().unwrap();
    let out = run("edgeward demo --once", folder.path(), "").await;
    let page = blocks(README, "text");
    let (_, page) = page.iter().find(|(_, text)| text.contains("What is refused")).unwrap();
    assert_eq!(shown(page), shown(&out));
    assert!(shown(page).len() > 15, "{page}");
}

/// The text of `edgeward … --help`.
async fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_edgeward"))
        .args(command)
        .arg("--help")
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names of the commands that a help lists.
fn listed(help: &str) -> Vec<&str> {
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    rest.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the page says of a command, up to the next heading of its own level.
fn section(heading: &str) -> String {
    let begin = format!("\n{heading}\n");
    let (_, rest) = CLI.split_once(&begin).unwrap_or_else(|| panic!("no {heading:?}"));
    words(rest.split("\n## ").next().unwrap())
}

#[tokio::test]
async fn every_command_stands_on_its_page_with_its_exit_codes() {
    let whole = help(&[]).await;
    let mut groups = Vec::new();
    for name in listed(&whole) {
        let section = section(&format!("## `edgeward {name}`"));
        let text = help(&[name]).await;
        if text.contains("Commands:\n") {
            groups.push((name, section, text));
            continue;
        }
        let text = words(&text);
        let (_, codes) = text.split_once("Exit codes: ").unwrap();
        assert!(section.contains(codes), "{name}: {codes}");
    }
    assert_eq!(groups.len(), 2);
    for (group, section, text) in groups {
        for name in listed(&text) {
            assert!(section.contains(&format!("### `edgeward {group} {name}`")), "{group} {name}");
            let text = words(&help(&[group, name]).await);
            let (_, codes) = text.split_once("Exit codes: ").unwrap();
            assert!(section.contains(codes), "{group} {name}: {codes}");
        }
    }
}

/// Each example, with `--help` behind it: its command and its flags are there.
#[tokio::test]
async fn the_examples_of_the_page_of_commands_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("code.txt"), "").unwrap();
    let examples: String = blocks(CLI, "console")
        .into_iter()
        .flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| line.strip_prefix("$ ").map(str::to_owned))
        .filter(|line| !line.starts_with("curl "))
        .map(|line| format!("{line}\n"))
        .collect();
    let script = format!("edgeward() {{ command edgeward \"$@\" --help; }}\n{examples}");
    let out = run(&script, folder.path(), "").await;
    assert_eq!(out.matches("Usage: edgeward").count(), examples.lines().count());
    assert!(examples.lines().count() > 15, "{examples}");
}

#[test]
fn the_pages_hold_commands_and_the_same_settings() {
    assert!(blocks(CURL, "sh").len() > 8);
    assert_eq!(blocks(README, "sh").len(), 2);
    let settings = |page| blocks(page, "toml").into_iter().map(|(_, text)| text);
    assert_eq!(settings(CURL).count(), 1);
    assert!(settings(CURL).eq(settings(README)));
}
